"""The sources of bodies: for each kind of object that ``put`` accepts, how its chunks are read.

Whatever happens to a source, it does not look like the end: only an empty chunk is that.
"""

from __future__ import annotations

import inspect
import io
import os
import stat
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeGuard, TypeVar

import anyio.to_thread

from trove_async.cancellation import CLEANUP_TIMEOUT, to_the_end
from trove_async.errors import BodySourceError, BodyTypeError
from trove_async.paths import local_path
from trove_async.readiness import readable

if TYPE_CHECKING:
    from http.client import HTTPResponse

    import aiofiles.threadpool.binary

__all__ = ["READ_SIZE", "BufferSource", "Chunk", "Source", "as_chunk", "escaped", "source_of"]

Chunk = bytes | bytearray | memoryview
"""The types of chunks; users may also pass any other object with the buffer protocol."""

R = TypeVar("R")

_SMALL_FILE: Final = 256 * 1024
READ_SIZE: Final = 1024 * 1024
_GATHER_SIZE: Final = 256 * 1024
_GATHER_SECONDS: Final = 0.02


def as_chunk(value: object) -> Chunk:
    """Return a buffer as flat bytes without copying it; raise for anything else."""
    if isinstance(value, bytes):
        return value
    try:
        view = memoryview(value)  # type: ignore[arg-type]
    except TypeError:
        hint = "; call .encode() on it" if isinstance(value, str) else ""
        raise BodyTypeError(f"a chunk of the body is of type {type(value).__name__}, not bytes-like{hint}") from None
    if not view.contiguous:
        return view.tobytes()
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def _given(value: object) -> Chunk:
    """Return what the ``read`` of a file returned, as a chunk."""
    if value is None:
        raise BodySourceError(
            "read() of the body returned None, as files in non-blocking mode do when they have no data yet; "
            "pass a blocking file"
        )
    return as_chunk(value)


def escaped(error: StopIteration | StopAsyncIteration) -> BodySourceError:
    """Return the error for an exception that looks like the end of the body."""
    return BodySourceError(
        f"the body's source or on_progress raised {type(error).__name__}, which looks like the end of the body; "
        "give next() and anext() a default, or catch the exception"
    )


class Source(ABC):
    """The source of a body's chunks.

    Attributes:
        size: bytes; None if unknown before the end.
        replayable: whether `rewind` can start it again.
        descriptor: of a regular file that is the whole source and can be read at any offset; None if there is none.
        cleanup_timeout: seconds for which a cancellation waits for a thread.
    """

    size: int | None = None
    descriptor: int | None = None
    replayable: bool = False
    cleanup_timeout: float = CLEANUP_TIMEOUT

    async def in_thread(self, function: Callable[[], R], on_cancel: Callable[[], object] | None = None) -> R:
        """Call a function in a thread; a cancellation waits until it returns."""
        return await self.held(anyio.to_thread.run_sync(function), on_cancel)

    async def held(self, work: Coroutine[Any, Any, R], on_cancel: Callable[[], object] | None = None) -> R:
        """Await work that runs in a thread; a cancellation waits until it ends."""
        leftover = "a thread that reads the source of a body"
        return await to_the_end(work, timeout=self.cleanup_timeout, leftover=leftover, on_cancel=on_cancel)

    async def prepare(self) -> Source:
        """Determine `size` and `replayable` if that takes I/O; return the source to read from."""
        return self

    @abstractmethod
    async def read(self) -> Chunk:
        """Return the next chunk, empty at the end."""

    async def rewind(self) -> None:
        """Start again from the first byte; called only if replayable."""

    async def aclose(self) -> None:
        """Close what the source has opened itself."""


class BufferSource(Source):
    """Bytes in memory."""

    replayable = True

    def __init__(self, data: Chunk) -> None:
        self.data = data
        self.size = len(data)
        self._done = False

    async def read(self) -> Chunk:
        """Return the bytes, then nothing."""
        if self._done:
            return b""
        self._done = True
        return self.data

    async def rewind(self) -> None:
        """Start again from the first byte."""
        self._done = False


