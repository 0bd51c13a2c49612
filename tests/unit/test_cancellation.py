from __future__ import annotations

import asyncio
import logging

import pytest

from trove_async.cancellation import CleanupWarning, finish

pytestmark = pytest.mark.asyncio


async def test_the_work_has_ended_when_it_returns() -> None:
    done = []

    async def work() -> None:
        await asyncio.sleep(0)
        done.append(True)

    await finish(work(), timeout=5, leftover="nothing")
    assert done == [True]


@pytest.mark.parametrize("times", [1, 2, 5])
async def test_the_work_is_carried_out_however_often_the_caller_is_cancelled(times: int) -> None:
    released = asyncio.Event()
    began = asyncio.Event()
    done = []

    async def work() -> None:
        began.set()
        await released.wait()
        done.append(True)

    caller = asyncio.create_task(finish(work(), timeout=30, leftover="nothing"))
    await began.wait()
    for _ in range(times):
        caller.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not caller.done()
    released.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert done == [True]


async def test_a_caller_that_was_already_cancelled_still_cleans_up() -> None:
    done = []

    async def work() -> None:
        done.append(True)

    async def clean_up_after_cancellation() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await finish(work(), timeout=5, leftover="nothing")

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(clean_up_after_cancellation())
    assert done == [True]


async def test_work_that_hangs_is_given_up_with_a_warning_that_names_it() -> None:
    ended = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.warns(CleanupWarning, match=r"gave up after 0\.01 s: upload 42 of b/k"):
        await finish(hang(), timeout=0.01, leftover="upload 42 of b/k")
    async with asyncio.timeout(5):
        await ended.wait()


async def test_a_cancellation_is_raised_even_if_the_work_is_given_up() -> None:
    began = asyncio.Event()

    async def hang() -> None:
        began.set()
        await asyncio.Event().wait()

    async def caller() -> None:
        with pytest.warns(CleanupWarning):
            await finish(hang(), timeout=0.01, leftover="something")

    task = asyncio.create_task(caller())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_work_is_logged_and_not_raised(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise OSError("disk on fire")

    with caplog.at_level(logging.WARNING, "trove_async"):
        await finish(fail(), timeout=5, leftover="temporary 7")
    [record] = caplog.records
    assert "temporary 7" in record.getMessage()
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "disk on fire"


async def test_a_timeout_around_it_expires_only_after_the_work_has_ended() -> None:
    released = asyncio.Event()
    done = []

    async def work() -> None:
        await released.wait()
        done.append(True)

    async def caller() -> None:
        async with asyncio.timeout(0):
            await finish(work(), timeout=30, leftover="nothing")

    task = asyncio.create_task(caller())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    released.set()
    with pytest.raises(TimeoutError):
        await task
    assert done == [True]
