"""Processes that hold locks until they are killed.

``python -m tests.uploads.lockers.victim WHAT KIND WHERE [FILE]``
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from trove_async.uploads import FileLocker, Locker, PostgresLocker


def locker_of(kind: str, where: str) -> Locker:
    return FileLocker(where) if kind == "files" else PostgresLocker(where)


async def hold(locker: Locker, _: str) -> None:
    """Hold a lock, whoever asks for it."""
    await locker.acquire("a", lambda: print("requested", flush=True))
    print("acquired", flush=True)
    await asyncio.sleep(600)


async def stop(locker: Locker, _: str) -> None:
    """Hold a lock until it is asked for, and take it again, each time that the parent wants it to."""
    while True:
        asked = asyncio.Event()
        lock = await locker.acquire("a", asked.set)
        print("acquired", flush=True)
        await asked.wait()
        print("requested", flush=True)
        await lock.release()
        print("released", flush=True)
        if not await asyncio.to_thread(sys.stdin.readline):
            return


async def fork(locker: Locker, _: str) -> None:
    """Hold a lock, and leave a child behind that lives as long as the parent of this process wants it to."""
    await locker.acquire("a", lambda: print("requested", flush=True))
    if not os.fork():
        sys.stdin.readline()
        os._exit(0)
    print("acquired", flush=True)
    await asyncio.sleep(600)


async def count(locker: Locker, file: str) -> None:
    """Count in a file, in a way that loses numbers if there are two holders."""
    for _ in range(15):
        asked = asyncio.Event()
        lock = await locker.acquire("a", asked.set)
        number = int(Path(file).read_text())
        await asyncio.sleep(0)
        Path(file).write_text(str(number + 1))
        await lock.release()


async def _main(what: str, kind: str, where: str, file: str = "") -> None:
    works = {work.__name__: work for work in (hold, stop, fork, count)}
    locker = locker_of(kind, where)
    async with asyncio.timeout(300):
        await works[what](locker, file)
    await locker.aclose()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
