"""Migrations for tests: two revisions."""