class _PathSource(Source):
    """A file that the body opens and closes; aiofiles reads it off the loop."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file: aiofiles.threadpool.binary.AsyncFileIO | None = None
        self._stream: _StreamSource | None = None

    async def prepare(self) -> Source:
        # A small file is read whole at once: a thread hop costs more than its bytes.
        status, data = await self.in_thread(self._inspect)
        if data is not None:
            return BufferSource(data)
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            self._stream = _StreamSource(self.path)
            self._stream.cleanup_timeout = self.cleanup_timeout
            await self.in_thread(self._stream.open)
            return self._stream
        await self.held(self._open())
        assert self._file is not None
        descriptor = self._file.fileno()
        status = await self.in_thread(lambda: os.fstat(descriptor))
        self.size = _believed(status.st_size)
        self.descriptor = None if self.size is None else descriptor
        self.replayable = True
        return self

    def _inspect(self) -> tuple[os.stat_result, bytes | None]:
        """Return the state of the file, and its whole content if it is small."""
        status = os.stat(self.path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _SMALL_FILE:
            return status, None
        with open(self.path, "rb") as file:
            data = file.read(_SMALL_FILE + 1)
        return status, data if len(data) <= _SMALL_FILE else None

    async def _open(self) -> None:
        import aiofiles

        # Unbuffered: the reads are large, and closing must not wait for a lock that a stalled read holds.
        self._file = await aiofiles.open(self.path, "rb", buffering=0)

    async def read(self) -> Chunk:
        assert self._file is not None
        return _given(await self.held(self._file.read(READ_SIZE)))

    async def rewind(self) -> None:
        assert self._file is not None
        await self.held(self._file.seek(0))

    async def aclose(self) -> None:
        if self._stream is not None:
            await self._stream.aclose()
        if self._file is not None:
            file, self._file = self._file, None
            self.descriptor = None
            await file.close()


def _believed(size: int) -> int | None:
    """Return the size that a file has by its own account; None if it was already found to be wrong.

    Files of ``/proc`` and ``/sys`` have the size 0 or that of a page, whatever is in them. This is called for files
    that hold more than `_SMALL_FILE` bytes.
    """
    return size if size > _SMALL_FILE else None


class _StreamSource(Source):
    """A FIFO or device that the body opens: waited for on the loop, so that a cancellation does not wait for it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._waits = True

    def open(self) -> None:
        """Open it, which waits for nobody."""
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)

    async def read(self) -> Chunk:
        assert self._descriptor is not None
        descriptor = self._descriptor
        while True:
            if self._waits:
                try:
                    await readable(descriptor)
                except PermissionError:  # such a device always has something, as a disk and /dev/zero
                    self._waits = False
            with suppress(BlockingIOError):
                return await self.in_thread(lambda: os.read(descriptor, READ_SIZE))

    async def aclose(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)


