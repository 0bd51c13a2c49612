"""Random histories of an upload: bodies that break off, failures, take-overs. No byte is lost, doubled or changed."""

from __future__ import annotations

import asyncio
import logging
from base64 import b64encode
from collections.abc import Sequence
from typing import Final
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.uploads.flows import GONE, Flow, Part, Stall
from trove_async.errors import BackendError, UnavailableError

DATA: Final = bytes(range(40))

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["whole", "gone", "stalled", "checksum", "wrong", "flush", "get_info", "finish_upload", "stale", "head"]
        ),
        st.integers(1, 15),
        st.integers(1, 5),
    ),
    max_size=15,
)


@settings(max_examples=60)
@given(steps=STEPS, deferred=st.booleans())
def test_histories(steps: Sequence[tuple[str, int, int]], deferred: bool) -> None:
    logging.getLogger("trove_async.uploads").setLevel(logging.CRITICAL)
    try:
        asyncio.run(history(steps, deferred))
    finally:
        logging.getLogger("trove_async.uploads").setLevel(logging.NOTSET)


async def history(steps: Sequence[tuple[str, int, int]], deferred: bool) -> None:
    flow = Flow()
    upload_id = await (flow.create(upload_defer_length="1") if deferred else flow.create(len(DATA)))
    acknowledged = 0
    for kind, size, chunk in steps:
        acknowledged = max(acknowledged, await step(flow, upload_id, kind, size, chunk, deferred))
        assert DATA.startswith(flow.store.data(upload_id))
        assert len(flow.store.data(upload_id)) >= acknowledged
    flow.store.faults.clear()
    head = await flow.send("HEAD", upload_id)
    offset = int(head.headers["upload-offset"])
    assert offset >= acknowledged
    length = str(len(DATA)) if deferred else None
    assert (await flow.patch(upload_id, offset, DATA[offset:], upload_length=length)).status == 204
    assert flow.store.data(upload_id) == DATA
    assert flow.store.uploads[upload_id].info.is_finished
    assert not flow.locker._turns._queues  # type: ignore[attr-defined]


async def step(flow: Flow, upload_id: str, kind: str, size: int, chunk: int, deferred: bool) -> int:
    """Send a request, and return up to where the client knows its bytes to be durable."""
    if kind in ("flush", "get_info", "finish_upload"):
        flow.store.faults[kind] = [UnavailableError() if size % 2 else BackendError()]
    head = await flow.send("HEAD", upload_id)
    if kind == "head" or head.status != 200:
        assert head.status in (200, 423)
        return int(head.headers.get("upload-offset", 0))
    offset = int(head.headers["upload-offset"])
    data = DATA[offset : offset + size]
    parts: list[Part] = [data[start : start + chunk] for start in range(0, len(data), chunk)]
    said: dict[str, str | None] = {}
    if offset + size >= len(DATA) and deferred:
        said["upload_length"] = str(len(DATA))
    if kind in ("checksum", "wrong"):
        digest = crc32(data if kind == "checksum" else data + b"x")
        said["upload_checksum"] = f"crc32 {b64encode(digest.to_bytes(4, 'big')).decode()}"
    if kind == "gone":
        parts.append(GONE)
    if kind == "stale" and offset:
        assert (await flow.patch(upload_id, offset - 1, b"?")).status == 409
        return offset
    if kind == "stalled":
        stall = Stall()
        patch = asyncio.ensure_future(flow.patch(upload_id, offset, *parts, stall, **said))
        reached = asyncio.ensure_future(stall.reached.wait())
        await asyncio.wait({patch, reached}, return_when=asyncio.FIRST_COMPLETED)
        reached.cancel()
        # Whoever asks for another offset stops it as well.
        assert (await flow.patch(upload_id, len(DATA) + 1, b"?")).status in (409, 423)
        reply = await patch
    else:
        reply = await flow.patch(upload_id, offset, *parts, **said)
    if reply.status != 204:
        assert reply.status in (409, 423, 460, 500, 503), reply.answer
        return offset
    return int(reply.headers["upload-offset"])


@pytest.mark.parametrize("deferred", [False, True])
def test_a_history_of_every_step(deferred: bool) -> None:
    kinds = ["gone", "wrong", "flush", "checksum", "stalled", "get_info", "stale", "whole", "finish_upload", "head"]
    asyncio.run(history([(kind, 5, 2) for kind in kinds], deferred))
