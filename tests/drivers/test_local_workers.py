"""The threads of the local driver: results, cancellation, and operations that hang."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import trove_async as trove
from trove_async.cancellation import CleanupWarning
from trove_async.drivers.local import LocalDriver
from trove_async.drivers.local.pool_size import PoolSize
from trove_async.drivers.local.workers import Cancelled, Workers
from trove_async.errors import ClosedError, ObjectNotFoundError, UnavailableError
from trove_async.tree import Checkpoint

pytestmark = pytest.mark.asyncio

NAME = "test-workers"
BOUND = 30.0


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for other threads."""
    async with asyncio.timeout(BOUND):
        while not condition():  # noqa: ASYNC110 - what threads do is no event of the loop
            await asyncio.sleep(0.001)


@pytest_asyncio.fixture
async def workers() -> AsyncIterator[Workers]:
    workers = Workers(NAME, size=PoolSize(1), maximum=8, cleanup_timeout=BOUND)
    yield workers
    await workers.aclose()
    await until(lambda: not threads())


class PausedOperation:
    """An operation that waits until the test lets it continue."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, checkpoint: Checkpoint) -> str:
        self.entered.set()
        assert self.opened.wait(BOUND)
        return "through"


async def test_results_and_errors_are_returned_to_their_callers(workers: Workers) -> None:
    def divide(number: int) -> Callable[[Checkpoint], float]:
        return lambda checkpoint: 1 / number

    results = await asyncio.gather(*(workers.run(divide(n)) for n in range(-50, 51)), return_exceptions=True)
    assert isinstance(results.pop(50), ZeroDivisionError)
    assert results == [1 / n for n in range(-50, 51) if n]


async def test_a_base_exception_reaches_the_caller(workers: Workers) -> None:
    def leave(checkpoint: Checkpoint) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        await workers.run(leave)
    assert await workers.run(lambda checkpoint: "next") == "next"


async def test_nothing_runs_on_the_thread_of_the_loop(workers: Workers) -> None:
    assert await workers.run(lambda checkpoint: threading.current_thread().name) == NAME


async def test_an_operation_cancelled_before_it_began_never_runs() -> None:
    workers = Workers(NAME, size=PoolSize(1), maximum=1, cleanup_timeout=BOUND)
    paused = PausedOperation()
    ran: list[str] = []
    first = asyncio.ensure_future(workers.run(paused))
    await until(paused.entered.is_set)
    second = asyncio.ensure_future(workers.run(lambda checkpoint: ran.append("second")))
    await asyncio.sleep(0)
    second.cancel()
    # It does not wait for the running operation, which is another caller's.
    with pytest.raises(asyncio.CancelledError):
        await second
    assert not first.done()
    paused.opened.set()
    assert await first == "through"
    await workers.aclose()
    assert ran == []


async def test_an_operation_cancelled_while_it_runs_stops_at_its_checkpoint(workers: Workers) -> None:
    paused = PausedOperation()
    ended: list[str] = []

    def operation(checkpoint: Checkpoint) -> None:
        paused(checkpoint)
        try:
            checkpoint()
        except Cancelled:
            ended.append("stopped")
            raise
        ended.append("committed")

    call = asyncio.ensure_future(workers.run(operation))
    await until(paused.entered.is_set)
    call.cancel()
    await asyncio.sleep(0.01)
    assert not call.done()
    paused.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert ended == ["stopped"]


async def test_the_result_of_a_cancelled_operation_is_discarded_once(workers: Workers) -> None:
    paused = PausedOperation()
    discarded: list[str] = []
    call = asyncio.ensure_future(workers.run(paused, discard=discarded.append))
    await until(paused.entered.is_set)
    call.cancel()
    await asyncio.sleep(0)
    paused.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert discarded == ["through"]


async def test_a_result_that_is_ready_at_the_cancellation_is_discarded_once() -> None:
    """Two results arrive together, and the caller that gets the first cancels the caller of the second."""
    workers = Workers(NAME, size=PoolSize(1), maximum=1, cleanup_timeout=BOUND)
    discarded: list[str] = []
    both_are_there = threading.Event()
    second: asyncio.Task[str] | None = None

    async def first() -> None:
        await workers.run(lambda checkpoint: None)
        assert second is not None
        second.cancel()

    calls = [asyncio.ensure_future(first())]
    second = asyncio.ensure_future(workers.run(lambda checkpoint: "result", discard=discarded.append))
    calls.append(asyncio.ensure_future(workers.run(lambda checkpoint: both_are_there.set())))
    await asyncio.sleep(0)
    assert both_are_there.wait(BOUND)  # the loop is blocked meanwhile, so that nothing is delivered
    with pytest.raises(asyncio.CancelledError):
        await second
    await asyncio.gather(*calls)
    assert discarded == ["result"]
    await workers.aclose()


async def test_a_result_between_cancellation_and_delivery_is_discarded_once(workers: Workers) -> None:
    """The future is cancelled immediately and its caller resumes a step later; the result may arrive in between."""
    for _ in range(50):
        discarded: list[int] = []
        call = asyncio.ensure_future(workers.run(lambda checkpoint: 1, discard=discarded.append))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait({call})
        await workers.run(lambda checkpoint: None)
        assert discarded in ([], [1])


@contextmanager
def counted_wakeups() -> Iterator[list[int]]:
    loop: Any = asyncio.get_running_loop()
    original = loop.call_soon_threadsafe
    count = [0]

    def counting(*args: Any, **kwargs: Any) -> Any:
        count[0] += 1
        return original(*args, **kwargs)

    loop.call_soon_threadsafe = counting
    try:
        yield count
    finally:
        loop.call_soon_threadsafe = original


async def test_one_wake_up_serves_many_results(workers: Workers) -> None:
    with counted_wakeups() as count:
        await asyncio.gather(*(workers.run(lambda checkpoint: None) for _ in range(2000)))
    assert count[0] <= 200


async def test_a_hanging_operation_delays_no_other_and_its_thread_ends(workers: Workers) -> None:
    paused_operations = [PausedOperation() for _ in range(4)]
    stuck = [asyncio.ensure_future(workers.run(paused)) for paused in paused_operations]
    results = await asyncio.gather(*(workers.run(lambda checkpoint, n=n: n) for n in range(99)))  # type: ignore[misc]
    assert results == list(range(99))
    assert not any(call.done() for call in stuck)
    for paused in paused_operations:
        paused.opened.set()
    assert await asyncio.gather(*stuck) == ["through"] * 4
    for _ in range(20):
        await workers.run(lambda checkpoint: None)
    await until(lambda: len(threads()) <= 2)


async def test_the_number_of_threads_is_bounded() -> None:
    workers = Workers(NAME, size=PoolSize(1), maximum=3, cleanup_timeout=BOUND)
    paused_operations = [PausedOperation() for _ in range(10)]
    calls = [asyncio.ensure_future(workers.run(paused)) for paused in paused_operations]
    await until(lambda: sum(paused.entered.is_set() for paused in paused_operations) == 3)
    for _ in range(20):
        await asyncio.sleep(0.002)
    assert len(threads()) == 3
    assert sum(paused.entered.is_set() for paused in paused_operations) == 3
    for paused in paused_operations:
        paused.opened.set()
    await asyncio.gather(*calls)
    await workers.aclose()
    await until(lambda: not threads())


def no_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


async def test_without_a_thread_an_operation_fails_and_the_next_one_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workers = Workers(NAME, size=PoolSize(1), maximum=3, cleanup_timeout=BOUND)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(UnavailableError, match="no more threads"):
            await workers.run(lambda checkpoint: None)
    assert await workers.run(lambda checkpoint: "through") == "through"
    await workers.aclose()
    await until(lambda: not threads())


async def test_operations_share_the_threads_that_the_system_allows(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused = PausedOperation()
    stuck = asyncio.ensure_future(workers.run(paused))
    await until(paused.entered.is_set)
    refused = threading.Event()

    def refuse(thread: threading.Thread) -> None:
        refused.set()
        no_thread(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        waiting = asyncio.ensure_future(workers.run(lambda checkpoint: "through"))
        await until(refused.is_set)
    assert await waiting == "through", "a thread is started as soon as the system allows it"
    paused.opened.set()
    assert await stuck == "through"


class ChosenSize(PoolSize):
    """A number of threads that the test sets."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.observed: list[tuple[float, int, bool]] = []

    def observe(self, seconds: float, completed: int, *, waiting: bool) -> None:
        self.observed.append((seconds, completed, waiting))


