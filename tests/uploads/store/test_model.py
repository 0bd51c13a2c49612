"""Random steps by two processes: the offset never decreases, and the object has the bytes that were sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trove_async as trove
from tests.uploads.store.stores import Parts, chunks
from trove_async.driver.base import Layer
from trove_async.errors import ChecksumError
from trove_async.testing.faults import Fault, Faults
from trove_async.testing.helpers import random_bytes
from trove_async.uploads import FileInfo, TroveDataStore

PART = 1000

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "verified", "mismatch", "broken", "cancelled", "fault", "forget", "look"]),
        st.integers(0, 1),
        st.integers(0, 3500),
    ),
    max_size=14,
)


class BrokenError(Exception):
    pass


async def breaking(data: bytes, error: BaseException) -> AsyncIterator[bytes]:
    async for chunk in chunks(data, 300):
        yield chunk
    raise error


class Model:
    """An upload, and what must be true of it."""

    def __init__(self, store: trove.Trove, faults: Faults, shared: bool) -> None:
        self.store, self.faults, self.shared = store, faults, shared
        self.processes = [self.process(), self.process()]
        self.data = random_bytes(12_000)
        self.offset = 0

    def process(self) -> TroveDataStore:
        return TroveDataStore(self.store, "b", part_size=PART, memory=4 * PART, shared=self.shared)

    async def run(self, steps: list[tuple[str, int, int]], deferred: bool) -> None:
        self.id = await self.processes[0].new_upload(FileInfo(size=None if deferred else len(self.data)))
        for step, number, size in steps:
            await self.step(step, number if self.shared else 0, size)
        uploads = self.process() if self.shared else self.processes[0]
        self.offset = await self.look(uploads)
        await uploads.write_chunk(self.id, self.offset, chunks(self.data[self.offset :]))
        if deferred:
            await uploads.declare_length(self.id, len(self.data))
        await uploads.finish_upload(self.id)
        assert await self.store.read("b", self.id) == self.data
        assert await self.store.list_multipart_uploads("b") == []
        assert all(each.budget.used <= 4 * PART for each in self.processes)

    async def look(self, uploads: TroveDataStore) -> int:
        offset = (await uploads.get_info(self.id)).offset
        assert self.offset <= offset <= len(self.data)
        return offset

    async def step(self, step: str, number: int, size: int) -> None:
        uploads = self.processes[number]
        self.offset = start = await self.look(uploads)
        piece = self.data[start : start + size]
        match step:
            case "write":
                await uploads.write_chunk(self.id, start, chunks(piece, 300))
                self.offset = start + len(piece)
            case "verified":
                await uploads.write_verified_chunk(self.id, start, chunks(piece, 300), lambda: None)
                self.offset = start + len(piece)
            case "mismatch":
                with pytest.raises(ChecksumError):
                    await uploads.write_verified_chunk(self.id, start, chunks(bytes(len(piece)), 300), mismatch)
                assert await self.look(uploads) == start
            case "broken":
                with pytest.raises(BrokenError):
                    await uploads.write_chunk(self.id, start, breaking(piece, BrokenError()))
                assert await self.look(uploads) <= start + len(piece)
            case "cancelled":
                with suppress(asyncio.CancelledError):
                    await uploads.write_chunk(self.id, start, breaking(piece, asyncio.CancelledError()))
            case "fault":
                self.faults.add(
                    Fault("*", error=trove.UnavailableError, skip=size % 4, when=("before", "after")[size // 4 % 2])
                )
                with suppress(trove.TransientError):
                    await uploads.write_chunk(self.id, start, chunks(piece, 300))
                self.faults.clear()
            case "forget" if self.shared:
                self.processes[number] = self.process()
        offsets = {await self.look(each) for each in self.processes[: 1 + self.shared]}
        assert len(offsets) == 1


def mismatch() -> None:
    raise ChecksumError


@pytest.mark.parametrize("shared", [True, False], ids=["two processes", "one process"])
@pytest.mark.parametrize("kind", ["grows", "parts"])
def test_random_steps(request: pytest.FixtureRequest, kind: str, shared: bool) -> None:
    count = 400 if request.config.getoption("trove_long") else 40

    @settings(max_examples=count)
    @given(STEPS, st.booleans())
    def check(steps: list[tuple[str, int, int]], deferred: bool) -> None:
        async def run() -> None:
            faults = Faults([])
            layers: list[Layer] = [faults] if kind == "grows" else [Parts, faults]
            async with trove.open("memory://?min_part_size=1", layers=layers) as store:
                await store.create_bucket("b")
                await Model(store, faults, shared).run(steps, deferred)

        asyncio.run(run())

    check()
