"""The pytest plugin of the library."""
