"""`Cache`: the bytes of objects that were read, kept in memory or in another store."""
