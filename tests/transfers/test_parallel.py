"""Working on many things at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from trove_async.transfers import for_each
from trove_async.transfers.parallel import AHEAD

pytestmark = pytest.mark.asyncio


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def test_each_is_worked_on_once_and_no_more_than_so_many_at_a_time() -> None:
    busy = most = 0
    done: list[int] = []

    async def work(number: int) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        for _ in range(20):
            await asyncio.sleep(0)
        busy -= 1
        done.append(number)

    await for_each(numbers(100), work, workers=7)
    assert (sorted(done), most) == (list(range(100)), 7)


async def test_nothing_to_do() -> None:
    await for_each(numbers(0), lambda _: asyncio.sleep(0), workers=3)


async def test_what_was_found_before_the_search_failed_is_done() -> None:
    done: list[int] = []

    async def failing() -> AsyncIterator[int]:
        for number in range(10):
            yield number
        raise LookupError("no more")

    async def work(number: int) -> None:
        await asyncio.sleep(0)
        done.append(number)

    with pytest.raises(LookupError, match="no more"):
        await for_each(failing(), work, workers=2)
    assert sorted(done) == list(range(10))


async def test_an_error_of_the_work_ends_all_of_it() -> None:
    begun: list[int] = []

    async def work(number: int) -> None:
        begun.append(number)
        await asyncio.sleep(0)
        if number == 3:
            raise LookupError(str(number))
        await asyncio.Event().wait()

    with pytest.raises(LookupError, match="3"):
        await for_each(numbers(1000), work, workers=4)
    assert len(begun) <= 5
    assert len(asyncio.all_tasks()) == 1


async def test_the_search_runs_ahead_and_not_without_end() -> None:
    found = 0
    release = asyncio.Event()

    async def endless() -> AsyncIterator[int]:
        nonlocal found
        while True:
            found += 1
            yield found

    async def work(_: int) -> None:
        await release.wait()

    task = asyncio.create_task(for_each(endless(), work, workers=2))
    for _ in range(3 * AHEAD):
        await asyncio.sleep(0)
    assert AHEAD <= found <= AHEAD + 4
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(asyncio.all_tasks()) == 1
