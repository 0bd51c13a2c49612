"""`Waiting`: when operations are told that they are late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.unit.simulated import Simulated
from trove_async.layers.waiting import Waiting


class Waiter:
    """An operation, and when it was told that it is late."""

    def __init__(self, waiting: Waiting, seconds: float) -> None:
        self.began = asyncio.get_running_loop().time()
        self.late: float | None = None
        waiting.add(self, seconds)

    def be_late(self) -> None:
        self.late = asyncio.get_running_loop().time()


def simulated(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=Simulated) as runner:
        runner.run(main())


def test_each_is_told_after_its_own_time() -> None:
    async def main() -> None:
        waiting, waiters = Waiting(), []
        for _ in range(5):
            waiters.append(Waiter(waiting, 2.0))
            await asyncio.sleep(0.5)
        await asyncio.sleep(10)
        assert [waiter.late for waiter in waiters] == pytest.approx([2.0, 2.5, 3.0, 3.5, 4.0])

    simulated(main)


def test_who_has_ended_is_not_told() -> None:
    async def main() -> None:
        waiting = Waiting()
        first, second = Waiter(waiting, 2.0), Waiter(waiting, 2.0)
        waiting.remove(first)
        await asyncio.sleep(10)
        assert (first.late, second.late) == (None, 2.0)
        waiting.remove(second)

    simulated(main)


@pytest.mark.parametrize(("seconds", "expected"), [(0.5, [1.0, 1.5]), (1.5, [1.5, 2.5]), (9.0, [9.0, 10.0])])
def test_another_time_is_that_of_those_who_wait_already_too(seconds: float, expected: list[float]) -> None:
    async def main() -> None:
        waiting = Waiting()
        before = Waiter(waiting, 2.0)
        await asyncio.sleep(1)
        after = Waiter(waiting, seconds)
        await asyncio.sleep(20)
        assert [before.late, after.late] == pytest.approx(expected)

    simulated(main)


def test_what_still_waits_when_it_is_closed_is_told() -> None:
    async def main() -> None:
        waiting = Waiting()
        waiter = Waiter(waiting, 2.0)
        waiting.close()
        await asyncio.sleep(10)
        assert waiter.late == 2.0

    simulated(main)
