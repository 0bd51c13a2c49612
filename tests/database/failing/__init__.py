"""Migrations for tests: the second revision fails."""
