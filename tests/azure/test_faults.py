"""The driver when the network fails, before the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import trove_async as trove
from tests.azure.stores import PART, busy, driver_of, opened, pattern, through
from tests.breaks import BREAKS, a_break, idle_timeout
from trove_async.testing.answers import Answer, AnsweringProxy
from trove_async.testing.proxy import ConnectionFault, FaultProxy

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("delays")]

MIB = 1024 * 1024
WHEN_READ = [0, 9, 600, 70_000, MIB]
"""Bytes of the answer: none, a part of the head, some of the body, and much of it."""


@pytest.mark.parametrize("after", WHEN_READ)
@pytest.mark.parametrize("kind", BREAKS)
async def test_a_get_goes_on_where_it_broke(bucket: str, network: FaultProxy, kind: str, after: int) -> None:
    data = pattern(2 * MIB)
    async with opened() as direct:
        await direct.put(bucket, "key", data)
    async with opened(through(network), idle_timeout=idle_timeout(kind)) as store:
        network.inject(a_break(kind, "down", after))
        assert await store.read(bucket, "key") == data
        assert busy(store) == 0
    assert [strike.kind for strike in network.strikes] == [kind]
    assert network.accepted == 2


async def test_a_get_that_goes_on_is_held_to_the_object(bucket: str, network: FaultProxy) -> None:
    data = pattern(MIB)
    async with opened() as direct:
        await direct.put(bucket, "key", data)
        network.inject(ConnectionFault(reset_down_after=300_000), times=None)
        async with opened(through(network)) as store:
            assert await store.read(bucket, "key", range=(100, 900_000)) == data[100:900_100]
            asked = [connection.transcript.lower() for connection in network.connections]
            assert all(b"x-ms-range: bytes=" in request for request in asked)
            assert all(b"if-match: " in request for request in asked[1:])


async def test_a_get_that_goes_on_never_splices(bucket: str, network: FaultProxy) -> None:
    data = pattern(4 * MIB)
    async with opened() as direct, opened(through(network)) as store:
        await direct.put(bucket, "key", data)
        network.inject(ConnectionFault(reset_down_after=3 * MIB))
        async with store.get(bucket, "key") as reader:
            await reader.read(1000)
            await direct.put(bucket, "key", data[::-1])
            with pytest.raises(trove.ObjectChangedError):
                await reader.read()


async def test_a_get_that_breaks_without_progress_is_given_up(bucket: str, network: FaultProxy) -> None:
    async with opened() as direct:
        await direct.put(bucket, "key", pattern(MIB))
    async with opened(through(network), attempts=2) as store:
        network.inject(ConnectionFault(reset_down_after=0), times=None)
        with pytest.raises(trove.UnavailableError) as caught:
            await store.read(bucket, "key")
        assert not caught.value.ambiguous
        assert network.accepted == 2
        assert busy(store) == 0


@pytest.mark.parametrize("kind", BREAKS)
@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("size", [1000, 3 * PART + 5])
async def test_a_put_is_sent_again(bucket: str, network: FaultProxy, kind: str, direction: str, size: int) -> None:
    data = pattern(size)
    after = 700 if direction == "up" else 0
    async with opened(through(network), idle_timeout=idle_timeout(kind)) as store:
        network.inject(a_break(kind, direction, after))
        info = await store.put(bucket, "key", data)
        assert (await store.head(bucket, "key")).etag == info.etag
        assert await store.read(bucket, "key") == data


async def test_a_put_whose_answers_are_all_lost_is_ambiguous_and_whole(bucket: str, network: FaultProxy) -> None:
    async with opened(through(network), attempts=2) as store:
        network.inject(ConnectionFault(cut_down_after=0), times=None)
        with pytest.raises(trove.UnavailableError) as caught:
            await store.put(bucket, "key", b"data")
        assert caught.value.ambiguous
    async with opened() as direct:
        assert await direct.read(bucket, "key") == b"data"


async def test_a_commit_whose_answer_was_lost_is_known_by_its_blocks(bucket: str, service: AnsweringProxy) -> None:
    """It is sent again, fails for what the first one did, and what is there is found to be ours."""
    data = pattern(3 * PART)
    lost = Answer(503, {"x-ms-error-code": "ServerBusy", "x-ms-request-id": "1"})
    async with opened(through(service)) as store:
        service.answer(
            Answer(500, {"x-ms-error-code": "InternalError"}), method="PUT", path="comp=blocklist", when="after"
        )
        info = await store.put(bucket, "key", data, if_none_match="*")
        assert (await store.head(bucket, "key")).etag == info.etag
        assert await store.read(bucket, "key") == data
        assert service.count("PUT", "comp=blocklist") == 2
        service.answer(lost, method="PUT", path="comp=blocklist")
        with pytest.raises(trove.ObjectAlreadyExistsError) as caught:
            await store.put(bucket, "key", data, if_none_match="*")
        assert not caught.value.ambiguous


async def test_a_cancelled_put_in_blocks_leaves_the_old_object(bucket: str, network: FaultProxy) -> None:
    async with opened(through(network)) as store:
        await store.put(bucket, "key", b"old")
        stopped = asyncio.Event()

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(4):
                yield bytes(PART)
            stopped.set()
            await asyncio.Event().wait()

        put = asyncio.create_task(store.put(bucket, "key", chunks()))
        await stopped.wait()
        put.cancel()
        with pytest.raises(asyncio.CancelledError):
            await put
        assert busy(store) == 0
        assert await store.read(bucket, "key") == b"old"
        # What it has left blocks nobody: blocks of another upload go in beside them, and the commit removes them.
        data = pattern(3 * PART)
        await store.put(bucket, "key", data)
        assert await store.read(bucket, "key") == data
        _, blocks = await driver_of(store)._uploads.blocks(bucket, "key", "uncommitted")
        assert blocks == {}


async def test_the_sdk_uploads_where_a_put_was_given_up(bucket: str) -> None:
    from azure.storage.blob.aio import BlobClient

    from tests.servers import running

    server = running("azurite")

    async def chunks() -> AsyncIterator[bytes]:
        yield bytes(3 * PART)
        raise RuntimeError("given up")

    async with opened() as store:
        with pytest.raises(RuntimeError, match="given up"):
            await store.put(bucket, "key", chunks())
        sdk = BlobClient(
            server.blob_endpoint, bucket, "key", credential=server.account_key,
            max_single_put_size=1, max_block_size=PART,
        )  # fmt: skip
        async with sdk:
            await sdk.upload_blob(pattern(3 * PART), overwrite=True)
        assert await store.read(bucket, "key") == pattern(3 * PART)


async def test_an_unreachable_service_is_told(bucket: str, network: FaultProxy) -> None:
    async with opened(through(network), attempts=2) as store:
        with network.unreachable(), pytest.raises(trove.UnavailableError):
            await store.put(bucket, "key", b"data")
        await store.put(bucket, "key", b"data")


async def test_a_slow_service_times_out(bucket: str, network: FaultProxy) -> None:
    async with opened(through(network), attempts=1, idle_timeout=0.3) as store:
        network.inject(ConnectionFault(stall_down_after=0), times=None)
        with pytest.raises(trove.OperationTimeoutError) as caught:
            await store.put(bucket, "key", b"data")
        assert caught.value.ambiguous
        with pytest.raises(trove.OperationTimeoutError):
            await store.head(bucket, "key")
        assert busy(store) == 0
