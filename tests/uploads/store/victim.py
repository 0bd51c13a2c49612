"""A process that writes to an upload until it is killed: ``python -m tests.uploads.store.victim JSON``.

It prints how many bytes it has read of what it uploads, and how many are acknowledged.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import trove_async as trove
from tests.payload import pattern
from trove_async.uploads import TroveDataStore

REPOSITORY: Final = Path(__file__).parents[3]
READ: Final = 16 * 1024


class Victim:
    """Such a process.

    Args:
        settings: of `write`.
    """

    def __init__(self, **settings: Any) -> None:
        command = [sys.executable, "-m", "tests.uploads.store.victim", json.dumps(settings)]
        self._process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        self.read = self.acknowledged = settings["offset"]

    def __enter__(self) -> Victim:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def kill_at(self, count: int) -> None:
        """Kill it (SIGKILL) when it has read that many bytes, or has ended."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._note(line)
            if self.read >= count:
                self._process.kill()
        self._process.wait()
        assert self._process.returncode in (0, -9)

    def _note(self, line: str) -> None:
        name, _, value = line.partition(" ")
        if value.endswith("\n"):  # the last line may be cut off
            setattr(self, name, int(value))


def say(name: str, value: int) -> None:
    print(name, value, flush=True)


async def write(
    dsn: str, bucket: str, upload_id: str, size: int, offset: int, step: int, part: int, settings: dict[str, Any]
) -> None:
    """Write the bytes of an upload in chunks of ``step`` bytes."""
    data = pattern(size)

    async def read(start: int, stop: int) -> AsyncIterator[bytes]:
        for position in range(start, stop, READ):
            end = min(position + READ, stop)
            say("read", end)
            yield data[position:end]

    async with asyncio.timeout(300), trove.open(dsn, **settings) as store:
        uploads = TroveDataStore(store, bucket, part_size=part)
        while offset < size:
            offset += await uploads.write_chunk(upload_id, offset, read(offset, min(offset + step, size)))
            say("acknowledged", offset)


if __name__ == "__main__":
    asyncio.run(write(**json.loads(sys.argv[1])))
