"""The revisions of the tables that the database package has itself."""
