"""Parts of an upload: how many are sent at once, the memory that they take, and the leftovers of cancellations."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from trove_async.body import Body, FileSlice, Piece, Progress, loaded
from trove_async.cancellation import finish
from trove_async.driver.memory import MemoryBudget, spending
from trove_async.driver.pace import Pace
from trove_async.driver.part_plan import PartPlan
from trove_async.driver.retry import Budget, Retries, RetryPolicy
from trove_async.errors import BodySizeError, BodySourceError
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere
from trove_async.types import ObjectInfo
from trove_async.wire.multipart import Upload, put_in_parts
from trove_async.wire.parts import PartSource, in_parallel
from trove_async.wire.protocol import ON_SENT

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(60)]

MIB = 1 << 20
PART = 2 * MIB
PLAN = PartPlan(part_size=PART, max_parts=1000, max_part_size=1 << 30, max_size=1 << 40)
DATA = b"".join(bytes([number]) * 300_000 for number in range(70))
RETRIES = Retries(RetryPolicy(attempts=1, budget=Budget(0)))


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


# How many at once


class Link:
    """Jobs that send until they are stopped, at rates that depend on their number, by a clock of the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)
        self.under_way: dict[int, asyncio.Event] = {}
        self.asked = 0
        self.step = 0  # bytes that each job sends at the next tick
        self.burst = 0  # bytes that the buffers of a connection take at once
        self.ticked = asyncio.Event()

    async def jobs(self, count: int) -> AsyncGenerator[Callable[[], Awaitable[int]], None]:
        for number in range(count):
            self.asked += 1
            yield lambda number=number: self._job(number)  # type: ignore[misc]

    async def _job(self, number: int) -> int:
        self.under_way[number] = stop = asyncio.Event()
        on_sent = ON_SENT.get()
        assert on_sent is not None
        on_sent(self.burst, False)
        while not stop.is_set():
            on_sent(self.step, True)
            await self.ticked.wait()
        del self.under_way[number]
        return number

    async def run(self, rate_of: Callable[[int], float], seconds: float) -> list[int]:
        """Let time pass, and return how many jobs were under way at once, each number once in its turn."""
        seen = [len(self.under_way)]
        end = self.now + seconds
        while self.now < end:
            self.now += 0.01
            count = len(self.under_way)
            self.step = round(rate_of(count) / max(1, count) * 0.01)
            ticked, self.ticked = self.ticked, asyncio.Event()
            ticked.set()
            await turns()
            if len(self.under_way) != seen[-1]:
                seen.append(len(self.under_way))
        return seen

    def stop(self) -> None:
        for stop in self.under_way.values():
            stop.set()


async def widths(
    monkeypatch: pytest.MonkeyPatch, rate_of: Callable[[int], float], *, pace: Pace, count: int = 1000
) -> list[int]:
    link = Link(monkeypatch)
    working = asyncio.create_task(in_parallel(link.jobs(count), pace))
    await turns()
    try:
        return await link.run(rate_of, 3)
    finally:
        working.cancel()
        await asyncio.wait({working})


