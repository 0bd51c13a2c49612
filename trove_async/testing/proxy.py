"""`FaultProxy`: a TCP proxy that breaks, stalls and slows connections.

::

    async with FaultProxy("127.0.0.1", 9000) as proxy:
        proxy.inject(ConnectionFault(reset_down_after=70_000), times=2)  # the next two connections break
        proxy.inject(ConnectionFault(latency=0.02), times=None)  # and all are slow
        ...  # the code under test connects to proxy.url()
        assert [strike.kind for strike in proxy.strikes if strike.kind == "reset"] == ["reset"] * 2
        assert proxy.open == 0

It knows bytes and connections, not requests: for those see `trove_async.testing.answers`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self

from trove_async.errors import InvalidArgumentError
from trove_async.jitter import jitter
from trove_async.testing.sockets import CHUNK, HangUp, Listener, Turns, connect, delivered, finish, reset, send_some

__all__ = ["BreakKind", "ConnectionFault", "Direction", "FaultProxy", "ProxiedConnection", "Strike"]

Direction = Literal["up", "down"]
BreakKind = Literal["reset", "cut", "stall"]
_Verdict = Literal["ended", "reset", "cut"]

_BREAKS: Final[tuple[BreakKind, ...]] = ("reset", "cut", "stall")
_READ_AHEAD: Final = 16  # chunks on their way in each direction, so that latency does not limit the throughput
_RATE_STEP: Final = 0.05  # seconds: the interval in which a limited rate passes bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFault:
    """A fault of one connection. Up is to the server, down is from it.

    The bytes of each direction are counted from the start of the connection. A break strikes after exactly the given
    number of bytes was delivered; one at 0 strikes when the first byte arrives, so that ``reset_down_after=0`` loses
    the answer and not the request. Several faults of one connection are combined; of the breaks, the first one reached
    strikes.

    Attributes:
        refuse: the connection is accepted and reset immediately. (A port on which nothing listens is
            `FaultProxy.unreachable`.)
        blackhole: the connection is accepted, and nothing passes; no connection to the server is made.
        reset_up_after, reset_down_after: both sides get a TCP reset.
        cut_up_after, cut_down_after: both sides get a clean end (FIN); bytes that they still send are dropped.
        stall_up_after, stall_down_after: the connection stays open and nothing passes in either direction,
            until the client disconnects or `FaultProxy.clear` is called.
        latency: seconds by which bytes are delayed, each way. It does not limit the throughput.
        jitter: the maximum of a random additional delay in seconds; bytes stay in order.
        rate: bytes per second, each way; None for no limit.
        slice: bytes per write, each way; None for no limit. A slow receiver may still read several slices in one call.
    """

    refuse: bool = False
    blackhole: bool = False
    reset_up_after: int | None = None
    reset_down_after: int | None = None
    cut_up_after: int | None = None
    cut_down_after: int | None = None
    stall_up_after: int | None = None
    stall_down_after: int | None = None
    latency: float = 0.0
    jitter: float = 0.0
    rate: float | None = None
    slice: int | None = None

    def __post_init__(self) -> None:
        breaks = [*self.breaks("up"), *self.breaks("down")]
        if any(after < 0 for _, after in breaks) or self.latency < 0 or self.jitter < 0:
            raise InvalidArgumentError("positions, latency and jitter of a fault are 0 or more")
        if (self.rate is not None and self.rate <= 0) or (self.slice is not None and self.slice < 1):
            raise InvalidArgumentError("rate and slice of a fault are more than 0")
        if not (breaks or self.refuse or self.blackhole or self.slows):
            raise InvalidArgumentError("the fault does nothing")

    @property
    def slows(self) -> bool:
        """Whether the fault changes the speed or the pieces in which bytes pass."""
        return bool(self.latency or self.jitter or self.rate or self.slice)

    def breaks(self, direction: Direction) -> list[tuple[BreakKind, int]]:
        """Return the breaks of a direction, each with its number of bytes."""
        positions = [(kind, getattr(self, f"{kind}_{direction}_after")) for kind in _BREAKS]
        return [(kind, after) for kind, after in positions if after is not None]


@dataclass(slots=True)
class ProxiedConnection:
    """An accepted connection.

    Attributes:
        number: 1 for the proxy's first connection.
        bytes_up, bytes_down: the number of bytes forwarded to the server, and to the client.
        transcript: the first bytes that the proxy read from the client, forwarded or not.
        open: True until the proxy has closed it on both sides.
    """

    number: int
    bytes_up: int = 0
    bytes_down: int = 0
    transcript: bytes = b""
    open: bool = True


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault that has struck a connection.

    ``kind`` is ``refuse``, ``blackhole``, ``reset``, ``cut``, ``stall``, or ``slow``; ``slow`` comes once for each
    connection that a fault slows, with its first bytes.
    """

    kind: Literal["refuse", "blackhole", "reset", "cut", "stall", "slow"]
    fault: ConnectionFault
    connection: ProxiedConnection


