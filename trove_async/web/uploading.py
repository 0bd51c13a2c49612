"""Receive a body from a client that may disconnect while the store does not ask for more of it."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Final, Self, TypeVar

__all__ = ["Gone", "receive_body"]

R = TypeVar("R")

Gone = Callable[[], Awaitable[object]]
"""Raises an exception when the client has disconnected; called after its body was read."""

_LOOK_SECONDS: Final = 0.5
_READ_AHEAD: Final = 256 * 1024
"""Bytes that are read to find out whether the client is still there: a server sees no end behind unread bytes."""


async def receive_body(
    body: AsyncIterable[bytes], put: Callable[[AsyncIterator[bytes]], Awaitable[R]], gone: Gone | None = None
) -> R:
    """Call ``put`` with a body, and cancel it when the client disconnects.

    The body is read no faster than ``put`` reads it. Only while that asks for nothing, up to 256 KiB are read ahead.

    Args:
        body: raises an exception when the client disconnects before its end.
        put: stores the body; nothing is stored if it is cancelled.
        gone: waits for the client to disconnect after the body's end; None if that cannot be known.

    Raises:
        Exception: that of ``put``, ``body`` or ``gone``.
    """
    upload = _Upload(body)
    loop = asyncio.get_running_loop()
    failures: list[Exception] = []
    watching: asyncio.Task[None] | None = None

    async def watch() -> None:
        try:
            await upload.watch(gone)
        except Exception as error:  # noqa: BLE001 - raised below
            failures.append(error)
            with suppress(RuntimeError):  # the put has ended meanwhile
                limit.reschedule(loop.time())

    def begin() -> None:
        nonlocal watching
        watching = loop.create_task(watch())

    # A task for each upload would cost more than a small one does.
    beginning = loop.call_later(_LOOK_SECONDS, begin)
    try:
        async with asyncio.timeout(None) as limit:
            return await put(upload)
    except TimeoutError:
        if not failures:
            raise
    finally:
        beginning.cancel()
        try:
            if watching is not None:
                watching.cancel()
                await asyncio.wait({watching})
        finally:
            await upload.aclose()
    raise failures[0]


class _Upload:
    """The chunks of a body, some of which may have been read before they are asked for."""

    def __init__(self, body: AsyncIterable[bytes]) -> None:
        self._chunks = aiter(body)
        self._ahead: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._failure: BaseException | None = None
        self._asked = 0  # how often the store has asked for a chunk
        self._reading = asyncio.Lock()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self._asked += 1
        async with self._reading:
            if self._ahead:
                chunk = self._ahead.popleft()
                self._size -= len(chunk)
                return chunk
            chunk = await self._next()
            if not chunk:
                raise StopAsyncIteration
            return chunk

    async def watch(self, gone: Gone | None) -> None:
        """Read ahead while the store asks for nothing, until the body or ``gone`` raises."""
        while True:
            asked = self._asked
            await asyncio.sleep(_LOOK_SECONDS)
            while asked == self._asked and not self._ended and self._size < _READ_AHEAD:
                await self._read_ahead()
            if self._ended:
                break
        if gone is not None:
            await gone()

    async def _read_ahead(self) -> None:
        async with self._reading:
            if chunk := await self._next():
                self._ahead.append(chunk)
                self._size += len(chunk)

    async def _next(self) -> bytes:
        """Return the next chunk, empty at the end; raise again what the body has raised, which is then no end."""
        if self._failure is not None:
            raise self._failure
        chunk = b""
        try:
            while not chunk and not self._ended:
                chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._ended = True
        except BaseException as error:
            self._failure = error
            raise
        return chunk

    async def aclose(self) -> None:
        # An async generator that is not read to its end keeps its resources open until it is closed.
        if inspect.isasyncgen(self._chunks):
            await self._chunks.aclose()
