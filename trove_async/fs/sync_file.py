"""`open_sync_file`: an object as a file for code without asyncio, and for libraries that want a file."""

from __future__ import annotations

import io
import os
from collections.abc import Awaitable
from contextlib import suppress
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, TypeVar, Unpack, final, overload

from trove_async.errors import ForkedError, InvalidArgumentError
from trove_async.fs.file import ReadBytes, ReadText, WriteBytes, WriteText, checked, open_file
from trove_async.fs.reading import BinaryReader
from trove_async.fs.writing import BinaryWriter
from trove_async.portal import Portal
from trove_async.reader import caller_location
from trove_async.store.arguments import PutArguments
from trove_async.sync import Trove
from trove_async.types import ObjectInfo

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["SyncReader", "SyncTextReader", "SyncTextWriter", "SyncWriter", "boxed", "open_sync_file"]

R = TypeVar("R")

_BUFFER = 64 * 1024
"""Bytes that are exchanged with the loop at once; each exchange takes some 50 microseconds."""


async def boxed(opening: Awaitable[R]) -> list[R]:
    """Return a file in a list: the portal would close, and so store, one that comes too late for its caller."""
    return [await opening]


class _RawReader(io.RawIOBase):
    """A `BinaryReader` without its coroutines."""

    def __init__(self, portal: Portal, file: BinaryReader) -> None:
        self.mode = file.mode
        self._portal = portal
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self._portal.call(self._file.read1, len(view))
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self._portal.call(self._file.read)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file._seek(offset, whence)

    def tell(self) -> int:
        return self._file._seek(0, os.SEEK_CUR)

    def close(self) -> None:
        if not self.closed:
            super().close()
            with suppress(ForkedError):  # the connection is that of the parent
                self._portal.call(self._file.aclose)

    def __del__(self) -> None:
        if not self.closed:
            last = [self._file]
            del self._file
            self._portal.post(last.clear)  # it is collected in the thread of its loop


class SyncReader(io.BufferedReader):
    """An object that is read as a file of bytes; `open_sync_file` returns it for the mode ``rb``.

    It reads as `BinaryReader` does. Any number of threads may use it.
    """

    def __init__(self, portal: Portal, file: BinaryReader) -> None:
        super().__init__(_RawReader(portal, file), _BUFFER)
        self.info = file.info
        self.size = file.size

    def __del__(self) -> None:
        """Leave it to the file beneath."""


class _RawWriter(io.RawIOBase):
    """A `BinaryWriter` without its coroutines."""

    deferred = False
    """Whether closing leaves it to `store` to store the object."""

    def __init__(self, portal: Portal, file: BinaryWriter) -> None:
        self.mode = file.mode
        self._portal = portal
        self._file = file
        self.failure: BaseException | None = None  # of a write

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        if self._file.closed:  # it was aborted, and what the buffer still has is dropped
            return memoryview(data).nbytes
        try:
            return self._portal.call(self._file.write, memoryview(data))
        except BaseException as error:
            self.failure = error
            self.abort()  # the buffer closes the file whatever happens, which would store what arrived
            raise

    def tell(self) -> int:
        return self._file._writer.tell()

    def abort(self) -> None:
        self._portal.call(self._file.abort)

    def store(self) -> None:
        self._portal.call(self._file.aclose)

    def close(self) -> None:
        if not self.closed:
            super().close()
            if not self.deferred:
                self.store()

    def __del__(self) -> None:
        """Do not close: the file beneath is then aborted, and warns."""


class SyncWriter(io.BufferedWriter):
    """An object that is written as a file of bytes; `open_sync_file` returns it for the modes ``wb`` and ``xb``.

    A clean exit of ``with`` stores it, and so does `close`. After any other exit, and after `abort`, nothing is stored.
    """

    def __init__(self, portal: Portal, file: BinaryWriter) -> None:
        self._raw = _RawWriter(portal, file)
        super().__init__(self._raw, _BUFFER)

    @property
    def info(self) -> ObjectInfo | None:
        """The stored object; None until the file was closed."""
        return self._raw._file.info

    def close(self) -> None:
        """Store the object and close the file; idempotent.

        Raises:
            TroveError: the object was not stored; also if a write has raised the error already.
        """
        failure = None if self.closed else self._raw.failure
        super().close()
        if failure is not None:
            raise failure

    def abort(self) -> None:
        """Close the file without storing anything; idempotent."""
        self._raw.abort()
        super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        """Do not close."""


@final
class SyncTextReader(io.TextIOWrapper):
    """An object that is read as text; `open_sync_file` returns it for the mode ``r``."""

    def __del__(self) -> None:
        """Leave it to the file beneath."""


@final
class SyncTextWriter(io.TextIOWrapper):
    """An object that is written as text; `open_sync_file` returns it for the modes ``w`` and ``x``.

    It is stored as a `SyncWriter` is, which is its ``buffer``.
    """

    def __init__(self, buffer: SyncWriter, encoding: str, errors: str, newline: str | None) -> None:
        super().__init__(buffer, encoding, errors, newline)
        self._writer = buffer

    @property
    def info(self) -> ObjectInfo | None:
        """The stored object; None until the file was closed."""
        return self._writer.info

    def abort(self) -> None:
        """Close the file without storing anything; idempotent."""
        self._writer.abort()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        """Do not close."""


@overload
def open_sync_file(
    store: Trove,
    bucket: str,
    key: str,
    mode: ReadText = "r",
    *,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> SyncTextReader: ...


@overload
def open_sync_file(
    store: Trove,
    bucket: str,
    key: str,
    mode: WriteText,
    *,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    **arguments: Unpack[PutArguments],
) -> SyncTextWriter: ...


@overload
def open_sync_file(store: Trove, bucket: str, key: str, mode: ReadBytes) -> SyncReader: ...


@overload
def open_sync_file(
    store: Trove, bucket: str, key: str, mode: WriteBytes, **arguments: Unpack[PutArguments]
) -> SyncWriter: ...


@overload
def open_sync_file(
    store: Trove,
    bucket: str,
    key: str,
    mode: str,
    *,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    **arguments: Unpack[PutArguments],
) -> IO[Any]: ...


def open_sync_file(
    store: Trove,
    bucket: str,
    key: str,
    mode: str = "r",
    *,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    **arguments: Any,
) -> Any:
    """Open an object as a file of Python's ``io``, in ``with``; or close it yourself.

    `zipfile`, `tarfile`, `csv`, Pillow and other libraries that want a file accept it.

    Args:
        store: a store without asyncio.
        bucket, key: which object.
        mode, encoding, errors, newline: as for `open_file`.
        **arguments: for writing, those of ``put``, such as ``content_type`` and ``metadata``.

    Raises:
        TroveError: as `open_file`.
    """
    if not isinstance(store, Trove):
        raise InvalidArgumentError(
            f"open_sync_file needs an open trove_async.sync.Trove, not {type(store)}; with asyncio, use open_file"
        )
    binary_mode, text = checked(bucket, key, mode, encoding, errors, newline, arguments)
    portal = store._portal
    (file,) = portal.call(boxed, open_file(store._async, bucket, key, binary_mode, **arguments))
    if isinstance(file, BinaryReader):
        file._set_origin(caller_location())
        reader = SyncReader(portal, file)
        return reader if text is None else SyncTextReader(reader, text.encoding, text.errors, text.newline)
    assert isinstance(file, BinaryWriter)
    file._writer._opened_at = caller_location()
    writer = SyncWriter(portal, file)
    return writer if text is None else SyncTextWriter(writer, text.encoding, text.errors, text.newline)
