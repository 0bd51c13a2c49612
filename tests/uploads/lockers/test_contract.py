"""What every locker promises, between tasks and between processes."""

from __future__ import annotations

import asyncio
import gc
import os
import random

import pytest

from tests.uploads.lockers.conftest import NewLocker
from trove_async.errors import ClosedError, InvalidArgumentError, UploadLockedError
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere
from trove_async.uploads import Lock, Locker
from trove_async.uploads.lockers import shared

pytestmark = pytest.mark.asyncio


class Holder:
    """Holds a lock until it is asked to stop, and records the steps of it."""

    def __init__(self, locker: Locker, steps: list[str] | None = None) -> None:
        self.locker = locker
        self.steps = [] if steps is None else steps
        self.requests = 0
        self.asked = asyncio.Event()
        self.acquired = asyncio.Event()

    def on_request(self) -> None:
        self.requests += 1
        self.steps.append("request")
        self.asked.set()

    async def acquire(self, name: str = "a") -> Lock:
        lock = await self.locker.acquire(name, self.on_request)
        self.steps.append("acquire")
        self.acquired.set()
        return lock

    async def work(self, name: str = "a") -> None:
        """Hold the lock until another one asks for it."""
        lock = await self.acquire(name)
        try:
            await self.asked.wait()
            self.steps.append("flush")
            await asyncio.sleep(0)
            self.steps.append("release")
        finally:
            await lock.release()


def unasked() -> None:
    """Ignore the request to stop."""


async def test_a_lock_that_is_taken_over_is_requested_flushed_released_and_acquired(new_locker: NewLocker) -> None:
    steps: list[str] = []
    first, second = Holder(new_locker(), steps), Holder(new_locker(), steps)
    task = asyncio.ensure_future(first.work())
    await first.acquired.wait()
    lock = await second.acquire()
    assert steps == ["acquire", "request", "flush", "release", "acquire"]
    await task
    assert not lock.lost
    assert second.requests == 0
    await lock.release()


async def test_locks_with_other_names_are_free(new_locker: NewLocker) -> None:
    locker = new_locker()
    locks = [await locker.acquire(name, unasked) for name in ("a", "b", "ü", "x" * 5000, "../a", "a/b")]
    for lock in locks:
        await lock.release()


async def test_a_lock_that_was_released_is_free_for_all(new_locker: NewLocker) -> None:
    for _ in range(3):
        for locker in (new_locker(), new_locker()):
            holder = Holder(locker)
            lock = await holder.acquire()
            await lock.release()
            await lock.release()
            assert not lock.lost
            assert holder.requests == 0


async def test_a_holder_that_does_not_stop_keeps_its_lock(new_locker: NewLocker) -> None:
    holder, impatient = Holder(new_locker(timeout=0.05)), new_locker(timeout=0.05)
    lock = await holder.acquire()
    for _ in range(2):
        with pytest.raises(UploadLockedError, match="another request writes"):
            await impatient.acquire("a", unasked)
    assert not lock.lost
    await holder.asked.wait()
    assert holder.requests == 1
    await lock.release()
    await (await impatient.acquire("a", unasked)).release()


async def test_a_locker_without_patience_asks_and_fails(new_locker: NewLocker) -> None:
    holder, impatient = Holder(new_locker(timeout=0)), new_locker(timeout=0)
    lock = await holder.acquire()
    with pytest.raises(UploadLockedError):
        await impatient.acquire("a", unasked)
    await holder.asked.wait()
    await lock.release()
    await (await impatient.acquire("a", unasked)).release()


async def test_tasks_of_a_process_get_a_lock_in_the_order_of_asking(new_locker: NewLocker) -> None:
    locker = new_locker()
    order: list[int] = []
    first = Holder(locker)
    lock = await first.acquire()

    async def wait(n: int) -> None:
        holder = Holder(locker)
        mine = await holder.acquire()
        order.append(n)
        if n < 9:  # the others behind it ask it at once
            await holder.asked.wait()
        assert holder.requests == (n < 9)
        await mine.release()

    tasks = [asyncio.ensure_future(wait(n)) for n in range(10)]
    await first.asked.wait()
    await asyncio.sleep(0)
    assert first.requests == 1
    await lock.release()
    await asyncio.gather(*tasks)
    assert order == [*range(10)]


async def test_whoever_waits_and_is_cancelled_leaves_nothing(new_locker: NewLocker) -> None:
    holder, other = Holder(new_locker()), new_locker()
    lock = await holder.acquire()
    for locker in (holder.locker, other):
        waiting = [asyncio.ensure_future(locker.acquire("a", unasked)) for _ in range(3)]
        await holder.asked.wait()
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert all(task.cancelled() for task in waiting)
    await lock.release()
    await (await other.acquire("a", unasked)).release()


