"""Resumable uploads: tus 1.0 and Resumable Uploads for HTTP, over any store.

``docs/uploads.md`` is the guide.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from trove_async.uploads.asgi import TusApp
from trove_async.uploads.datastore import (
    BufferingDataStore,
    ConcaterDataStore,
    ContentDataStore,
    DataStore,
    FinisherDataStore,
    LengthDeclarerDataStore,
    LocatedDataStore,
    LockerDataStore,
    RecorderDataStore,
    SweeperDataStore,
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
from trove_async.web.objects import Stream

if _TYPE_CHECKING:
    from trove_async.uploads.client import Client, RemoteUpload
    from trove_async.uploads.lockers.postgres import PostgresLocker
else:
    _LAZY = {
        "Client": "trove_async.uploads.client",
        "PostgresLocker": "trove_async.uploads.lockers.postgres",
        "RemoteUpload": "trove_async.uploads.client",
    }

    def __getattr__(name: str) -> object:
        """Import what needs packages that are not always installed when it is used for the first time."""
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        globals()[name] = found = getattr(import_module(_LAZY[name]), name)
        return found


__all__ = [
    "Action",
    "BufferingDataStore",
    "Changes",
    "Client",
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
    "RemoteUpload",
    "Request",
    "Stream",
    "SweepReport",
    "SweeperDataStore",
    "TerminaterDataStore",
    "TroveDataStore",
    "TusApp",
    "TusOptions",
    "UploadEvent",
    "VerifierDataStore",
]
