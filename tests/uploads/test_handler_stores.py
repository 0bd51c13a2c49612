"""The flow over the project's own data store, with each of its capabilities."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

import trove_async as trove
from tests.uploads.flows import BYTES, GONE, Flow, Stall
from tests.uploads.store.stores import Parts
from trove_async.uploads import BufferingDataStore, Changes, Destination, FinalAnswer, Hooks, UploadEvent, handler
from trove_async.uploads.store import TroveDataStore, budget

pytestmark = pytest.mark.asyncio


class Photos(Hooks):
    """Puts uploads where they are named, never replacing one."""

    async def before_create(self, event: UploadEvent) -> Changes | None:
        name = event.info.metadata.text("filename")
        if name is None:
            return None
        return Changes(destination=Destination("photos", name, trove.driver.PutOptions(if_none_match="*")))

    async def before_finish(self, event: UploadEvent) -> FinalAnswer | None:
        return FinalAnswer(headers=(("X-Size", str(event.info.size)),))


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def store() -> AsyncIterator[trove.Trove]:
    async with trove.open("memory://") as t:
        await t.create_bucket("photos")
        yield t


@pytest.fixture
def flow(store: trove.Trove, clock: Clock) -> Flow:
    return Flow(TroveDataStore(store, "photos", now=clock, expires=60), hooks=Photos())


async def test_an_upload_becomes_an_object(flow: Flow, store: trove.Trove) -> None:
    created = await flow.send("POST", None, upload_length="10", upload_metadata="filename YS50eHQ=")
    assert created.headers["upload-expires"] == "Tue, 01 Jan 2030 00:01:00 GMT"
    upload_id = created.upload_id
    await flow.patch(upload_id, 0, b"hello", GONE)
    assert (await flow.send("HEAD", upload_id)).headers["upload-offset"] == "5"
    last = await flow.patch(upload_id, 5, b"world")
    assert (last.status, last.headers["x-size"]) == (204, "10")
    assert await store.read("photos", "a.txt") == b"helloworld"
    assert (await flow.patch(upload_id, 10)).headers["x-size"] == "10"
    ranged = await flow.send("GET", upload_id, range="bytes=5-")
    assert (ranged.status, ranged.headers["content-range"]) == (206, "bytes 5-9/10")
    assert ranged.headers["content-disposition"] == 'inline; filename="a.txt"'
    assert ranged.headers["x-content-type-options"] == "nosniff"
    assert not isinstance(ranged.answer.body, bytes)
    async with ranged.answer.body as body:
        assert b"".join([chunk async for chunk in body]) == b"world"


async def test_no_object_is_replaced(flow: Flow, store: trove.Trove) -> None:
    named = {"upload_length": "1", "upload_metadata": "filename YS50eHQ="}
    begun = (await flow.send("POST", None, **named)).upload_id
    await store.put("photos", "a.txt", b"here first")
    assert (await flow.patch(begun, 0, b"x")).status == 422
    refused = await flow.send("POST", None, **named)
    assert (refused.status, refused.problem["detail"]) == (422, "the object already exists")
    assert await store.read("photos", "a.txt") == b"here first"


@pytest.mark.parametrize("data", [b"", b"hello"])
async def test_a_download_of_an_object_that_was_deleted(flow: Flow, store: trove.Trove, data: bytes) -> None:
    upload_id = await flow.create(len(data))
    await flow.patch(upload_id, 0, data)
    assert (await flow.send("GET", upload_id)).status == 200
    await store.delete("photos", upload_id)
    assert (await flow.send("GET", upload_id)).status == 404
    assert (await flow.send("HEAD", upload_id)).headers["upload-offset"] == str(len(data))


async def test_a_download_of_an_object_that_was_replaced(flow: Flow, store: trove.Trove) -> None:
    upload_id = await flow.create(5)
    await flow.patch(upload_id, 0, b"hello")
    etag = (await store.put("photos", upload_id, b"of another user")).etag
    for condition in (None, "*", f'"{etag}"'):
        assert (await flow.send("GET", upload_id, if_match=condition)).status == 412


async def test_silent_clients_give_up_their_memory_if_others_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_SHORTAGE", 0.0)
    monkeypatch.setattr(handler, "_SILENCE", 0.0)
    async with trove.open("memory://?min_part_size=1", layers=[Parts]) as parts:
        await parts.create_bucket("b")
        uploads = TroveDataStore(parts, "b", part_size=1000, memory=2000)
        assert isinstance(uploads, BufferingDataStore)
        flow = Flow(uploads)
        stalls = [Stall(), Stall()]
        silent = []
        for stall in stalls:
            upload_id = await flow.create(5000)
            silent.append((upload_id, asyncio.create_task(flow.patch(upload_id, 0, b"x" * 700, stall))))
            await stall.reached.wait()
        waiting = await flow.create(3000)
        assert (await flow.patch(waiting, 0, b"y" * 3000)).status == 204
        replies = [(await flow.send("HEAD", each), await patch) for each, patch in silent if patch.done()]
        assert replies
        for head, reply in replies:
            assert (reply.status, "retry-after" in reply.headers) == (503, True)
            assert head.headers["upload-offset"] == "700"
        for stall in stalls:
            stall.go.set()
        await asyncio.gather(*(patch for _, patch in silent))


async def test_every_extension(flow: Flow, store: trove.Trove, clock: Clock) -> None:
    deferred = await flow.create(upload_defer_length="1")
    assert (await flow.patch(deferred, 0, b"hel")).status == 204
    assert (await flow.patch(deferred, 3, b"lO", upload_checksum="crc32 NhCmhg==")).status == 460
    assert (await flow.patch(deferred, 3, b"lo", upload_length="5")).status == 204
    assert await store.read("photos", deferred) == b"hello"
    one, two = await flow.partial(b"hello "), await flow.create(5, upload_concat="partial")
    final = (await flow.final(one, two, one, upload_metadata="filename Yi50eHQ=")).upload_id
    assert "upload-offset" not in (await flow.send("HEAD", final)).headers
    assert (await flow.patch(two, 0, b"world")).status == 204
    assert (await flow.send("HEAD", final)).headers["upload-offset"] == "17"
    assert await store.read("photos", "b.txt") == b"hello worldhello "
    assert (await flow.send("POST", None, b"hello", content_type=BYTES, upload_length="5")).status == 201
    assert (await flow.send("DELETE", one)).status == 204
    assert (await flow.send("HEAD", one)).status == 404
    waiting = await flow.create(5)
    clock.now += timedelta(seconds=61)
    assert (await flow.send("HEAD", waiting)).status == 410
    assert (await flow.patch(waiting, 0, b"hello")).status == 410
