"""Two processes that write to one upload, against the rule that one at a time may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import trove_async as trove
from tests.uploads.store.conftest import Clock
from tests.uploads.store.stores import PART, chunks
from trove_async.errors import UploadLockedError
from trove_async.testing.helpers import random_bytes
from trove_async.uploads import FileInfo, TroveDataStore

pytestmark = pytest.mark.asyncio

DATA = random_bytes(4 * PART)


class Gate:
    """Bytes that arrive when the test wants."""

    def __init__(self, first: bytes, last: bytes) -> None:
        self._first, self._last = first, last
        self.waiting, self.open = asyncio.Event(), asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in chunks(self._first, 10_000):
            yield chunk
        self.waiting.set()
        await self.open.wait()
        async for chunk in chunks(self._last, 10_000):
            yield chunk


@pytest.mark.parametrize("driver", ["memory", "parts", "ceph", "azure"], indirect=True)
@pytest.mark.parametrize("read", [PART // 2, PART + 10])
async def test_a_writer_that_was_taken_over_is_stopped(
    store: trove.Trove, bucket: str, uploads: TroveDataStore, other: TroveDataStore, clock: Clock, read: int
) -> None:
    """It slept, and lost its lock without noticing; what its client sends now is something else."""
    upload_id = await uploads.new_upload(FileInfo(size=len(DATA)))
    await uploads.write_chunk(upload_id, 0, chunks(DATA[:10]))
    gate = Gate(DATA[10:read], bytes(PART))
    asleep = asyncio.create_task(uploads.write_chunk(upload_id, 10, aiter(gate)))
    await gate.waiting.wait()
    while read > PART and (await other.get_info(upload_id)).offset < PART:
        pass  # its first part is on the way
    clock.advance(seconds=6)
    offset = (await other.get_info(upload_id)).offset
    await other.write_chunk(upload_id, offset, chunks(DATA[offset : 2 * PART + 5]))
    gate.open.set()
    with pytest.raises(UploadLockedError):
        await asleep
    for process in (uploads, other):
        assert (await process.get_info(upload_id)).offset == 2 * PART + 5
    await uploads.write_chunk(upload_id, 2 * PART + 5, chunks(DATA[2 * PART + 5 :]))
    await other.finish_upload(upload_id)
    assert await store.read(bucket, upload_id) == DATA


@pytest.mark.parametrize("driver", ["memory", "parts"], indirect=True)
async def test_one_process_writes_once_at_a_time(uploads: TroveDataStore) -> None:
    upload_id = await uploads.new_upload(FileInfo(size=len(DATA)))
    gate = Gate(DATA[:10], DATA[10:20])
    first = asyncio.create_task(uploads.write_chunk(upload_id, 0, aiter(gate)))
    await gate.waiting.wait()
    for second in (
        uploads.write_chunk(upload_id, 0, chunks(DATA)),
        uploads.finish_upload(upload_id),
        uploads.terminate(upload_id),
        uploads.declare_length(upload_id, 5),
    ):
        with pytest.raises(UploadLockedError):
            await second
    assert (await uploads.get_info(upload_id)).offset <= 10
    gate.open.set()
    assert await first == 20


@pytest.mark.parametrize("driver", ["parts", "ceph", "azure"], indirect=True)
async def test_a_state_that_was_replaced_is_not_replaced_again(
    store: trove.Trove, bucket: str, uploads: TroveDataStore, other: TroveDataStore
) -> None:
    upload_id = await uploads.new_upload(FileInfo(size=len(DATA)))
    gate = Gate(DATA[:10], DATA[10:20])
    asleep = asyncio.create_task(uploads.write_chunk(upload_id, 0, aiter(gate)))
    await gate.waiting.wait()
    await other.write_chunk(upload_id, 0, chunks(DATA[:50]))
    gate.open.set()
    with pytest.raises(UploadLockedError):
        await asleep
    assert (await uploads.get_info(upload_id)).offset == 50
    await uploads.write_chunk(upload_id, 50, chunks(DATA[50:]))
    await uploads.finish_upload(upload_id)
    assert await store.read(bucket, upload_id) == DATA
