"""Listings of a directory in which another process adds and removes files and directories without a pause."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trove_async as trove

__all__ = ["KEYS", "list_while_names_change", "place"]

KEYS: Final = [f"k{number:04}" for number in range(1000)]
"""The keys that exist all the time."""

_CHANGES: Final = """
import os, random, sys, threading

def change(folder):
    path = f"{folder}/k{random.randrange(1000):04}-{random.randrange(10)}"
    try:
        if random.random() < 0.1:
            os.mkdir(path)
            os.close(os.open(path + "/below", os.O_CREAT))
        else:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        if os.path.isdir(path):
            os.unlink(path + "/below")
            os.rmdir(path)
        else:
            os.unlink(path)

random.seed(int(sys.argv[2]))
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
changes = 0
while not ended.is_set():
    change(sys.argv[1])
    changes += 1
    if changes == 3000:
        print("ready", flush=True)
"""


def place(folder: Path) -> None:
    """Make a directory with the files of `KEYS`."""
    folder.mkdir()
    for key in KEYS:
        (folder / key).touch()


@asynccontextmanager
async def _changing(folder: Path, seed: int) -> AsyncIterator[None]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CHANGES, str(folder), str(seed), stdin=pipe, stdout=pipe
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.stdin.close()
        assert await process.wait() == 0


async def list_while_names_change(store: trove.Trove, bucket: str, folder: Path, *, rounds: int, seed: int) -> None:
    """List a bucket several times, with and without cursors, and assert that nothing is skipped, repeated or invented.

    Args:
        store, bucket: to list.
        folder: the directory of the bucket, made by `place`.
        rounds: how often.
        seed: of what is random.
    """
    choose = random.Random(seed)
    async with _changing(folder, seed):
        for _ in range(rounds):
            page_size = choose.choice([100, 333, 1000])
            grouping: Any = choose.choice([{}, {"delimiter": "/"}, {"delimiter": "-"}])
            cursor: str | None = None
            shown: list[str] = []
            while cursor is not None or not shown:
                some = store.list(
                    bucket, **grouping, page_size=page_size, max_keys=choose.choice([None, 450]), cursor=cursor
                )
                shown += [item.key for item in await some.all()]
                cursor = some.cursor
            assert shown == sorted(set(shown))
            assert [key for key in shown if len(key) == len(KEYS[0])] == KEYS
            others = {key for key in shown if len(key) > len(KEYS[0])}
            assert all(key[:5] in KEYS and key[5] == "-" for key in others)