async def test_more_parts_are_sent_at_once_while_the_rate_of_the_whole_rises(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await widths(monkeypatch, lambda count: count * 15e6, pace=Pace(32, 4)) == [4, 16, 32]


async def test_bytes_that_fill_the_buffers_of_new_connections_are_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    link = Link(monkeypatch)
    link.burst = 50 * MIB
    working = asyncio.create_task(in_parallel(link.jobs(100), Pace(32, 4)))
    await turns()
    assert await link.run(lambda count: count * 15e6, 2) == [4, 16, 32]
    working.cancel()
    await asyncio.wait({working})


async def test_no_more_parts_are_sent_at_once_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await widths(monkeypatch, lambda count: count * 15e6, pace=Pace(3, 4)) == [3]
    assert await widths(monkeypatch, lambda count: count * 15e6, pace=Pace(25, 4)) == [4, 16, 25]


async def test_a_fast_link_gets_no_more_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await widths(monkeypatch, lambda _: 600e6, pace=Pace(32, 4)) == [4]


async def test_an_upload_of_few_parts_sends_them_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await widths(monkeypatch, lambda count: count * 15e6, pace=Pace(32, 4), count=3) == [3]


async def test_where_more_parts_are_no_faster_no_part_is_begun_until_few_are_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link = Link(monkeypatch)
    working = asyncio.create_task(in_parallel(link.jobs(40), Pace(32, 4)))
    await turns()
    assert await link.run(lambda _: 30e6, 1) == [4, 16]
    assert link.asked == 16
    for number in range(12):
        link.under_way[number].set()
    await link.run(lambda _: 30e6, 0.05)
    assert (sorted(link.under_way), link.asked) == ([12, 13, 14, 15], 16)
    link.under_way[12].set()
    await link.run(lambda _: 30e6, 0.05)
    assert (sorted(link.under_way), link.asked) == ([13, 14, 15, 16], 17)
    while not working.done():
        link.stop()
        await link.run(lambda _: 30e6, 0.01)
    assert await working == list(range(40))


# Memory


class Parts(Upload[int]):
    """An upload into memory, whose parts wait until the test lets them go."""

    def __init__(self, gate: asyncio.Event | None = None) -> None:
        self.parts: dict[int, bytes] = {}
        self.sliced: set[int] = set()
        self.waiting = 0
        self.most = 0
        self.four = asyncio.Event()
        self.open = False
        self.gate = gate

    def __str__(self) -> str:
        return "an upload"

    async def begin(self) -> None:
        await asyncio.sleep(0)
        self.open = True

    async def send(self, number: int, chunks: Sequence[Piece]) -> int:
        if any(isinstance(chunk, FileSlice) for chunk in chunks):
            self.sliced.add(number)
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        if self.waiting == 4:
            self.four.set()
        if self.gate is not None:
            await self.gate.wait()
        self.parts[number] = b"".join(await loaded(chunks))
        self.waiting -= 1
        return number

    async def complete(self, parts: Sequence[int]) -> ObjectInfo:
        await asyncio.sleep(0)
        self.open = False
        return ObjectInfo("k", sum(map(len, self.parts.values())), etag="e")

    async def find(self, parts: Sequence[int]) -> ObjectInfo | None:
        raise NotImplementedError

    async def abort(self) -> None:
        await asyncio.sleep(0)
        self.open = False

    @property
    def data(self) -> bytes:
        return b"".join(self.parts[number] for number in sorted(self.parts))


async def stream(data: bytes = DATA) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 500_000):
        yield data[start : start + 500_000]


async def put(
    upload: Parts, data: object, budget: MemoryBudget, *, concurrency: int = 8, on_progress: Progress | None = None
) -> ObjectInfo:
    body = Body(data, on_progress=on_progress)
    try:
        await body.prepare()
        if body.buffer is not None:
            await body.finish_buffer()
        with spending(budget):
            source = PartSource(body)
            first = await source.take(PART)
            return await put_in_parts(
                body, source, first, PLAN, lambda: upload, concurrency=concurrency, timeout=5, retries=RETRIES
            )
    finally:
        await finish(body.aclose(), timeout=5, leftover="the body")


async def test_parts_of_a_stream_are_held_within_the_budget_and_one_beside_it() -> None:
    budget, gate = MemoryBudget(2 * PART), asyncio.Event()
    upload = Parts(gate)
    putting = asyncio.create_task(put(upload, stream(), budget))
    await turns()
    assert (upload.waiting, budget.held) == (3, 2 * PART)
    gate.set()
    await putting
    assert upload.data == DATA
    assert upload.most == 3
    assert budget.held == 0


async def test_the_last_parts_of_a_stream_hold_their_memory_until_they_are_sent() -> None:
    budget, gate = MemoryBudget(20 * PART), asyncio.Event()
    upload = Parts(gate)
    putting = asyncio.create_task(put(upload, stream(DATA[: 4 * PART]), budget))
    await upload.four.wait()
    await turns()  # no part is left to read
    assert budget.held == 3 * PART
    gate.set()
    await putting
    assert budget.held == 0


@pytest.mark.parametrize("size", [0, PART - 1])
async def test_with_less_memory_than_a_part_there_is_one_at_once(size: int) -> None:
    budget = MemoryBudget(size)
    upload = Parts()
    await put(upload, stream(), budget)
    assert upload.data == DATA
    assert upload.most == 1


