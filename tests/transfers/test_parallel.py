"""Concurrent work on many items."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from trove_async.transfers import for_each
from trove_async.transfers.parallel import AHEAD

pytestmark = pytest.mark.asyncio


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def test_each_item_is_processed_once_with_bounded_concurrency() -> None:
    busy = most = 0
    done: list[int] = []

    async def work(several: Sequence[int]) -> None:
        (number,) = several
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        for _ in range(20):
            await asyncio.sleep(0)
        busy -= 1
        done.append(number)

    await for_each(numbers(100), work, workers=7)
    assert (sorted(done), most) == (list(range(100)), 7)


async def test_workers_share_what_is_left() -> None:
    shares: list[Sequence[int]] = []

    async def work(several: Sequence[int]) -> None:
        shares.append(several)
        await asyncio.sleep(0)

    await for_each(numbers(100), work, workers=4, at_once=16)
    assert [number for share in shares for number in share] == list(range(100))
    assert max(len(share) for share in shares) == 16
    assert [len(share) for share in shares[-4:]] == [1] * 4


async def test_nothing_to_do() -> None:
    await for_each(numbers(0), lambda _: asyncio.sleep(0), workers=3)


async def test_items_found_before_the_search_failed_are_processed() -> None:
    done: list[int] = []

    async def failing() -> AsyncIterator[int]:
        for number in range(10):
            yield number
        raise LookupError("no more")

    async def work(several: Sequence[int]) -> None:
        await asyncio.sleep(0)
        done.extend(several)

    with pytest.raises(LookupError, match="no more"):
        await for_each(failing(), work, workers=2)
    assert sorted(done) == list(range(10))


async def test_an_error_of_the_work_ends_everything() -> None:
    begun: list[int] = []

    async def work(several: Sequence[int]) -> None:
        (number,) = several
        begun.append(number)
        await asyncio.sleep(0)
        if number == 3:
            raise LookupError(str(number))
        await asyncio.Event().wait()

    with pytest.raises(LookupError, match="3"):
        await for_each(numbers(1000), work, workers=4)
    assert len(begun) <= 5
    assert len(asyncio.all_tasks()) == 1


async def test_the_search_runs_ahead_by_a_bounded_number_of_items() -> None:
    found = 0
    release = asyncio.Event()

    async def endless() -> AsyncIterator[int]:
        nonlocal found
        while True:
            found += 1
            yield found

    async def work(_: Sequence[int]) -> None:
        await release.wait()

    task = asyncio.create_task(for_each(endless(), work, workers=2))
    for _ in range(3 * AHEAD):
        await asyncio.sleep(0)
    assert AHEAD <= found <= AHEAD + 4
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(asyncio.all_tasks()) == 1
