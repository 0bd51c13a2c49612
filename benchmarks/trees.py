"""``python -m benchmarks.trees``: many small files, copied into a store and out of it by commands.

The stores are a local one and Ceph's radosgw. Each copy is a process, whose start counts; the clients take turns. After
each copy the bytes of all files are compared, outside of the time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import trove_async as trove
from benchmarks.limited_clients import command_environment, open_store
from tests.servers import running

_A_DIRECTORY: Final = 250
_READS: Final = 16
_STEPS: Final = ("into the store", "again", "out of it", "out again")


class _Copy(NamedTuple):
    """What one copy took: seconds, and seconds of CPU; ``failed`` tells why it does not count."""

    seconds: float
    cpu: float
    failed: str = ""


def _trove(source: str, target: str) -> list[str]:
    return [sys.executable, "-m", "trove_async.cli", "cp", "-q", "-r", source, target]


def _rclone(source: str, target: str) -> list[str]:
    return ["rclone", "copy", "-q", source, target]


def _aws(source: str, target: str) -> list[str]:
    return ["aws", "--endpoint-url", running("ceph").endpoint, "s3", "sync", "--only-show-errors", source, target]


_COMMANDS: Final = {"trove": _trove, "rclone": _rclone, "aws": _aws}


class _Place(ABC):
    """Where the trees are stored: a bucket, in which each client and round has a folder."""

    clients: Sequence[str] = ()
    environment: Mapping[str, str] = {}

    def __init__(self, store: trove.Trove, bucket: str) -> None:
        self.store = store
        self.bucket = bucket

    @abstractmethod
    def name(self, client: str, folder: str) -> str:
        """Return how a client names a folder."""

    async def content(self, client: str, folder: str) -> dict[str, bytes]:
        """Return the files that a client has stored, without their times."""
        keys = [info.key async for info in self.store.list(self.bucket, f"{folder}/")]
        found: dict[str, bytes] = {}
        waiting = iter(keys)

        async def read() -> None:
            for key in waiting:
                found[key.removeprefix(f"{folder}/")] = await self.store.read(self.bucket, key)

        await asyncio.gather(*(read() for _ in range(_READS)))
        return found


class _Local(_Place):
    """A local store; rclone copies into a folder beside it."""

    clients = ("trove", "rclone")

    def __init__(self, store: trove.Trove, bucket: str, dsn: str, beside: Path) -> None:
        super().__init__(store, bucket)
        self.environment = {"TROVE_DSN": dsn}
        self._beside = beside

    def name(self, client: str, folder: str) -> str:
        return f"{self.bucket}/{folder}" if client == "trove" else str(self._beside / folder)

    async def content(self, client: str, folder: str) -> dict[str, bytes]:
        return await (super().content(client, folder) if client == "trove" else _files(self._beside / folder))


class _Ceph(_Place):
    """Ceph's radosgw."""

    clients = ("trove", "rclone", "aws")

    def __init__(self, store: trove.Trove, bucket: str) -> None:
        super().__init__(store, bucket)
        server = running("ceph")
        self.environment = {
            "TROVE_DSN": f"s3://{server.access_key}:{server.secret_key}@{server.region}?endpoint={server.endpoint}",
            **command_environment(),
        }

    def name(self, client: str, folder: str) -> str:
        return {"trove": "", "rclone": "ceph:", "aws": "s3://"}[client] + f"{self.bucket}/{folder}"


async def _files(root: Path) -> dict[str, bytes]:
    def read() -> dict[str, bytes]:
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    return await asyncio.to_thread(read)


def _write(root: Path, files: int, size: int) -> dict[str, bytes]:
    """Write random files; return their bytes."""
    made: dict[str, bytes] = {}
    for number in range(files):
        name = f"d{number // _A_DIRECTORY:03}/f{number:06}"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        made[name] = os.urandom(size)
        (root / name).write_bytes(made[name])
    return made


def _run_command(command: Sequence[str], environment: Mapping[str, str]) -> _Copy:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return _Copy(seconds, cpu, "" if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}")


async def _compare(place: _Place, clients: Sequence[str], source: Path, made: dict[str, bytes], rounds: int) -> None:
    """Measure, and print a table."""
    found: dict[tuple[str, str], list[_Copy]] = {(step, client): [] for step in _STEPS for client in clients}
    for number in range(rounds):
        order = clients if number % 2 == 0 else [*reversed(clients)]
        out = {client: source.parent / f"{client}-out" for client in clients}
        for step in _STEPS:
            for client in order:
                stored = place.name(client, f"{client}-{number}")
                here, there = (str(source), stored) if step in _STEPS[:2] else (stored, str(out[client]))
                copy = await asyncio.to_thread(_run_command, _COMMANDS[client](here, there), place.environment)
                if here == str(source):
                    content = await place.content(client, f"{client}-{number}")
                else:
                    content = await _files(out[client])
                if content != made and not copy.failed:
                    copy = copy._replace(failed="the files differ")
                if copy.failed:
                    print(f"{client}, {step}: {copy.failed}", file=sys.stderr)
                found[step, client].append(copy)
        for folder in out.values():
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    print("| copy | client | seconds | CPU s | failed |\n|---|---|--:|--:|--:|")
    for (step, client), copies in found.items():
        good = [copy for copy in copies if not copy.failed]
        seconds = statistics.median(copy.seconds for copy in good) if good else 0.0
        cpu = statistics.median(copy.cpu for copy in good) if good else 0.0
        print(f"| {step} | {client} | {seconds:.2f} | {cpu:.2f} | {len(copies) - len(good)} |", flush=True)


async def _run(arguments: argparse.Namespace) -> None:
    clients = []
    for name in arguments.clients.split(","):
        if name == "trove" or shutil.which(name):
            clients.append(name)
        else:
            print(f"{name} is not installed")
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        source = Path(directory, "source")
        made = await asyncio.to_thread(_write, source, arguments.files, arguments.size)
        what = f"{arguments.files:,} files of {arguments.size:,} bytes"

        async def measure(place: _Place) -> None:
            print(f"\n{what}, {place.store.driver.name}")
            chosen = [client for client in clients if client in place.clients]
            await _compare(place, chosen, source, made, arguments.rounds)

        bucket = f"bench-{uuid.uuid4().hex[:16]}"
        if "local" in arguments.backend:
            dsn = f"local://{directory}/store?create=1&fsync=0"
            async with trove.open(dsn) as store:
                await store.create_bucket(bucket)
                await measure(_Local(store, bucket, dsn, Path(directory, "beside")))
        if "ceph" in arguments.backend:
            async with open_store(running("ceph").endpoint) as store:
                await store.create_bucket(bucket)
                try:
                    await measure(_Ceph(store, bucket))
                finally:
                    await store.empty_bucket(bucket)
                    await store.delete_bucket(bucket)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trees", description=__doc__)
    parser.add_argument("--files", type=int, default=10_000, help="their number (default: 10000)")
    parser.add_argument("--size", type=int, default=4096, help="bytes of each (default: 4096)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each client (default: 3)")
    parser.add_argument("--backend", default="local,ceph", help="separated by commas (default: local,ceph)")
    parser.add_argument("--clients", default=",".join(_COMMANDS), help="separated by commas (default: all)")
    parser.add_argument("--directory", default="/dev/shm", help="for files and the local store (default: /dev/shm)")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(_run(_arguments()))
