"""`Pool`: the connections of a transport, at most so many of them, and who waits for one."""

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
    """A task that waits: it gets a connection to its origin, or None for the right to make one."""

    origin: Origin
    turn: asyncio.Future[Connection | None]


class Pool:
    """Up to a number of connections, to any number of origins.

    Connections are lent in the order in which they are asked for, whatever their origin. What is idle is closed when
    its place is needed for another origin, and when it has been idle for long. While somebody waits, nothing is idle
    and no place is free; that is why who asks anew need not look who waits.

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
        self._connecting = 0  # places of connections that are being made
        self._idle: dict[Origin, deque[Connection]] = {}  # of each origin, the oldest first
        self._waiters: deque[_Waiter] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._transports: set[Connection] = set()  # those of which the loop has not let go
        self._emptied = asyncio.Event()

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    @property
    def idle(self) -> int:
        """How many of them nobody uses."""
        return sum(map(len, self._idle.values()))

    def take(self, origin: Origin) -> Connection | None:
        """Return the idle connection that was used last, if there is one."""
        while idle := self._idle.get(origin):
            connection = idle.pop()
            if not idle:
                del self._idle[origin]
            if not connection.worn_out(self._keep_alive):
                return connection
            connection.drop()
        return None

    async def acquire(self, origin: Origin) -> Connection:
        """Return a connection: an idle one, a new one, or the next that comes free.

        Raises:
            OperationTimeoutError: none came free in time, or connecting took too long.
            UnavailableError, BackendError: it cannot be made; see `Connector.connect`.
            ClosedError: the pool was closed.
        """
        first = True
        while not self.closed:
            connection = self.take(origin)
            if connection is not None:
                return connection
            if self._make_room():
                self._connecting += 1
                return await self._connect(origin)
            connection = await self._wait(origin, first=first)
            if connection is None:
                return await self._connect(origin)
            if not connection.closed:
                return connection
            first = False  # it broke on its way to us: we stay at the head of the line
        raise ClosedError("the transport was closed")

    def release(self, connection: Connection) -> None:
        """Take back a connection that can be used again."""
        waiter = self._next_waiter()
        if waiter is None:
            self._keep(connection)
        elif waiter.origin == connection.origin:
            waiter.turn.set_result(connection)
        else:
            self._waiters.appendleft(waiter)
            connection.drop()  # which passes its place on

    def discard(self, connection: Connection) -> None:
        """Forget a connection that is closed, and pass its place on."""
        if connection in self._connections:
            self._connections.remove(connection)
            idle = self._idle.get(connection.origin)
            if idle is not None and connection in idle:
                idle.remove(connection)
                if not idle:
                    del self._idle[connection.origin]
            self._pass_on()

    def made(self, connection: Connection) -> None:
        """Note that the loop has a transport for a connection."""
        self._transports.add(connection)
        self._emptied.clear()

    def lost(self, connection: Connection) -> None:
        """Note that the loop has closed it."""
        self._transports.discard(connection)
        if not self._transports:
            self._emptied.set()

    async def aclose(self) -> None:
        """Drop all connections; who uses one or waits for one gets a `ClosedError`."""
        self.closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._connector.interrupt()
        while (waiter := self._next_waiter()) is not None:
            waiter.turn.set_exception(ClosedError("the transport was closed"))
        for connection in list(self._connections):
            connection.fail(ClosedError("the transport was closed"))
        if self._transports:
            await self._emptied.wait()

    async def _connect(self, origin: Origin) -> Connection:
        """Make a connection in the place that was taken for it."""
        try:
            connection = await self._connector.connect(origin, self)
        except BaseException as error:
            self._connecting -= 1
            self._pass_on()
            if self.closed and isinstance(error, OperationTimeoutError):
                raise ClosedError("the transport was closed") from None
            raise
        self._connecting -= 1
        if connection.closed:  # before we came to know that it is open
            self._pass_on()
            raise UnavailableError(f"{origin} closed the connection as soon as it was made")
        self._connections.add(connection)
        if self.closed:
            connection.drop()
            raise ClosedError("the transport was closed")
        return connection

    async def _wait(self, origin: Origin, *, first: bool) -> Connection | None:
        loop = asyncio.get_running_loop()
        waiter = _Waiter(origin, loop.create_future())
        if first:
            self._waiters.append(waiter)
        else:
            self._waiters.appendleft(waiter)
        timer = loop.call_later(self._timeout, self._expire, waiter)
        try:
            return await waiter.turn
        except BaseException:
            # What was given to us in the same turn of the loop is the next one's.
            if waiter.turn.done() and not waiter.turn.cancelled() and waiter.turn.exception() is None:
                self._give_back(waiter.turn.result())
            raise
        finally:
            timer.cancel()

    def _expire(self, waiter: _Waiter) -> None:
        if not waiter.turn.done():
            waiter.turn.set_exception(
                OperationTimeoutError(
                    f"none of {self._size} connections came free within {self._timeout:g} s; "
                    "close what is being read, or allow more connections"
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
                return waiter
        return None

    def _pass_on(self) -> None:
        """Give a place that came free to who waits for it."""
        waiter = self._next_waiter()
        if waiter is not None:
            self._connecting += 1
            waiter.turn.set_result(None)

    def _make_room(self) -> bool:
        """Tell whether a connection may be made; an idle one, which is for another origin, gives way."""
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
            self._sweep = loop.call_later(self._keep_alive, self._close_worn_out)

    def _close_worn_out(self) -> None:
        """Close what has been idle for long, and look again as long as something is idle."""
        loop = asyncio.get_running_loop()
        self._sweep = None
        horizon = loop.time() - self._keep_alive
        for connection in [idle for idles in self._idle.values() for idle in idles if idle.idle_since <= horizon]:
            connection.drop()
        if self._idle:
            oldest = min(idle[0].idle_since for idle in self._idle.values())
            self._sweep = loop.call_at(oldest + self._keep_alive, self._close_worn_out)
