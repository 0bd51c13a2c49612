"""`Body`: one type for everything that ``put`` accepts: bytes, a path, a file, or an iterable of chunks.

A driver gets a `Body` and either takes `Body.buffer`, if all of it is in memory, or iterates over it. The iteration
checks the length and the checksum, and raises if one is wrong: a driver commits only after it has ended.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from typing import BinaryIO, Protocol, Self, runtime_checkable

from trove_async.cancellation import CLEANUP_TIMEOUT
from trove_async.checksums import BackgroundHasher, Checksum, verify
from trove_async.errors import BodySizeError, BodyTypeError
from trove_async.sources import READ_SIZE, BufferSource, Chunk, Source, escaped, source_of

__all__ = [
    "AsyncChunkReadable",
    "AsyncReadable",
    "Body",
    "BodyLike",
    "Chunk",
    "FileSlice",
    "Piece",
    "Progress",
    "loaded",
]

Progress = Callable[[int, int | None], object]
"""Called with the number of bytes read so far and the size, None if unknown; it must not block."""


@runtime_checkable
class AsyncReadable(Protocol):
    """An object with an async ``read(n)`` that returns ``b""`` at the end."""

    async def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, ``b""`` at the end."""


@runtime_checkable
class AsyncChunkReadable(Protocol):
    """An object with an async ``read_chunk(n)`` that returns ``b""`` at the end, as aiohttp's ``BodyPartReader``."""

    async def read_chunk(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, ``b""`` at the end."""


BodyLike = (
    Chunk | os.PathLike[str] | BinaryIO | Iterable[Chunk] | AsyncIterable[Chunk] | AsyncReadable | AsyncChunkReadable
)
"""The types that ``put`` accepts. A ``str`` raises an error that suggests ``.encode()``."""


class FileSlice:
    """Bytes of a file that is a body: they are read when they are needed, as often as that is.

    Args:
        body: open as long as the slice is used.
        start: offset in the file.
        size: bytes.
    """

    __slots__ = ("_body", "_size", "_start")

    def __init__(self, body: Body, start: int, size: int) -> None:
        self._body = body
        self._start = start
        self._size = size

    def __len__(self) -> int:
        return self._size

    def load(self) -> bytes:
        """Return the bytes; for threads.

        Raises:
            BodySizeError: the file has become shorter.
            OSError: it cannot be read.
        """
        return self._body._load(self._start, self._size)

    async def read(self) -> bytes:
        """Return the bytes, read in a thread; raises as `load`."""
        return await self._body._source.in_thread(self.load)


Piece = Chunk | FileSlice
"""Bytes of a part: in memory, or still in a file."""


async def loaded(pieces: Sequence[Piece]) -> list[Chunk]:
    """Return the bytes of pieces, read where they are still in a file."""
    return [await piece.read() if isinstance(piece, FileSlice) else piece for piece in pieces]


class Body:
    """A body on its way into a store.

    ``async for chunk in body`` yields chunks that are not empty; a chunk is valid until the next one
    is requested. `rewind` starts again, which only a replayable body allows.

    Attributes:
        size: bytes; None if unknown before the end.
        replayable: True if it can be iterated more than once.
        checksum: the checksum to compute and compare during the iteration; None for no checksum.
        taken: the number of bytes that the current iteration has yielded.
        failure: what the source has raised; a driver passes it on unchanged, and it is no error of the backend.
    """

    __slots__ = ("_declared", "_hasher", "_on_progress", "_source", "checksum", "failure", "size", "taken")

    def __init__(
        self,
        data: object,
        *,
        size: int | None = None,
        checksum: Checksum | None = None,
        on_progress: Progress | None = None,
        cleanup_timeout: float = CLEANUP_TIMEOUT,
    ) -> None:
        try:
            self._source = source = source_of(data)
        except (StopIteration, StopAsyncIteration) as error:  # of the `__iter__` or `__aiter__` of an iterable
            raise escaped(error) from error
        source.cleanup_timeout = cleanup_timeout
        self._on_progress = on_progress
        self._hasher: BackgroundHasher | None = None
        self.checksum = checksum
        self.size = source.size if size is None else size
        self._declared = size is not None
        self.taken = 0
        self.failure: Exception | None = None
        if size is not None and source.size is not None:
            self._check_declared(size)

    def _check_declared(self, size: int) -> None:
        if self._source.size is not None and self._source.size != size:
            raise BodySizeError(f"the body has {self._source.size} bytes; {size} were declared")

    @property
    def replayable(self) -> bool:
        """Whether `rewind` can start it again."""
        return self._source.replayable

    @property
    def buffer(self) -> Chunk | None:
        """The whole body if it is in memory, else None.

        A driver that uses it calls `finish_buffer` before it commits.
        """
        source = self._source
        return source.data if type(source) is BufferSource else None

    def wrap(self, wrapper: Callable[[Source], Source]) -> None:
        """Wrap the source of the chunks in another one; for layers, before the first chunk."""
        self._source = wrapper(self._source)

    async def prepare(self) -> None:
        """Open the source, if that is needed to know the size; the store calls it before the driver.

        Raises:
            OSError: the file cannot be opened; the operating system's error, unchanged.
            BodySizeError: the size is not the declared one.
        """
        self._source = await self._source.prepare()
        if self.size is None:
            self.size = self._source.size
        else:
            self._check_declared(self.size)

    def __aiter__(self) -> Self:
        return self

    async def rewind(self) -> None:
        """Start again from the first byte.

        Raises:
            BodyTypeError: the body can be read only once.
        """
        if not self.replayable:
            raise BodyTypeError("the body can be read only once")
        await self._hashed()
        await self._source.rewind()
        self.taken = 0
        self._hasher = None

    async def __anext__(self) -> Chunk:
        try:
            if self._hasher is not None:
                await self._hasher.wait(1)
            chunk = await self._source.read()
            count = len(chunk)
            if count:
                self.taken += count
                if self.size is not None and self.taken > self.size:
                    raise BodySizeError(self._longer())
                if self.checksum is not None:
                    self._hash(chunk)
                if self._on_progress is not None:
                    self._on_progress(self.taken, self.size)
                return chunk
        except (StopIteration, StopAsyncIteration) as error:
            # The driver would take it for the end of the body, which only an empty chunk is.
            raise escaped(error) from error
        except Exception as error:
            self.failure = error
            raise
        await self._hashed()
        self._finish()
        raise StopAsyncIteration

    def _hash(self, chunk: Chunk) -> None:
        """Begin to hash a chunk, which the driver sends meanwhile."""
        assert self.checksum is not None
        if self._hasher is None:
            self._hasher = BackgroundHasher(self.checksum.algorithm)
        self._hasher.add(chunk)

    async def _hashed(self) -> None:
        if self._hasher is not None:
            await self._hasher.wait()

    def _longer(self) -> str:
        if self._declared:
            return f"the body has more than the {self.size} bytes that were declared"
        return f"the file grew while it was read: it had {self.size} bytes when it was opened"

    def _shorter(self, size: int) -> str:
        if self._declared:
            return f"the body ended after {size} bytes; {self.size} were declared"
        return f"the file ended after {size} bytes; it had {self.size} when it was opened"

    def _finish(self) -> None:
        if self.size is not None and self.taken != self.size:
            raise BodySizeError(self._shorter(self.taken))
        if self.checksum is not None and self.checksum.value is not None:
            verify(self.checksum.algorithm, self.checksum.value, self.digest, "the body")

    async def finish_buffer(self) -> None:
        """Check `buffer` as an iteration does, and report the progress."""
        source = self._source
        assert isinstance(source, BufferSource)
        if self.checksum is not None and self._hasher is None:
            self._hash(source.data)
        await self._hashed()
        self.taken = len(source.data)
        self._finish()
        if self._on_progress is not None:
            self._on_progress(self.taken, self.size)

    @property
    def digest(self) -> str:
        """The checksum of the bytes that were yielded, in lower-case hex; needs `checksum`."""
        assert self.checksum is not None
        if self._hasher is None:
            self._hasher = BackgroundHasher(self.checksum.algorithm)
        return self._hasher.hexdigest()

    @property
    def computed(self) -> Checksum | None:
        """The checksum of the bytes that were yielded; None if `checksum` is None."""
        return None if self.checksum is None else Checksum(self.checksum.algorithm, self.digest)

    @property
    def known_checksum(self) -> Checksum | None:
        """The checksum if it is known before the body is read: that of a buffer, or the one that the user gave."""
        return self.checksum if self.checksum is None or self.buffer is None else self.computed

    @property
    def checksums(self) -> dict[str, str]:
        """The value of `ObjectInfo.checksums` after the body was read."""
        return {} if self.checksum is None else {self.checksum.algorithm: self.digest}

    @property
    def sliceable(self) -> bool:
        """Whether `slices` gives parts of it: it is a file, and no checksum of the whole is computed."""
        return self._source.descriptor is not None and self.checksum is None

    def slices(self, start: int, stop: int) -> list[FileSlice]:
        """Take the bytes between two offsets without reading them, instead of iterating; see `finish_slices`."""
        self._take_in(stop)
        return [FileSlice(self, at, min(READ_SIZE, stop - at)) for at in range(start, stop, READ_SIZE)]

    async def finish_slices(self) -> None:
        """Check that the file has not grown; called when all of it has been taken, before the driver commits.

        Raises:
            BodySizeError: it has.
        """
        descriptor = self._source.descriptor
        assert descriptor is not None
        assert self.size is not None
        if (await self._source.in_thread(lambda: os.fstat(descriptor))).st_size > self.size:
            self.failure = BodySizeError(self._longer())
            raise self.failure

    def _take_in(self, stop: int) -> None:
        self.taken = max(self.taken, stop)
        if self._on_progress is not None:
            try:
                self._on_progress(self.taken, self.size)
            except (StopIteration, StopAsyncIteration) as error:
                raise escaped(error) from error
            except Exception as error:
                self.failure = error
                raise

    def _load(self, start: int, size: int) -> bytes:
        descriptor = self._source.descriptor
        assert descriptor is not None
        try:
            data = os.pread(descriptor, size, start)
            # Some file systems return less than there is.
            while len(data) < size and (more := os.pread(descriptor, size - len(data), start + len(data))):
                data += more
            if len(data) < size:
                # Other slices may lie wholly beyond the end.
                raise BodySizeError(self._shorter(min(start + len(data), os.fstat(descriptor).st_size)))
        except Exception as error:
            self.failure = error
            raise
        return data

    async def read_all(self) -> bytes:
        """Return the whole body; for bodies that are known to be small."""
        return b"".join([bytes(chunk) async for chunk in self])

    async def aclose(self) -> None:
        """Close what the body has opened; files that the user has opened stay open."""
        try:
            await self._hashed()
        finally:
            await self._source.aclose()