async def test_bytes_in_memory_and_files_take_nothing_of_the_budget(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    for data in (DATA, path):
        budget, gate = MemoryBudget(0), asyncio.Event()
        upload = Parts(gate)
        putting = asyncio.create_task(put(upload, data, budget))
        await upload.four.wait()
        gate.set()
        assert (await putting).size == len(DATA)
        assert upload.data == DATA
        assert upload.sliced == (set() if data is DATA else set(range(2, 11)))  # not the first; the last is small


async def test_an_upload_waits_for_no_other_and_they_share_what_is_left() -> None:
    budget, gate, other_gate = MemoryBudget(3 * PART), asyncio.Event(), asyncio.Event()
    first, second = Parts(gate), Parts(other_gate)
    puts = [asyncio.create_task(put(first, stream(), budget))]
    await turns()
    assert first.waiting == 4
    puts.append(asyncio.create_task(put(second, stream(), budget)))
    await turns()
    assert second.waiting == 1
    other_gate.set()  # the memory of the first is not given back, and the second ends
    await puts[1]
    assert second.data == DATA
    assert second.most == 1
    gate.set()
    await puts[0]
    assert first.data == DATA
    assert budget.held == 0


# Files


@pytest.mark.parametrize("size", [100_000, 300_000, MIB - 1, MIB, MIB + 1, 3 * MIB])
async def test_parts_of_any_size_have_all_bytes_of_a_file(size: int, tmp_path: Path) -> None:
    """Those before the end of the first chunk of 1 MiB, too, which is read ahead."""
    path = tmp_path / "file"
    path.write_bytes(DATA)
    body = Body(path)
    await body.prepare()
    source = PartSource(body)
    parts = [b"".join(await source.take(size))]
    while not source.ended:
        parts.append(b"".join(await loaded(await source.take_pieces(size))))
    await body.aclose()
    assert b"".join(parts) == DATA
    assert {len(part) for part in parts[:-1]} == {size}


async def test_a_file_that_has_become_shorter_fails_with_its_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    gate = asyncio.Event()
    upload, budget = Parts(gate), MemoryBudget(0)
    putting = asyncio.create_task(put(upload, path, budget))
    await upload.four.wait()
    path.write_bytes(DATA[: PART + 5])
    gate.set()
    with pytest.raises(BodySizeError, match=f"ended after {PART + 5} bytes; it had {len(DATA)}"):
        await putting
    assert not upload.open


async def test_a_file_that_grows_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    gate = asyncio.Event()
    upload, budget = Parts(gate), MemoryBudget(0)
    putting = asyncio.create_task(put(upload, path, budget))
    await upload.four.wait()
    path.write_bytes(DATA + b"more")
    gate.set()
    with pytest.raises(BodySizeError, match="the file grew"):
        await putting
    assert not upload.open


async def test_a_file_system_may_return_less_than_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, size, start: pread(descriptor, min(size, 300_000), start))
    upload = Parts()
    await put(upload, path, MemoryBudget(0))
    assert upload.data == DATA


async def test_a_progress_callback_of_a_file_that_raises_stop_iteration_fails_as_that_of_a_stream(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    upload, steps = Parts(), iter(range(5))
    with pytest.raises(BodySourceError, match="raised StopIteration"):
        await put(upload, path, MemoryBudget(0), on_progress=lambda *_: next(steps))
    assert not upload.open


async def test_the_error_of_a_shorter_file_names_its_end_whichever_slice_is_read_first(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    body = Body(path)
    await body.prepare()
    slices = body.slices(0, len(DATA))
    path.write_bytes(DATA[:5])
    for piece in (slices[0], slices[-1]):
        with pytest.raises(BodySizeError, match="ended after 5 bytes"):
            await piece.read()
    await body.aclose()


# Cancellation


@pytest.mark.parametrize("delivery", list(Delivery))
@pytest.mark.parametrize("kind", ["stream", "stream in little memory", "file"])
async def test_a_put_cancelled_at_any_point_leaves_nothing(kind: str, delivery: Delivery, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA[: 5 * PART])
    budget = MemoryBudget(PART if kind == "stream in little memory" else 3 * PART)
    uploads: list[Parts] = []

    async def prepare() -> None:
        pass

    async def work() -> ObjectInfo:
        uploads.append(Parts())
        return await put(uploads[-1], path if kind == "file" else stream(DATA[: 5 * PART]), budget)

    async def check(outcome: Outcome[ObjectInfo]) -> None:
        assert outcome.error is None
        assert not outcome.left_running
        assert not uploads[-1].open
        assert budget.held == 0

    points = await cancel_everywhere(work, delivery, prepare=prepare, check=check)
    assert points > 5
