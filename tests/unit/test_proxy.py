from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import socket
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Literal

import pytest

from trove_async.errors import InvalidArgumentError
from trove_async.testing.proxy import BreakKind, ConnectionFault, FaultProxy

pytestmark = pytest.mark.asyncio

DATA = os.urandom(1 << 20)
Ending = Literal["end", "reset"]


class Peer:
    """What the proxy's server received on its latest connection."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.ending: Ending | None = None
        self.ended = asyncio.Event()
        self.connections = 0

    async def has(self, count: int) -> None:
        await turns(lambda: len(self.received) >= count)


async def turns(done: Callable[[], bool]) -> None:
    """Let the loop turn until a condition holds; the test's timeout limits it."""
    while not done():  # noqa: ASYNC110 - there is nothing to wait for
        await asyncio.sleep(0)


async def read_out(reader: asyncio.StreamReader, into: bytearray) -> Ending:
    while True:
        try:
            data = await reader.read(65536)
        except ConnectionResetError:
            return "reset"
        if not data:
            return "end"
        into.extend(data)


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(answer: Answer, *, receive_buffer: int | None = None) -> AsyncIterator[int]:
    """Serve connections, and end their tasks at the end of the block."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await answer(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    if receive_buffer is not None:
        server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


@asynccontextmanager
async def sink() -> AsyncIterator[tuple[int, Peer]]:
    """Serve connections that read everything, and end when the client does."""
    peer = Peer()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.connections += 1
        peer.ending = await read_out(reader, peer.received)
        peer.ended.set()

    async with serving(take) as port:
        yield port, peer


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
    await writer.drain()


async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(DATA)
    await writer.drain()
    writer.write_eof()
    await reader.read()


@asynccontextmanager
async def client(proxy: FaultProxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def fetch(proxy: FaultProxy, message: bytes = b"hello") -> bytes | Ending:
    """Send a message; return the received bytes, or how the connection ended before."""
    async with client(proxy) as (reader, writer):
        try:
            writer.write(message)
            return await reader.readexactly(len(message))
        except asyncio.IncompleteReadError:
            return "end"
        except ConnectionResetError:
            return "reset"


def fault(kind: BreakKind, direction: Literal["up", "down"], after: int) -> ConnectionFault:
    return ConnectionFault(**{f"{kind}_{direction}_after": after})  # type: ignore[arg-type]


async def test_without_faults_bytes_and_ends_are_forwarded_both_ways() -> None:
    async with serving(echo) as port, FaultProxy("127.0.0.1", port) as proxy, client(proxy) as (reader, writer):
        assert proxy.url("/x") == f"http://127.0.0.1:{proxy.port}/x"
        back = bytearray()
        reading = asyncio.create_task(read_out(reader, back))
        writer.write(DATA)
        writer.write_eof()
        assert await reading == "end"
        assert back == DATA
        await proxy.until(lambda proxy: proxy.open == 0)
        assert (proxy.accepted, proxy.bytes_up, proxy.bytes_down, proxy.strikes) == (1, len(DATA), len(DATA), [])


async def test_a_server_given_by_name_and_one_that_does_not_exist() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with FaultProxy("127.0.0.1", unused.getsockname()[1]) as proxy:
            assert await fetch(proxy) == "reset"
    async with serving(echo) as port, FaultProxy("localhost", port) as proxy:
        assert await fetch(proxy) == b"hello"


@pytest.mark.parametrize("after", [1, 7, 65536, 65537, 300_001])
@pytest.mark.parametrize("kind", ["reset", "cut"])
async def test_a_break_towards_the_client_is_at_exactly_that_byte(kind: BreakKind, after: int) -> None:
    async with serving(pour) as port, FaultProxy("127.0.0.1", port) as proxy:
        proxy.inject(fault(kind, "down", after))
        async with client(proxy) as (reader, _):
            got = bytearray()
            assert await read_out(reader, got) == ("reset" if kind == "reset" else "end")
        assert got == DATA[:after]
        assert proxy.bytes_down == proxy.connections[0].bytes_down == after
        assert [(strike.kind, strike.connection.number) for strike in proxy.strikes] == [(kind, 1)]


@pytest.mark.parametrize("after", [1, 7, 65536, 65537, 300_001])
@pytest.mark.parametrize("kind", ["reset", "cut"])
async def test_a_break_towards_the_server_is_at_exactly_that_byte(kind: BreakKind, after: int) -> None:
    async with sink() as (port, peer), FaultProxy("127.0.0.1", port) as proxy:
        proxy.inject(fault(kind, "up", after))
        async with client(proxy) as (reader, writer):
            writer.write(DATA)
            assert await read_out(reader, bytearray()) == ("reset" if kind == "reset" else "end")
            await peer.ended.wait()
        assert peer.received == DATA[:after]
        assert peer.ending == ("reset" if kind == "reset" else "end")
        assert proxy.bytes_up == after
        assert [strike.kind for strike in proxy.strikes] == [kind]


@pytest.mark.parametrize("kind", ["reset", "cut"])
async def test_a_break_does_not_overtake_the_bytes_before_it(kind: BreakKind) -> None:
    loop = asyncio.get_running_loop()
    async with serving(pour) as port, FaultProxy("127.0.0.1", port) as proxy:
        proxy.inject(fault(kind, "down", 300_000))
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.setblocking(False)
            await loop.sock_connect(slow, (proxy.host, proxy.port))
            await proxy.until(lambda proxy: proxy.bytes_down == 300_000)
            for _ in range(50):
                await asyncio.sleep(0)
            got = 0
            with contextlib.suppress(ConnectionResetError):
                while data := await loop.sock_recv(slow, 65536):
                    got += len(data)
            assert got == 300_000


@pytest.mark.parametrize("after", [1, 65536, 300_001])
async def test_a_stall_towards_the_client_is_at_exactly_that_byte_and_can_be_cleared(after: int) -> None:
    async with serving(pour) as port, FaultProxy("127.0.0.1", port) as proxy:
        proxy.inject(fault("stall", "down", after))
        async with client(proxy) as (reader, _):
            got = await reader.readexactly(after)
            await proxy.until(lambda proxy: len(proxy.strikes) == 1)
            for _ in range(50):
                await asyncio.sleep(0)
            assert (proxy.bytes_down, proxy.open, reader.at_eof()) == (after, 1, False)
            assert proxy.strikes[0].kind == "stall"
            proxy.clear()
            assert got + await reader.readexactly(len(DATA) - after) == DATA


@pytest.mark.parametrize("after", [1, 65536, 300_001])
async def test_a_stall_towards_the_server_is_at_exactly_that_byte_and_can_be_cleared(after: int) -> None:
    async with sink() as (port, peer), FaultProxy("127.0.0.1", port) as proxy:
        proxy.inject(fault("stall", "up", after))
        async with client(proxy) as (_, writer):
            writer.write(DATA)
            await proxy.until(lambda proxy: len(proxy.strikes) == 1)
            await peer.has(after)
            for _ in range(50):
                await asyncio.sleep(0)
            assert (len(peer.received), proxy.bytes_up, peer.ending, proxy.open) == (after, after, None, 1)
            proxy.clear()
            writer.write_eof()
            await peer.ended.wait()
        assert peer.received == DATA
        assert peer.ending == "end"


async def test_the_window_of_a_stalled_sender_fills_up() -> None:
    async with sink() as (port, _), FaultProxy("127.0.0.1", port) as proxy:
        proxy.inject(fault("stall", "up", 10))
        async with client(proxy) as (_, writer):
            for _ in range(32):
                writer.write(DATA)
            await proxy.until(lambda proxy: len(proxy.strikes) == 1)
            for _ in range(200):
                await asyncio.sleep(0)
            assert writer.transport.get_write_buffer_size() > 0
            assert proxy.bytes_up == 10


@pytest.mark.parametrize(
    "stalled", [fault("stall", "down", 3), fault("stall", "up", 3), ConnectionFault(blackhole=True)]
)
async def test_a_silent_connection_closes_when_its_client_disconnects(stalled: ConnectionFault) -> None:
    async with serving(echo) as port, FaultProxy("127.0.0.1", port, plan=[stalled]) as proxy:
        async with client(proxy) as (_, writer):
            writer.write(b"hello")
            await proxy.until(lambda proxy: len(proxy.strikes) == 1)
            assert proxy.open == 1
        await proxy.until(lambda proxy: proxy.open == 0)


async def test_zero_up_loses_the_request_and_zero_down_the_answer() -> None:
    async with sink() as (port, peer), FaultProxy("127.0.0.1", port) as proxy:
        proxy.script([fault("reset", "up", 0)])
        assert await fetch(proxy) == "reset"
        await peer.ended.wait()
        assert peer.received == b""
    received = bytearray()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.readexactly(5))
        writer.write(b"world")
        await read_out(reader, received)

    async with serving(answer) as port, FaultProxy("127.0.0.1", port) as proxy:
        proxy.script([fault("cut", "down", 0)])
        assert await fetch(proxy) == "end"
        assert received == b"hello"
        assert proxy.bytes_down == 0


async def test_a_break_after_the_last_byte_does_not_wait_for_more() -> None:
    async with serving(echo) as port, FaultProxy("127.0.0.1", port, plan=[fault("reset", "down", 5)]) as proxy:
        async with client(proxy) as (reader, writer):
            writer.write(b"hello")
            got = bytearray()
            assert await read_out(reader, got) == "reset"
        assert got == b"hello"


async def test_of_two_breaks_the_first_one_reached_strikes() -> None:
    async with serving(pour) as port, FaultProxy("127.0.0.1", port) as proxy:
        proxy.inject(fault("reset", "down", 100_000))
        proxy.inject(ConnectionFault(cut_down_after=50, latency=0.001))
        async with client(proxy) as (reader, _):
            got = bytearray()
            assert await read_out(reader, got) == "end"
        assert got == DATA[:50]
        assert [strike.kind for strike in proxy.strikes] == ["slow", "cut"]


async def test_a_fault_applies_to_the_next_connections_or_to_the_kth() -> None:
    async with serving(echo) as port, FaultProxy("127.0.0.1", port) as proxy:
        proxy.inject(fault("reset", "down", 0), times=2)
        assert [await fetch(proxy) for _ in range(4)] == ["reset", "reset", b"hello", b"hello"]
        proxy.inject(fault("cut", "down", 0), skip=2)
        assert [await fetch(proxy) for _ in range(4)] == [b"hello", b"hello", "end", b"hello"]
        proxy.inject(fault("cut", "down", 0), skip=1, times=None)
        assert [await fetch(proxy) for _ in range(4)] == [b"hello", "end", "end", "end"]
        proxy.clear()
        assert await fetch(proxy) == b"hello"
        assert [strike.connection.number for strike in proxy.strikes] == [1, 2, 7, 10, 11, 12]


async def test_a_script_has_one_fault_for_each_connection_and_none_afterwards() -> None:
    refused = ConnectionFault(refuse=True)
    async with serving(echo) as port:
        plan = [refused, None, fault("cut", "down", 0), fault("reset", "down", 0)]
        async with FaultProxy("127.0.0.1", port, plan=plan) as proxy:
            outcomes = [await fetch(proxy) for _ in range(6)]
            assert outcomes == ["reset", b"hello", "end", "reset", b"hello", b"hello"]
            assert [strike.fault for strike in proxy.strikes] == [plan[0], plan[2], plan[3]]
            assert (proxy.strikes[0].kind, proxy.connections[0].bytes_up, proxy.accepted) == ("refuse", 0, 6)
            proxy.script([refused])
            assert [await fetch(proxy) for _ in range(2)] == ["reset", b"hello"]


async def test_a_blackhole_makes_no_connection_until_it_is_cleared() -> None:
    async with sink() as (port, peer), FaultProxy("127.0.0.1", port) as proxy:
        proxy.inject(ConnectionFault(blackhole=True))
        async with client(proxy) as (_, writer):
            writer.write(b"hello")
            await proxy.until(lambda proxy: proxy.open == 1)
            for _ in range(50):
                await asyncio.sleep(0)
            assert (peer.connections, proxy.bytes_up) == (0, 0)
            proxy.clear()
            writer.write_eof()
            await peer.ended.wait()
        assert peer.received == b"hello"
        assert [strike.kind for strike in proxy.strikes] == ["blackhole"]


async def test_an_unreachable_port_refuses_connections_and_open_ones_stay() -> None:
    async with serving(echo) as port, FaultProxy("127.0.0.1", port) as proxy, client(proxy) as (reader, writer):
        writer.write(b"before")
        assert await reader.readexactly(6) == b"before"
        with proxy.unreachable():
            for _ in range(2):
                with pytest.raises(ConnectionRefusedError):
                    await fetch(proxy)
            writer.write(b"within")
            assert await reader.readexactly(6) == b"within"
        assert await fetch(proxy) == b"hello"
        assert proxy.accepted == 2


async def test_open_connections_break_after_bytes_counted_from_now_or_immediately() -> None:
    async with serving(echo) as port, FaultProxy("127.0.0.1", port) as proxy:
        async with client(proxy) as (reader, writer):
            writer.write(b"hello")
            await reader.readexactly(5)
            assert proxy.inject_open(fault("cut", "down", 3)) == 1
            writer.write(b"world")
            assert await reader.read() == b"wor"
        await proxy.until(lambda proxy: proxy.open == 0)
        for kind, ending in (("reset", "reset"), ("cut", "end")):
            async with client(proxy) as (reader, _):
                await proxy.until(lambda proxy: proxy.open == 1)
                assert proxy.break_open(kind) == 1  # type: ignore[arg-type]
                assert await read_out(reader, bytearray()) == ending
            await proxy.until(lambda proxy: proxy.open == 0)
        async with client(proxy) as (reader, writer):
            await proxy.until(lambda proxy: proxy.open == 1)
            proxy.break_open("stall")
            writer.write(b"hello")
            await asyncio.sleep(0.01)
            assert proxy.connections[-1].bytes_up == 0
            proxy.clear()
            assert await reader.readexactly(5) == b"hello"


async def test_slow_connections_forward_everything_in_order() -> None:
    slow = ConnectionFault(latency=0.002, jitter=0.004, slice=4099, rate=100e6)
    async with serving(echo) as port, FaultProxy("127.0.0.1", port, plan=[slow]) as proxy:
        async with client(proxy) as (reader, writer):
            writer.write(DATA)
            assert await reader.readexactly(len(DATA)) == DATA
        assert [strike.kind for strike in proxy.strikes] == ["slow"]


async def test_slices_are_written_one_by_one() -> None:
    async with serving(echo) as port, FaultProxy("127.0.0.1", port, plan=[ConnectionFault(slice=1)]) as proxy:
        steps: list[int] = []

        def note(proxy: FaultProxy) -> bool:
            steps.append(proxy.bytes_up)
            return proxy.bytes_down == 100

        async with client(proxy) as (reader, writer), asyncio.TaskGroup() as group:
            group.create_task(proxy.until(note))
            await asyncio.sleep(0)
            writer.write(bytes(100))
            await reader.readexactly(100)
        assert max(later - earlier for earlier, later in itertools.pairwise(steps)) <= 2


async def test_a_rate_is_not_exceeded(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    real = asyncio.sleep

    async def sleep(delay: float) -> None:
        slept.append(delay)
        await real(0)

    plan = [ConnectionFault(rate=1000)]
    async with (
        serving(echo) as port,
        FaultProxy("127.0.0.1", port, plan=plan) as proxy,
        client(proxy) as (reader, writer),
    ):
        monkeypatch.setattr(asyncio, "sleep", sleep)
        writer.write(bytes(1000))
        await reader.readexactly(1000)
        monkeypatch.undo()
    # A second for a thousand bytes each way, except the pause after the last write.
    assert sum(slept) >= 2 * (1.0 - 0.05) - 1e-6
    assert max(slept) <= 0.05 + 1e-6


async def test_the_transcript_has_the_first_bytes_of_each_client_forwarded_or_not() -> None:
    async with sink() as (port, peer), FaultProxy("127.0.0.1", port, transcript=8) as proxy:
        proxy.script([fault("cut", "up", 3)])
        for message in (b"a body that is sent", b"short"):
            async with client(proxy) as (reader, writer):
                peer.ended.clear()
                writer.write(message)
                writer.write_eof()
                await read_out(reader, bytearray())
                await peer.ended.wait()
        assert [connection.transcript for connection in proxy.connections] == [b"a body t", b"short"]
        assert peer.received == b"a b" + b"short"


async def test_an_answer_that_comes_before_the_body_was_read_still_arrives() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(10)
        writer.write(b"too large")
        await writer.drain()
        # Closing with unread bytes resets the connection after the answer.

    async with serving(refuse) as port, FaultProxy("127.0.0.1", port) as proxy, client(proxy) as (reader, writer):
        writer.write(DATA)
        got = bytearray()
        await read_out(reader, got)
        assert got == b"too large"
        await proxy.until(lambda proxy: proxy.open == 0)


async def test_bytes_in_transit_arrive_after_both_sides_have_ended() -> None:
    reading = asyncio.Event()
    received = bytearray()
    ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    async def end_then_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write_eof()
        await reading.wait()
        ended.set_result(await read_out(reader, received))

    async with (
        serving(end_then_read, receive_buffer=4096) as port,
        FaultProxy("127.0.0.1", port) as proxy,
        client(proxy) as (_, writer),
    ):
        writer.write(DATA[:300_000])
        writer.write_eof()
        await proxy.until(lambda proxy: proxy.open == 0)
        reading.set()
        assert await ended == "end"
        assert received == DATA[:300_000]


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(
    "plan",
    [
        [],
        [fault("stall", "down", 100)],
        [fault("stall", "up", 100)],
        [fault("cut", "down", 100)],
        [ConnectionFault(blackhole=True)],
        [ConnectionFault(latency=60)],
        [ConnectionFault(rate=1)],
    ],
)
async def test_closing_leaves_no_task_or_socket_or_warning(plan: list[ConnectionFault]) -> None:
    async with serving(echo) as port:
        gc.collect()
        tasks, descriptors = asyncio.all_tasks(), open_descriptors()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            async with FaultProxy("127.0.0.1", port, plan=plan, transcript=1) as proxy:
                talker = socket.create_connection(("127.0.0.1", proxy.port))
                talker.sendall(bytes(1000))
                await proxy.until(lambda proxy: bool(proxy.open))
                await proxy.until(
                    lambda proxy: (
                        any(strike.kind == "blackhole" for strike in proxy.strikes)
                        or bool(proxy.connections[0].transcript)
                    )
                )
                await asyncio.sleep(0.01)
                waiting = socket.create_connection(("127.0.0.1", proxy.port))  # nobody has accepted it yet
            assert proxy.open == 0
            talker.close()
            waiting.close()
            # The server's side of a connection closes in later turns of the loop.
            await turns(lambda: asyncio.all_tasks() <= tasks)
            for _ in range(10):
                await asyncio.sleep(0)
            gc.collect()
        assert open_descriptors() == descriptors
        await proxy.aclose()


async def test_a_cancellation_is_raised_and_closes_the_proxy() -> None:
    entered = asyncio.Event()

    async def use(port: int) -> None:
        plan = [fault("stall", "down", 0)]
        async with FaultProxy("127.0.0.1", port, plan=plan) as proxy, client(proxy) as (reader, writer):
            writer.write(b"hello")
            await proxy.until(lambda proxy: len(proxy.strikes) == 1)
            entered.set()
            await reader.read()

    async with serving(echo) as port:
        before = asyncio.all_tasks()
        task = asyncio.create_task(use(port))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await turns(lambda: asyncio.all_tasks() <= before)


async def test_one_task_may_open_and_another_close() -> None:
    async with serving(echo) as port:
        proxy = FaultProxy("127.0.0.1", port)
        await asyncio.create_task(proxy.__aenter__())
        with pytest.raises(RuntimeError, match="already open"):
            await proxy.__aenter__()
        assert await fetch(proxy) == b"hello"
        await asyncio.create_task(proxy.aclose())
        with pytest.raises(ConnectionRefusedError):
            await fetch(proxy)


async def test_invalid_faults_are_refused() -> None:
    for arguments in ({}, {"latency": -1}, {"reset_up_after": -1}, {"rate": 0}, {"slice": 0}):
        with pytest.raises(InvalidArgumentError):
            ConnectionFault(**arguments)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="cannot be refused"):
        FaultProxy("127.0.0.1", 1).inject_open(ConnectionFault(refuse=True))