@pytest.mark.parametrize("delivery", Delivery, ids=lambda delivery: delivery.name)
async def test_a_take_over_that_is_cancelled_at_any_await_point_leaves_the_lock_free(
    new_locker: NewLocker, delivery: Delivery
) -> None:
    first, second = new_locker(), new_locker()
    working = asyncio.ensure_future(asyncio.sleep(0))

    async def prepare() -> None:
        nonlocal working
        await (await second.acquire("b", unasked)).release()  # it is connected then
        holder = Holder(first)
        working = asyncio.ensure_future(holder.work())
        await holder.acquired.wait()

    async def take_over() -> None:
        lock = await second.acquire("a", unasked)
        await lock.release()

    async def check(outcome: Outcome[None]) -> None:
        assert outcome.error is None
        assert outcome.cancelled == outcome.reached
        await _end(working)
        assert all(task.done() for task in outcome.left_running)  # those of the holder
        for locker in (second, first):
            await (await locker.acquire("a", unasked)).release()

    assert await cancel_everywhere(take_over, delivery, prepare=prepare, check=check)


async def test_there_are_never_two_holders(new_locker: NewLocker) -> None:
    lockers = [new_locker(), new_locker(), new_locker()]
    dice = random.Random(1)
    holders: dict[str, int] = {}
    acquired = 0
    begun = asyncio.Event()

    async def take(name: str, patience: int) -> None:
        nonlocal acquired
        holder = Holder(dice.choice(lockers))
        lock = await holder.acquire(name)
        assert name not in holders
        holders[name] = 1
        acquired += 1
        begun.set()
        try:
            for _ in range(patience):
                if holder.asked.is_set():
                    break
                await asyncio.sleep(0)
        finally:
            del holders[name]
            await lock.release()

    tasks = [asyncio.ensure_future(take(dice.choice("abc"), dice.randrange(5))) for _ in range(60)]
    await begun.wait()
    for task in dice.sample(tasks, 20):
        task.cancel()
    done, _ = await asyncio.wait(tasks)
    assert [task.exception() for task in done if not task.cancelled() and task.exception()] == []
    assert acquired >= 40
    assert holders == {}


async def test_no_message_gets_lost_between_two(new_locker: NewLocker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody tries again by itself here, so one that missed a message would wait in vain."""
    monkeypatch.setattr(shared, "_AGAIN", 3600)
    lockers = [new_locker(), new_locker()]
    dice = random.Random(2)

    async def take(locker: Locker) -> None:
        for _ in range(40):
            holder = Holder(locker)
            lock = await holder.acquire()
            for _ in range(dice.randrange(4)):
                await asyncio.sleep(0)
            await lock.release()

    await asyncio.gather(*map(take, lockers))


async def test_closing_asks_all_holders_and_waits_for_them(new_locker: NewLocker) -> None:
    locker = new_locker()
    first, second = Holder(locker), Holder(locker)
    tasks = [asyncio.ensure_future(first.work("a")), asyncio.ensure_future(second.work("b"))]
    await first.acquired.wait()
    await second.acquired.wait()
    waiting = asyncio.ensure_future(Holder(locker).acquire("a"))
    await asyncio.sleep(0)
    await locker.aclose()
    assert first.steps == second.steps == ["acquire", "request", "flush", "release"]
    with pytest.raises(UploadLockedError):
        await waiting
    with pytest.raises(ClosedError, match="the locker was closed"):
        await locker.acquire("a", unasked)
    await asyncio.gather(*tasks)
    await locker.aclose()


async def test_a_holder_that_does_not_stop_at_the_closing_loses_its_lock(new_locker: NewLocker) -> None:
    locker = new_locker(timeout=0.05)
    holder = Holder(locker)
    lock = await holder.acquire()
    with pytest.warns(RuntimeWarning, match=r"locks were not released in 0\.05 s: 'a'"):
        await locker.aclose()
    assert lock.lost
    assert holder.requests == 1
    await lock.release()


async def test_closing_leaves_no_task_and_no_descriptor(new_locker: NewLocker) -> None:
    await (await new_locker().acquire("a", unasked)).release()  # what the process opens once is open then
    await asyncio.to_thread(gc.collect)
    tasks, descriptors = asyncio.all_tasks(), os.listdir("/proc/self/fd")
    lockers = [new_locker(), new_locker()]
    lock = await lockers[0].acquire("a", unasked)
    waiting = asyncio.ensure_future(lockers[1].acquire("a", unasked))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    await lock.release()
    for locker in lockers:
        await locker.aclose()
    assert asyncio.all_tasks() == tasks
    assert len(os.listdir("/proc/self/fd")) <= len(descriptors)


@pytest.mark.parametrize("name", ["", "\0", "\ud800", 1])
async def test_names_are_text(new_locker: NewLocker, name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="the name of a lock is text"):
        await new_locker().acquire(name, unasked)


async def test_a_request_to_stop_is_no_coroutine_function(new_locker: NewLocker) -> None:
    async def stop() -> None:
        raise AssertionError("nobody awaits it")

    with pytest.raises(InvalidArgumentError, match="on_request"):
        await new_locker().acquire("a", stop)


@pytest.mark.parametrize("timeout", [-1, float("inf"), float("nan"), "1", None])
async def test_timeouts_are_seconds(new_locker: NewLocker, timeout: float) -> None:
    with pytest.raises(InvalidArgumentError, match="timeout is a number of seconds"):
        new_locker(timeout=timeout)


async def _end(task: asyncio.Future[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
