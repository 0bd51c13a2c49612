"""A process that writes through a quota until it is killed: ``python -m tests.quota.victim DSN DATABASE``."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import trove_async as trove
from tests.quota.truth import AMPLE

REPOSITORY: Final = Path(__file__).parents[2]

LIMITS: Final = {"b": AMPLE, "kept": AMPLE, "empty": AMPLE}


class Victim:
    """Such a process; it prints a line for each operation that has ended."""

    def __init__(self, dsn: str, database: str) -> None:
        command = [sys.executable, "-m", "tests.quota.victim", dsn, database]
        self._process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Victim:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    async def line(self) -> str:
        """Return the next line that it prints."""
        assert self._process.stdout is not None
        return (await asyncio.to_thread(self._process.stdout.readline)).strip()

    def kill(self) -> None:
        """Kill it (SIGKILL)."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


async def work(t: trove.Trove, seed: int) -> None:
    chosen = random.Random(seed)
    while True:
        bucket, key = chosen.choice(["b", "kept"]), str(chosen.randrange(5))
        body = bytes(chosen.randrange(100_000))
        with suppress(trove.NotFoundError, trove.ConflictError):
            match chosen.randrange(6):
                case 0:
                    await t.delete(bucket, key)
                case 1:
                    await t.copy("b", "0", bucket, key)
                case 2:
                    upload = await t.initiate_multipart(bucket, key)
                    part = await t.upload_part(bucket, key, upload, 1, body)
                    if chosen.random() < 0.5:
                        await t.complete_multipart(bucket, key, upload, [part])
                    else:
                        await t.abort_multipart(bucket, key, upload)
                case _:
                    await t.put(bucket, key, body)
        print(bucket, key, flush=True)


async def main(dsn: str, database: str) -> None:
    async with asyncio.timeout(300), trove.open(dsn, layers=[trove.Quota(LIMITS, database=database)]) as t:
        for bucket in ("b", "kept"):
            await t.create_bucket(bucket, exist_ok=True)
        await t.set_versioning("kept", True)
        await asyncio.gather(*(work(t, seed) for seed in range(8)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
