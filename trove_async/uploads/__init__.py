"""Resumable uploads: tus 1.0 and Resumable Uploads for HTTP, over any store.

``docs/uploads.md`` is the guide.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from trove_async.uploads.asgi import TusApp
from trove_async.uploads.datastore import (
    ConcaterDataStore,
    ContentDataStore,
    DataStore,
    FinisherDataStore,
    LengthDeclarerDataStore,
    LocatedDataStore,
    LockerDataStore,
    RecorderDataStore,
    TerminaterDataStore,
    VerifierDataStore,
)
from trove_async.uploads.hooks import Action, Changes, Hooks, UploadEvent
from trove_async.uploads.info import Destination, FileInfo, FinalAnswer
from trove_async.uploads.lockers.base import Lock, Locker
from trove_async.uploads.lockers.datastore import DataStoreLocker
from trove_async.uploads.lockers.files import FileLocker
from trove_async.uploads.lockers.memory import MemoryLocker
from trove_async.uploads.metadata import MetaData
from trove_async.uploads.protocol.messages import Request
from trove_async.uploads.server import TusOptions
from trove_async.uploads.store import SweepReport, TroveDataStore

if _TYPE_CHECKING:
    from trove_async.uploads.lockers.postgres import PostgresLocker
else:

    def __getattr__(name: str) -> object:
        """Import what needs the packages of databases when it is used for the first time."""
        if name != "PostgresLocker":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from trove_async.uploads.lockers.postgres import PostgresLocker

        globals()[name] = PostgresLocker
        return PostgresLocker


__all__ = [
    "Action",
    "Changes",
    "ConcaterDataStore",
    "ContentDataStore",
    "DataStore",
    "DataStoreLocker",
    "Destination",
    "FileInfo",
    "FileLocker",
    "FinalAnswer",
    "FinisherDataStore",
    "Hooks",
    "LengthDeclarerDataStore",
    "LocatedDataStore",
    "Lock",
    "Locker",
    "LockerDataStore",
    "MemoryLocker",
    "MetaData",
    "PostgresLocker",
    "RecorderDataStore",
    "Request",
    "SweepReport",
    "TerminaterDataStore",
    "TroveDataStore",
    "TusApp",
    "TusOptions",
    "UploadEvent",
    "VerifierDataStore",
]
