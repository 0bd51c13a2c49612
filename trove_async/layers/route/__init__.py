"""`Route`: one store over several, each of which has the keys that rules assign to it."""
