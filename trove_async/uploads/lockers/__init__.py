"""Locks of resumable uploads: one request at a time writes to an upload."""