class FaultProxy(Listener):
    """Forwards connections to a server, with the faults that a test injects.

    Use it in ``async with`` in the loop of the test; it listens on a free port of 127.0.0.1. Closing it resets open
    connections. It may be opened and closed by different tasks, as fixtures do.

    Args:
        host, port: the server.
        plan: a fault, or None, for each of the first connections; see `script`.
        transcript: the number of bytes from the client to keep for each connection.

    Attributes:
        connections: all accepted connections, in order.
        strikes: the faults that have struck, in order.
    """

    def __init__(
        self, host: str, port: int, *, plan: Iterable[ConnectionFault | None] = (), transcript: int = 0
    ) -> None:
        super().__init__()
        self.server = (host, port)
        self.connections: list[ProxiedConnection] = []
        self.strikes: list[Strike] = []
        self.transcript = transcript
        self._injected: list[tuple[ConnectionFault, Turns]] = []
        self._live: set[_Connection] = set()
        self._change = asyncio.Event()
        self.script(plan)

    @property
    def accepted(self) -> int:
        """The number of accepted connections, including refused ones."""
        return len(self.connections)

    @property
    def open(self) -> int:
        """The number of open connections."""
        return sum(connection.open for connection in self.connections)

    @property
    def bytes_up(self) -> int:
        """The number of bytes forwarded to the server, on all connections."""
        return sum(connection.bytes_up for connection in self.connections)

    @property
    def bytes_down(self) -> int:
        """The number of bytes forwarded to clients, on all connections."""
        return sum(connection.bytes_down for connection in self.connections)

    def inject(self, fault: ConnectionFault, *, skip: int = 0, times: int | None = 1) -> None:
        """Inject a fault into connections that are accepted from now on.

        Args:
            fault: the fault.
            skip: the number of connections without the fault first.
            times: the number of connections with the fault then; None for all.
        """
        self._injected.append((fault, Turns(skip, times)))

    def script(self, plan: Iterable[ConnectionFault | None]) -> None:
        """Inject one fault into each of the next connections; None in the plan is a connection without a fault."""
        for place, fault in enumerate(plan):
            if fault is not None:
                self.inject(fault, skip=place)

    def inject_open(self, fault: ConnectionFault) -> int:
        """Inject a fault into the connections that are open now; its bytes are counted from now.

        Returns:
            The number of these connections.
        """
        if fault.refuse:
            raise InvalidArgumentError("an open connection cannot be refused; reset it")
        for connection in self._live:
            connection.apply(fault)
        return len(self._live)

    def break_open(self, kind: BreakKind) -> int:
        """Break the open connections immediately, and return their number; nothing more passes on them."""
        for connection in self._live:
            connection.break_now(kind)
        return len(self._live)

    def clear(self) -> None:
        """Remove all faults; open connections continue without them, stalled ones from where they stopped."""
        self._injected.clear()
        for connection in self._live:
            connection.resume()

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """Stop listening on the port inside the block: connecting raises `ConnectionRefusedError`.

        Open connections stay open.
        """
        self._stop_listening()
        try:
            yield
        finally:
            self._listen_again()

    async def until(self, holds: Callable[[Self], bool]) -> None:
        """Wait until a condition holds, such as ``lambda proxy: proxy.open == 0``.

        It is evaluated again whenever a connection, a byte or a strike was counted.
        """
        while not holds(self):
            await self._change.wait()

    def _note_change(self) -> None:
        self._change.set()
        self._change = asyncio.Event()

    def _admit(self, client: socket.socket) -> tuple[Coroutine[Any, Any, None], Callable[[], None]]:
        record = ProxiedConnection(len(self.connections) + 1)
        self.connections.append(record)
        connection = _Connection(self, client, record)
        self._live.add(connection)
        for fault, turns in self._injected:
            if turns.take():
                connection.apply(fault)
        self._note_change()

        def close() -> None:
            self._live.discard(connection)
            connection.close()

        return connection.run(), close


