"""`MemoryBudget`: bytes that large transfers share, in turn."""

from __future__ import annotations

import asyncio

import pytest

from trove_async.driver import memory
from trove_async.driver.memory import MemoryBudget

pytestmark = pytest.mark.asyncio


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_it_never_gives_more_than_it_has() -> None:
    budget = MemoryBudget(10)
    await budget.take(6)
    waiting = asyncio.create_task(budget.take(5))
    await turns()
    assert budget.held == 6
    assert not waiting.done()
    budget.give(1)
    await waiting
    assert budget.held == 10


async def test_tasks_are_served_in_the_order_in_which_they_asked() -> None:
    budget = MemoryBudget(10)
    await budget.take(10)
    served: list[int] = []

    async def take(amount: int) -> None:
        await budget.take(amount)
        served.append(amount)

    tasks = []
    for amount in (8, 1, 2):
        tasks.append(asyncio.create_task(take(amount)))
        await turns()
    budget.give(3)
    await turns()
    assert served == []  # the small ones do not overtake the large one
    late = asyncio.create_task(take(3))
    budget.give(5)
    await turns()
    assert served == [8]
    budget.give(2)
    await turns()
    assert served == [8, 1]
    budget.give(10)
    await asyncio.gather(*tasks, late)
    assert served == [8, 1, 2, 3]


async def test_a_cancelled_task_gives_its_turn_to_the_next() -> None:
    budget = MemoryBudget(10)
    await budget.take(6)
    first = asyncio.create_task(budget.take(10))
    await turns()
    second = asyncio.create_task(budget.take(4))
    await turns()
    assert not second.done()
    first.cancel()
    await second
    assert budget.held == 10


async def test_a_task_that_is_cancelled_when_it_was_served_gives_the_memory_back() -> None:
    budget = MemoryBudget(10)
    await budget.take(10)
    waiting = asyncio.create_task(budget.take(10))
    await turns()
    budget.give(10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert budget.held == 0


async def test_while_a_task_waits_the_borrowers_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_PATIENCE", 0)
    budget = MemoryBudget(10)

    class Idle:
        asked = 0

        def reclaim(self) -> None:
            self.asked += 1
            if self.asked == 2:
                budget.give(10)

    idle = Idle()
    budget.borrowers.add(idle)
    await budget.take(10)
    await turns()
    assert idle.asked == 0
    await budget.take(3)
    assert idle.asked == 2
    await turns()
    assert idle.asked == 2
