"""A writer that is killed at any moment leaves complete objects, and only leftovers that a sweep removes."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

import trove_async as trove
from tests.drivers.local_residue import residue_of
from tests.drivers.local_victim import BUCKET, DELETED, PART_SIZE, SOURCE, VERSIONED, number_of
from trove_async.drivers.local import LocalDriver
from trove_async.types import ObjectInfo

REPOSITORY = Path(__file__).parents[2]
KILLS = 10


@pytest.fixture(params=["nameless", "named"])
def zygote(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.drivers.local_victim", request.param]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class Expected:
    """The possible content of a key, according to the writer's output.

    Attributes:
        done: the content of each key after the last finished operation on it; at first the content that was found.
        begun: the content that operations begun since then may have stored.
    """

    def __init__(self, found: dict[str, str]) -> None:
        self.done = found
        self.begun: dict[str, set[str]] = {}

    def read(self, line: str) -> None:
        word, key, number = line.split()
        if word == "begin":
            self.begun.setdefault(key, set()).add(number)
        else:
            self.done[key] = number
            self.begun[key].clear()

    def check(self, found: dict[str, str]) -> None:
        """Fail unless every key has the content of its last finished operation, or of one begun since."""
        for key in {*found, *self.done, *self.begun}:
            may_be = {self.done.get(key, DELETED), *self.begun.get(key, ())}
            assert found.get(key, DELETED) in may_be, f"{key} is {found.get(key)}, not one of {may_be}"


def run_and_kill(zygote: subprocess.Popen[str], dsn: str, seed: int, chance: random.Random, expected: Expected) -> None:
    """Run a writer, kill it at some point, and read the output that it had written until then."""
    assert zygote.stdin is not None
    assert zygote.stdout is not None
    zygote.stdin.write(f"{dsn} {seed}\n")
    while not (line := _line(zygote.stdout)).startswith("pid"):
        expected.read(line)  # the writer may print before its pid is printed
    pid = int(line.split()[1])
    try:
        for _ in range(chance.randrange(60)):
            expected.read(_line(zygote.stdout))
        time.sleep(chance.choice([0, chance.uniform(0, 0.003)]))
    finally:
        os.kill(pid, signal.SIGKILL)
    while (line := next(zygote.stdout)) != "dead\n":
        expected.read(line)


def _line(lines: IO[str]) -> str:
    line = next(lines)
    assert line != "dead\n", "the writer ended by itself"
    return line


@pytest.mark.parametrize("batch", [0, *(pytest.param(batch, marks=pytest.mark.long) for batch in range(1, 10))])
def test_killed_writers_leave_complete_objects(zygote: subprocess.Popen[str], tmp_path: Path, batch: int) -> None:
    chance = random.Random(f"{batch} {zygote.args!r}")
    asyncio.run(_prepare(tmp_path))
    found: dict[str, str] = {}
    for kill in range(KILLS):
        dsn = f"local://{tmp_path}?fsync={kill % 2}&min_part_size={PART_SIZE}"
        expected = Expected(found)
        run_and_kill(zygote, dsn, batch * KILLS + kill, chance, expected)
        found = asyncio.run(_examine(tmp_path))
        expected.check(found)


async def _prepare(root: Path) -> None:
    async with trove.open(f"local://{root}?fsync=0") as store:
        await store.create_bucket(BUCKET)
        await store.create_bucket(VERSIONED)
        await store.set_versioning(VERSIONED, True)


async def _examine(root: Path) -> dict[str, str]:
    """Return the content of each key; fail unless all of it is complete and nothing else is left."""
    found: dict[str, str] = {}
    async with trove.open(f"local://{root}?fsync=0") as store:
        await trove.unwrap(store.driver, LocalDriver).sweep()
        assert len(list((root / ".trove/tmp").iterdir())) == 1
        assert residue_of(root) == []
        for bucket in (BUCKET, VERSIONED):
            found |= await _examine_objects(store, bucket)
            for upload in await store.list_multipart_uploads(bucket):
                await store.list_parts(bucket, upload.key, upload.upload_id)
                await store.abort_multipart(bucket, upload.key, upload.upload_id)
            uploads = root / f".trove/uploads/{bucket}"
            assert not uploads.exists() or list(uploads.iterdir()) == []
    return found


async def _examine_objects(store: trove.Trove, bucket: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for listed in await store.list(bucket).all():
        async with store.get(bucket, listed.key) as reader:
            number = _number(reader.info, await reader.read())
            assert (reader.info.etag, reader.info.size) == (listed.etag, listed.size)
        if not listed.key.endswith(SOURCE):
            found[f"{bucket}/{listed.key}"] = number
        if bucket == VERSIONED:
            await _examine_versions(store, listed.key)
    return found


async def _examine_versions(store: trove.Trove, key: str) -> None:
    versions = await store.list_versions(VERSIONED, key)
    assert [version.is_latest for version in versions] == [True] + [False] * (len(versions) - 1)
    assert len({version.version_id for version in versions}) == len(versions)
    for version in versions:
        if not version.is_delete_marker:
            async with store.get(VERSIONED, key, version_id=version.version_id) as reader:
                assert reader.info.version_id == version.version_id
                _number(reader.info, await reader.read())


def _number(info: ObjectInfo, data: bytes) -> str:
    assert len(data) == info.size
    number = number_of(data)
    assert info.metadata["number"] == number
    return number
