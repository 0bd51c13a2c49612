"""Real processes that are killed while they write: another one finds all members whole, and makes them equal."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

import pytest

import trove_async
from tests.mirror.stores import driver_of
from tests.mirror.victim import KEYS, content, mirror

pytestmark = pytest.mark.asyncio


async def killed(folder: Path, seed: int) -> list[list[str]]:
    """Kill a process after some writes; return what it has reported."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.mirror.victim", str(folder), str(seed)), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    lines: list[list[str]] = []
    after = random.Random(seed).randrange(10, 80)
    while len(lines) < after:
        line = await process.stdout.readline()
        assert line, "the process has ended by itself"
        lines.append(line.decode().split())
    process.kill()
    rest = await process.stdout.read()
    await process.wait()
    whole = rest.decode().rpartition("\n")[0]
    return lines + [line.split() for line in whole.splitlines()]


@pytest.mark.parametrize("kills", [2, pytest.param(60, marks=pytest.mark.long)])
async def test_killed_again_and_again(tmp_path: Path, kills: int) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    values: dict[str, set[bytes | None]] = {key: {None} for key in KEYS}
    for seed in range(kills):
        began: dict[str, int] = {}
        for what, key, mark in await killed(tmp_path, seed):
            if what == "began":
                began[key] = int(mark)
            else:
                values[key] = {None if mark == "-" else content(int(mark))}
                del began[key]
        for key, number in began.items():  # it may have been a put or a delete
            values[key] |= {content(number), None}
        await asyncio.sleep(0.6)  # until its claims have expired
        async with trove_async.open(mirror(tmp_path)) as t:
            driver = driver_of(t)
            await driver.repair()
            assert await driver.status() == {}
            for key in KEYS:
                values[key] = {await same_everywhere(tmp_path, key, values[key])}
            assert (await driver.scrub("b")).queued == 0


async def same_everywhere(folder: Path, key: str, possible: set[bytes | None]) -> bytes | None:
    """Return what all members have under a key."""
    found: list[bytes | None] = []
    for name in ("one", "two", "three"):
        async with trove_async.open(f"local://{folder}/{name}") as t:
            found.append(await t.read("b", key) if await t.exists("b", key) else None)
    assert found == found[:1] * 3
    assert found[0] in possible
    return found[0]
