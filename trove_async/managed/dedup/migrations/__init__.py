"""The tables of `Dedup`, as revisions of Alembic. They refer to those of managed storage, which come first."""
