"""Saving objects as files."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import anyio.to_thread
import pytest

import trove_async
from trove_async.errors import ObjectNotFoundError, PreconditionFailedError, UnavailableError
from trove_async.testing.faults import Fault, Faults
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere
from trove_async.transfers import LocalFile, StoredObject, copy

pytestmark = pytest.mark.asyncio
LARGE = bytes(range(256)) * 8192


async def test_a_file_is_created_and_replaced_atomically(tmp_path: Path) -> None:
    target = tmp_path / "file"
    async with trove_async.open("memory://") as t:
        await t.create_bucket("b")
        info = await t.put("b", "k", LARGE)
        assert (await t.download("b", "k", target)).etag == info.etag
        assert target.read_bytes() == LARGE
        await t.put("b", "k", b"")
        await t.bucket("b").download("k", target)
    assert target.read_bytes() == b""
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


async def test_a_failed_download_leaves_only_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    broken = Faults([Fault("get", reset_after=100_000, error=UnavailableError(), times=100)])
    async with trove_async.open("memory://", layers=[broken]) as t:
        await t.create_bucket("b")
        await t.put("b", "k", LARGE)
        with pytest.raises(ObjectNotFoundError):
            await t.download("b", "missing", target)
        with pytest.raises(PreconditionFailedError):
            await t.download("b", "k", target, if_match="other")
        with pytest.raises(UnavailableError):
            await t.download("b", "k", target)
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("delivery", list(Delivery))
async def test_a_download_cancelled_at_any_point_leaves_the_old_or_the_new_file(
    tmp_path: Path, delivery: Delivery
) -> None:
    target = tmp_path / "file"

    async def prepare() -> None:
        target.write_bytes(b"old")

    async def check(outcome: Outcome[object]) -> None:
        assert outcome.error is None
        assert not outcome.left_running
        assert target.read_bytes() in (b"old", LARGE)
        assert [p.name for p in tmp_path.iterdir()] == ["file"]

    async with trove_async.open("memory://") as t:
        await t.create_bucket("b")
        await t.put("b", "k", LARGE)
        points = await cancel_everywhere(lambda: t.download("b", "k", target), delivery, prepare=prepare, check=check)
    assert points > 5


async def test_a_download_that_is_cancelled_while_all_threads_are_busy_changes_nothing(tmp_path: Path) -> None:
    limiter, free = anyio.to_thread.current_default_thread_limiter(), threading.Event()
    async with trove_async.open("memory://") as t:
        await t.create_bucket("b")
        await t.put("b", "k", b"data")
        busy = [asyncio.ensure_future(anyio.to_thread.run_sync(free.wait)) for _ in range(int(limiter.total_tokens))]
        try:
            job = asyncio.ensure_future(copy(StoredObject(t, "b", "k"), LocalFile(str(tmp_path / "new" / "file"))))
            for _ in range(50):
                await asyncio.sleep(0)
            assert limiter.statistics().tasks_waiting == 1
            job.cancel()
            await asyncio.sleep(0)
        finally:
            free.set()
            await asyncio.gather(*busy)
        with pytest.raises(asyncio.CancelledError):
            await job
    assert list(tmp_path.iterdir()) == []
