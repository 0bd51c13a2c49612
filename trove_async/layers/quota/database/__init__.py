"""The books of a quota in a database."""
