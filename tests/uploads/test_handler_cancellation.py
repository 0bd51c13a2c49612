"""Requests that are cancelled, and clients that go away, at every await point: nothing is held, and nothing runs on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from tests.uploads.flows import BYTES, GONE, Flow, Reply
from tests.uploads.memory_store import MemoryStore
from trove_async.uploads import Changes, FinalAnswer, Hooks, UploadEvent

pytestmark = pytest.mark.asyncio


class Slow(Hooks):
    """Every hook waits once."""

    async def authorize(self, event: UploadEvent) -> None:
        await asyncio.sleep(0)

    async def before_create(self, event: UploadEvent) -> Changes:
        await asyncio.sleep(0)
        return Changes(owner="me")

    async def after_create(self, event: UploadEvent) -> None:
        await asyncio.sleep(0)

    async def before_receive(self, event: UploadEvent) -> None:
        await asyncio.sleep(0)

    async def on_progress(self, event: UploadEvent) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def after_receive(self, event: UploadEvent) -> None:
        await asyncio.sleep(0)

    async def before_finish(self, event: UploadEvent) -> FinalAnswer:
        await asyncio.sleep(0)
        return FinalAnswer()

    async def after_finish(self, event: UploadEvent) -> None:
        await asyncio.sleep(0)

    async def before_terminate(self, event: UploadEvent) -> None:
        await asyncio.sleep(0)


def new_flow() -> Flow:
    return Flow(hooks=Slow(), progress_seconds=0)


async def create(flow: Flow) -> Reply:
    return await flow.send("POST", None, b"hel", b"lo", content_type=BYTES, upload_length="5")


async def complete(flow: Flow) -> Reply:
    (upload_id,) = flow.store.uploads
    return await flow.patch(upload_id, 0, b"hel", b"lo")


async def verified(flow: Flow) -> Reply:
    (upload_id,) = flow.store.uploads
    return await flow.patch(upload_id, 0, b"hel", b"lo", upload_checksum="crc32 NhCmhg==")


async def terminate(flow: Flow) -> Reply:
    (upload_id,) = flow.store.uploads
    return await flow.send("DELETE", upload_id)


async def join(flow: Flow) -> Reply:
    return await flow.final(*(key for key, each in flow.store.uploads.items() if each.info.is_partial))


async def prepare_nothing(flow: Flow) -> None:
    pass


async def prepare_upload(flow: Flow) -> None:
    await flow.create(5)


async def prepare_parts(flow: Flow) -> None:
    await flow.partial(b"hel")
    await flow.partial(b"lo")


REQUESTS: list[tuple[Callable[[Flow], Awaitable[None]], Callable[[Flow], Coroutine[Any, Any, Reply]]]] = [
    (prepare_nothing, create),
    (prepare_upload, complete),
    (prepare_upload, verified),
    (prepare_upload, terminate),
    (prepare_parts, join),
]


@pytest.mark.parametrize(("prepare", "request_of"), REQUESTS, ids=lambda value: value.__name__)
async def test_cancellation(
    prepare: Callable[[Flow], Awaitable[None]], request_of: Callable[[Flow], Coroutine[Any, Any, Reply]]
) -> None:
    tasks = asyncio.all_tasks()
    for steps in range(200):
        flow = new_flow()
        await prepare(flow)
        task = asyncio.ensure_future(request_of(flow))
        for _ in range(steps):
            await asyncio.sleep(0)
        if task.done():
            assert task.result().status in (201, 204)
            break
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == tasks
        assert not flow.locker._turns._queues  # type: ignore[attr-defined]
        await flow.handler.close()
        for upload in flow.store.uploads.values():
            assert bytes(upload.data) in (b"", b"hel", b"lo", b"hello")
    else:
        pytest.fail("the request did not end")


async def test_a_client_that_goes_away_after_any_number_of_bytes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    tasks = asyncio.all_tasks()
    for count in range(6):
        flow = new_flow()
        upload_id = await flow.create(5)
        await flow.patch(upload_id, 0, *[b"x"] * count, GONE)
        assert flow.store.data(upload_id) == b"x" * count
        assert flow.store.uploads[upload_id].info.is_finished is (count == 5)
        assert asyncio.all_tasks() == tasks
        assert not flow.locker._turns._queues  # type: ignore[attr-defined]
        if count < 5:
            assert (await flow.patch(upload_id, count, b"y" * (5 - count))).status == 204
    assert caplog.records == []


async def test_a_request_that_waits_for_a_lock_is_cancelled() -> None:
    flow = Flow(MemoryStore())
    upload_id = await flow.create(5)
    lock = await flow.locker.acquire(upload_id, lambda: None)
    patch = asyncio.ensure_future(flow.patch(upload_id, 0, b"hello"))
    for _ in range(5):
        await asyncio.sleep(0)
    patch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await patch
    await lock.release()
    assert (await flow.patch(upload_id, 0, b"hello")).status == 204
