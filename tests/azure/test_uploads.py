"""Bodies in blocks, and uploads in parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from tests.azure.stores import PART, driver_of, leave_block, opened, pattern, tier_of
from trove_async.driver import OpenOptions
from trove_async.drivers.azure.blocks import BlockIds
from trove_async.drivers.azure.settings import AzureSettings
from trove_async.drivers.azure.uploads import plan_for
from trove_async.dsn import parse_dsn
from trove_async.errors import ConflictError

pytestmark = pytest.mark.asyncio

SETTINGS = AzureSettings.of(parse_dsn("azure://acct:a2V5@"), OpenOptions())
MIB = 1024 * 1024


async def test_sizes_of_blocks() -> None:
    plan = plan_for(SETTINGS)
    assert plan.size_for(1, 1) == 8 * MIB
    assert plan.size_for(1, 50_000 * 8 * MIB) == 8 * MIB
    assert plan.size_for(1, 50_000 * 8 * MIB + 1) == 9 * MIB
    with pytest.raises(trove.InvalidArgumentError):
        plan.size_for(1, 50_000 * 4000 * MIB + 1)
    assert [plan.size_for(number, None) // MIB for number in (1, 5000, 5001, 10_001)] == [8, 8, 16, 32]
    assert plan.size_for(50_000, None) == 4000 * MIB
    with pytest.raises(trove.InvalidArgumentError):
        plan.size_for(50_001, None)


async def test_ids_of_two_uploads_do_not_collide() -> None:
    one, two = BlockIds(), BlockIds()
    assert len({ids[number] for ids in (one, two) for number in range(1000)}) == 2000
    assert len({len(one[number]) for number in (1, 50_000)}) == 1
    one.fit("c2hvcnQ=")
    assert len(one[1]) == 64
    one.fit("MTIzNDU2Nzg5MDEy")
    assert len(one[1]) == 16


async def test_blocks_of_other_programs_do_not_block(bucket: str) -> None:
    """All block ids of a blob have one length; if another program left some, the driver uses their length."""
    async with opened() as store:
        await leave_block(store, bucket, "key", "MTIzNDU2Nzg5MDEy")
        data = pattern(5 * PART)
        await store.put(bucket, "key", data)
        assert await store.read(bucket, "key") == data


async def test_existing_blocks_with_ids_that_are_too_short_are_reported(bucket: str) -> None:
    async with opened() as store:
        await leave_block(store, bucket, "key", "MTIz")
        with pytest.raises(trove.BackendError, match="another length"):
            await store.put(bucket, "key", pattern(5 * PART))
        await store.put(bucket, "key", b"small")
        assert await store.read(bucket, "key") == b"small"


async def test_a_put_whose_blocks_were_discarded_is_repeated(bucket: str) -> None:
    data = pattern(3 * PART)

    async with opened() as store, opened() as other:
        client = driver_of(store)._client
        attempt = client._attempt

        async def interrupted(call: Any) -> Any:
            if "comp=blocklist" in call.query:
                client._attempt = attempt  # type: ignore[method-assign]
                await other.put(bucket, "key", pattern(2 * PART)[::-1])
            return await attempt(call)

        client._attempt = interrupted  # type: ignore[method-assign]
        info = await store.put(
            bucket, "key", data, metadata={"a": "1"}, content_type="a/b", tags={"t": "1"}, checksum="sha256",
            storage_class="COOL",
        )  # fmt: skip
        head = await store.head(bucket, "key")
        assert (head.etag, head.content_type, dict(head.metadata)) == (info.etag, "a/b", {"a": "1"})
        assert (await tier_of(store, bucket, "key"), head.checksums) == ("Cool", info.checksums)
        assert await store.get_tags(bucket, "key") == {"t": "1"}
        assert await store.read(bucket, "key") == data


async def test_a_stream_whose_blocks_were_discarded_is_reported(bucket: str) -> None:
    async with opened() as store, opened() as other:

        async def chunks() -> AsyncIterator[bytes]:
            yield bytes(3 * PART)
            await asyncio.sleep(0.05)
            await other.put(bucket, "key", pattern(2 * PART))
            yield b"the rest"

        with pytest.raises(ConflictError, match="discarded") as caught:
            await store.put(bucket, "key", chunks())
        assert caught.value.retryable
        assert not caught.value.ambiguous
        assert await store.read(bucket, "key") == pattern(2 * PART)


async def test_an_upload_is_not_touched_by_other_writes(bucket: str) -> None:
    async with opened() as store:
        upload = await store.initiate_multipart(bucket, "key", metadata={"m": "1"}, tags={"t": "1"})
        part = await store.upload_part(bucket, "key", upload, 1, b"part")
        await store.put(bucket, "key", pattern(3 * PART))
        await store.delete(bucket, "key")
        assert await store.list_parts(bucket, "key", upload) == [part]
        await store.complete_multipart(bucket, "key", upload, [part])
        assert await store.read(bucket, "key") == b"part"
        assert await store.get_tags(bucket, "key") == {"t": "1"}


async def test_an_upload_whose_condition_fails_can_be_completed_later(bucket: str) -> None:
    async with opened() as store:
        await store.put(bucket, "key", b"old")
        upload = await store.initiate_multipart(bucket, "key", storage_class="COLD")
        parts = [await store.upload_part(bucket, "key", upload, n, bytes([n]) * 10) for n in (1, 2)]
        with pytest.raises(trove.ObjectAlreadyExistsError):
            await store.complete_multipart(bucket, "key", upload, parts[:1], if_none_match="*")
        assert await store.read(bucket, "key") == b"old"
        assert await store.list_parts(bucket, "key", upload) == parts
        third = await store.upload_part(bucket, "key", upload, 3, b"3")
        await store.complete_multipart(bucket, "key", upload, [*parts, third])
        assert await store.read(bucket, "key") == bytes([1]) * 10 + bytes([2]) * 10 + b"3"
        assert await tier_of(store, bucket, "key") == "Cold"


async def test_an_empty_part_is_refused(bucket: str) -> None:
    async with opened() as store:
        upload = await store.initiate_multipart(bucket, "key")
        with pytest.raises(trove.InvalidPartError):
            await store.upload_part(bucket, "key", upload, 1, b"")
        await store.abort_multipart(bucket, "key", upload)


async def test_a_large_body_is_sent_in_parallel_with_bounded_memory(bucket: str) -> None:
    under_way = most = 0
    async with opened(part_concurrency=3) as store:
        client = driver_of(store)._client
        attempt = client._attempt

        async def counted(call: object) -> object:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                return await attempt(call)  # type: ignore[arg-type]
            finally:
                under_way -= 1

        client._attempt = counted  # type: ignore[method-assign,assignment]
        data = pattern(20 * PART)
        await store.put(bucket, "key", data)
        assert most == 3
        assert await store.read(bucket, "key") == data


async def test_a_file_is_sent_in_blocks_while_it_is_read(bucket: str, tmp_path: Path) -> None:
    data = pattern(5 * MIB + 77)
    (tmp_path / "file").write_bytes(data)
    async with opened(part_size=2 * MIB, transfer_memory=0) as store:
        assert (await store.put(bucket, "key", tmp_path / "file")).size == len(data)
        assert await store.read(bucket, "key") == data


async def test_a_completion_that_is_cancelled_during_the_copy_is_carried_out(bucket: str) -> None:
    async with opened() as store:
        client = driver_of(store)._client
        attempt = client._attempt
        copied, go_on = asyncio.Event(), asyncio.Event()

        async def held(call: Any) -> Any:
            response = await attempt(call)
            if any(name == "x-ms-copy-source" for name, _ in call.headers):
                copied.set()
                await go_on.wait()
            return response

        client._attempt = held  # type: ignore[method-assign]
        upload = await store.initiate_multipart(bucket, "key")
        part = await store.upload_part(bucket, "key", upload, 1, b"part")
        completing = asyncio.create_task(store.complete_multipart(bucket, "key", upload, [part]))
        await copied.wait()
        completing.cancel()
        await asyncio.sleep(0)
        assert not completing.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await completing
        assert await store.read(bucket, "key") == b"part"
        assert await store.list_multipart_uploads(bucket) == []


async def test_a_completion_that_is_cancelled_before_the_copy_copies_nothing(bucket: str) -> None:
    async with opened() as store:
        client = driver_of(store)._client
        attempt = client._attempt
        assembled = asyncio.Event()
        copies = 0

        async def held(call: Any) -> Any:
            nonlocal copies
            copies += any(name == "x-ms-copy-source" for name, _ in call.headers)
            if call.method == "HEAD" and "/parts/" in call.key:
                assembled.set()
                await asyncio.Event().wait()
            return await attempt(call)

        client._attempt = held  # type: ignore[method-assign]
        upload = await store.initiate_multipart(bucket, "key")
        part = await store.upload_part(bucket, "key", upload, 1, b"part")
        completing = asyncio.create_task(store.complete_multipart(bucket, "key", upload, [part]))
        await assembled.wait()
        completing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await completing
        assert copies == 0
        assert not await store.exists(bucket, "key")
        client._attempt = attempt  # type: ignore[method-assign]
        assert await store.list_parts(bucket, "key", upload) == [part]
        await store.complete_multipart(bucket, "key", upload, [part])
        assert await store.read(bucket, "key") == b"part"


async def test_an_upload_whose_initiation_was_cancelled_is_not_open(bucket: str) -> None:
    """The manifest is awaited before it is removed, so that none is stored after its removal."""
    async with opened() as store:
        client = driver_of(store)._client
        attempt = client._attempt
        sent, go_on = asyncio.Event(), asyncio.Event()

        async def held(call: Any) -> Any:
            if "/uploads/" in call.key and call.method == "PUT":
                sent.set()
                await go_on.wait()
            return await attempt(call)

        client._attempt = held  # type: ignore[method-assign]
        beginning = asyncio.create_task(store.initiate_multipart(bucket, "key"))
        await sent.wait()
        beginning.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await beginning
        assert await store.list_multipart_uploads(bucket) == []
