"""The files of `TroveFileSystem`."""

from __future__ import annotations

import io
import os
from types import TracebackType
from typing import Any, BinaryIO, cast

from trove_async.fs.base import AsyncFile
from trove_async.fs.reading import BinaryReader
from trove_async.fs.sync_file import SyncReader, SyncWriter
from trove_async.fs.writing import BinaryWriter
from trove_async.portal import Portal

__all__ = ["AsyncStream", "FileReader", "FileWriter", "PackedWriter", "TextFileWriter"]


class FileReader(SyncReader):
    """A file that `TroveFileSystem.open` returns for the mode ``rb``; it may be pickled."""

    def __init__(self, fs: Any, path: str, portal: Portal, file: BinaryReader) -> None:
        super().__init__(portal, file)
        self.fs = fs
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.fs, self.path, self.tell())


def _reopen(fs: Any, path: str, position: int) -> Any:
    file = fs.open(path, "rb")
    file.seek(position)
    return file


class FileWriter(SyncWriter):
    """A file that `TroveFileSystem.open` returns for the modes ``wb``, ``xb`` and ``ab``.

    In a transaction the object is stored by `commit`, otherwise when the file is closed.
    """

    def __init__(self, fs: Any, path: str, portal: Portal, file: BinaryWriter, *, autocommit: bool) -> None:
        super().__init__(portal, file)
        self.fs = fs
        self.path = path
        self._raw.deferred = not autocommit
        self._outermost: io.IOBase = self

    def set_outermost(self, file: io.IOBase) -> None:
        """Name the file into which the user writes, which may encode or compress into this one."""
        if self._raw.deferred:
            self._outermost = file

    def commit(self) -> None:
        """Store what was written, unless the file was aborted."""
        self._outermost.close()
        self._raw.store()

    def discard(self) -> None:
        """Store nothing."""
        self.abort()


class PackedWriter(io.BufferedIOBase):
    """A file whose bytes are compressed before they are stored; an error in its block stores nothing.

    Args:
        file: takes what is compressed.
        packer: compresses into it.
    """

    def __init__(self, file: FileWriter, packer: Any) -> None:
        self._file = file
        self._packer = packer

    def writable(self) -> bool:
        """Tell that it can be written."""
        return True

    def write(self, data: Any) -> int:
        """Write bytes; return their number before they are compressed."""
        self._packer.write(data)
        return memoryview(data).nbytes

    def close(self) -> None:
        """Store the object."""
        if not self.closed:
            super().close()
            self._packer.close()
            self._file.close()

    def abort(self) -> None:
        """Close the file without storing anything; idempotent."""
        if not self.closed:
            super().close()
            self._file._raw.abort()  # first, since some packers close the file, which would store it
            self._packer.close()
            self._file.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        """Do not close."""


class TextFileWriter(io.TextIOWrapper):
    """A file that `TroveFileSystem.open` returns for writing text; after an error in its block nothing is stored."""

    def __init__(self, buffer: FileWriter | PackedWriter, **text: Any) -> None:
        super().__init__(cast(BinaryIO, buffer), **text)
        self._writer = buffer

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._writer.abort()

    def __del__(self) -> None:
        """Do not close."""


class AsyncStream:
    """A file that `TroveFileSystem.open_async` returns, with the methods of fsspec's: ``close`` is a coroutine."""

    def __init__(self, path: str, file: AsyncFile[bytes]) -> None:
        self.path = path
        self.mode = file.mode
        self._file = file

    @property
    def size(self) -> int | None:
        """The size of a file that is read, in bytes."""
        return self._file.info.size if self._file.info is not None else None

    @property
    def closed(self) -> bool:
        """Whether the file was closed."""
        return self._file.closed

    async def read(self, length: int = -1) -> bytes:
        """Read ``length`` bytes, fewer only at the end; with -1 all that remain."""
        return await self._file.read(length)

    async def write(self, data: Any) -> int:
        """Write bytes; return their number."""
        return await self._file.write(data)

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Change the position and return it."""
        return await self._file.seek(offset, whence)

    async def tell(self) -> int:
        """Return the position."""
        return await self._file.tell()

    async def close(self) -> None:
        """Close the file; one for writing is stored."""
        await self._file.aclose()

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._file.__aexit__(kind, error, traceback)
