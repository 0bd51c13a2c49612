"""A cache against a model: a read returns what the object was at some time between its call and its return.

A read that joins the request of another may return what the object was since that request began, but never what was
replaced through the cache before its own call.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

import trove_async as trove
from tests.unit.cache_bench import Backend, opened
from trove_async import Cache, Member, Trove
from trove_async.driver import Driver
from trove_async.errors import ObjectChangedError, ObjectNotFoundError, RangeNotSatisfiableError
from trove_async.layers import Call, LayerDriver, Operation

KEYS: Final = ("a", "b")
RANGES: Final = (None, None, (0, 7), (5, 10), (20, None), (-6, None))

CACHES: Final = {
    "memory": lambda: Cache(),
    "little memory": lambda: Cache(max_bytes=6000, max_object_size=100),
    "store": lambda: Cache(on=Member("memory://", layers=[Backend(step=50)]), namespace="n"),
    "little store": lambda: Cache(max_bytes=14_000, on="memory://", namespace="n", max_object_size=100),
}


@dataclass(frozen=True)
class Step:
    """One operation: after how many turns of the loop it begins, and whether it goes around the cache."""

    name: str
    key: str
    turns: int
    around: bool
    size: int
    range: tuple[int, int | None] | None
    cancelled: int | None


steps = st.builds(
    Step,
    name=st.sampled_from(["read", "put", "read", "half", "read", "delete", "read", "copy"]),
    key=st.sampled_from(["a", "a", "b"]),
    turns=st.sampled_from([1, 0, 3, 2, 5, 8]),
    around=st.booleans(),
    size=st.sampled_from([6, 1, 3, 12, 40, 0]),
    range=st.sampled_from(RANGES),
    cancelled=st.one_of(st.none(), st.none(), st.integers(0, 15)),
)


@dataclass
class History:
    """What each object was, and since when; times are numbers of events."""

    time: int = 0
    states: dict[str, list[tuple[int, bytes | None]]] = field(
        default_factory=lambda: {key: [(0, None)] for key in KEYS}
    )
    replaced: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KEYS, 0))
    reading: dict[str, list[int]] = field(default_factory=lambda: {key: [] for key in KEYS})

    def tick(self) -> int:
        self.time += 1
        return self.time

    def possible(self, key: str, since: int, until: int) -> list[bytes | None]:
        """Return what the object was in a span of time."""
        states = self.states[key]
        ends = [began for began, _ in states[1:]] + [until + 1]
        return [data for (began, data), end in zip(states, ends, strict=True) if began <= until and end > since]

    def recorder(self, driver: Driver) -> Driver:
        """Return a layer that records each change at the moment in which it takes place."""
        history = self

        class Recording(LayerDriver):
            async def around(self, operation: Operation, call: Call[Any]) -> Any:
                result = await call()
                if operation.name in ("put", "copy", "delete") and operation.key is not None:
                    history.states[operation.key].append((history.tick(), _state_of(self.inner, operation.key)))
                return result

        return Recording(driver)


def _state_of(driver: Any, key: str) -> bytes | None:
    try:
        found: bytes = driver._bucket("b").entries.find(key, None).data
    except ObjectNotFoundError:
        return None
    return found


async def perform(step: Step, history: History, through: Trove, direct: Trove, number: int) -> None:
    t = direct if step.around else through
    if step.name in ("read", "half"):
        await read(step, history, through)
        return
    try:
        if step.name == "put":
            await t.put("b", step.key, f"{number:04}-".encode() * step.size)
        elif step.name == "delete":
            await t.delete("b", step.key)
        else:
            await t.copy("b", KEYS[step.key == KEYS[0]], "b", step.key)
    except ObjectNotFoundError:
        return
    if not step.around:
        history.replaced[step.key] = history.tick()


async def read(step: Step, history: History, t: Trove) -> None:
    key, began = step.key, history.tick()
    since = max(history.replaced[key], min([began, *history.reading[key]]))
    history.reading[key].append(began)
    found: bytes | None
    try:
        async with t.get("b", key, range=step.range) as reader:
            found = await reader.read(3 if step.name == "half" else -1)
            size: int | None = reader.info.size
    except ObjectNotFoundError:
        found = size = None
    except RangeNotSatisfiableError:
        found, size = b"", None
    except ObjectChangedError:
        return  # it was replaced while it was read, and the request did not outlive the readers
    finally:
        history.reading[key].remove(began)
    answers = [answer(step, data) for data in history.possible(key, since, history.tick())]
    assert (found, size) in answers


def answer(step: Step, data: bytes | None) -> tuple[bytes | None, int | None]:
    if data is None:
        return None, None
    if step.range is None:
        start, stop = 0, len(data)
    else:
        try:
            start, stop = trove.ByteRange.of(step.range).resolve(len(data))
        except RangeNotSatisfiableError:
            return b"", None
    found = data[start:stop]
    return found[:3] if step.name == "half" else found, len(data)


async def run(cache: str, streams: bool, concurrent: bool, plan: list[Step]) -> None:
    history, backend = History(), Backend(step=9 if streams else 0, turns=6 if concurrent else 0)
    async with trove.open("memory://") as store:
        recorded = history.recorder(store.driver)
        async with opened(CACHES[cache](), backend, recorded) as through, trove.open(recorded) as direct:
            tasks = []
            for key in KEYS:
                await direct.put("b", key, key.encode() * 30)
            for number, step in enumerate(plan):
                if not concurrent:
                    await perform(step, history, through, direct, number)
                    continue
                for _ in range(step.turns):
                    await asyncio.sleep(0)
                task = asyncio.create_task(perform(step, history, through, direct, number))
                tasks.append(task)
                if step.cancelled is not None:
                    asyncio.get_running_loop().create_task(_cancel(task, step.cancelled))
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for result in results:
                if result is not None and not isinstance(result, asyncio.CancelledError):
                    raise result
            for key in KEYS:
                await read(Step("read", key, 0, False, 0, None, None), history, through)


async def _cancel(task: asyncio.Task[None], turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()


plans = st.lists(steps, min_size=12, max_size=40)


@settings(max_examples=60, deadline=None)
@given(cache=st.sampled_from(sorted(CACHES)), streams=st.booleans(), plan=plans)
def test_one_operation_after_another(cache: str, streams: bool, plan: list[Step]) -> None:
    asyncio.run(run(cache, streams, False, plan))


@settings(max_examples=120, deadline=None)
@given(cache=st.sampled_from(sorted(CACHES)), streams=st.booleans(), plan=plans)
def test_operations_at_the_same_time(cache: str, streams: bool, plan: list[Step]) -> None:
    asyncio.run(run(cache, streams, True, plan))
