"""The driver and failures of the network, with both servers."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from tests.sftp.residue import residue_of
from tests.sftp.stores import ServerName, fs_of, opened, pattern, remote, scratch_root
from trove_async.testing.proxy import BreakKind, ConnectionFault, FaultProxy

pytestmark = pytest.mark.asyncio

MIB = 1024 * 1024
IDLE = 1.0
BREAKS: list[BreakKind] = ["reset", "cut", "stall"]


def idle_timeout(kind: BreakKind) -> float:
    """Return a timeout that ends a stall soon, but not a request to a busy machine."""
    return IDLE if kind == "stall" else 30.0


def fault(kind: BreakKind, direction: str, after: int) -> ConnectionFault:
    return ConnectionFault(**{f"{kind}_{direction}_after": after})  # type: ignore[arg-type]


@pytest.mark.parametrize("after", [0, 5, 3_000, 300_000, 2 * MIB])
@pytest.mark.parametrize("kind", BREAKS)
async def test_a_broken_get_is_resumed(
    server: ServerName, root: Path, network: FaultProxy, kind: BreakKind, after: int
) -> None:
    data = pattern(3 * MIB)
    async with opened(server, root, port=network.port, idle_timeout=idle_timeout(kind)) as store:
        await store.create_bucket("bucket")
        await store.put("bucket", "key", data)
        network.inject_open(fault(kind, "down", after))
        assert await store.read("bucket", "key") == data
        assert [strike.kind for strike in network.strikes] == [kind]
        assert network.accepted == 2


@pytest.mark.parametrize("after", [0, 5, 3_000])
@pytest.mark.parametrize("kind", BREAKS)
async def test_a_small_get_is_requested_again(
    server: ServerName, root: Path, network: FaultProxy, kind: BreakKind, after: int
) -> None:
    data = pattern(60_000)
    async with opened(server, root, port=network.port, idle_timeout=idle_timeout(kind)) as store:
        await store.create_bucket("bucket")
        await store.put("bucket", "key", data, metadata={"a": "b"})
        network.inject_open(fault(kind, "down", after))
        async with store.get("bucket", "key") as reader:
            assert reader.info.metadata == {"a": "b"}
            assert await reader.read() == data
        assert network.accepted == 2


async def collect(reader: trove.ObjectReader, into: bytearray) -> None:
    while len(into) < reader.size:
        into += await reader.read(100_000)


@pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "deleted"])
async def test_a_changed_object_is_never_spliced(
    server: ServerName, root: Path, network: FaultProxy, replaced: bool
) -> None:
    data = pattern(24 * MIB)
    async with (
        opened(server, root, clean=False) as direct,
        opened(server, root, port=network.port, clean=False) as store,
    ):
        await direct.create_bucket("bucket")
        await direct.put("bucket", "key", data)
        reader = await store.get("bucket", "key")
        got = bytearray(await reader.read(100_000))
        if replaced:
            await direct.put("bucket", "key", bytes(24 * MIB))
        else:
            await direct.delete("bucket", "key")
        network.break_open("reset")
        with pytest.raises(trove.ObjectChangedError):
            await collect(reader, got)
        assert data.startswith(got)
        assert reader.closed


@pytest.mark.parametrize("after", [0, 40, 400, 20_000, 200_000])
@pytest.mark.parametrize("kind", BREAKS)
async def test_a_put_is_sent_again(
    server: ServerName, root: Path, network: FaultProxy, kind: BreakKind, after: int
) -> None:
    data = pattern(250_000)
    async with opened(server, root, port=network.port, idle_timeout=idle_timeout(kind)) as store:
        await store.create_bucket("bucket")
        await store.put("bucket", "key", b"old", metadata={"old": "1"})
        network.inject_open(fault(kind, "up", after))
        info = await store.put("bucket", "key", data, metadata={"new": "1"})
        assert network.accepted == 2
        async with store.get("bucket", "key") as reader:
            assert await reader.read() == data
            assert (reader.info.etag, reader.info.metadata) == (info.etag, {"new": "1"})


def lose_answer(store: trove.Trove, network: FaultProxy, name: str, loss: ConnectionFault) -> None:
    """Lose the answer to the next request of a kind: the server carries it out."""
    fs = fs_of(store)
    original = getattr(fs, name)

    async def sent(*arguments: Any, **named: Any) -> Any:
        setattr(fs, name, original)
        network.inject_open(loss)
        return await original(*arguments, **named)

    setattr(fs, name, sent)


@pytest.mark.parametrize("kind", BREAKS)
async def test_a_put_whose_last_answer_was_lost_is_settled(
    server: ServerName, root: Path, network: FaultProxy, kind: BreakKind
) -> None:
    async with opened(server, root, port=network.port, idle_timeout=idle_timeout(kind)) as store:
        await store.create_bucket("bucket")
        await store.put("bucket", "key", b"old", metadata={"a": "b"})
        lose_answer(store, network, "publish", fault(kind, "down", 0))
        info = await store.put("bucket", "key", b"data")
        assert network.accepted == 2
        assert (await store.head("bucket", "key")).etag == info.etag


@pytest.mark.parametrize("kind", BREAKS)
async def test_a_create_only_put_whose_answer_was_lost_recognises_its_object(
    server: ServerName, root: Path, network: FaultProxy, kind: BreakKind
) -> None:
    """Each file has a unique time that identifies it: nothing is ambiguous."""
    async with opened(server, root, port=network.port, idle_timeout=idle_timeout(kind)) as store:
        await store.create_bucket("bucket")
        lose_answer(store, network, "link", fault(kind, "down", 0))
        info = await store.put("bucket", "key", b"data", if_none_match="*")
        assert network.accepted == 2
        assert (await store.head("bucket", "key")).etag == info.etag
        lose_answer(store, network, "link", fault(kind, "down", 0))
        with pytest.raises(trove.ObjectAlreadyExistsError):
            await store.put("bucket", "key", b"other", if_none_match="*")
        assert await store.read("bucket", "key") == b"data"


async def test_a_put_that_reached_no_server_is_not_ambiguous(
    server: ServerName, root: Path, network: FaultProxy
) -> None:
    async with opened(server, root, port=network.port, attempts=2, clean=False) as store:
        await store.create_bucket("bucket")
        with network.unreachable():
            network.break_open("reset")
            await network.until(lambda proxy: proxy.open == 0)
            with pytest.raises(trove.UnavailableError) as caught:
                await store.put("bucket", "key", b"data")
            assert not caught.value.ambiguous
        assert not await store.exists("bucket", "key")


async def test_a_put_with_an_unknown_outcome_is_ambiguous(server: ServerName, root: Path, network: FaultProxy) -> None:
    async with opened(server, root, port=network.port, attempts=2, clean=False) as store:
        await store.create_bucket("bucket")
        network.inject(ConnectionFault(refuse=True), times=None)
        lose_answer(store, network, "publish", ConnectionFault(reset_down_after=0))
        with pytest.raises(trove.UnavailableError) as caught:
            await store.put("bucket", "key", b"data")
        assert caught.value.ambiguous
        network.clear()
        assert await store.read("bucket", "key") == b"data"


class Once:
    """A source that can be read once, and counts the requests for chunks."""

    def __init__(self, chunks: list[bytes], network: FaultProxy, faults: dict[int, ConnectionFault]) -> None:
        self.chunks = chunks
        self.network = network
        self.faults = faults
        self.pulled: list[int] = []

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for number, chunk in enumerate(self.chunks):
            self.pulled.append(number)
            if number in self.faults:
                self.network.inject_open(self.faults[number])
            yield chunk


async def test_a_stream_through_faults_reads_its_source_once(
    server: ServerName, root: Path, network: FaultProxy
) -> None:
    data = pattern(30 * MIB)
    chunks = [data[start : start + MIB] for start in range(0, len(data), MIB)]
    faults = {
        1: ConnectionFault(reset_up_after=100_000),
        9: ConnectionFault(cut_up_after=5),
        17: ConnectionFault(stall_up_after=MIB),
        25: ConnectionFault(reset_down_after=0),
    }
    source = Once(chunks, network, faults)
    async with opened(server, root, port=network.port, idle_timeout=IDLE) as store:
        await store.create_bucket("bucket")
        info = await store.put("bucket", "key", source, metadata={"a": "b"})
        assert source.pulled == list(range(len(chunks)))
        assert network.accepted == 5
        assert info.size == len(data)
        assert await store.read("bucket", "key") == data
        assert (await store.head("bucket", "key")).metadata == {"a": "b"}


@pytest.mark.parametrize("kind", BREAKS)
async def test_repeatable_operations_are_repeated(
    server: ServerName, root: Path, network: FaultProxy, kind: BreakKind
) -> None:
    async with opened(server, root, port=network.port, idle_timeout=idle_timeout(kind)) as store:
        await store.create_bucket("bucket")
        for number in range(30):
            await store.put("bucket", f"a/{number:02}", b"data", metadata={"a": "b"})

        async def broken() -> None:
            network.inject_open(fault(kind, "down", 30))

        await broken()
        assert (await store.head("bucket", "a/00")).metadata == {"a": "b"}
        await broken()
        assert len(await store.list("bucket").all()) == 30
        await broken()
        await store.set_tags("bucket", "a/00", {"t": "1"})
        assert await store.get_tags("bucket", "a/00") == {"t": "1"}
        await broken()
        await store.copy("bucket", "a/00", "bucket", "b")
        await broken()
        await store.delete("bucket", "a/00")
        await broken()
        results = await store.delete_many("bucket", [f"a/{number:02}" for number in range(30)])
        assert [info.key for info in await store.list("bucket").all()] == ["b"], results
        assert network.accepted == 7
        assert os.listdir(root / "bucket") == ["b"]


async def test_all_waiting_operations_share_one_new_connection(
    server: ServerName, root: Path, network: FaultProxy
) -> None:
    async with opened(server, root, port=network.port) as store:
        await store.create_bucket("bucket")
        await asyncio.gather(*(store.put("bucket", f"{number}", b"data") for number in range(50)))
        network.inject_open(ConnectionFault(reset_down_after=700))
        await asyncio.gather(*(store.put("bucket", f"{number}", b"new") for number in range(50)))
        assert network.accepted == 2
        assert {await store.read("bucket", f"{number}") for number in range(50)} == {b"new"}


async def test_attempts_of_the_layer_and_of_the_driver_do_not_multiply(
    server: ServerName, root: Path, network: FaultProxy, delays: list[float]
) -> None:
    layers = [trove.Retry(3, budget=trove.Budget(math.inf))]
    async with opened(server, root, port=network.port, attempts=7, clean=False, layers=layers) as store:
        await store.create_bucket("bucket")
        with network.unreachable():
            network.break_open("reset")
            await network.until(lambda proxy: proxy.open == 0)
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: store.head("bucket", "key"),
                lambda: store.put("bucket", "key", b"data"),
                lambda: store.list("bucket").all(),
            ]
            for number, call in enumerate(calls, start=1):
                with pytest.raises(trove.UnavailableError):
                    await call()
                assert len(delays) == 2 * number


async def test_a_silent_server_times_out(server: ServerName, root: Path, network: FaultProxy) -> None:
    async with opened(server, root, port=network.port, idle_timeout=1.0, attempts=1) as store:
        await store.create_bucket("bucket")
        network.inject_open(ConnectionFault(stall_down_after=0))
        with pytest.raises(trove.OperationTimeoutError):
            await store.head("bucket", "key")
        assert not await store.exists("bucket", "key")
        assert network.accepted == 2


async def test_keep_alive_notices_a_dead_connection(server: ServerName, root: Path, network: FaultProxy) -> None:
    async with opened(server, root, port=network.port, keepalive=0.5) as store:
        await store.create_bucket("bucket")
        network.inject_open(ConnectionFault(stall_down_after=0))
        await network.until(lambda proxy: proxy.open == 0)
        assert not await store.exists("bucket", "key")
        assert network.accepted == 2


async def test_a_put_cancelled_on_a_stalled_connection_leaves_nothing(
    server: ServerName, root: Path, network: FaultProxy
) -> None:
    async with (
        opened(server, root, clean=False) as direct,
        opened(server, root, port=network.port, idle_timeout=0.3, clean=False) as store,
    ):
        await direct.create_bucket("bucket")
        await direct.put("bucket", "key", b"old")
        network.inject_open(ConnectionFault(stall_up_after=20_000))
        putting = asyncio.create_task(store.put("bucket", "key", pattern(MIB)))
        await network.until(lambda proxy: bool(proxy.strikes))
        network.clear()
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        assert remote(store).held_handles == 0
        assert residue_of(root) == []
        assert await direct.read("bucket", "key") == b"old"
        assert await store.read("bucket", "key") == b"old"


@pytest.mark.parametrize("after", [3_200, 3_600, 4_000, 4_400, 4_800])
async def test_opening_survives_a_break(server: ServerName, root: Path, network: FaultProxy, after: int) -> None:
    network.inject(ConnectionFault(reset_up_after=after))
    async with opened(server, root, port=network.port, clean=False) as store:
        await store.create_bucket("bucket")
        await store.put("bucket", "key", b"data")
        assert network.accepted >= 1
        assert len(os.listdir(root / ".trove/tmp")) == 1
    assert os.listdir(root / ".trove/tmp") == []


async def test_an_operation_that_cannot_be_repeated_is_ambiguous(
    server: ServerName, root: Path, network: FaultProxy
) -> None:
    async with opened(server, root, port=network.port, clean=False) as store:
        network.inject_open(ConnectionFault(reset_down_after=300))
        with pytest.raises(trove.UnavailableError) as caught:
            await store.create_bucket("bucket")
        assert caught.value.ambiguous
        await store.create_bucket("bucket", exist_ok=True)


async def test_a_stream_that_cannot_be_completed_stores_nothing(
    server: ServerName, root: Path, network: FaultProxy
) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield bytes(MIB)
        network.inject(ConnectionFault(refuse=True), times=None)
        network.break_open("reset")
        yield bytes(8 * MIB)

    async with opened(server, root, port=network.port, attempts=2, clean=False) as store:
        await store.create_bucket("bucket")
        await store.put("bucket", "key", b"old")
        with pytest.raises(trove.UnavailableError) as caught:
            await store.put("bucket", "key", source())
        assert not caught.value.ambiguous
        network.clear()
        assert await store.read("bucket", "key") == b"old"
        assert residue_of(root) == []


async def test_a_fifo_is_no_object_and_stops_no_other_operation() -> None:
    """OpenSSH's server answers nothing on a connection on which it opens a FIFO, until somebody writes to it."""
    with scratch_root("sshd") as root:
        # Without the check, only `idle_timeout` ends the connection.
        async with asyncio.timeout(60), opened("sshd", root, idle_timeout=3600, clean=False) as store:
            await store.create_bucket("bucket")
            await store.put("bucket", "key", b"data")
            fifo = root / "bucket" / "fifo"
            os.mkfifo(fifo)
            os.link(fifo, root / "left")
            try:
                with pytest.raises(trove.ObjectNotFoundError):
                    await store.read("bucket", "fifo")
                missing, *found = await asyncio.gather(
                    store.read("bucket", "fifo"),
                    *(store.read("bucket", "key") for _ in range(20)),
                    return_exceptions=True,
                )
                assert isinstance(missing, trove.ObjectNotFoundError)
                assert found == [b"data"] * 20
                assert [item.key for item in await store.list("bucket").all()] == ["key"]
                await store.put("bucket", "fifo", b"new")
                assert await store.read("bucket", "fifo") == b"new"
            finally:
                # Processes of the server wait until somebody opens the FIFO.
                os.close(os.open(root / "left", os.O_RDWR | os.O_NONBLOCK))
