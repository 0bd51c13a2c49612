"""Back-fill and scrub: copies that are missing, differ or have gone bad are found and brought in order."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import trove_async
from tests.mirror.stores import Members, driver_of, rot
from trove_async import Mirror
from trove_async.errors import BucketNotFoundError, InvalidArgumentError
from trove_async.layers.mirror.scrub import ScrubReport
from trove_async.testing.faults import Fault

pytestmark = pytest.mark.asyncio


@pytest.fixture
def members(tmp_path: Path) -> Members:
    return Members(tmp_path)


def local(folder: Path, count: int = 3) -> tuple[Mirror, list[Path]]:
    """Return a mirror of folders, and the folders."""
    roots = [folder / f"member{number}" for number in range(count)]
    for root in roots:
        root.mkdir(exist_ok=True)
    dsns = [f"local://{root}?fsync=0" for root in roots]
    return Mirror(dsns, queue=f"sqlite:///{folder}/queue.db", repair_every=None), roots


async def test_objects_older_than_the_mirror_are_brought_to_all_members(members: Members) -> None:
    async with members.alone("1") as alone, members.alone("2") as another:
        await alone.create_bucket("b")
        await another.create_bucket("b")
        for number in range(5):
            await alone.put("b", f"old{number}", b"%d" % number, metadata={"n": str(number)}, tags={"t": "1"})
        await another.put("b", "other", b"other")
        async with members.opened() as t:
            driver = driver_of(t)
            assert await driver.backfill("b") == 12
            assert await driver.backfill("b") == 0
            assert (await driver.status())["0"].copies == 6
            assert await driver.repair() == 12
            assert await driver.backfill("b") == 0
            assert [item.key async for item in t.list("b")] == [*(f"old{number}" for number in range(5)), "other"]
            assert (await t.head("b", "old3")).metadata == {"n": "3"}
            assert await t.get_tags("b", "old3") == {"t": "1"}
            assert (await driver.scrub("b")).queued == 0
        assert await members.copies("old3") == [b"3"] * 3
        assert await members.copies("other") == [b"other"] * 3


async def test_an_object_that_was_deleted_is_not_brought_back(members: Members) -> None:
    async with members.opened() as t:
        await t.put("b", "k", b"x")
        members.stop("1")
        await t.delete("b", "k")
        members.start("1")
        driver = driver_of(t)
        assert await driver.backfill("b") == 0
        assert (await driver.scrub("b")).skipped == 1
        await driver.repair()
        assert await members.copies() == [None] * 3


async def test_a_copy_that_has_gone_bad_is_found_and_replaced(tmp_path: Path) -> None:
    target, roots = local(tmp_path)
    async with trove_async.open(target) as t:
        await t.create_bucket("b")
        info = await t.put("b", "k", b"content" * 100)
        await t.put("b", "good", b"content")
        driver = driver_of(t)
        assert (await driver.scrub("b")).queued == 0
        rot(roots[0] / "b" / "k")
        report = await driver.scrub("b")
        assert (report.objects, report.queued, report.lost, report.skipped) == (2, 1, (), 0)
        assert report.bytes == 3 * (700 + 7)
        assert await t.read("b", "k") == b"content" * 100  # from another member, before the repair
        assert await driver.repair() == 1
        assert [(root / "b" / "k").read_bytes() for root in roots] == [b"content" * 100] * 3
        assert (await t.head("b", "k")).etag == info.etag


async def test_most_copies_do_not_win_against_a_checksum(tmp_path: Path) -> None:
    target, roots = local(tmp_path)
    async with trove_async.open(target) as t:
        await t.create_bucket("b")
        await t.put("b", "k", b"content")
        for root in roots[:2]:
            rot(root / "b" / "k")
        assert (await driver_of(t).scrub("b")).queued == 2
        assert await driver_of(t).repair() == 2
        assert [(root / "b" / "k").read_bytes() for root in roots] == [b"content"] * 3


async def test_the_last_copy_is_never_touched(tmp_path: Path) -> None:
    target, roots = local(tmp_path)
    async with trove_async.open(target) as t:
        await t.create_bucket("b")
        await t.put("b", "k", b"content")
        for root in roots:
            rot(root / "b" / "k")
        before = [(root / "b" / "k").read_bytes() for root in roots]
        report = await driver_of(t).scrub("b")
        assert (report.lost, report.queued) == (("k",), 0)
        await driver_of(t).repair()
        assert [(root / "b" / "k").read_bytes() for root in roots] == before


async def test_a_bad_copy_is_not_copied_by_a_repair(tmp_path: Path) -> None:
    target, roots = local(tmp_path, count=2)
    async with trove_async.open(target) as t:
        await t.create_bucket("b")
        await t.put("b", "k", b"content")
        (roots[1] / "b" / "k").unlink()
        rot(roots[0] / "b" / "k")
        assert await driver_of(t).backfill("b") == 1
        assert await driver_of(t).repair() == 0
        assert (await driver_of(t).status())["1"].failing == 1
        assert not (roots[1] / "b" / "k").exists()


async def test_a_copy_that_was_replaced_by_hand_is_replaced_by_what_most_members_have(members: Members) -> None:
    async with members.opened() as t:
        await t.put("b", "k", b"mirrored")
        async with members.alone("0") as alone:
            await alone.put("b", "k", b"by hand")
        assert (await driver_of(t).scrub("b")).queued == 1
        await driver_of(t).repair()
        assert await members.copies() == [b"mirrored"] * 3


async def test_a_copy_that_exists_once_is_kept_and_copied(members: Members) -> None:
    async with members.opened() as t:
        async with members.alone("2") as alone:
            await alone.put("b", "k", b"by hand")
        assert (await driver_of(t).scrub("b")).queued == 2
        await driver_of(t).repair()
        assert await members.copies() == [b"by hand"] * 3


async def test_an_object_that_is_written_meanwhile_is_left_alone(members: Members) -> None:
    async with members.opened() as t:
        await t.put("b", "k", b"old")
        async with members.alone("0") as alone:
            await alone.put("b", "k", b"by hand")
        members.faults["2"].add(Fault("get", delay=0.2))
        scrubbing = driver_of(t).scrub("b")

        async def write() -> None:
            await t.put("b", "k", b"new")

        report, _ = await asyncio.gather(scrubbing, write())
        assert report.queued == 0
        assert await members.copies() == [b"new"] * 3


async def test_a_scrub_needs_a_bucket_and_a_rate(members: Members) -> None:
    async with members.opened() as t:
        with pytest.raises(BucketNotFoundError):
            await driver_of(t).scrub("missing")
        with pytest.raises(InvalidArgumentError, match="rate is a number of bytes a second"):
            await driver_of(t).scrub("b", rate=0)


async def test_a_scrub_reads_no_faster_than_its_rate(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.extend([seconds] if seconds else [])
        await real(0)

    async with members.opened() as t:
        await t.put("b", "k", b"x" * 1000)
        monkeypatch.setattr("trove_async.layers.mirror.scrub.asyncio.sleep", sleep)
        await driver_of(t).scrub("b", rate=100)
        monkeypatch.undo()
    assert slept == sorted(slept)
    assert 29 < slept[-1] <= 30


async def test_a_scrub_reports_its_progress(members: Members) -> None:
    reports: list[ScrubReport] = []
    async with members.opened() as t:
        for number in range(3):
            await t.put("b", f"k{number}", b"12345")
        report = await driver_of(t).scrub("b", on_progress=reports.append)
        assert [(seen.objects, seen.bytes) for seen in reports] == [(1, 15), (2, 30), (3, 45)]
        assert reports[-1] == report
        with pytest.raises(InvalidArgumentError, match="on_progress"):
            await driver_of(t).scrub("b", on_progress=3)  # type: ignore[arg-type]
