"""The verbs of the async API; written by ``python -m tests.sync_surface --write``."""
