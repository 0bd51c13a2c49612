"""`Pool`: the connections of a transport, up to a maximum, and the tasks that wait for one."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from trove_async.errors import ClosedError, OperationTimeoutError, UnavailableError
from trove_async.wire.connect import Connector
from trove_async.wire.origin import Origin
from trove_async.wire.protocol import Connection

__all__ = ["Pool"]


@dataclass(slots=True, eq=False)
class _Waiter:
    """A task that waits: it gets a connection to its origin, or None, with which it may make one.

    Attributes:
        since: when it began to wait, by the clock of the loop.
        due: when it fails, unless another waiting task is served before.
    """

    origin: Origin
    since: float
    turn: asyncio.Future[Connection | None]
    due: float = 0.0
    timer: asyncio.TimerHandle | None = None


class Pool:
    """A limited number of connections, to any number of origins.

    Requests get connections in the order in which they ask, whatever their origin. An idle connection is closed when
    its place is needed for another origin, and when it has been idle for long. While a task waits, no connection is
    idle and no place is free; that is why a new request need not check for waiting tasks.

    Attributes:
        closed: True from `aclose` on.
    """

    def __init__(self, connector: Connector, *, size: int, timeout: float, keep_alive: float) -> None:
        self.closed = False
        self._connector = connector
        self._size = size
        self._timeout = timeout
        self._keep_alive = keep_alive
        self._connections: set[Connection] = set()
        self._connecting = 0  # connections that are being made
        self._idle: dict[Origin, deque[Connection]] = {}  # of each origin, the oldest first
        self._waiters: deque[_Waiter] = deque()
        self._progress = 0.0  # when a waiting task was served last
        self._sweep: asyncio.TimerHandle | None = None
        self._transports: set[Connection] = set()  # connections whose transport the loop has not closed yet
        self._emptied = asyncio.Event()

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    @property
    def idle(self) -> int:
        """How many of them are idle."""
        return sum(map(len, self._idle.values()))

    def take(self, origin: Origin) -> Connection | None:
        """Return the idle connection that was used last; None if there is none."""
        while idle := self._idle.get(origin):
            connection = idle.pop()
            if not idle:
                del self._idle[origin]
            if not connection.stale(self._keep_alive):
                return connection
            connection.drop()
        return None

    async def acquire(self, origin: Origin) -> Connection:
        """Return a connection: an idle one, a new one, or the next that becomes free.

        Raises:
            OperationTimeoutError: no connection of the pool became free for the timeout, or connecting took too long.
            UnavailableError, BackendError: it cannot be made; see `Connector.connect`.
            ClosedError: the pool was closed.
        """
        first = True
        while not self.closed:
            connection = self.take(origin)
            if connection is not None:
                return connection
            if self._reserve():
                self._connecting += 1
                return await self._connect(origin)
            connection = await self._wait(origin, first=first)
            if connection is None:
                return await self._connect(origin)
            if not connection.closed:
                return connection
            first = False  # it broke before this task ran, which stays first in the queue
        raise ClosedError("the store is closed")

    def release(self, connection: Connection) -> None:
        """Take back a connection that can be used again."""
        waiter = self._next_waiter()
        if waiter is None:
            self._keep(connection)
        elif waiter.origin == connection.origin:
            waiter.turn.set_result(connection)
        else:
            self._waiters.appendleft(waiter)
            connection.drop()  # the place goes to the waiter

    def discard(self, connection: Connection) -> None:
        """Remove a connection that is closed, and give its place to the next waiter."""
        if connection in self._connections:
            self._connections.remove(connection)
            idle = self._idle.get(connection.origin)
            if idle is not None and connection in idle:
                idle.remove(connection)
                if not idle:
                    del self._idle[connection.origin]
            self._pass_on()

    def made(self, connection: Connection) -> None:
        """Add a connection that the loop has a transport for."""
        self._transports.add(connection)
        self._emptied.clear()

    def lost(self, connection: Connection) -> None:
        """Remove a connection whose transport the loop has closed."""
        self._transports.discard(connection)
        if not self._transports:
            self._emptied.set()

    async def aclose(self) -> None:
        """Drop all connections; a task that uses one or waits for one gets a `ClosedError`."""
        self.closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._connector.interrupt()
        while (waiter := self._next_waiter()) is not None:
            waiter.turn.set_exception(ClosedError("the store is closed"))
        for connection in list(self._connections):
            connection.fail(ClosedError("the store is closed"))
        if self._transports:
            await self._emptied.wait()

    async def _connect(self, origin: Origin) -> Connection:
        """Make a connection in the place that was reserved for it."""
        try:
            connection = await self._connector.connect(origin, self)
        except BaseException as error:
            self._connecting -= 1
            self._pass_on()
            if self.closed and isinstance(error, OperationTimeoutError):
                raise ClosedError("the store is closed") from None
            raise
        self._connecting -= 1
        if connection.closed:  # before this task ran
            self._pass_on()
            raise UnavailableError(f"{origin} closed the connection immediately")
        self._connections.add(connection)
        if self.closed:
            connection.drop()
            raise ClosedError("the store is closed")
        return connection

    async def _wait(self, origin: Origin, *, first: bool) -> Connection | None:
        loop = asyncio.get_running_loop()
        waiter = _Waiter(origin, loop.time(), loop.create_future())
        if first:
            self._waiters.append(waiter)
        else:
            self._waiters.appendleft(waiter)
        self._watch(waiter, loop)
        try:
            return await waiter.turn
        except BaseException:
            # A connection that was given to this task in the same turn of the loop goes to the next.
            if waiter.turn.done() and not waiter.turn.cancelled() and waiter.turn.exception() is None:
                self._give_back(waiter.turn.result())
            raise
        finally:
            if waiter.timer is not None:
                waiter.timer.cancel()

    def _watch(self, waiter: _Waiter, loop: asyncio.AbstractEventLoop) -> None:
        """Fail a waiter when no waiting task was served for the timeout."""
        due = max(waiter.since, self._progress) + self._timeout
        if waiter.timer is None or due > waiter.due:
            waiter.due = due
            waiter.timer = loop.call_at(due, self._watch, waiter, loop)
        elif not waiter.turn.done():
            waiter.turn.set_exception(
                OperationTimeoutError(
                    f"none of {self._size} connections became free for {self._timeout:g} s; "
                    "close the readers that are open, or allow more connections"
                )
            )

    def _give_back(self, connection: Connection | None) -> None:
        if connection is None:
            self._connecting -= 1
            self._pass_on()
        elif not connection.closed:
            self.release(connection)

    def _next_waiter(self) -> _Waiter | None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.turn.done():
                self._progress = waiter.turn.get_loop().time()
                return waiter
        return None

    def _pass_on(self) -> None:
        """Give a place that became free to the next waiter."""
        waiter = self._next_waiter()
        if waiter is not None:
            self._connecting += 1
            waiter.turn.set_result(None)

    def _reserve(self) -> bool:
        """Return whether a connection may be made; an idle one to another origin is closed for it if need be."""
        if len(self._connections) + self._connecting < self._size:
            return True
        oldest = min((idle[0] for idle in self._idle.values()), key=lambda idle: idle.idle_since, default=None)
        if oldest is None:
            return False
        oldest.drop()
        return True

    def _keep(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        idle = self._idle.get(connection.origin)
        if idle is None:
            self._idle[connection.origin] = idle = deque()
        idle.append(connection)
        if self._sweep is None:
            self._sweep = loop.call_later(self._keep_alive, self._close_stale)

    def _close_stale(self) -> None:
        """Close the connections that have been idle for long, and look again later if others are idle."""
        loop = asyncio.get_running_loop()
        self._sweep = None
        horizon = loop.time() - self._keep_alive
        for connection in [idle for idles in self._idle.values() for idle in idles if idle.idle_since <= horizon]:
            connection.drop()
        if self._idle:
            oldest = min(idle[0].idle_since for idle in self._idle.values())
            self._sweep = loop.call_at(oldest + self._keep_alive, self._close_stale)
