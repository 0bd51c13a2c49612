"""The driver when the network fails, before real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import trove_async as trove
from tests.breaks import BREAKS, IDLE_TIMEOUT, a_break, idle_timeout
from tests.s3.stores import PART, ServerName, busy, opened, pattern
from trove_async.testing.answers import Answer, AnsweringProxy, s3_error
from trove_async.testing.proxy import ConnectionFault, FaultProxy

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("delays")]

MIB = 1024 * 1024


def lines(proxy: FaultProxy) -> list[str]:
    """Return the method of the first request of each connection."""
    return [connection.transcript.split(b" ", 1)[0].decode() for connection in proxy.connections]


# Connections that break


WHEN_READ = [0, 9, 600, 70_000, 1_500_000, 3 * MIB]
"""Bytes of the answer: none, a part of the head, some of the body, and nearly all of it."""


@pytest.mark.parametrize("after", WHEN_READ)
@pytest.mark.parametrize("kind", BREAKS)
async def test_a_get_goes_on_where_it_broke(
    server: ServerName, bucket: str, network: FaultProxy, kind: str, after: int
) -> None:
    data = pattern(3 * MIB)
    async with opened(server) as direct:
        await direct.put(bucket, "key", data)
    async with opened(server, network.url(), idle_timeout=idle_timeout(kind)) as store:
        fault = a_break(kind, "down", after)
        network.inject(fault)
        assert await store.read(bucket, "key") == data
        assert busy(store) == 0
    assert [strike.kind for strike in network.strikes] == [kind]
    assert network.accepted == 2
    assert network.bytes_down < len(data) + 64 * 1024 + network.connections[0].bytes_down


async def test_a_get_survives_a_break_on_each_of_its_connections(
    server: ServerName, bucket: str, network: FaultProxy
) -> None:
    data = pattern(2 * MIB)
    async with opened(server) as direct:
        await direct.put(bucket, "key", data)
    network.inject(ConnectionFault(reset_down_after=300_000), times=None)
    async with opened(server, network.url()) as store:
        assert await store.read(bucket, "key", range=(100, 1_900_000)) == data[100:1_900_100]
    asked = [connection.transcript.lower() for connection in network.connections]
    assert all(b"range: bytes=" in request for request in asked)
    assert all(b"if-match: " in request for request in asked[1:])
    assert network.accepted == 7


async def test_a_get_that_breaks_without_progress_is_given_up(
    server: ServerName, bucket: str, network: FaultProxy
) -> None:
    async with opened(server) as direct:
        await direct.put(bucket, "key", pattern(MIB))
    async with opened(server, network.url(), attempts=2) as store:
        network.inject(ConnectionFault(reset_down_after=0), times=None)
        with pytest.raises(trove.UnavailableError) as caught:
            await store.read(bucket, "key")
        assert not caught.value.ambiguous
        assert network.accepted == 2
        assert busy(store) == 0


async def collect(reader: trove.ObjectReader, into: bytearray) -> None:
    while len(into) < reader.size:
        into += await reader.read(100_000)


@pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "deleted"])
async def test_a_changed_object_is_never_spliced(
    server: ServerName, bucket: str, network: FaultProxy, replaced: bool
) -> None:
    data = pattern(8 * MIB)
    async with opened(server) as direct, opened(server, network.url()) as store:
        await direct.put(bucket, "key", data)
        # Without it all of the body could be in the buffers of the sockets before the connection breaks.
        network.inject(ConnectionFault(stall_down_after=MIB))
        reader = await store.get(bucket, "key")
        got = bytearray(await reader.read(100_000))
        if replaced:
            await direct.put(bucket, "key", bytes(8 * MIB))
        else:
            await direct.delete(bucket, "key")
        network.break_open("reset")
        with pytest.raises(trove.ObjectChangedError):
            await collect(reader, got)
        assert data.startswith(got)
        assert reader.closed
        assert busy(store) == 0


def broken(seen: bytes, size: int, etag: str) -> Answer:
    return Answer(200, {"ETag": f'"{etag}"', "Content-Type": "x/y"}, seen, content_length=size)


async def test_a_server_that_resumes_with_the_whole_object(
    server: ServerName, bucket: str, service: AnsweringProxy
) -> None:
    data = pattern(400_000)
    service.answer(broken(data[:150_000], len(data), "one"), method="GET")
    service.answer(Answer(200, {"ETag": '"one"'}, data), method="GET")
    async with opened(server, service.url()) as store:
        assert await store.read(bucket, "key") == data
    assert service.count("GET") == 2


@pytest.mark.parametrize("status", [200, 206])
async def test_a_server_that_resumes_with_another_object(
    server: ServerName, bucket: str, service: AnsweringProxy, status: int
) -> None:
    data = pattern(400_000)
    more = {"Content-Range": "bytes 150000-399999/400000"} if status == 206 else {}
    rest = bytes(250_000) if status == 206 else bytes(400_000)
    service.answer(broken(data[:150_000], len(data), "one"), method="GET")
    service.answer(Answer(status, {"ETag": '"two"', **more}, rest), method="GET")
    async with opened(server, service.url()) as store:
        with pytest.raises(trove.ObjectChangedError):
            await store.read(bucket, "key")
        assert busy(store) == 0


async def test_a_server_that_resumes_at_another_place(server: ServerName, bucket: str, service: AnsweringProxy) -> None:
    data = pattern(400_000)
    service.answer(broken(data[:150_000], len(data), "one"), method="GET")
    wrong = {"ETag": '"one"', "Content-Range": "bytes 150001-399999/400000"}
    service.answer(Answer(206, wrong, data[150_001:]), method="GET")
    async with opened(server, service.url()) as store:
        with pytest.raises(trove.BackendError, match="150000"):
            await store.read(bucket, "key")


@pytest.mark.parametrize("after", [0, 10, 5_000, 200_000])
@pytest.mark.parametrize("kind", BREAKS)
async def test_a_put_is_sent_again(server: ServerName, bucket: str, network: FaultProxy, kind: str, after: int) -> None:
    data = pattern(300_000)
    fault = a_break(kind, "up", after)
    network.inject(fault)
    async with opened(server, network.url(), idle_timeout=idle_timeout(kind), part_size=MIB) as store:
        info = await store.put(bucket, "key", data)
        assert lines(network) == ["PUT", "PUT"]
        assert busy(store) == 0
        assert (await store.head(bucket, "key")).etag == info.etag
        assert await store.read(bucket, "key") == data


@pytest.mark.parametrize("kind", BREAKS)
async def test_a_put_whose_answer_was_lost_is_sent_again(
    server: ServerName, bucket: str, network: FaultProxy, kind: str
) -> None:
    network.inject(a_break(kind, "down", 0))
    async with opened(server, network.url(), idle_timeout=idle_timeout(kind)) as store:
        await store.put(bucket, "key", b"data")
        assert lines(network) == ["PUT", "PUT"]
        assert await store.read(bucket, "key") == b"data"


@pytest.mark.parametrize("server", ["moto"])  # to Ceph a conditional put is two requests
async def test_a_create_only_put_whose_answer_was_lost_is_ambiguous(bucket: str, network: FaultProxy) -> None:
    network.inject(ConnectionFault(reset_down_after=0))
    async with opened("moto", network.url()) as store:
        with pytest.raises(trove.ObjectAlreadyExistsError) as caught:
            await store.put(bucket, "key", b"data", if_none_match="*")
        assert caught.value.ambiguous
        assert await store.read(bucket, "key") == b"data"
        with pytest.raises(trove.ObjectAlreadyExistsError) as caught:
            await store.put(bucket, "key", b"other", if_none_match="*")
        assert not caught.value.ambiguous


@pytest.mark.parametrize("server", ["moto"])
async def test_a_create_only_put_that_did_not_arrive_is_settled(bucket: str, network: FaultProxy) -> None:
    network.inject(ConnectionFault(reset_up_after=50))
    async with opened("moto", network.url()) as store:
        await store.put(bucket, "key", b"data", if_none_match="*")
        assert lines(network) == ["PUT", "PUT"]
        assert await store.read(bucket, "key") == b"data"


async def test_a_create_only_put_that_is_said_to_have_failed_is_ambiguous(
    server: ServerName, bucket: str, service: AnsweringProxy
) -> None:
    service.answer(s3_error(500, "InternalError"), method="PUT", when="after")
    async with opened(server, service.url()) as store:
        with pytest.raises(trove.ObjectAlreadyExistsError) as caught:
            await store.put(bucket, "key", b"data", if_none_match="*")
        assert caught.value.ambiguous
        assert service.count("PUT") == 2
        assert await store.read(bucket, "key") == b"data"


async def test_a_put_whose_every_answer_is_lost_is_ambiguous(
    server: ServerName, bucket: str, network: FaultProxy
) -> None:
    network.inject(ConnectionFault(cut_down_after=0), times=None)
    async with opened(server, network.url(), attempts=3) as store:
        with pytest.raises(trove.UnavailableError) as caught:
            await store.put(bucket, "key", b"data")
        assert caught.value.ambiguous
        assert network.accepted == 3
        assert busy(store) == 0


async def test_a_put_that_reached_nobody_is_not_ambiguous(server: ServerName, bucket: str, network: FaultProxy) -> None:
    async with opened(server, network.url(), attempts=3) as store:
        with network.unreachable(), pytest.raises(trove.UnavailableError) as caught:
            await store.put(bucket, "key", b"data")
        assert not caught.value.ambiguous
        assert network.accepted == 0


class Once:
    """A source that can be read once, and counts how often it was asked."""

    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = chunks
        self.pulled: list[int] = []

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for number, chunk in enumerate(self.chunks):
            self.pulled.append(number)
            yield chunk


UPLOAD_FAULTS = [
    ConnectionFault(reset_up_after=30_000),
    ConnectionFault(reset_down_after=0),
    ConnectionFault(cut_up_after=100_000),
    ConnectionFault(stall_up_after=80_000),
    ConnectionFault(stall_down_after=200),
]


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
async def test_an_upload_through_faults_reads_its_source_once(
    server: ServerName, bucket: str, network: FaultProxy, known: bool
) -> None:
    data = pattern(10 * PART + 77)
    chunks = [data[start : start + 50_000] for start in range(0, len(data), 50_000)]
    source = Once(chunks)
    network.script([None, *UPLOAD_FAULTS])
    async with opened(server, network.url(), idle_timeout=IDLE_TIMEOUT, part_concurrency=3) as store:
        info = await store.put(bucket, "key", source, size=len(data) if known else None)
        assert source.pulled == list(range(len(chunks)))
        assert info.size == len(data)
        assert busy(store) == 0
        assert await store.read(bucket, "key") == data
    assert {strike.kind for strike in network.strikes} >= {"reset"}


async def test_a_small_source_that_can_be_read_once_is_sent_again_from_memory(
    server: ServerName, bucket: str, network: FaultProxy
) -> None:
    source = Once([b"one", b"two"])
    network.script([ConnectionFault(reset_down_after=0), ConnectionFault(reset_up_after=10)])
    async with opened(server, network.url()) as store:
        await store.put(bucket, "key", source)
        assert source.pulled == [0, 1]
        assert network.accepted == 3
        assert await store.read(bucket, "key") == b"onetwo"


async def test_a_put_cancelled_on_a_stalled_connection_leaves_no_upload(
    server: ServerName, bucket: str, network: FaultProxy
) -> None:
    begun = asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        yield bytes(2 * PART)
        network.inject_open(ConnectionFault(stall_up_after=0))
        network.inject(ConnectionFault(stall_up_after=0), times=None)
        begun.set()
        yield bytes(2 * PART)

    async with opened(server) as direct, opened(server, network.url()) as store:
        await direct.put(bucket, "key", b"old")
        putting = asyncio.create_task(store.put(bucket, "key", source()))
        await begun.wait()
        await network.until(lambda proxy: any(strike.kind == "stall" for strike in proxy.strikes))
        network.clear()
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        assert busy(store) == 0
        assert await direct.list_multipart_uploads(bucket) == []
        assert await direct.read(bucket, "key") == b"old"


# Timeouts


async def test_a_stalled_answer_times_out(server: ServerName, bucket: str, network: FaultProxy) -> None:
    async with opened(server, network.url(), idle_timeout=0.2, attempts=1) as store:
        network.inject(ConnectionFault(stall_down_after=0))
        with pytest.raises(trove.OperationTimeoutError) as reading:
            await store.head(bucket, "key")
        assert not reading.value.ambiguous
        network.inject(ConnectionFault(stall_down_after=0))
        with pytest.raises(trove.OperationTimeoutError) as writing:
            await store.put(bucket, "key", b"data")
        assert writing.value.ambiguous
        network.inject(ConnectionFault(stall_up_after=20_000))
        with pytest.raises(trove.OperationTimeoutError):
            await store.put(bucket, "key", bytes(PART))
        assert network.accepted == 3
        await network.until(lambda proxy: proxy.open == 0)


async def test_the_wait_for_a_connection_is_bounded(server: ServerName, bucket: str) -> None:
    async with opened(server, connections=1, pool_timeout=0.1, attempts=1, part_size=8 * MIB) as store:
        await store.put(bucket, "key", bytes(4 * MIB))
        async with store.get(bucket, "key") as reader:
            await reader.read(1)
            with pytest.raises(trove.OperationTimeoutError) as caught:
                await store.put(bucket, "other", b"data")
            assert not caught.value.ambiguous
            assert busy(store) == 1
        await store.put(bucket, "other", b"data")
        assert await store.read(bucket, "other") == b"data"
