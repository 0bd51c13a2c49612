"""Objects as files: `open_file` opens one as the built-in ``open`` does, `open_sync_file` without asyncio.

`StorePath` is a path of a store, as those of `pathlib`; `TroveFileSystem` is a store as a file system of fsspec.
``docs/files.md``, ``docs/paths.md`` and ``docs/fsspec.md`` are the guides.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from trove_async.fs.base import AsyncFile
from trove_async.fs.file import open_file
from trove_async.fs.path import StorePath
from trove_async.fs.reading import BinaryReader
from trove_async.fs.text import TextReader, TextWriter
from trove_async.fs.writing import BinaryWriter

if _TYPE_CHECKING:
    from trove_async.fs.fsspec import TroveFileSystem
    from trove_async.fs.sync_file import SyncReader, SyncTextReader, SyncTextWriter, SyncWriter, open_sync_file
else:
    _LAZY = {
        "TroveFileSystem": "fsspec",
        **dict.fromkeys(
            ("SyncReader", "SyncTextReader", "SyncTextWriter", "SyncWriter", "open_sync_file"), "sync_file"
        ),
    }

    def __getattr__(name: str) -> object:
        """Import fsspec, or the store without asyncio, when one of its names is first used."""
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        try:
            module = import_module(f"{__name__}.{_LAZY[name]}")
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "fsspec":
                raise
            from trove_async.errors import MissingDependencyError

            message = f"{name} needs the package 'fsspec': pip install 'trove-async[fsspec]'"
            raise MissingDependencyError(message) from error
        globals()[name] = found = getattr(module, name)
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
    "TroveFileSystem",
    "open_file",
    "open_sync_file",
]
