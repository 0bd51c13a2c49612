from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from trove_async.cancellation import finish
from trove_async.testing import injection
from trove_async.testing.injection import Delivery, Outcome, cancel_at, cancel_everywhere

pytestmark = pytest.mark.asyncio


async def _nothing(*_: object) -> None:
    pass


async def _outcomes(operation: Callable[[], Awaitable[object]], delivery: Delivery) -> list[Outcome[object]]:
    outcomes: list[Outcome[object]] = []

    async def note(outcome: Outcome[object]) -> None:
        outcomes.append(outcome)

    points = await cancel_everywhere(operation, delivery, prepare=_nothing, check=note)
    assert [outcome.point for outcome in outcomes] == [*range(1, points + 2)]
    return outcomes


@pytest.mark.parametrize("delivery", Delivery)
async def test_each_await_point_is_cancelled_once_and_the_last_run_is_not_cancelled(delivery: Delivery) -> None:
    async def operation() -> str:
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        return "done"

    outcomes = await _outcomes(operation, delivery)
    assert [outcome.cancelled for outcome in outcomes] == [True, True, False]
    assert [outcome.reached for outcome in outcomes] == [True, True, False]
    assert outcomes[-1].result == "done"
    assert all(outcome.where.startswith(__file__) for outcome in outcomes[:-1])


async def test_await_points_of_tasks_that_the_operation_starts_count() -> None:
    async def child() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    async def operation() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())

    outcomes = await _outcomes(operation, Delivery.PENDING)
    assert len(outcomes) - 1 == 1 + 3
    assert all(outcome.cancelled for outcome in outcomes[:-1])


async def test_other_tasks_do_not_count() -> None:
    async def other() -> None:
        for _ in range(50):
            await asyncio.sleep(0)

    others = asyncio.create_task(other())
    assert len(await _outcomes(lambda: asyncio.sleep(0), Delivery.PENDING)) == 2
    await others


async def test_delivery_done_cancels_when_the_result_is_ready() -> None:
    results: list[str] = []

    async def operation() -> None:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, "there")
        try:
            await future
        finally:
            results.append(future.result() if future.done() and not future.cancelled() else "cancelled")

    assert (await cancel_at(operation, 1, Delivery.DONE)).cancelled
    assert (await cancel_at(operation, 1, Delivery.PENDING)).cancelled
    assert results == ["there", "cancelled"]


@pytest.mark.parametrize("delivery", [Delivery.REPEATED, Delivery.SCOPE])
async def test_repeated_cancellation_interrupts_an_unshielded_clean_up(delivery: Delivery) -> None:
    cleaned: list[str] = []

    async def clean_up(how: str) -> None:
        await asyncio.sleep(0)
        cleaned.append(how)

    async def operation() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            try:
                await clean_up("bare")
            finally:
                await finish(clean_up("shielded"), timeout=5, leftover="nothing")

    assert (await cancel_at(operation, 1, delivery)).cancelled
    assert cleaned == ["shielded"]


async def test_leftover_tasks_and_converted_cancellations_are_reported() -> None:
    left: list[asyncio.Task[None]] = []

    async def leaves_a_task() -> None:
        left.append(asyncio.create_task(asyncio.sleep(0)))
        await asyncio.shield(left[-1])

    async def converts() -> None:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            raise OSError("converted") from None

    outcome = await cancel_at(leaves_a_task, 1, Delivery.PENDING)
    assert outcome.left_running == {left[0]}
    converted = await cancel_at(converts, 1, Delivery.PENDING)
    assert isinstance(converted.error, OSError)
    assert not converted.cancelled


async def test_a_failed_check_names_the_await_point() -> None:
    async def fail(outcome: Outcome[None]) -> None:
        raise AssertionError("half there")

    with pytest.raises(AssertionError) as caught:
        await cancel_everywhere(lambda: asyncio.sleep(0), Delivery.PENDING, prepare=_nothing, check=fail)
    assert "after a cancellation at await point 1" in caught.value.__notes__[0]


async def test_an_operation_that_does_not_end_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(injection, "MAX_POINTS", 5)

    async def operation() -> None:
        for _ in range(6):
            await asyncio.sleep(0)

    with pytest.raises(AssertionError, match="more than 5 await points"):
        await cancel_everywhere(operation, Delivery.PENDING, prepare=_nothing, check=_nothing)


async def test_the_task_factory_is_restored() -> None:
    before = asyncio.get_running_loop().get_task_factory()
    await cancel_at(lambda: asyncio.sleep(0), 1, Delivery.PENDING)
    assert asyncio.get_running_loop().get_task_factory() is before


@pytest.mark.parametrize(("delivery", "points"), [(Delivery.PENDING, [1, 4, 7]), (Delivery.DONE, [2, 5, 8])])
async def test_step_skips_await_points(delivery: Delivery, points: list[int]) -> None:
    tried: list[int] = []

    async def operation() -> None:
        for _ in range(6):
            await asyncio.sleep(0)

    async def check(outcome: Outcome[None]) -> None:
        tried.append(outcome.point)

    assert await cancel_everywhere(operation, delivery, prepare=_nothing, check=check, step=3) == points[-1] - 1
    assert tried == points
