"""What is uploaded: sources from which any range can be read again, and those that are read once."""

from __future__ import annotations

import asyncio
import os
import stat
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

import anyio.to_thread

from trove_async.body import Body
from trove_async.cancellation import CLEANUP_TIMEOUT, to_the_end
from trove_async.errors import BodySizeError, BodySourceError, UploadOffsetError
from trove_async.paths import local_path
from trove_async.sources import READ_SIZE, Chunk, as_chunk
from trove_async.uploads.client.channel import Outgoing, in_memory

__all__ = ["Content", "FileIdentity", "Piece", "Section", "open_content"]

R = TypeVar("R")

BUFFER_SIZE: Final = 8 * 1024 * 1024
"""Bytes of a source that is read once which are kept for another attempt, unless the application chooses others."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes for one request.

    Attributes:
        body: the bytes.
        end: the offset after them.
        is_last: the upload ends with them.
    """

    body: Outgoing
    end: int
    is_last: bool


class FileIdentity(NamedTuple):
    """What tells a file, in the state that is uploaded, from others."""

    path: str
    size: int
    mtime_ns: int
    device: int
    inode: int


class Content(ABC):
    """What is uploaded.

    Attributes:
        size: bytes; None while it is not known.
        identity: of a file that is named by its path; only such an upload can be continued by another process.
        divisible: whether ranges can be read at the same time.
    """

    size: int | None = None
    identity: FileIdentity | None = None
    divisible = False

    @abstractmethod
    async def piece(self, start: int, limit: int | None) -> Piece:
        """Return the bytes from an offset on.

        Args:
            start: the offset.
            limit: the maximum of bytes; None for as many as the source can give again for another attempt.

        Raises:
            UploadOffsetError: the source is past the offset, and cannot go back.
            BodySourceError: the file was changed since it was opened.
        """

    def reaches(self, start: int) -> bool:
        """Tell whether the bytes from an offset on can still be read."""
        return True

    async def check_unchanged(self) -> None:
        """Raise `BodySourceError` if the file was changed since it was opened."""

    async def aclose(self) -> None:
        """Close what was opened."""


class _RandomAccess(Content):
    """A source of which any range can be read."""

    size: int
    divisible = True

    async def piece(self, start: int, limit: int | None) -> Piece:
        await self.check_unchanged()
        stop = self.size if limit is None else min(self.size, start + limit)
        return self.between(start, stop, is_last=stop == self.size)

    def between(self, start: int, stop: int, *, is_last: bool) -> Piece:
        """Return a range."""
        return Piece(Outgoing(stop - start, lambda: self._chunks(start, stop)), stop, is_last)

    async def _chunks(self, start: int, stop: int) -> AsyncGenerator[Chunk, None]:
        while start < stop:
            chunk = await self.read_at(start, min(READ_SIZE, stop - start))
            if not len(chunk):
                raise BodySourceError(
                    f"the file ended at byte {start} while it was uploaded; it had {self.size} bytes: upload it again"
                )
            start += len(chunk)
            if start >= stop:  # before the server can take the body for complete
                await self.check_unchanged()
            yield chunk

    @abstractmethod
    async def read_at(self, start: int, size: int) -> Chunk:
        """Return up to ``size`` bytes from an offset on, none at the end."""


class _Buffer(_RandomAccess):
    def __init__(self, data: Chunk) -> None:
        self._data = memoryview(data)
        self.size = len(data)

    async def read_at(self, start: int, size: int) -> Chunk:
        return self._data[start : start + size]


