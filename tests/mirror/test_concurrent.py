"""Several processes that write and repair at the same time, while members fail: in the end all members are equal."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from pathlib import Path

import pytest

import trove_async
from tests.mirror.stores import Members, driver_of, repaired
from trove_async import Trove
from trove_async.errors import ObjectAlreadyExistsError, TroveError, UnavailableError
from trove_async.testing.faults import Fault, When

pytestmark = pytest.mark.asyncio

KEYS = ["a", "b", "c"]


class History:
    """What was written, and what certainly was not.

    A write that has returned is the last one, unless another one of the same key ended after it had begun.
    """

    def __init__(self) -> None:
        self.clock = 0
        self.writes: dict[str, list[tuple[int, int, bytes | None]]] = {key: [(0, 0, None)] for key in KEYS}

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def ended(self, key: str, began: int, value: bytes | None, *, certain: bool) -> None:
        self.writes[key].append((began, self.tick() if certain else 10**9, value))

    def possible(self, key: str) -> set[bytes | None]:
        """Return what may be the last write: one that no other write has followed wholly."""
        certain = [(began, ended) for began, ended, _ in self.writes[key] if ended < 10**9]
        latest = max(began for began, _ in certain)
        return {value for _, ended, value in self.writes[key] if ended >= latest}


async def process(members: Members, history: History, seed: int, steps: int) -> None:
    choose = random.Random(seed)
    async with trove_async.open(members.mirror(test_every=0.005, repair_every=0.01)) as t:
        await asyncio.gather(*(work(t, members, history, choose, f"{seed}-{n}", steps) for n in range(4)))


async def work(t: Trove, members: Members, history: History, choose: random.Random, mark: str, steps: int) -> None:
    for number in range(steps):
        key, began, value = choose.choice(KEYS), history.tick(), f"{mark}-{number}".encode()
        written: bytes | None = value
        try:
            match choose.randrange(5):
                case 0:
                    written = None
                    await t.delete("b", key)
                case 1:
                    await t.put("b", key, iter([value[:2], value[2:]]))
                case 2:
                    await t.put("b", key, value, if_none_match="*")
                case 3:
                    fail(members, choose)
                    continue
                case _:
                    await t.put("b", key, value)
        except ObjectAlreadyExistsError:
            pass
        except TroveError as error:
            if error.ambiguous:
                history.ended(key, began, written, certain=False)
        else:
            history.ended(key, began, written, certain=True)


def fail(members: Members, choose: random.Random) -> None:
    """Let the next call of some kind fail at a member, before it was carried out or after."""
    operation = choose.choice(["put", "delete", "head", "get"])
    when: When = "after" if choose.random() < 0.5 else "before"
    member = choose.choice(members.names)
    members.faults[member].add(Fault(operation, error=UnavailableError(), when=when, times=choose.randrange(1, 4)))


@pytest.mark.parametrize("seed", [*range(2), *(pytest.param(n, marks=pytest.mark.long) for n in range(2, 40))])
async def test_processes_that_write_at_the_same_time(tmp_path: Path, seed: int) -> None:
    members, history = Members(tmp_path), History()
    async with members.opened() as t:
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(process(members, history, seed * 10 + number, steps=12))
        members.start(*members.names)
        with suppress(UnavailableError):
            await repaired(t)
        await repaired(t)
        for key in KEYS:
            copies = await members.copies(key)
            assert copies == copies[:1] * 3
            assert copies[0] in history.possible(key)
        assert (await driver_of(t).scrub("b")).queued == 0
