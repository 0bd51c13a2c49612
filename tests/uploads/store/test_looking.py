"""Uploads that change while somebody asks for their offset, which needs several requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest

import trove_async as trove
from tests.uploads.store.stores import Parts, chunks
from tests.uploads.store.test_writers import Gate
from trove_async.driver.base import Layer
from trove_async.errors import ChecksumError
from trove_async.layers import Call, LayerDriver, Operation
from trove_async.testing.helpers import random_bytes
from trove_async.uploads import FileInfo, TroveDataStore

pytestmark = [pytest.mark.asyncio, pytest.mark.parametrize("kind", ["grows", "parts"])]

R = TypeVar("R")

PART = 1000
DATA = random_bytes(3 * PART)


class Door:
    """Holds the requests of one kind, one after another.

    Attributes:
        operation: the kind; empty to hold none.
        waiting: a request is held.
    """

    def __init__(self) -> None:
        self.operation = ""
        self.waiting = asyncio.Event()
        self._held: list[asyncio.Event] = []

    async def pass_through(self, operation: Operation) -> None:
        if operation.name == self.operation:
            held = asyncio.Event()
            self._held.append(held)
            self.waiting.set()
            await held.wait()

    def release(self) -> None:
        """Let the request that is held go on."""
        self.waiting.clear()
        self._held.pop().set()


@asynccontextmanager
async def behind(door: Door, kind: str) -> AsyncIterator[trove.Trove]:
    class Held(LayerDriver):
        async def around(self, operation: Operation, call: Call[R]) -> R:
            await door.pass_through(operation)
            return await call()

    layers: list[Layer] = [Held] if kind == "grows" else [Parts, Held]
    async with trove.open("memory://?min_part_size=1", layers=layers) as store:
        await store.create_bucket("b")
        yield store


def process(store: trove.Trove, *, shared: bool = True) -> TroveDataStore:
    return TroveDataStore(store, "b", part_size=PART, shared=shared)


def mismatch() -> None:
    raise ChecksumError


async def test_bytes_that_are_not_verified_are_not_counted(kind: str) -> None:
    door = Door()
    async with behind(door, kind) as store:
        writer, asker = process(store), process(store)
        upload_id = await writer.new_upload(FileInfo(size=len(DATA)))
        door.operation = "list_parts"
        asking = asyncio.create_task(asker.get_info(upload_id))
        await door.waiting.wait()
        door.operation = ""
        seen: list[int] = []

        async def body() -> AsyncIterator[bytes]:
            async for chunk in chunks(DATA[: 2 * PART + 5], 100):
                yield chunk
            door.release()
            seen.append((await asking).offset)

        with pytest.raises(ChecksumError):
            await writer.write_verified_chunk(upload_id, 0, body(), mismatch)
        assert seen == [0]


async def test_an_upload_that_is_finished_meanwhile(kind: str) -> None:
    door = Door()
    async with behind(door, kind) as store:
        writer, asker = process(store), process(store)
        upload_id = await writer.new_upload(FileInfo())
        await writer.write_chunk(upload_id, 0, chunks(DATA))
        if kind == "parts":
            await writer.write_chunk(upload_id, len(DATA), chunks(b""))
        door.operation = "list_parts"
        asking = asyncio.create_task(asker.get_info(upload_id))
        await door.waiting.wait()
        door.operation = ""
        await writer.declare_length(upload_id, len(DATA))
        await writer.finish_upload(upload_id)
        door.release()
        info = await asking
        assert info.is_finished
        assert info.offset == len(DATA)


async def test_no_process_is_ahead_of_what_others_see(kind: str) -> None:
    door = Door()
    async with behind(door, kind) as store:
        uploads = process(store)
        upload_id = await uploads.new_upload(FileInfo(size=len(DATA)))
        with pytest.raises(ChecksumError):  # the part that it stores does not count
            await uploads.write_verified_chunk(upload_id, 0, chunks(DATA[: PART + 1]), mismatch)
        door.operation = "put"
        writing = asyncio.create_task(uploads.write_chunk(upload_id, 0, chunks(DATA[: 2 * PART + 1], 100)))
        puts = 0
        while not writing.done():
            waiting = asyncio.create_task(door.waiting.wait())
            await asyncio.wait({writing, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if not writing.done():
                puts += 1
                seen = [(await each.get_info(upload_id)).offset for each in (uploads, process(store))]
                assert seen[0] <= seen[1]
                door.release()
            waiting.cancel()
        assert puts
        assert await writing == 2 * PART + 1


async def test_a_complete_upload_is_finished_after_a_chunk_that_was_not_verified(kind: str) -> None:
    async with behind(Door(), kind) as store:
        uploads = process(store)
        upload_id = await uploads.new_upload(FileInfo(size=len(DATA)))
        await uploads.write_chunk(upload_id, 0, chunks(DATA))
        with pytest.raises(ChecksumError):
            await uploads.write_verified_chunk(upload_id, len(DATA), chunks(b""), mismatch)
        for each in (uploads, process(store)):
            assert (await each.finish_upload(upload_id)).is_finished
        assert await store.read("b", upload_id) == DATA


@pytest.mark.parametrize("shared", [True, False])
async def test_no_process_is_behind_what_others_see(kind: str, shared: bool) -> None:
    """A client that is silent after its first part: both processes say that the part is there."""
    async with behind(Door(), kind) as store:
        uploads = process(store, shared=shared)
        upload_id = await uploads.new_upload(FileInfo(size=len(DATA)))
        await uploads.write_chunk(upload_id, 0, chunks(DATA[:10]))
        gate = Gate(DATA[10 : PART + 20], DATA[PART + 20 :])
        writing = asyncio.create_task(uploads.write_chunk(upload_id, 10, aiter(gate)))
        await gate.waiting.wait()
        while (seen := (await process(store).get_info(upload_id)).offset) < PART:
            pass  # the part is on its way
        for _ in range(10):  # the answer to its request too
            await asyncio.sleep(0)
        assert (await uploads.get_info(upload_id)).offset == seen
        gate.open.set()
        await writing
        assert (await uploads.get_info(upload_id)).offset == len(DATA)