class _File(_RandomAccess):
    """A file that is opened by its path."""

    identity: FileIdentity

    def __init__(self, path: str, descriptor: int) -> None:
        self._descriptor = descriptor
        self._path = path
        self.identity = self._look()
        self.size = self.identity.size

    def _look(self) -> FileIdentity:
        found = os.fstat(self._descriptor)
        return FileIdentity(self._path, found.st_size, found.st_mtime_ns, found.st_dev, found.st_ino)

    async def check_unchanged(self) -> None:
        if await _in_thread(self._look) != self.identity:
            raise BodySourceError("the file was changed while it was uploaded: upload it again")

    async def read_at(self, start: int, size: int) -> Chunk:
        return await _in_thread(lambda: os.pread(self._descriptor, size, start))

    async def aclose(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            await _in_thread(lambda: os.close(descriptor))


class _Seekable(_RandomAccess):
    """A file of the application: the bytes from its position on."""

    def __init__(self, file: object, start: int, size: int) -> None:
        self._file = file
        self._start = start
        self.size = size
        self._lock = asyncio.Lock()

    async def read_at(self, start: int, size: int) -> Chunk:
        def read() -> Chunk:
            self._file.seek(self._start + start)  # type: ignore[attr-defined]
            return as_chunk(self._file.read(size))  # type: ignore[attr-defined]

        async with self._lock:
            return await _in_thread(read)


class Section(Content):
    """A range of a source, as an upload of its own.

    Args:
        whole: the source.
        start, stop: the range.
    """

    def __init__(self, whole: Content, start: int, stop: int) -> None:
        assert isinstance(whole, _RandomAccess)
        self._whole = whole
        self._start = start
        self.size: int = stop - start

    async def piece(self, start: int, limit: int | None) -> Piece:
        """Return the bytes from an offset of the range on."""
        await self._whole.check_unchanged()
        stop = self.size if limit is None else min(self.size, start + limit)
        found = self._whole.between(self._start + start, self._start + stop, is_last=stop == self.size)
        return Piece(found.body, stop, found.is_last)

    async def check_unchanged(self) -> None:
        """Raise `BodySourceError` if the file was changed."""
        await self._whole.check_unchanged()


class _Stream(Content):
    """A source that is read once: the bytes of one piece are kept until the server has them."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self.size = body.size
        self._kept: deque[memoryview] = deque()
        self._start = 0  # the offset of what is kept
        self._count = 0  # bytes that are kept
        self._ended = False

    async def piece(self, start: int, limit: int | None) -> Piece:
        if start < self._start:
            await self._go_back(start)
        while self._start < start:
            if not self._count and not await self._more():
                raise BodySizeError(f"the server has {start} bytes of a source that ended after {self._start}")
            self._drop(min(self._count, start - self._start))
        limit = BUFFER_SIZE if limit is None else limit
        # One byte more tells whether the upload ends with these.
        while self._count <= limit and await self._more():
            pass
        if self._ended:
            self.size = self._start + self._count
        chunks = self._first(min(limit, self._count))
        body = in_memory(chunks)
        return Piece(body, start + body.size, self._ended and body.size == self._count)

    def reaches(self, start: int) -> bool:
        return start >= self._start or self._body.replayable

    async def _go_back(self, start: int) -> None:
        if not self.reaches(start):
            raise UploadOffsetError(
                f"the server has only {start} bytes, and the source cannot be read again before byte {self._start}; "
                "upload a file or bytes, which can be",
                offset=start,
            )
        await self._body.rewind()
        self._kept.clear()
        self._start = self._count = 0
        self._ended = False

    async def _more(self) -> bool:
        """Read another chunk; False at the end."""
        if self._ended:
            return False
        try:
            chunk = await anext(self._body)
        except StopAsyncIteration:
            self._ended = True
            return False
        self._kept.append(memoryview(bytes(chunk)))  # the source may use its buffer again
        self._count += len(chunk)
        return True

    def _drop(self, count: int) -> None:
        """Forget bytes that the server has."""
        self._start += count
        self._count -= count
        while count:
            first = self._kept.popleft()
            if len(first) > count:
                self._kept.appendleft(first[count:])
                return
            count -= len(first)

    def _first(self, size: int) -> Sequence[Chunk]:
        found: list[Chunk] = []
        for chunk in self._kept:
            if not size:
                break
            found.append(chunk[:size])
            size -= len(found[-1])
        return found

    async def aclose(self) -> None:
        await self._body.aclose()


async def open_content(source: object, size: int | None) -> Content:
    """Return what is uploaded, from what the application gives.

    Args:
        source: as for `Trove.put`.
        size: bytes, of a source that does not know them; None if it does, or if nobody does.

    Raises:
        BodyTypeError: it is no source.
        BodySizeError: it has another size.
        OSError: the file cannot be opened.
    """
    found = await _random_access(source)
    if found is None:
        body = Body(source, size=size)
        await body.prepare()
        if body.buffer is None:
            return _Stream(body)
        found = _Buffer(body.buffer)
    if size is not None and size != found.size:
        await found.aclose()
        raise BodySizeError(f"the source has {found.size} bytes; {size} were declared")
    return found


async def _random_access(source: object) -> _RandomAccess | None:
    """Return a source of which any range can be read; None if it is another one."""
    if isinstance(source, os.PathLike):
        return await _open_file(local_path(source))
    if hasattr(source, "seek") and hasattr(source, "read") and not asyncio.iscoroutinefunction(source.read):
        return await _in_thread(lambda: _seekable(source))
    return None


async def _open_file(path: str) -> _File | None:
    opened: list[_File] = []
    try:
        await _in_thread(lambda: opened.extend(_open(path)))
    except BaseException:
        for file in opened:  # a cancellation came while the thread opened it
            await file.aclose()
        raise
    return opened[0] if opened else None


def _open(path: str) -> Iterator[_File]:
    """Yield a regular file; nothing for a pipe or a device, which is read once."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield _File(os.path.abspath(path), descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def _seekable(file: object) -> _Seekable | None:
    try:
        if not file.seekable() or not isinstance(file.read(0), bytes):  # type: ignore[attr-defined]
            return None
        start = file.tell()  # type: ignore[attr-defined]
        end = file.seek(0, os.SEEK_END)  # type: ignore[attr-defined]
        file.seek(start)  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return None
    if not isinstance(end, int) or end < start:
        raise BodySourceError("seek() of the file does not return its new position")
    return _Seekable(file, start, end - start)


async def _in_thread(function: Callable[[], R]) -> R:
    """Call a function in a thread; a cancellation waits until it returns, so that the file can be closed."""
    return await to_the_end(
        anyio.to_thread.run_sync(function), timeout=CLEANUP_TIMEOUT, leftover="a thread that reads a file to upload"
    )
