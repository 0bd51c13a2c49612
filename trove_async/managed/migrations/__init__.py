"""The revisions of the tables of managed storage."""