async def test_there_are_as_many_threads_as_the_size_of_the_pool_tells() -> None:
    size = ChosenSize(1)
    workers = Workers(NAME, size=size, maximum=8, cleanup_timeout=BOUND)
    gate = asyncio.Event()
    running: set[int] = set()
    most = 0

    def operation(checkpoint: Checkpoint) -> None:
        nonlocal most
        running.add(threading.get_ident())
        most = max(most, len(running))
        sum(range(1000))
        running.discard(threading.get_ident())

    async def load() -> None:
        while not gate.is_set():
            await workers.run(operation)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(20):
            tasks.create_task(load())
        for threads_wanted in (1, 4, 2, 6, 1):
            size.threads = threads_wanted
            await until(lambda: len(threads()) == threads_wanted)  # noqa: B023
        gate.set()
    assert most <= 6
    await workers.aclose()
    await until(lambda: not threads())


async def test_operations_that_were_all_requested_at_once_get_more_threads_too() -> None:
    size = ChosenSize(1)
    workers = Workers(NAME, size=size, maximum=8, cleanup_timeout=BOUND)
    paused_operations = [PausedOperation() for _ in range(5)]
    calls = [asyncio.ensure_future(workers.run(paused)) for paused in paused_operations]
    await until(paused_operations[0].entered.is_set)
    size.threads = 3
    await until(lambda: sum(paused.entered.is_set() for paused in paused_operations) >= 3)
    for paused in paused_operations:
        paused.opened.set()
    assert await asyncio.gather(*calls) == ["through"] * 5
    await workers.aclose()


