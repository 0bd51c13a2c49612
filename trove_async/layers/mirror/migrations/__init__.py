"""The revisions of the tables of a repair queue."""
