"""Resumable uploads in any store."""

from trove_async.uploads.store.data_store import TroveDataStore
from trove_async.uploads.store.sweeping import SweepReport

__all__ = ["SweepReport", "TroveDataStore"]
