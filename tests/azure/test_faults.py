"""The driver and failures of the network, in front of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import trove_async as trove
from tests.azure.stores import PART, busy, driver_of, opened, pattern, through
from tests.network_faults import CreateOnlyFaults, NetworkFaults, Target
from tests.portals import Portals
from trove_async.testing.answers import Answer, AnsweringProxy
from trove_async.testing.proxy import FaultProxy

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("delays")]


@pytest.fixture
def target() -> Target:
    return Target(open_store=opened, part_size=PART, endpoint=through, range_header="x-ms-range")


class TestPortals(Portals):
    """The answer of a portal is not a success."""


class TestNetworkFaults(NetworkFaults):
    """The tests that all HTTP drivers share."""


class TestCreateOnlyFaults(CreateOnlyFaults):
    """The tests that all HTTP drivers share."""


async def test_a_commit_whose_answer_was_lost_is_recognised_by_its_blocks(bucket: str, service: AnsweringProxy) -> None:
    """It is not sent again: the stored blob is found to be the committed one."""
    data = pattern(3 * PART)
    lost = Answer(503, {"x-ms-error-code": "ServerBusy", "x-ms-request-id": "1"})
    async with opened(through(service)) as store:
        service.answer(
            Answer(500, {"x-ms-error-code": "InternalError"}), method="PUT", path="comp=blocklist", when="after"
        )
        info = await store.put(bucket, "key", data, if_none_match="*")
        assert (await store.head(bucket, "key")).etag == info.etag
        assert await store.read(bucket, "key") == data
        assert service.count("PUT", "comp=blocklist") == 1
        service.answer(lost, method="PUT", path="comp=blocklist")
        with pytest.raises(trove.ObjectAlreadyExistsError) as caught:
            await store.put(bucket, "key", data, if_none_match="*")
        assert caught.value.ambiguous  # the stored blob is another writer's, and ours may have been there before it


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
        # The remaining blocks block nobody: another upload adds its own, and its commit removes them.
        data = pattern(3 * PART)
        await store.put(bucket, "key", data)
        assert await store.read(bucket, "key") == data
        _, blocks = await driver_of(store)._multipart._blocks.list(bucket, "key", "uncommitted")
        assert blocks == {}


async def test_the_sdk_can_upload_after_an_abandoned_put(bucket: str) -> None:
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
