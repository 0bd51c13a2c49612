"""`Failover`: one store over several that hold the same objects, read from the first one that works."""