@dataclass(slots=True)
class _Break:
    position: int
    kind: BreakKind
    fault: ConnectionFault


class _Connection:
    """One connection with both its sides, and its faults."""

    def __init__(self, proxy: FaultProxy, client: socket.socket, record: ProxiedConnection) -> None:
        self.record = record
        self.client = client
        self.server: socket.socket | None = None
        self.faults: list[ConnectionFault] = []
        self.running = asyncio.Event()  # cleared while the connection is stalled
        self.running.set()
        self.broken = False  # one side can no longer be written to
        self._proxy = proxy
        self._slow_noted: set[int] = set()
        self._hang_up: HangUp | None = None
        self._verdict: asyncio.Future[_Verdict] = asyncio.get_running_loop().create_future()
        self._up = _Lane(self, "up")
        self._down = _Lane(self, "down")

    def apply(self, fault: ConnectionFault) -> None:
        self.faults.append(fault)
        for lane in (self._up, self._down):
            lane.plan(fault)
        if fault.refuse:
            self.strike("refuse", fault)
            self.end("reset")
        if fault.blackhole:
            self.strike("blackhole", fault)
            self.fall_silent()

    def break_now(self, kind: BreakKind) -> None:
        if kind == "stall":
            self.fall_silent()
        else:
            self.end(kind)

    def resume(self) -> None:
        self.faults.clear()
        self._up.breaks.clear()
        self._down.breaks.clear()
        self._unwatch()
        self.running.set()

    def fall_silent(self) -> None:
        """Stall: forward nothing, and read nothing, so that the sender's window fills up."""
        self.running.clear()
        if self._hang_up is None and self.client.fileno() != -1:
            self._hang_up = HangUp(self.client, lambda: self.end("reset"))

    def _unwatch(self) -> None:
        if self._hang_up is not None:
            self._hang_up.close()
            self._hang_up = None

    def end(self, verdict: _Verdict) -> None:
        if not self._verdict.done():
            self._verdict.set_result(verdict)

    @property
    def over(self) -> bool:
        return self._verdict.done()

    def strike(self, kind: Literal["refuse", "blackhole", "reset", "cut", "stall"], fault: ConnectionFault) -> None:
        self._proxy.strikes.append(Strike(kind, fault, self.record))
        self._proxy._note_change()

    def note_passed(self, direction: Direction, count: int) -> None:
        if direction == "up":
            self.record.bytes_up += count
        else:
            self.record.bytes_down += count
        for fault in self.faults:
            if fault.slows and id(fault) not in self._slow_noted:
                self._slow_noted.add(id(fault))
                self._proxy.strikes.append(Strike("slow", fault, self.record))
        self._proxy._note_change()

    def note_received(self, data: bytes) -> None:
        missing = self._proxy.transcript - len(self.record.transcript)
        if missing > 0:
            self.record.transcript += data[:missing]
            self._proxy._note_change()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            work = group.create_task(self._work())
            verdict = await self._verdict
            work.cancel()
        self._unwatch()
        if verdict == "cut":
            await self._cut()
        if verdict in ("cut", "ended"):
            self._close_ended()

    async def _work(self) -> None:
        await self.running.wait()
        try:
            self.server = await connect(*self._proxy.server)
        except OSError:
            return self.end("reset")
        self._up.join(self.client, self.server)
        self._down.join(self.server, self.client)
        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(lane.read()) for lane in (self._up, self._down)]
            await asyncio.wait([group.create_task(lane.write()) for lane in (self._up, self._down)])
            for reader in readers:
                reader.cancel()
        return self.end("reset" if self.broken else "ended")

    async def _cut(self) -> None:
        # A socket that is closed with unread bytes sends a reset, so both sides are read to their end first.
        async with asyncio.TaskGroup() as group:
            group.create_task(finish(self.client, self.note_received))
            if self.server is not None:
                group.create_task(finish(self.server))

    def _close_ended(self) -> None:
        # Both sides have ended; a reset would destroy bytes that are still in transit.
        self.client.close()
        if self.server is not None:
            self.server.close()

    def close(self) -> None:
        self._unwatch()
        reset(self.client)
        if self.server is not None:
            reset(self.server)
        self.record.open = False
        self._proxy._note_change()


