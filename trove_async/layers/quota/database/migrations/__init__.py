"""The tables of quotas, as revisions of Alembic."""