async def test_all_operations_are_observed_and_no_time_without_any() -> None:
    size = ChosenSize(1)
    workers = Workers(NAME, size=size, maximum=8, cleanup_timeout=BOUND)
    for _ in range(3):
        await asyncio.gather(*(workers.run(lambda checkpoint: None) for _ in range(100)))
        await until(lambda: workers._looking is None)
        await asyncio.sleep(0.05)
        woken = time.monotonic()
        count = len(size.observed)
        await workers.run(lambda checkpoint: None)
        await until(lambda: workers._looking is None)
        assert sum(seconds for seconds, _, _ in size.observed[count:]) <= time.monotonic() - woken
    assert sum(completed for _, completed, _ in size.observed) == 303
    await workers.aclose()


async def test_operations_that_wait_in_the_kernel_get_more_threads() -> None:
    size = PoolSize(1)
    workers = Workers(NAME, size=size, maximum=8, cleanup_timeout=BOUND)
    reading, writing = os.pipe()
    ended = asyncio.Event()

    def operation(checkpoint: Checkpoint) -> None:
        select.select([reading], [], [], 0.002)

    async def load() -> None:
        while not ended.is_set():
            await workers.run(operation)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(20):
            tasks.create_task(load())
        await until(lambda: size.threads >= 4)
        ended.set()
    await workers.aclose()
    os.close(reading)
    os.close(writing)


async def test_close_waits_for_running_operations_and_ends_the_threads() -> None:
    workers = Workers(NAME, size=PoolSize(2), maximum=8, cleanup_timeout=BOUND)
    paused = PausedOperation()
    call = asyncio.ensure_future(workers.run(paused))
    await until(paused.entered.is_set)
    closing = asyncio.ensure_future(workers.aclose())
    await asyncio.sleep(0.01)
    assert not closing.done()
    with pytest.raises(ClosedError):
        await workers.run(lambda checkpoint: None)
    paused.opened.set()
    await closing
    assert await call == "through"
    await workers.aclose()
    await until(lambda: not threads())


async def test_a_collected_pool_ends_its_threads() -> None:
    workers = Workers(NAME, size=PoolSize(1), maximum=8, cleanup_timeout=BOUND)
    await workers.run(lambda checkpoint: None)
    assert threads()
    await asyncio.sleep(0.01)
    del workers
    gc.collect()
    await until(lambda: not threads())


