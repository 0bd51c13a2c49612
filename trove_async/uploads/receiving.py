"""The body of a request, which others may stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final, Literal, Protocol, Self

from trove_async.errors import ContentTooLargeError, LeaseLostError
from trove_async.web.asgi import ClientGoneError

__all__ = ["IDLE_TIMEOUT", "BodySource", "Clock", "End", "RequestBody", "Timer"]

IDLE_TIMEOUT: Final = 60.0
"""The default time in seconds after which a body that does not go on ends."""

_DRAIN_SIZE: Final = 1024 * 1024
_DRAIN_SECONDS: Final = 1.0
_LITTLE: Final = 64 * 1024

End = Literal["complete", "disconnected", "stopped", "timed out"]
"""How a body ended: the client sent all of it, went away, or sent nothing for too long; or `RequestBody.stop`."""


class BodySource(Protocol):
    """Where a body comes from: an adapter for a server."""

    @property
    def trailers(self) -> Mapping[str, str]:
        """The trailers, by names in lower case; empty before the end of the body, and if the server has none."""

    async def read(self) -> bytes:
        """Wait for the next bytes; return ``b""`` at the end, and again after it. No bytes are lost by a cancellation.

        Raises:
            ClientGoneError: the client disconnected before the end.
            InvalidArgumentError: the body is malformed.
        """


class Timer(Protocol):
    """A call that will be made at a time."""

    def cancel(self) -> None:
        """Cancel the call."""


class Clock(Protocol):
    """The time, and calls at a time: an event loop."""

    def time(self) -> float:
        """Return the time in seconds."""

    def call_at(self, when: float, callback: Callable[[], object], /) -> Timer:
        """Call back at a time."""


class RequestBody:
    """The body of a request, as it arrives.

    Nothing is read from the server before the first chunk is asked for, and no faster than chunks are asked for: a
    server that waits for this sends no 100 (Continue) to a client whose request is refused. It belongs to one event
    loop.

    Args:
        source: of the bytes.
        idle_timeout: seconds without a byte after which the body ends; None for no limit.
        held_back: whether the client sends no byte before the first one is asked for (``Expect: 100-continue``).
        clock: default: the running loop.

    Attributes:
        received: bytes that have arrived.
        ended: how the body ended; None before its end.
    """

    def __init__(
        self,
        source: BodySource,
        *,
        idle_timeout: float | None = IDLE_TIMEOUT,
        held_back: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self.received = 0
        self.ended: End | None = None
        self._source = source
        self._read = source.read
        self._idle_timeout = idle_timeout
        self._held_back = held_back
        self._clock: Clock = clock or asyncio.get_running_loop()
        self._time = self._clock.time
        self._timer: Timer | None = None
        self._waiting: asyncio.Task[object] | None = None  # the task that waits for bytes
        self._since = 0.0  # when it began to wait
        self._interruption: End | None = None
        self._cancelled = False  # whether `_interrupt` has cancelled the task that waits
        self._lost = False
        self._noted = 0  # bytes, when `hurry` last found enough of them
        self._noted_at: float | None = None

    @property
    def trailers(self) -> Mapping[str, str]:
        """The trailers of the request, by names in lower case, once the body is complete."""
        return self._source.trailers

    def stop(self, *, lost: bool = False) -> None:
        """End the body as if the client had disconnected, also while the next chunk is waited for.

        It is called in the event loop, from another task. A second call changes nothing, unless it says ``lost``.

        Args:
            lost: whether what has arrived must not be written either: asking for the next chunk then raises.
        """
        self._lost = self._lost or lost
        self._interrupt("stopped")

    def hurry(self, seconds: float) -> None:
        """End the body as one that does not go on, if nothing has arrived for some seconds, or very little for longer.

        It is called about once a second while others wait for what this body holds. Very little is less than 64 KiB in
        ten times ``seconds``: a client that sends a byte now and then holds no memory for ever.
        """
        now = self._time()
        if self._waiting is None or self.received - self._noted >= _LITTLE:
            self._noted, self._noted_at = self.received, now
        elif self._noted_at is None:
            self._noted_at = now
        if self._waiting is not None and (
            now - self._since >= seconds or (self._noted_at is not None and now - self._noted_at >= 10 * seconds)
        ):
            self._interrupt("timed out")

    def chunks(self, limit: int | None) -> AsyncIterator[bytes]:
        """Return the chunks; the iteration ends with the body, and `ended` says how.

        Asking for a chunk may raise:

        - `ContentTooLargeError`: more than ``limit`` bytes have arrived, whatever the headers said. The chunk with
          the byte too many is dropped.
        - `LeaseLostError`: `stop` was called with ``lost``.
        - `InvalidArgumentError`: the body is malformed.

        Args:
            limit: bytes that the body may have; None for no limit.
        """
        return _Chunks(self, limit)

    async def drain(self) -> None:
        """Read and drop what a client still sends whose request was refused: at most 1 MiB, for at most 1 s.

        A client that cannot send its body may not read the answer, and a connection that is closed while bytes
        arrive is reset, which destroys the answer. A client that waits for 100 (Continue) is not told to send.
        """
        if self._held_back or self.ended not in (None, "stopped"):
            return
        dropped = 0
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while dropped < _DRAIN_SIZE and (chunk := await self._read()):
                    dropped += len(chunk)
        except TimeoutError:
            pass
        except Exception:  # noqa: BLE001 - the client has gone, or sends what is no body: it was refused anyway
            self.ended = "disconnected"

    def close(self) -> None:
        """Release the timer, when no more chunks are asked for."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _take(self) -> bytes | None:
        """Wait for bytes; return ``b""`` at the end of the body, and None if it is cut off."""
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        self._held_back = False
        self._waiting, self._since = task, self._time()
        if self._timer is None and self._idle_timeout is not None:
            self._timer = self._clock.call_at(self._since + self._idle_timeout, self._look)
        ours = False
        try:
            try:
                return await self._read()
            finally:
                self._waiting = None
                if self._cancelled:
                    self._cancelled = False
                    # As in asyncio.timeout: if somebody else has cancelled the task as well, that counts.
                    ours = task.uncancel() <= before
        except asyncio.CancelledError:
            if not ours:
                raise
        except ClientGoneError:
            self._interruption = self._interruption or "disconnected"
        return None

    def _interrupt(self, how: End) -> None:
        if self._interruption is None:
            self._interruption = how
        if self._waiting is not None and not self._cancelled:
            self._cancelled = True
            self._waiting.cancel()

    def _look(self) -> None:
        """End the body if the client has sent nothing for too long; otherwise look again when it may have been."""
        assert self._idle_timeout is not None
        now = self._time()
        due = self._idle_timeout + (now if self._waiting is None else self._since)
        if due <= now:
            self._timer = None
            self._interrupt("timed out")
        else:
            self._timer = self._clock.call_at(due, self._look)


class _Chunks:
    """An iteration over a body. Unlike an async generator it needs no clean-up."""

    __slots__ = ("_body", "_limit")

    def __init__(self, body: RequestBody, limit: int | None) -> None:
        self._body = body
        self._limit = limit

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        body = self._body
        if body.ended is None:
            chunk = await body._take() if body._interruption is None else None
            if chunk:
                body.received += len(chunk)
                if self._limit is not None and body.received > self._limit:
                    raise ContentTooLargeError(f"the body is longer than the {self._limit} bytes that are accepted")
                return chunk
            body.ended = "complete" if chunk is not None else body._interruption
            body.close()
        if body._lost:
            raise LeaseLostError("another request writes to the upload")
        raise StopAsyncIteration
