"""Reading an object: `ObjectReader` for users, `ByteStream` for the drivers that feed it."""

from __future__ import annotations

import asyncio
import os
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from dataclasses import replace
from io import BytesIO
from types import TracebackType
from typing import Final, Protocol, Self, TypeVar, final

from trove_async.checksums import Hasher, new_hasher, update, verify
from trove_async.errors import (
    BackendError,
    BackendUnavailableError,
    ClosedError,
    NotFoundError,
    ObjectChangedError,
    PreconditionFailedError,
    TransientError,
)
from trove_async.types import ObjectInfo

__all__ = ["ByteStream", "ObjectReader", "Resumption", "StreamWrapper", "Verifier", "caller_location"]

R = TypeVar("R")

CHUNK_SIZE: Final = 1024 * 1024
_RESUMES: Final = 3
_PACKAGE: Final = os.path.dirname(__file__) + os.sep


def caller_location(*packages: str) -> str:
    """Return ``file:line`` of the innermost caller outside this package, and outside the folders of others."""
    inside = (_PACKAGE, *packages)
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(inside):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


class ByteStream(ABC):
    """The bytes of one object as a backend delivers them; a driver passes it to `ObjectReader`.

    A stream has a position in the object, and ends where the requested range ends.
    """

    @abstractmethod
    async def read(self, size: int) -> bytes:
        """Return the next 1 to ``size`` bytes; ``b""`` at the end.

        A network stream returns the bytes that have arrived and does not wait for ``size`` bytes.

        Raises:
            TransientError: the connection broke; `seek` to the current position continues the stream.
        """

    @abstractmethod
    async def seek(self, offset: int) -> None:
        """Continue at ``offset`` of the same object that was opened.

        Raises:
            PreconditionFailedError: the object was replaced meanwhile.
            ObjectNotFoundError: the object was deleted meanwhile.
        """

    @abstractmethod
    def abort(self) -> None:
        """Release the file or connection at once, without waiting; idempotent, never raises.

        A `seek` may follow, as it may follow `aclose`; it opens the object again.

        No `read` or `seek` is in progress when it is called: both return, also when they are cancelled, only
        after everything that they started has ended.
        """

    async def aclose(self) -> None:
        """Release the file or connection, which may wait so that the connection can be used again."""
        self.abort()

    async def readinto(self, buffer: memoryview) -> int:
        """Put the next 1 to ``len(buffer)`` bytes into a buffer and return their number; 0 at the end.

        The caller goes on with what follows of the same buffer: a stream that reads ahead may put later bytes there
        before they are asked for. Until it raises, or is aborted, the buffer belongs to the stream.

        Raises:
            TransientError: as `read`.
        """
        chunk = await self.read(len(buffer))
        if len(chunk) <= len(buffer):
            buffer[: len(chunk)] = chunk
        return len(chunk)

    def limit_memory(self, size: int) -> None:
        """Hold at most about ``size`` bytes that were read ahead; does nothing in a stream that reads nothing ahead."""

    def suspend(self) -> None:
        """Release the file or connection for now: the next bytes are read otherwise, and a `seek` or the end follows.

        The default aborts. A layer whose stream stands for the operation passes it on.
        """
        self.abort()

    def context(self) -> Context:
        """Return a context for tasks that read for the same operation; the default is that of the caller."""
        return copy_context()

    async def wait_closed(self) -> None:
        """Wait until everything has ended that `abort` has told to end; the default is for streams without tasks."""


class StreamWrapper(ByteStream):
    """Passes everything on to another stream; layers override what they change, and give it to `ObjectReader.wrap`.

    Attributes:
        inner: the other stream.
    """

    def __init__(self, inner: ByteStream) -> None:
        self.inner = inner

    async def read(self, size: int) -> bytes:
        """Read from the inner stream."""
        return await self.inner.read(size)

    async def seek(self, offset: int) -> None:
        """Continue the inner stream at an offset."""
        await self.inner.seek(offset)

    def abort(self) -> None:
        """Abort the inner stream."""
        self.inner.abort()

    async def aclose(self) -> None:
        """Close the inner stream."""
        await self.inner.aclose()

    def limit_memory(self, size: int) -> None:
        """Limit the memory of the inner stream."""
        self.inner.limit_memory(size)

    def suspend(self) -> None:
        """Suspend the inner stream."""
        self.inner.suspend()

    def context(self) -> Context:
        """Return the context of the inner stream."""
        return self.inner.context()

    async def wait_closed(self) -> None:
        """Wait for the inner stream."""
        await self.inner.wait_closed()