class _FileSource(Source):
    """A binary file that the user has opened: read in a thread from its current position, and left open."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start = 0

    async def prepare(self) -> Source:
        data = await self.in_thread(self._inspect)
        return self if data is None else BufferSource(data)

    def _inspect(self) -> bytes | None:
        """Find out the size; return the whole content if it is small."""
        try:
            self.replayable = self._file.seekable()
            if not self.replayable:
                return None
            self._start = self._file.tell()
            size = max(0, self._file.seek(0, io.SEEK_END) - self._start)
            self._file.seek(self._start)
        except (AttributeError, OSError):
            self.replayable = False
            return None
        if size <= _SMALL_FILE:
            data = self._read_small()
            if data is not None:
                return data
            self._file.seek(self._start)
        self.size = _believed(size)
        return None

    def _read_small(self) -> bytes | None:
        chunks: list[bytes] = []
        left = _SMALL_FILE + 1
        while left > 0 and len(chunk := self._read_some(left)):
            chunks.append(bytes(chunk))
            left -= len(chunk)
        return b"".join(chunks) if left > 0 else None

    async def read(self) -> Chunk:
        return await self.in_thread(lambda: self._read_some(READ_SIZE))

    def _read_some(self, size: int) -> Chunk:
        try:
            return _given(self._file.read(size))
        except StopIteration as error:  # asyncio cannot bring it out of a thread
            raise escaped(error) from error

    async def rewind(self) -> None:
        await self.in_thread(lambda: self._file.seek(self._start))


class _IterableSource(Source):
    """A synchronous iterable: read in a thread, many small chunks at a time."""

    def __init__(self, iterable: Iterable[object]) -> None:
        self._iterable = iterable
        self._iterator: Iterator[object] = iter(iterable)
        # A list can be iterated again; a generator, which is its own iterator, cannot.
        self.replayable = not isinstance(iterable, Iterator)
        self._failure: BaseException | None = None
        self._stopped = Event()  # the caller was cancelled: read no more

    async def read(self) -> Chunk:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return await self.in_thread(self._gather, self._stopped.set)

    def _gather(self) -> Chunk:
        chunks: list[Chunk] = []
        size = 0
        patience = time.monotonic() + _GATHER_SECONDS
        try:
            for value in self._iterator:
                chunk = as_chunk(value)
                if not len(chunk):
                    continue
                chunks.append(chunk)
                size += len(chunk)
                if size >= _GATHER_SIZE or time.monotonic() > patience or self._stopped.is_set():
                    break
        except BaseException as error:
            if not chunks:
                raise
            self._failure = error  # raised after the chunks that preceded it
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def rewind(self) -> None:
        self._iterator = iter(self._iterable)
        self._failure = None


class _ResponseSource(_FileSource):
    """A response of ``http.client`` or ``urllib.request``: ``read(n)`` returns ``b""`` also if the connection breaks.

    Its ``length`` is the number of bytes that are left, if it is known; see
    https://github.com/python/cpython/issues/115997.
    """

    def __init__(self, response: HTTPResponse) -> None:
        super().__init__(response)
        self.size = response.length
        self._response = response

    async def prepare(self) -> Source:
        return self

    async def read(self) -> Chunk:
        chunk = await super().read()
        if not len(chunk) and self._response.length:
            raise BodySourceError(
                f"the connection of the HTTP response broke; {self._response.length} bytes are missing"
            )
        return chunk


class _AsyncIterableSource(Source):
    def __init__(self, iterable: AsyncIterable[object]) -> None:
        self._iterator: AsyncIterator[object] = aiter(iterable)

    async def read(self) -> Chunk:
        async for value in self._iterator:
            chunk = as_chunk(value)
            if len(chunk):
                return chunk
        return b""

    async def aclose(self) -> None:
        # An async generator that is not read to its end keeps its resources open until it is closed.
        if inspect.isasyncgen(self._iterator):
            await self._iterator.aclose()


class _AsyncReadSource(Source):
    def __init__(self, read: Callable[[int], Awaitable[object]]) -> None:
        self._read = read

    async def read(self) -> Chunk:
        return _given(await self._read(READ_SIZE))


class _PartSource(_AsyncReadSource):
    """A part of a form. If the form breaks off, aiohttp raises `ValueError`, or returns ``b""`` as at the end."""

    def __init__(self, read_chunk: Callable[[int], Awaitable[object]], at_eof: Callable[[], bool]) -> None:
        super().__init__(read_chunk)
        self._at_eof = at_eof

    async def read(self) -> Chunk:
        cause: ValueError | None = None
        try:
            chunk = await super().read()
            if len(chunk) or self._at_eof():
                return chunk
        except ValueError as error:
            cause = error
        raise BodySourceError("the form broke off within this part, or is malformed") from cause


def _is_response(data: object) -> TypeGuard[HTTPResponse]:
    client = sys.modules.get("http.client")  # it takes long to import, and whoever has a response has imported it
    return client is not None and isinstance(data, client.HTTPResponse)


def source_of(data: object) -> Source:
    """Return the source for what the user gave.

    Raises:
        BodyTypeError: it is no body.
        InvalidArgumentError: it is a path that no file can have.
    """
    if type(data) is bytes:
        return BufferSource(data)
    if isinstance(data, type):  # it has the methods of a body, which work only for its instances
        raise _refusal(data)
    if isinstance(data, str):
        raise BodyTypeError("the body is a str: call .encode() on it, or wrap it in Path() if it names a file")
    if isinstance(data, bytes | bytearray | memoryview):
        return BufferSource(as_chunk(data))
    if isinstance(data, os.PathLike):
        return _PathSource(local_path(data))
    if isinstance(data, io.TextIOBase):
        raise BodyTypeError("the body is a text file; open it in binary mode")
    # Before `read`, which reads a whole part of a form at once.
    read_chunk = getattr(data, "read_chunk", None)
    if inspect.iscoroutinefunction(read_chunk):
        at_eof = getattr(data, "at_eof", None)
        return _PartSource(read_chunk, at_eof) if callable(at_eof) else _AsyncReadSource(read_chunk)
    read = getattr(data, "read", None)
    if callable(read):
        if _reads_all_at_once(read):
            raise BodyTypeError(
                f"the body is of type {type(data).__name__}, whose read() takes no size; put what streams it, "
                "such as .content of a request or response of aiohttp, or .aiter_bytes() of a response of httpx"
            )
        if inspect.iscoroutinefunction(read):
            return _AsyncReadSource(read)
        if _is_response(data):
            return _ResponseSource(data)
        if not isinstance(data, AsyncIterable):
            return _FileSource(data)  # type: ignore[arg-type]
    if isinstance(data, AsyncIterable):
        return _AsyncIterableSource(data)
    try:
        return BufferSource(as_chunk(data))
    except BodyTypeError:
        pass
    if isinstance(data, Iterable) and not isinstance(data, Mapping | set | frozenset):
        return _IterableSource(data)
    raise _refusal(data)


def _refusal(data: object) -> BodyTypeError:
    return BodyTypeError(
        f"the body is of type {type(data).__name__}; {_advice(data)}give bytes, a Path, a binary file, "
        "an (async) iterable of bytes, or an object with async read()"
    )


def _reads_all_at_once(read: Callable[..., object]) -> bool:
    """Return whether a ``read`` written in Python has no parameter for a size."""
    code = getattr(getattr(read, "__func__", None), "__code__", None)
    return code is not None and code.co_argcount < 2 and not code.co_flags & inspect.CO_VARARGS


def _advice(data: object) -> str:
    """Return what to do with an object that leads to a body and is none."""
    if inspect.isawaitable(data):
        return "await it; or "
    if inspect.isfunction(data) or isinstance(data, type):
        return "call it; or "
    if inspect.isfunction(getattr(type(data), "stream", None)):
        return "put what its stream() returns; or "
    if hasattr(getattr(data, "file", None), "read"):
        return "put its .file; or "
    return ""
