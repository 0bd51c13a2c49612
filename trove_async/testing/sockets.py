"""Sockets for the proxies of this package, which control each byte, end and reset.

asyncio's transports read ahead, buffer bytes and decide when to close; here the proxies own the sockets.
"""

from __future__ import annotations

import asyncio
import fcntl
import select
import socket
import struct
import sys
import termios
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

__all__ = ["CHUNK", "HangUp", "Listener", "Turns", "connect", "delivered", "finish", "reset", "send_some"]

CHUNK: Final = 65536
_HOST: Final = "127.0.0.1"
_BACKLOG: Final = 128
_DELIVERY_POLL: Final = 0.001
_DELIVERY_GRACE: Final = 0.01


class Turns:
    """Counts events: the first ``skip`` are ignored, the next ``times`` (None for all) count, and then no more.

    Of those that could count only each ``every``-th does.
    """

    def __init__(self, skip: int, times: int | None, every: int = 1) -> None:
        self._skip = skip
        self._times = times
        self._every = every
        self._met = 0

    def take(self) -> bool:
        """Count an event, and return whether it counts."""
        self._met += 1
        turn, rest = divmod(self._met - self._skip, self._every)
        return turn > 0 and rest == 0 and (self._times is None or turn <= self._times)


class Listener(ABC):
    """Listens on a free port of 127.0.0.1 while open, and owns the task of each connection.

    Closing it ends all tasks and releases every socket. All tasks are children of one task that belongs to the
    object, so that a fixture may close it from another task than the one that opened it.

    Attributes:
        host: ``127.0.0.1``.
        port: the port; it does not change while the listener is open.
    """

    host: str = _HOST

    def __init__(self) -> None:
        self.port = 0
        self._socket: socket.socket | None = None
        self._root: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None

    @abstractmethod
    def _admit(self, client: socket.socket) -> tuple[Coroutine[Any, Any, None], Callable[[], None]]:
        """Return the coroutine for a new connection, and a function that releases its sockets afterwards."""

    def url(self, path: str = "", *, scheme: str = "http") -> str:
        """Return the URL for clients."""
        return f"{scheme}://{self.host}:{self.port}{path}"

    async def __aenter__(self) -> Self:
        if self._root is not None:
            raise RuntimeError("the listener is already open")
        self._socket = _bound(0)
        self.port = self._socket.getsockname()[1]
        self._socket.listen(_BACKLOG)
        serving = asyncio.Event()
        self._root = asyncio.create_task(self._serve(serving))
        try:
            await serving.wait()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End all connections; idempotent.

        This waits only for turns of the loop, and raises a cancellation after everything is closed.
        """
        root, self._root = self._root, None
        if root is None:
            return
        root.cancel()
        cancelled: asyncio.CancelledError | None = None
        while not root.done():
            try:
                await asyncio.wait({root})
            except asyncio.CancelledError as error:
                cancelled = error
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if cancelled is not None:
            raise cancelled
        if not root.cancelled():
            root.result()  # raises an error of the proxy itself

    async def _serve(self, serving: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as self._group:
            self._watch()
            serving.set()
            try:
                await asyncio.Event().wait()
            finally:
                self._unwatch()  # no tasks may be added to a group that is ending

    def _watch(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().add_reader(self._socket, self._accept)

    def _unwatch(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)

    def _stop_listening(self) -> None:
        assert self._socket is not None, "the listener is not open"
        self._unwatch()
        self._socket.close()
        self._socket = _bound(self.port)  # bound, so that no other process gets the port

    def _listen_again(self) -> None:
        if self._socket is not None:
            self._socket.listen(_BACKLOG)
            self._watch()

    def _accept(self) -> None:
        assert self._socket is not None
        assert self._group is not None
        try:
            client, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        _prepare(client)
        work, release = self._admit(client)
        # A task that is cancelled before its first step runs none of its code, but always runs its callbacks.
        self._group.create_task(work).add_done_callback(lambda _: release())


def _bound(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setblocking(False)
    listener.bind((_HOST, port))
    return listener


def _prepare(connected: socket.socket) -> None:
    connected.setblocking(False)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def connect(host: str, port: int) -> socket.socket:
    """Connect to the first of a host's addresses that accepts.

    Raises:
        OSError: no address does; the error of the last one.
    """
    loop = asyncio.get_running_loop()
    failure = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connected = socket.socket(family, kind, protocol)
        try:
            connected.setblocking(False)
            await loop.sock_connect(connected, address)
            _prepare(connected)
        except OSError as error:
            connected.close()
            failure = error
        except BaseException:
            connected.close()
            raise
        else:
            return connected
    raise failure


async def send_some(sink: socket.socket, data: memoryview) -> int:
    """Send what fits into the socket's buffer and return its size; if nothing fits, wait until it does."""
    try:
        return sink.send(data)
    except BlockingIOError:
        loop = asyncio.get_running_loop()
        writable = asyncio.Event()
        loop.add_writer(sink, writable.set)
        try:
            await writable.wait()
        finally:
            loop.remove_writer(sink)
        return 0


async def delivered(sink: socket.socket) -> None:
    """Wait until the peer has acknowledged all sent bytes, or has disconnected.

    Linux reports the outstanding bytes (SIOCOUTQ, tcp(7)), but not when they change, so this polls. On other systems
    it waits for a moment.
    """
    if sys.platform != "linux":
        await asyncio.sleep(_DELIVERY_GRACE)
        return
    while sink.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
        outstanding: int = struct.unpack("i", fcntl.ioctl(sink, termios.TIOCOUTQ, b"\0" * 4))[0]
        if outstanding == 0:
            return
        await asyncio.sleep(_DELIVERY_POLL)


async def finish(connected: socket.socket, on_data: Callable[[bytes], object] = lambda data: None) -> None:
    """Close the sending side, then discard received bytes until the peer closes its side as well."""
    loop = asyncio.get_running_loop()
    with suppress(OSError):
        connected.shutdown(socket.SHUT_WR)
        while data := await loop.sock_recv(connected, CHUNK):
            on_data(data)


def reset(connected: socket.socket) -> None:
    """Close with a TCP reset (SO_LINGER of 0 seconds, socket(7)); do nothing if it is closed."""
    if connected.fileno() == -1:
        return
    with suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connected.close()


class HangUp:
    """Calls a function once when the peer of a socket has closed or reset, even if bytes are unread.

    asyncio watches only for readable bytes, so the loop watches a separate epoll object (EPOLLRDHUP, epoll_ctl(2)).
    Without epoll the function is never called.
    """

    def __init__(self, connected: socket.socket, callback: Callable[[], object]) -> None:
        self._callback = callback
        if sys.platform == "linux":
            self._epoll = select.epoll()
            self._epoll.register(connected, select.EPOLLRDHUP)
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._hung_up)

    def _hung_up(self) -> None:
        self.close()
        self._callback()

    def close(self) -> None:
        """Stop watching; idempotent."""
        if sys.platform == "linux" and not self._epoll.closed:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
