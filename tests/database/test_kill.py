"""A process that is killed while it writes leaves the old state or the new one."""

from __future__ import annotations

import random

import pytest

from tests.database.counter import count, words
from tests.database.victim import Victim
from trove_async.database import Database

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(n, marks=pytest.mark.long) for n in range(3, 20))])
async def test_what_was_acknowledged_is_there_and_nothing_by_half(db: Database, url: str, seed: int) -> None:
    with Victim("write", url) as victim:
        acknowledged = [int(await victim.line()) for _ in range(random.Random(seed).randrange(1, 60))]
        acknowledged += [int(line) for line in victim.kill() if line.isdecimal()]
    # Its session may be in the server for a moment after it was killed: this waits for it.
    n = await db.write(count)
    assert await db.read(words) == [f"{number:06}" for number in range(1, n + 1)]
    assert await db.read(count) == n
    assert len(set(acknowledged)) == len(acknowledged)
    assert max(acknowledged) <= n
