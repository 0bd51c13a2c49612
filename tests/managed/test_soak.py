"""Two processes on one PostgreSQL put, read, remove and collect the same contents."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

import trove_async
from tests.managed.soaking import CONTENTS
from tests.managed.state import BUCKET, rows, stored
from trove_async.managed import StoreResourceStorage, collect, fsck
from trove_async.managed import open as open_managed

REPOSITORY = Path(__file__).parents[2]


def start(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.asyncio
@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.long)])
async def test_nothing_that_was_acknowledged_is_lost(
    migrated_postgres: str, space: str, tmp_path: Path, seconds: int
) -> None:
    dsn = f"local://{tmp_path}?fsync=0"
    async with trove_async.open(dsn) as store:
        await store.create_bucket(BUCKET)
    async with open_managed(dsn, database=migrated_postgres, bucket=BUCKET, space=space) as m:
        await m.put_for_bucket("b", "first", CONTENTS[0])  # by which collectors know the database
        command = [sys.executable, "-m", "tests.managed.soaking", dsn, migrated_postgres, space]
        processes = [start(*command, str(seed), str(seconds)) for seed in range(2)]
        try:
            for process in processes:
                assert process.stdout is not None
                assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            outputs = [(await asyncio.to_thread(process.communicate))[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.communicate()
        results = [json.loads(output) for output in outputs]
        assert [result["lost"] for result in results] == [[], []]
        for count in ("put", "removed"):
            assert all(result["counts"].get(count, 0) > 0 for result in results)
        assert sum(result["counts"].get("collected", 0) for result in results) > 0
        assert isinstance(m.storage, StoreResourceStorage)
        assert {problem.kind for problem in (await fsck(m.catalogue, m.storage, depth="bytes")).problems} == set()
        await collect(m.catalogue, m.storage, grace=0, dry_run=False, force=True)
        assert (await fsck(m.catalogue, m.storage, depth="bytes", grace=0)).problems == ()
        assert set((await stored(m)).values()) <= set(CONTENTS)
        assert len(await stored(m)) == len({link.blob for link in (await rows(m)).links})