class Resumption(Protocol):
    """The attempts to continue a body that broke off."""

    async def failed(self, error: TransientError, *, paid: bool = False) -> None:
        """Wait before the next attempt; raise the error if there is none.

        Args:
            error: with which the body broke off.
            paid: whether bytes have arrived since it broke off before, so that the attempt repeats nothing.
        """


class Verifier(Protocol):
    """Compares a whole object with the checksum that the service gave for it."""

    def update(self, data: bytes | memoryview) -> None:
        """Take in the next bytes."""

    def finish(self) -> None:
        """Compare.

        Raises:
            ChecksumError: the bytes are not those that the checksum was made of.
        """


class _FewTimes:
    """Resumes a few times, at once unless the service asks for a delay: for drivers without a policy."""

    def __init__(self) -> None:
        self._failures = 0

    async def failed(self, error: TransientError, *, paid: bool = False) -> None:
        self._failures += 1
        if self._failures > _RESUMES or error.exhausted:
            raise error
        if error.retry_after:
            await asyncio.sleep(error.retry_after)


class _ReadBuffer(BytesIO):
    """A buffer that may be collected while views of it are alive, as those in the traceback of a failed read are."""

    def __del__(self) -> None:
        """Free nothing: the finalizer of `BytesIO` closes it, and reports an error while there are views."""