async def test_a_cancelled_call_waits_no_longer_than_the_cleanup_timeout() -> None:
    workers = Workers(NAME, size=PoolSize(1), maximum=8, cleanup_timeout=0.05)
    paused = PausedOperation()
    discarded: list[str] = []
    call = asyncio.ensure_future(workers.run(paused, discard=discarded.append))
    await until(paused.entered.is_set)
    call.cancel()
    with pytest.warns(CleanupWarning, match=NAME), pytest.raises(asyncio.CancelledError):
        await call
    assert await workers.run(lambda checkpoint: "served") == "served"
    paused.opened.set()
    await workers.aclose()
    assert discarded == ["through"]
    await until(lambda: not threads())


# A FIFO without a writer: a file operation that never ends


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[trove.Trove]:
    async with trove.open(f"local://{tmp_path}?fsync=0") as t:
        await t.create_bucket("b")
        yield t


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    return tmp_path / "b/fifo"


def release(fifo: Path, content: bytes = b"") -> None:
    """Write to a FIFO that is being opened for reading."""
    with open(fifo, "wb") as file:
        file.write(content)


async def test_a_fifo_is_not_an_object(store: trove.Trove, fifo: Path) -> None:
    os.mkfifo(fifo)
    async with asyncio.timeout(BOUND):
        with pytest.raises(ObjectNotFoundError):
            await store.get("b", "fifo")
        with pytest.raises(ObjectNotFoundError):
            await store.head("b", "fifo")
        with pytest.raises(ObjectNotFoundError):
            await store.copy("b", "fifo", "b", "copy")
        assert not await store.exists("b", "fifo")
        assert await store.list("b").all() == []
        await store.delete("b", "fifo")
    assert fifo.is_fifo()


async def test_99_reads_finish_while_an_operation_hangs_on_a_fifo(store: trove.Trove, fifo: Path) -> None:
    os.mkfifo(fifo)
    await store.put("b", "k", b"data")
    driver = trove.unwrap(store.driver, LocalDriver)
    pools = [driver._pool(slow=False), driver._pool(slow=True)]
    stuck = [asyncio.ensure_future(pool.run(lambda checkpoint: os.close(os.open(fifo, os.O_RDONLY)))) for pool in pools]
    async with asyncio.timeout(BOUND):
        assert await asyncio.gather(*(store.read("b", "k") for _ in range(99))) == [b"data"] * 99
        assert [info.key async for info in store.list("b")] == ["k"]
        assert not any(call.done() for call in stuck)
        await asyncio.to_thread(release, fifo)
        await asyncio.gather(*stuck)


async def test_99_reads_finish_during_a_put_of_a_fifo(store: trove.Trove, tmp_path: Path) -> None:
    source = tmp_path / "source"
    os.mkfifo(source)
    await store.put("b", "k", b"data")
    putting = asyncio.ensure_future(store.put("b", "from-fifo", source))
    async with asyncio.timeout(BOUND):
        assert await asyncio.gather(*(store.read("b", "k") for _ in range(99))) == [b"data"] * 99
        assert not putting.done()
        await asyncio.to_thread(release, source, b"from afar")
        assert (await putting).size == 9
    assert await store.read("b", "from-fifo") == b"from afar"


async def test_a_hanging_call_of_a_store_is_given_up_when_cancelled(tmp_path: Path, fifo: Path) -> None:
    # Closing the store has the same time limit, within which a busy machine must end the threads.
    async with trove.open(f"local://{tmp_path}?fsync=0", cleanup_timeout=1.0) as store:
        await store.create_bucket("b")
        os.mkfifo(fifo)
        driver = trove.unwrap(store.driver, LocalDriver)
        entered = threading.Event()

        def stall(checkpoint: Checkpoint) -> None:
            entered.set()
            os.close(os.open(fifo, os.O_RDONLY))

        call = asyncio.ensure_future(driver._pool(slow=False).run(stall))
        await until(entered.is_set)
        call.cancel()
        with pytest.warns(CleanupWarning, match="trove-local"), pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.to_thread(release, fifo)