@dataclass(eq=False, slots=True)
class _Lane:
    """One direction of a connection: bytes that were read are queued with the time at which they are due."""

    connection: _Connection
    direction: Direction
    breaks: list[_Break] = field(default_factory=list)
    passed: int = 0
    _ends: tuple[socket.socket, socket.socket] | None = None
    _queue: asyncio.Queue[tuple[float, bytes | None]] = field(default_factory=lambda: asyncio.Queue(_READ_AHEAD))

    def join(self, source: socket.socket, sink: socket.socket) -> None:
        self._ends = source, sink

    def plan(self, fault: ConnectionFault) -> None:
        planned = (_Break(self.passed + after, kind, fault) for kind, after in fault.breaks(self.direction))
        self.breaks = sorted([*self.breaks, *planned], key=lambda planned: planned.position)

    async def read(self) -> None:
        assert self._ends is not None
        loop = asyncio.get_running_loop()
        due = 0.0
        data: bytes | None = b"."
        while data:
            await self.connection.running.wait()
            try:
                data = await loop.sock_recv(self._ends[0], CHUNK)
            except OSError:
                data = None  # queued behind earlier bytes
            if data and self.direction == "up":
                self.connection.note_received(data)
            delay = sum(fault.latency + jitter.uniform(0, fault.jitter) for fault in self.connection.faults)
            due = max(due, loop.time() + delay)
            await self._queue.put((due, data))

    async def write(self) -> None:
        assert self._ends is not None
        sink = self._ends[1]
        try:
            while data := await self._next():
                await self._pass(sink, memoryview(data))
            if data is None or self.connection.broken:
                await delivered(sink)
                self.connection.end("reset")
            elif not self.connection.over:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            # The receiver is gone. The other direction still has bytes from it, and ends the connection.
            self.connection.broken = True

    async def _next(self) -> bytes | None:
        due, data = await self._queue.get()
        wait = due - asyncio.get_running_loop().time()
        if wait > 0:
            await asyncio.sleep(wait)
        await self.connection.running.wait()
        return data

    async def _pass(self, sink: socket.socket, view: memoryview) -> None:
        while view:
            await self.connection.running.wait()
            if await self._break(sink):
                continue
            if self.connection.over:
                # A connection that is about to end forwards nothing more, and is about to be cancelled.
                await asyncio.Event().wait()
            # Nothing is awaited between the check of the breaks and the write, so the position is exact.
            sent = await send_some(sink, view[: self._allowed(len(view))])
            view = view[sent:]
            self.passed += sent
            if sent:
                self.connection.note_passed(self.direction, sent)
                await self._break(sink)
                await self._pace(sent)

    def _allowed(self, size: int) -> int:
        limits = [size]
        if self.breaks:
            limits.append(self.breaks[0].position - self.passed)
        for fault in self.connection.faults:
            if fault.slice is not None:
                limits.append(fault.slice)
            if fault.rate is not None:
                limits.append(max(1, int(fault.rate * _RATE_STEP)))
        return min(limits)

    async def _break(self, sink: socket.socket) -> bool:
        """Break the connection if that is due at this position, and return whether it was."""
        if not self.breaks or self.breaks[0].position > self.passed or self.connection.over:
            return False
        due = self.breaks.pop(0)
        if due.kind != "stall":
            await delivered(sink)  # a reset would discard bytes that the receiver does not have yet
        self.connection.strike(due.kind, due.fault)
        self.connection.break_now(due.kind)
        return True

    async def _pace(self, sent: int) -> None:
        rates = [fault.rate for fault in self.connection.faults if fault.rate is not None]
        if rates:
            await asyncio.sleep(sent / min(rates))
        elif any(fault.slice is not None for fault in self.connection.faults):
            await asyncio.sleep(0)
