"""The driver and its SDK client."""

from __future__ import annotations

import gc
from datetime import timedelta

import pytest

import trove_async as trove
from tests.azure.stores import azure_error, busy, driver_of, leave_block, opened, through
from trove_async.drivers.azure.blocks import STAGING
from trove_async.drivers.azure.multipart import PARTS
from trove_async.testing.answers import AnsweringProxy

pytestmark = pytest.mark.asyncio


async def test_the_sdk_client_has_the_credentials_of_the_store(bucket: str) -> None:
    async with opened() as store:
        await store.put(bucket, "key", b"data", metadata={"m": "1"})
        client = await driver_of(store).sdk_client()
        assert await driver_of(store).sdk_client() is client
        properties = await client.get_blob_client(bucket, "key").get_blob_properties()
        assert properties.metadata == {"m": "1"}
    gc.collect()
    async with opened() as store:
        await store.aclose()
        with pytest.raises(trove.ClosedError):
            await driver_of(store).sdk_client()


async def test_objects_of_the_sdk_are_read_and_the_reverse(bucket: str) -> None:
    from azure.storage.blob import ContentSettings

    async with opened() as store:
        client = (await driver_of(store).sdk_client()).get_container_client(bucket)
        settings = ContentSettings(content_type="a/b", content_language="nb", cache_control="no-store")
        await client.upload_blob("sdk", b"data", metadata={"Author": "x"}, content_settings=settings, tags={"t": "1"})
        head = await store.head(bucket, "sdk")
        assert (head.content_type, head.content_language, head.cache_control) == ("a/b", "nb", "no-store")
        assert dict(head.metadata) == {"author": "x"}
        assert await store.get_tags(bucket, "sdk") == {"t": "1"}
        await store.put(bucket, "ours", b"data" * 50_000, content_disposition="inline", tags={"a": "b"})
        blob = client.get_blob_client("ours")
        assert await (await blob.download_blob()).readall() == b"data" * 50_000
        assert (await blob.get_blob_properties()).content_settings.content_disposition == "inline"
        assert await blob.get_blob_tags() == {"a": "b"}


async def test_an_abandoned_reader_releases_its_connection(bucket: str) -> None:
    async with opened(connections=1) as store:
        await store.put(bucket, "key", bytes(5_000_000))
        for _ in range(3):
            async with store.get(bucket, "key") as reader:
                await reader.read(10)
            assert busy(store) == 0
        assert len(await store.read(bucket, "key")) == 5_000_000


async def test_a_default_container(bucket: str) -> None:
    from tests.servers import running

    server = running("azurite")
    async with trove.open(f"azure://{bucket}", connection_string=server.connection_string) as store:
        await store.ping()
        assert store.driver.default_bucket == bucket
        await store.bucket().put("key", b"data")
        assert await store.read(bucket, "key") == b"data"


async def test_leftovers_of_a_killed_process_are_swept(bucket: str) -> None:
    async with opened() as store:
        driver = driver_of(store)
        staged, parts = f"{STAGING}killed", f"{PARTS}killed"
        await leave_block(store, bucket, staged, "a2lsbGVk")
        await driver._client.write("PUT", bucket, parts, headers=[("x-ms-blob-type", "BlockBlob")], body=[b"committed"])
        upload = await store.initiate_multipart(bucket, "key")
        part = await store.upload_part(bucket, "key", upload, 1, b"part")
        assert sorted(await driver.leftovers(bucket)) == sorted([staged, parts])
        assert await driver.sweep(bucket) == []
        assert sorted(await driver.sweep(bucket, timedelta(0))) == sorted([staged, parts])
        assert await driver.leftovers(bucket) == []
        await store.complete_multipart(bucket, "key", upload, [part])


async def test_ranges_of_an_empty_object_are_refused(bucket: str) -> None:
    async with opened() as store:
        await store.put(bucket, "key", b"")
        for wanted in ((0, 1), (0, None), (-1, None), (5, 2)):
            with pytest.raises(trove.RangeNotSatisfiableError):
                await store.read(bucket, "key", range=wanted)
        assert await store.read(bucket, "key", range=(0, 0)) == b""


async def test_ranges_that_exceed_the_object_are_cut_off(bucket: str) -> None:
    async with opened() as store:
        await store.put(bucket, "key", b"0123456789")
        assert await store.read(bucket, "key", range=(-100, None)) == b"0123456789"
        assert await store.read(bucket, "key", range=(-3, None)) == b"789"
        assert await store.read(bucket, "key", range=(8, 100)) == b"89"
        with pytest.raises(trove.RangeNotSatisfiableError):
            await store.read(bucket, "key", range=(10, 1))


async def test_a_suffix_range_of_an_object_that_is_being_replaced_is_of_one_object(
    bucket: str, service: AnsweringProxy
) -> None:
    """The size is requested first, and then the bytes on the condition that the object has not changed."""
    async with opened(through(service)) as store:
        await store.put(bucket, "key", b"the old one")
        service.answer(azure_error(412, "ConditionNotMet"), method="GET", path="/key")
        assert await store.read(bucket, "key", range=(-3, None)) == b"one"
        assert service.count("GET", "/key") == 2
        with pytest.raises(trove.PreconditionFailedError):
            await store.read(bucket, "key", range=(-3, None), if_match="0x1")
