"""`Dedup`: any store, with each content stored once."""

from trove_async.managed.dedup.chunking import Chunking
from trove_async.managed.dedup.layer import Dedup

__all__ = ["Chunking", "Dedup"]
