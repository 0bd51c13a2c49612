"""Migrations for tests: a revision that leaves rows without those that they refer to."""
