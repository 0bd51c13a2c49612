"""Resumable uploads, measured against other servers of the tus protocol. ``python -m benchmarks.uploads``."""
