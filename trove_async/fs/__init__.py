"""Objects as files: `open_file` opens one as the built-in ``open`` does, `open_sync_file` without asyncio.

`StorePath` is a path of a store, as those of `pathlib`. ``docs/files.md`` and ``docs/paths.md`` are the guides.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from trove_async.fs.base import AsyncFile
from trove_async.fs.file import open_file
from trove_async.fs.path import StorePath
from trove_async.fs.reading import BinaryReader
from trove_async.fs.text import TextReader, TextWriter
from trove_async.fs.writing import BinaryWriter

if _TYPE_CHECKING:
    from trove_async.fs.sync_file import SyncReader, SyncTextReader, SyncTextWriter, SyncWriter, open_sync_file
else:
    _SYNC = {"SyncReader", "SyncTextReader", "SyncTextWriter", "SyncWriter", "open_sync_file"}

    def __getattr__(name: str) -> object:
        """Import the store without asyncio when its first file is opened."""
        if name not in _SYNC:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from trove_async.fs import sync_file

        globals()[name] = found = getattr(sync_file, name)
        return found


__all__ = [
    "AsyncFile",
    "BinaryReader",
    "BinaryWriter",
    "StorePath",
    "SyncReader",
    "SyncTextReader",
    "SyncTextWriter",
    "SyncWriter",
    "TextReader",
    "TextWriter",
    "open_file",
    "open_sync_file",
]