@final
class ObjectReader:
    """An object that is being read.

    Use it in ``async with``, or read it to its end: both release its file or connection. So do an exception, `aclose`,
    and the garbage collector, which also issues a `ResourceWarning`.

    ``async for chunk in reader`` yields chunks of up to 1 MiB. Positions are relative to the requested range: 0 is its
    first byte.

    Attributes:
        info: the object; its size is that of the whole object, also if a range is read.
        start, stop: the offsets in the object at which the range starts and ends.
        parallel: how many ranges of the object may be read at once by calls of `Driver.get`, if that turns out to be
            faster; 1 for none.
    """

    __slots__ = (
        "__weakref__", "_broke_at", "_buffer", "_busy", "_chunk_size", "_closed", "_closed_because", "_hasher", "_live",
        "_opened_at", "_position", "_resumption", "_stream", "_verifier", "info", "parallel", "start", "stop",
    )  # fmt: skip

    def __init__(
        self,
        info: ObjectInfo,
        source: ByteStream | bytes,
        *,
        start: int = 0,
        stop: int | None = None,
        resumption: Callable[[], Resumption] = _FewTimes,
        verifier: Verifier | None = None,
        parallel: int = 1,
    ) -> None:
        """Make a reader; for drivers.

        Args:
            info: of the object.
            source: a stream whose position is ``start``, or all bytes of the range.
            start: the offset in the object of the range's first byte.
            stop: the offset after its last byte; None for the end of the object.
            resumption: called when a chunk cannot be read, for the attempts at that chunk; the default makes 3 more.
            verifier: compares the bytes of a stream if they are read from first to last; only for a whole object.
            parallel: how many ranges of a large object may be read at once. The default is right where a range comes
                from memory or a disk of this machine, or where the server does not answer with the range alone.
        """
        self.info = info
        self.parallel = parallel
        self._verifier = verifier
        self._resumption = resumption
        self._broke_at = 0
        self.start = start
        self.stop = info.size if stop is None else stop
        self._position = 0
        self._chunk_size = CHUNK_SIZE
        self._closed = False
        self._closed_because = "the reader is closed"
        self._busy = False
        self._hasher: Hasher | None = None
        self._stream: ByteStream | None
        self._buffer: bytes | None
        if isinstance(source, ByteStream):
            self._stream, self._buffer = source, None
            self._live = True
            self._opened_at = caller_location()
        else:
            self._stream, self._buffer = None, source
            self._live = False
            self._opened_at = ""
        if info.checksums and start == 0 and self.stop == info.size:
            self._hasher = new_hasher(next(iter(info.checksums)))

    @property
    def size(self) -> int:
        """The total number of bytes that the reader reads; less than ``info.size`` for a range."""
        return self.stop - self.start

    @property
    def closed(self) -> bool:
        """Whether the reader was closed, by its user or by a failure."""
        return self._closed

    @property
    def buffered(self) -> bool:
        """Whether all bytes are in memory, so that reading takes no I/O and nothing has to be closed."""
        return self._buffer is not None

    @property
    def buffer(self) -> bytes | None:
        """All bytes of the range if they are in memory, else None; for layers."""
        return self._buffer

    def wrap(self, wrapper: Callable[[ByteStream], ByteStream]) -> None:
        """Wrap the reader's stream in another one; for layers, before the first read."""
        if self._stream is not None:
            self._stream = wrapper(self._stream)

    def expect(self, algorithm: str, digest: str) -> None:
        """Compare the whole object with a checksum, and not with what is stored beside it; before the first read.

        Args:
            algorithm: of `trove_async.checksums.ALGORITHMS`.
            digest: lower-case hex. A reader of a range compares nothing.
        """
        self.info = replace(self.info, checksums={algorithm: digest})
        if self.start == 0 and self.stop == self.info.size:
            self._hasher = new_hasher(algorithm)

    def resume_by(self, resumption: Callable[[], Resumption]) -> None:
        """Change how the body is resumed when it breaks off; for layers."""
        self._resumption = resumption

    def limit_memory(self, size: int) -> None:
        """Yield chunks of up to ``size`` bytes, and read about as much ahead: a slow consumer then costs little memory.

        Args:
            size: bytes, 1 to 1 MiB.
        """
        self._chunk_size = min(size, CHUNK_SIZE)
        if self._stream is not None:
            self._stream.limit_memory(size)

    def tell(self) -> int:
        """Return the position within the range."""
        return self._position

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position within the range; a position past its end is allowed, and reads ``b""``.

        Raises:
            ValueError: the position would be negative.
            ObjectChangedError: the object was replaced, so the requested bytes no longer exist.
        """
        self._check_open()
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError(f"cannot seek to {base + offset}, before the beginning")
        if base + offset != self._position:
            self._hasher = self._verifier = None  # a checksum is that of the whole object, read in order
            self._position = base + offset
            if self._stream is not None and self._position < self.size:
                await self._guard(self._stream.seek(self.start + self._position))
        return self._position

    async def read(self, size: int = -1) -> bytes:
        """Read ``size`` bytes, fewer only at the end; with -1 all remaining bytes.

        Raises:
            ObjectChangedError: the connection broke, and the object was replaced before it was resumed.
            ChecksumError: the object was read completely and does not match its stored checksum.
            TransientError: the connection broke and could not be resumed.
        """
        self._check_open()
        left = max(0, self.size - self._position)
        wanted = left if size < 0 or size > left else size
        if self._buffer is not None:
            first = self._position
            self._position += wanted
            whole = first == 0 and wanted == len(self._buffer)
            chunk = self._buffer if whole else self._buffer[first : first + wanted]
            if self._hasher is not None:
                await self._check(chunk)
            return chunk
        if wanted == 0:
            if left == 0:
                await self._release()
            return b""
        if wanted <= CHUNK_SIZE:
            chunks: list[bytes] = []
            while wanted:
                chunks.append(await self._read_some(wanted))
                wanted -= len(chunks[-1])
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        # It neither copies these bytes nor those that it returns, since nothing else refers to them.
        made = _ReadBuffer(bytes(wanted))
        with made.getbuffer() as view:
            await self._fill(view)
        return made.getvalue()

    async def readinto(self, buffer: bytearray | memoryview) -> int:
        """Read into a buffer until it is full or the range ends; return the number of bytes read."""
        self._check_open()
        view = memoryview(buffer).cast("B")[: max(0, self.size - self._position)]
        if self._buffer is not None:
            view[:] = await self.read(len(view))
        elif view:
            await self._fill(view)
        elif len(buffer):
            await self.read()  # which releases the stream at the end
        return len(view)

    async def _fill(self, view: memoryview) -> None:
        filled = 0
        while filled < len(view):
            filled += await self._read_into(view[filled:])

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self._check_open()
        left = self.size - self._position
        if left <= 0:
            await self._release()
            raise StopAsyncIteration
        if self._buffer is not None:
            return await self.read(min(left, self._chunk_size))
        return await self._read_some(min(left, self._chunk_size))

    async def _read_some(self, size: int) -> bytes:
        """Read 1 to ``size`` bytes from the stream."""
        chunk = await self._arriving(lambda stream: stream.read(size))
        await self._took(chunk, len(chunk), size)
        return chunk

    async def _read_into(self, view: memoryview) -> int:
        """Read 1 to ``len(view)`` bytes from the stream."""
        count = await self._arriving(lambda stream: stream.readinto(view))
        await self._took(view[:count], count, len(view))
        return count

    async def _arriving(self, read: Callable[[ByteStream], Awaitable[R]]) -> R:
        """Return what a read of the stream returns, which is not empty; resume the stream if the connection breaks."""
        stream = self._stream
        if stream is None:
            raise ClosedError("the reader was closed", key=self.info.key)
        resumption: Resumption | None = None
        while True:
            try:
                if resumption is not None:
                    await self._use(stream.seek(self.start + self._position))
                arrived = await self._use(read(stream))
                if arrived:
                    return arrived
                raise TransientError(f"the body ended after {self._position} of {self.size} bytes", key=self.info.key)
            except BackendUnavailableError:
                self._let_go()  # nothing was sent, and another attempt would be refused as well
                raise
            except TransientError as error:
                if resumption is None:
                    resumption = self._resumption()
                progress, self._broke_at = self._position > self._broke_at, self._position
                await self._guard(resumption.failed(error, paid=progress))
            except (PreconditionFailedError, NotFoundError) as error:
                self._let_go()
                raise ObjectChangedError(key=self.info.key) from error
            except StopAsyncIteration as error:
                # It would end an ``async for`` over the reader in the middle of the object.
                self._let_go()
                raise BackendError("the driver's stream raised StopAsyncIteration", key=self.info.key) from error
            except BaseException:
                self._let_go()
                raise

    async def _took(self, data: bytes | memoryview, count: int, size: int) -> None:
        """Take in that ``count`` bytes were read of ``size`` at most."""
        if count > size:
            self._let_go()
            raise BackendError(f"the backend sent more than the {self.size} bytes of the range", key=self.info.key)
        self._position += count
        if self._hasher is not None or self._verifier is not None:
            await self._check(data)
        if self._position == self.size:
            await self._release()

    async def _check(self, chunk: bytes | memoryview) -> None:
        """Add a chunk to the checksums, and compare them at the end of the object."""
        try:
            if self._verifier is not None:
                self._verifier.update(chunk)
                if self._position == self.size:
                    self._verifier.finish()
                    self._verifier = None
            if self._hasher is not None:
                await update(self._hasher, chunk)
                if self._position == self.size:
                    algorithm, expected = next(iter(self.info.checksums.items()))
                    verify(algorithm, expected, self._hasher.hexdigest(), f"object {self.info.key!r}")
                    self._hasher = None
        except BaseException:
            self._let_go()
            raise

    async def _use(self, work: Awaitable[R]) -> R:
        """Await an operation of the stream, which is not released before the operation ends."""
        self._busy = True
        try:
            result = await work
        except Exception as error:
            if self._closed:
                raise ClosedError(self._closed_because, key=self.info.key) from error
            raise
        finally:
            self._busy = False
        self._check_open()
        return result

    async def _guard(self, work: Awaitable[None]) -> None:
        self._live = True  # from now on the stream may hold a file or connection, even if the work fails
        try:
            await self._use(work)
        except (PreconditionFailedError, NotFoundError) as error:
            self._let_go()
            raise ObjectChangedError(key=self.info.key) from error
        except BaseException:
            self._let_go()
            raise

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(self._closed_because, key=self.info.key)

    async def _release(self) -> None:
        """Release what the stream holds at the end of the body; a `seek` opens it again."""
        if self._live and self._stream is not None:
            self._live = False
            await self._guard_close(self._stream)

    async def _guard_close(self, stream: ByteStream) -> None:
        try:
            await stream.aclose()
        except BaseException:
            stream.abort()
            raise

    def _let_go(self, because: str = "the reader is closed, because a read failed; open another") -> None:
        """Release what the stream holds, at once and permanently."""
        stream, self._stream = self._stream, None
        self._buffer = None
        if not self._closed:
            self._closed, self._closed_because = True, because
        if stream is not None and self._live:
            self._live = False
            stream.abort()

    def abort(self, because: str = "the reader is closed") -> None:
        """Close the reader at once, without waiting; reading it then raises `ClosedError`.

        So does a read that is in progress in another task, when it ends.
        """
        if self._busy:
            self._closed, self._closed_because = True, because
        elif not self._closed:
            self._let_go(because)

    async def aclose(self) -> None:
        """Close the reader and release its file or connection; idempotent."""
        if self._busy:
            self.abort()
        if self._closed:
            return
        self._closed = True
        stream, self._stream, self._buffer = self._stream, None, None
        if stream is not None and self._live:
            self._live = False
            await self._guard_close(stream)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            await self.aclose()
            return
        stream = self._stream
        self.abort()
        if stream is not None and not self._busy:  # a read in another task releases the stream when it ends
            await stream.wait_closed()

    def _forget(self) -> None:
        """Hold nothing any more, and release nothing: in a forked child, the connection is that of the parent."""
        self._live = False

    def __del__(self) -> None:
        if getattr(self, "_live", False) and self._stream is not None:
            warnings.warn(
                f"unclosed {self!r}, opened at {self._opened_at}; use it in a with block, or read it to its end",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
            self._let_go()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"at {self._position} of {self.size}"
        return f"<ObjectReader {self.info.key!r} {state}>"
