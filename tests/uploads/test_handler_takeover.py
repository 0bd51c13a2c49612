"""Several requests for one upload: who continues it, and who does not disturb."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.uploads.flows import BYTES, Flow, Stall

pytestmark = pytest.mark.asyncio


async def test_a_second_body_takes_a_stalled_one_over() -> None:
    flow = Flow()
    upload_id = await flow.create(10)
    stall = Stall()
    first = asyncio.ensure_future(flow.patch(upload_id, 0, b"hel", stall, b"lost"))
    await stall.reached.wait()
    # What the first one has received was not known to the client, so that the second one is refused at first.
    assert (await flow.patch(upload_id, 0, b"hello")).status == 409
    stopped = await first
    assert (stopped.status, "retry-after" in stopped.headers) == (423, True)
    head = await flow.send("HEAD", upload_id)
    assert head.headers["upload-offset"] == "3"
    assert (await flow.patch(upload_id, 3, b"loworld")).status == 204
    assert flow.store.data(upload_id) == b"helloworld"


async def test_a_head_does_not_disturb_a_body() -> None:
    flow = Flow()
    upload_id = await flow.create(10)
    stall = Stall()
    patch = asyncio.ensure_future(flow.patch(upload_id, 0, b"hello", stall, b"world"))
    await stall.reached.wait()
    for _ in range(3):
        assert (await flow.send("HEAD", upload_id)).status == 200
    assert not patch.done()
    stall.go.set()
    assert (await patch).status == 204
    assert flow.store.data(upload_id) == b"helloworld"


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (409, {"upload_offset": "0"}),  # the offset never decreases
        (413, {"upload_offset": "5", "content_length": "100"}),
        (400, {"upload_offset": "5", "upload_length": "11"}),
        (400, {"upload_offset": "-1"}),
        (415, {"upload_offset": "5", "content_type": "text/plain"}),
        (412, {"upload_offset": "5", "tus_resumable": "2.0.0"}),
    ],
)
async def test_what_is_refused_anyway_does_not_disturb_a_body(status: int, headers: dict[str, str]) -> None:
    flow = Flow()
    upload_id = await flow.create(10)
    await flow.patch(upload_id, 0, b"hello")
    stall = Stall()
    patch = asyncio.ensure_future(flow.patch(upload_id, 5, b"w", stall, b"orld"))
    await stall.reached.wait()
    said: dict[str, str | None] = {"content_type": BYTES, **headers}
    reply = await flow.send("PATCH", upload_id, b"x", **said)
    assert (reply.status, reply.reads) == (status, 0)
    assert not patch.done()
    stall.go.set()
    assert (await patch).status == 204


async def test_a_creation_with_upload_that_is_taken_over() -> None:
    flow = Flow()
    stall = Stall()
    first = asyncio.ensure_future(flow.send("POST", None, b"hel", stall, content_type=BYTES, upload_length="5"))
    await stall.reached.wait()
    (upload_id,) = flow.store.uploads
    assert (await flow.patch(upload_id, 3, b"lo")).status == 204
    reply = await first
    assert (reply.status, reply.headers["upload-offset"]) == (201, "3")


async def test_termination_stops_a_body() -> None:
    flow = Flow()
    upload_id = await flow.create(10)
    stall = Stall()
    patch = asyncio.ensure_future(flow.patch(upload_id, 0, b"hello", stall))
    await stall.reached.wait()
    assert (await flow.send("DELETE", upload_id)).status == 204
    assert (await patch).status == 423
    assert flow.store.uploads == {}


async def test_of_many_bodies_at_once_one_wins() -> None:
    flow = Flow()
    upload_id = await flow.create(10)
    replies = await asyncio.gather(*(flow.patch(upload_id, 0, b"hello", b"world") for _ in range(5)))
    assert sorted(reply.status for reply in replies) in ([204, 423, 423, 423, 423], [204, 409, 409, 409, 409])
    assert flow.store.data(upload_id) == b"helloworld"
    assert flow.store.calls.count("finish_upload") == 1


async def test_a_length_that_was_not_kept_finishes_nothing() -> None:
    """A store may show a length as soon as it is declared, and forget it when the request that declared it fails."""
    flow = Flow()
    upload_id = await flow.create(upload_defer_length="1")
    await flow.patch(upload_id, 0, b"hello")
    upload = flow.store.uploads[upload_id]
    deferred = upload.info
    asked = asyncio.Event()
    lock = await flow.locker.acquire(upload_id, asked.set)
    upload.info = replace(deferred, size=5)
    head = asyncio.ensure_future(flow.send("HEAD", upload_id))
    await asked.wait()
    upload.info = deferred
    await lock.release()
    assert (await head).status == 200
    assert "finish_upload" not in flow.store.calls
