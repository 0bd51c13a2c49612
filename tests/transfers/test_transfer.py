"""Copies between any two ends: what they keep, when they are skipped, and their state after a cancellation."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

import trove_async
from tests.drivers.local_residue import residue_of
from trove_async.driver import Features
from trove_async.errors import (
    InvalidArgumentError,
    NotFoundError,
    ObjectChangedError,
    PreconditionFailedError,
)
from trove_async.layers import LayerDriver
from trove_async.testing.injection import Delivery, cancel_everywhere
from trove_async.testing.injection import Outcome as Cancelled
from trove_async.transfers import (
    End,
    Job,
    LocalFile,
    Outcome,
    Result,
    StoredObject,
    Transfer,
    copy,
    describe,
    is_unchanged,
    remove,
)
from trove_async.transfers.ends import _parse_mtime, mtime_text

BODY = bytes(range(256)) * 4096
TIME = 1_700_000_000_123_456_789


class Ends:
    """Two stores and a folder, with an end of each kind."""

    def __init__(self, one: trove_async.Trove, two: trove_async.Trove, folder: Path) -> None:
        self.one = one
        self.two = two
        self.folder = folder

    def of(self, kind: str, name: str) -> End:
        match kind:
            case "file":
                return LocalFile(str(self.folder / "files" / name))
            case "one":
                return StoredObject(self.one, "b", name)
            case _:
                return StoredObject(self.two, "b", name)

    async def fill(self, end: End, data: bytes) -> None:
        if isinstance(end, LocalFile):
            Path(end.path).parent.mkdir(parents=True, exist_ok=True)
            Path(end.path).write_bytes(data)
            os.utime(end.path, ns=(TIME, TIME))
        else:
            await end.store.put(
                end.bucket,
                end.key,
                data,
                content_type="x/y",
                metadata={"m": "1"},
                tags={"t": "v"},
                cache_control="no-store",
                content_language="de",
            )

    async def read(self, end: End) -> bytes:
        if isinstance(end, LocalFile):
            return Path(end.path).read_bytes()
        return await end.store.read(end.bucket, end.key)


@pytest_asyncio.fixture
async def ends(tmp_path: Path) -> AsyncIterator[Ends]:
    (tmp_path / "store").mkdir()
    async with (
        trove_async.open(f"local://{tmp_path}/store?fsync=0") as one,
        trove_async.open("memory://") as two,
    ):
        await one.create_bucket("b")
        await two.create_bucket("b")
        yield Ends(one, two, tmp_path)


KINDS = [("file", "one"), ("one", "file"), ("one", "one"), ("one", "two"), ("two", "one"), ("two", "file")]
kinds = pytest.mark.parametrize(("source", "target"), KINDS, ids=["-".join(pair) for pair in KINDS])


@kinds
@pytest.mark.asyncio
async def test_a_copy_counts_as_unchanged_until_the_source_changes(ends: Ends, source: str, target: str) -> None:
    here, there = ends.of(source, "dir/source"), ends.of(target, "new/target")
    await ends.fill(here, BODY)
    assert not await is_unchanged(here, there)
    progress: list[int] = []
    await copy(here, there, on_progress=lambda done, _: progress.append(done))
    assert await ends.read(there) == BODY
    assert await is_unchanged(here, there)
    assert await is_unchanged(here, there, by_checksum=True)
    assert progress == sorted(progress)
    assert progress[-1:] in ([len(BODY)], [])
    await ends.fill(here, bytes(len(BODY)))
    if isinstance(here, LocalFile):
        assert await is_unchanged(here, there)  # the same size and time: only the bytes differ
    else:
        assert not await is_unchanged(here, there)
    assert not await is_unchanged(here, there, by_checksum=True)


@pytest.mark.parametrize(("source", "target"), [("one", "one"), ("one", "two"), ("two", "one")])
@pytest.mark.parametrize("record", [True, False])
@pytest.mark.asyncio
async def test_an_object_keeps_its_metadata(ends: Ends, source: str, target: str, record: bool) -> None:
    here, there = ends.of(source, "s"), ends.of(target, "t")
    assert isinstance(there, StoredObject)
    await ends.fill(here, BODY)
    await copy(here, there, record=record)
    info = await there.store.head("b", "t")
    assert (info.content_type, info.cache_control, info.content_language) == ("x/y", "no-store", "de")
    assert {name: value for name, value in info.metadata.items() if name != "mtime"} == {"m": "1"}
    assert ("mtime" in info.metadata) is record
    assert await there.store.get_tags("b", "t") == {"t": "v"}


@pytest.mark.asyncio
async def test_the_time_of_a_file_round_trips(ends: Ends) -> None:
    chain = [ends.of("file", "a"), ends.of("one", "b"), ends.of("two", "c"), ends.of("one", "d"), ends.of("file", "e")]
    await ends.fill(chain[0], b"1")
    for here, there in pairwise(chain):
        await copy(here, there)
    last = chain[-1]
    assert isinstance(last, LocalFile)
    assert os.stat(last.path).st_mtime_ns == TIME


@given(st.integers(-(10**20), 10**20))
def test_times_are_written_to_the_nanosecond(nanoseconds: int) -> None:
    assert _parse_mtime(mtime_text(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1.5", 1_500_000_000), ("7", 7_000_000_000), ("-0.000000001", -1), ("", None), ("1e3", None), ("1.", None),
     ("1.0000000001", None), ("\u0661", None), ("1\n", None)],
)  # fmt: skip
def test_times_in_the_formats_of_other_programs(text: str, expected: int | None) -> None:
    assert _parse_mtime(text) == expected


@pytest.mark.asyncio
async def test_an_object_of_another_program_counts_as_changed(ends: Ends) -> None:
    """Its time is the time of the put, which means nothing."""
    here, there = ends.of("file", "a"), ends.of("one", "a")
    await ends.fill(here, BODY)
    await ends.fill(there, BODY)
    described = await describe(there)
    assert described is not None
    assert described.mtime is not None
    assert isinstance(here, LocalFile)
    os.utime(here.path, ns=(described.mtime, described.mtime))
    assert not await is_unchanged(here, there)
    assert await is_unchanged(here, there, by_checksum=True)


@pytest.mark.asyncio
async def test_a_stored_checksum_avoids_reading(ends: Ends) -> None:
    here, there = ends.of("file", "a"), ends.of("two", "a")
    await ends.fill(here, BODY)
    await copy(here, there, checksum="sha256")
    reads = 0
    get = ends.two.get

    def counted(*arguments: object, **options: object) -> object:
        nonlocal reads
        reads += 1
        return get(*arguments, **options)  # type: ignore[arg-type]

    ends.two.get = counted  # type: ignore[method-assign, assignment]
    assert await is_unchanged(here, there, by_checksum=True)
    assert reads == 0


@pytest.mark.asyncio
async def test_two_files_cannot_be_copied(ends: Ends) -> None:
    with pytest.raises(InvalidArgumentError):
        await copy(ends.of("file", "a"), ends.of("file", "b"))


@kinds
@pytest.mark.asyncio
async def test_the_missing_object_or_file_is_named(ends: Ends, source: str, target: str) -> None:
    with pytest.raises((NotFoundError, FileNotFoundError), match="missing"):
        await copy(ends.of(source, "missing"), ends.of(target, "t"))
    assert await describe(ends.of(target, "t")) is None


@pytest.mark.parametrize("kind", ["file", "one", "two"])
@pytest.mark.asyncio
async def test_a_source_that_changed_is_not_removed(ends: Ends, kind: str) -> None:
    end = ends.of(kind, "s")
    await ends.fill(end, b"old")
    described = await describe(end)
    assert described is not None
    await ends.fill(end, b"newer")
    with pytest.raises((ObjectChangedError, PreconditionFailedError)):
        await remove(end, described)
    assert await ends.read(end) == b"newer"


class HasNoConditions(LayerDriver):
    @property
    def features(self) -> Features:
        return replace(super().features, conditions=frozenset())


@pytest.mark.asyncio
async def test_a_source_that_changed_is_not_removed_where_deletes_have_no_conditions() -> None:
    async with trove_async.open("memory://", layers=[HasNoConditions]) as store:
        await store.create_bucket("b")
        end = StoredObject(store, "b", "s")
        await store.put("b", "s", b"old")
        described = await describe(end)
        assert described is not None
        await store.put("b", "s", b"new")
        with pytest.raises(PreconditionFailedError, match="copied but not removed"):
            await remove(end, described)
        described = await describe(end)
        assert described is not None
        await remove(end, described)
        assert not await store.exists("b", "s")


@pytest.mark.parametrize(("source", "target"), [("one", "file"), ("one", "one"), ("one", "two")])
@pytest.mark.asyncio
async def test_only_the_described_object_is_copied(ends: Ends, source: str, target: str) -> None:
    here, there = ends.of(source, "s"), ends.of(target, "t")
    await ends.fill(here, b"old")
    described = await describe(here)
    await ends.fill(here, b"newer")
    with pytest.raises(PreconditionFailedError):
        await copy(here, there, described=described)
    assert await describe(there) is None


async def jobs_of(*jobs: Job) -> AsyncIterator[Job]:
    for job in jobs:
        yield job


@pytest.mark.asyncio
async def test_other_copies_continue_after_a_failure(ends: Ends) -> None:
    jobs = []
    for number in range(20):
        here = ends.of("file", f"{number}")
        if number % 5:
            await ends.fill(here, BODY)
        jobs.append(Job(here, ends.of("one", f"t/{number}"), len(BODY)))
    results: list[Result] = []
    transfer = Transfer(workers=4)
    await transfer.run(jobs_of(*jobs), results.append)
    tally = transfer.tally
    assert (tally.jobs, tally.copied, tally.failed, tally.done) == (20, 16, 4, 20)
    assert tally.moved == tally.size == 16 * len(BODY)
    assert {str(r.job.target) for r in results if r.outcome is Outcome.FAILED} == {"b/t/0", "b/t/5", "b/t/10", "b/t/15"}
    again = Transfer(workers=4)
    await again.run(jobs_of(*jobs), results.append)
    assert (again.tally.unchanged, again.tally.failed, again.tally.moved) == (16, 4, 0)


@pytest.mark.asyncio
async def test_workers_are_one_or_more() -> None:
    with pytest.raises(InvalidArgumentError):
        Transfer(workers=0)


@kinds
@pytest.mark.parametrize("delivery", [Delivery.PENDING, Delivery.DONE], ids=lambda delivery: delivery.name)
@pytest.mark.asyncio
async def test_a_move_that_is_cancelled_at_any_point_loses_nothing(
    ends: Ends, source: str, target: str, delivery: Delivery
) -> None:
    here, there = ends.of(source, "s"), ends.of(target, "t")

    async def prepare() -> None:
        await ends.fill(here, BODY)
        await ends.fill(there, b"old")

    async def move() -> None:
        await Transfer(workers=2, move=True).run(jobs_of(Job(here, there, len(BODY))), lambda _: None)

    async def check(outcome: Cancelled[None]) -> None:
        copied = await ends.read(there)
        assert copied in (b"old", BODY)
        if await describe(here) is None:
            assert copied == BODY
        else:
            assert await ends.read(here) == BODY
        assert residue_of(ends.folder / "store") == []
        assert [path.name for path in ends.folder.glob("files/*") if path.suffix == ".part"] == []

    points = await cancel_everywhere(move, delivery, prepare=prepare, check=check)
    assert points > 3


@pytest.mark.parametrize("delivery", [Delivery.PENDING, Delivery.DONE, Delivery.SCOPE], ids=lambda one: one.name)
@pytest.mark.asyncio
async def test_a_download_of_many_small_files_that_is_cancelled_at_any_point_leaves_whole_files(
    ends: Ends, delivery: Delivery
) -> None:
    names = [f"d{number % 2}/{number}" for number in range(6)]
    pairs = [(ends.of("one", name), ends.of("file", name)) for name in names]
    for number, (here, there) in enumerate(pairs):
        await ends.fill(here, b"new" * 100)
        if number % 3 == 0:
            await ends.fill(there, b"old")

    async def prepare() -> None:
        for number, (_, there) in enumerate(pairs):
            assert isinstance(there, LocalFile)
            if number % 3 == 0:
                await ends.fill(there, b"old")
            else:
                Path(there.path).unlink(missing_ok=True)

    async def download() -> None:
        await Transfer(workers=2).run(jobs_of(*(Job(here, there, 300) for here, there in pairs)), lambda _: None)

    async def check(outcome: Cancelled[None]) -> None:
        assert not outcome.left_running
        files = {path: path.read_bytes() for path in (ends.folder / "files").rglob("*") if path.is_file()}
        assert {path.suffix for path in files} == {""}
        assert set(files.values()) <= {b"old", b"new" * 100}
        await asyncio.to_thread(lambda: None)
        assert files == {path: path.read_bytes() for path in (ends.folder / "files").rglob("*") if path.is_file()}

    points = await cancel_everywhere(download, delivery, prepare=prepare, check=check)
    assert points > 10


@pytest.mark.asyncio
async def test_a_download_that_was_cancelled_in_the_queue_of_a_thread_never_begins(ends: Ends) -> None:
    """The first file blocks the thread; the others wait behind it when the transfer is cancelled."""
    held, release = threading.Event(), threading.Event()
    make = os.makedirs

    def blocking(*arguments: Any, **options: Any) -> None:
        held.set()
        assert release.wait(20)
        make(*arguments, **options)

    jobs = []
    for number in range(3):
        here, there = ends.of("one", f"{number}"), ends.of("file", f"d{number}/file")
        await ends.fill(here, BODY[:100])
        jobs.append(Job(here, there, 100))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "trove_async.drivers.local.workers._PATIENCE", math.inf
        )  # no second thread, however long it lasts
        patch.setattr(os, "makedirs", blocking)
        task = asyncio.create_task(Transfer(workers=3, skip_unchanged=False).run(jobs_of(*jobs), lambda _: None))
        await asyncio.to_thread(held.wait, 20)
        task.cancel()
        for _ in range(10):  # the tasks of the group are cancelled some steps later
            await asyncio.sleep(0)
        assert not task.done()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    # The directory was made by the operation under way, which stopped before it changed the file.
    assert [path.name for path in (ends.folder / "files").rglob("*")] == ["d0"]
