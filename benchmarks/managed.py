"""``python -m benchmarks.managed``: managed storage beside what an application would write with SQLAlchemy.

What is compared takes turns in one process: the same store in memory, the same database settings, the same contents. On
SQLite both wait for the disk at every commit. Proofs are counted, not timed; large contents are compared with
`hashlib.sha384` alone, and the second version of a large file with chunking with one without.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import resource
import statistics
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import BigInteger, Column, MetaData, Table, Text, event, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import trove_async
from tests.servers import running
from trove_async import Trove, managed
from trove_async.body import Body
from trove_async.database import Database, connect
from trove_async.driver import Driver
from trove_async.layers import Call, LayerDriver, Operation
from trove_async.managed import Chunking, Dedup
from trove_async.managed.dedup.chunking import Cutter

BUCKET: Final = "blobs"
MIB: Final = 1024 * 1024

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Load:
    """How much is done.

    Attributes:
        puts: in each measurement.
        tasks: that put at the same time.
        size: bytes of each content.
    """

    puts: int
    tasks: int
    size: int


@dataclass(frozen=True, slots=True)
class Rate:
    """What a measurement of small contents has come to.

    Attributes:
        per_second: puts.
        cpu: seconds of all threads for each put.
        failures: puts that raised.
    """

    per_second: float
    cpu: float
    failures: int


class Subject(ABC):
    """Something that stores contents under names, each content once."""

    name: str

    def __init__(self, url: str) -> None:
        self.url = url
        self.stack = AsyncExitStack()

    @abstractmethod
    async def open(self, space: str) -> None:
        """Get ready."""

    @abstractmethod
    async def put(self, key: str, data: bytes) -> object:
        """Store content."""


class Managed(Subject):
    name = "managed storage"

    async def open(self, space: str) -> None:
        store = await self.stack.enter_async_context(trove_async.open("memory://"))
        await store.create_bucket(BUCKET)
        opening = managed.open(store, database=self.url, bucket=BUCKET, space=space)
        self._storage = await self.stack.enter_async_context(opening)

    async def put(self, key: str, data: bytes) -> object:
        return await self._storage.put_for_bucket("tenant", key, data)


class DedupStore(Subject):
    name = "Dedup"

    async def open(self, space: str) -> None:
        layers = [Dedup(self.url, bucket=BUCKET, space=space)]
        self._store = await self.stack.enter_async_context(trove_async.open("memory://", layers=layers))
        await self._store.create_bucket("tenant")

    async def put(self, key: str, data: bytes) -> object:
        return await self._store.put("tenant", key, data)


_metadata: Final = MetaData()
_BLOBS: Final = Table(
    "plain_blobs",
    _metadata,
    Column("digest", Text, primary_key=True),
    Column("key", Text, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("refs", BigInteger, nullable=False),
)
_NAMES: Final = Table("plain_names", _metadata, Column("name", Text, primary_key=True), Column("digest", Text))


class Plain(Subject):
    """A transaction for each put, as the guides of SQLAlchemy show it; on SQLite with BEGIN IMMEDIATE."""

    name = "SQLAlchemy alone"

    async def open(self, space: str) -> None:
        self._store: Trove = await self.stack.enter_async_context(trove_async.open("memory://"))
        await self._store.create_bucket(BUCKET)
        self._engine = _engine(self.url)
        self.stack.push_async_callback(self._engine.dispose)
        async with self._engine.begin() as connection:
            await connection.run_sync(_metadata.create_all)

    async def put(self, key: str, data: bytes) -> object:
        digest = hashlib.sha384(data).hexdigest()
        blob = uuid.uuid4().hex
        await self._store.put(BUCKET, blob, data)
        async with self._engine.begin() as connection:
            known = (await connection.execute(select(_BLOBS).where(_BLOBS.c.digest == digest))).first()
            if known is None:
                row = {"digest": digest, "key": blob, "length": len(data), "refs": 1}
                await connection.execute(insert(_BLOBS).values(**row))
            else:
                await connection.execute(update(_BLOBS).where(_BLOBS.c.digest == digest).values(refs=_BLOBS.c.refs + 1))
            await connection.execute(insert(_NAMES).values(name=key, digest=digest))
        if known is not None:
            await self._store.delete(BUCKET, blob)
        return digest


def _engine(url: str) -> AsyncEngine:
    if url.startswith("postgresql"):
        address, _, schema = url.partition("?search_path=")
        settings = {"server_settings": {"search_path": schema}}
        return create_async_engine(address.replace("://", "+asyncpg://", 1), pool_size=10, connect_args=settings)
    engine = create_async_engine(url.replace("://", "+aiosqlite://", 1), connect_args={"timeout": 30})

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, _: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def measure(subject: Subject, load: Load) -> Rate:
    """Put contents that nobody has yet, from several tasks."""
    async with subject.stack:
        await subject.open(uuid.uuid4().hex)
        await subject.put("first", os.urandom(load.size))  # makes connections
        contents = [os.urandom(load.size) for _ in range(load.puts)]
        waiting = iter(enumerate(contents))
        failures = 0

        async def work() -> None:
            nonlocal failures
            for number, data in waiting:
                try:
                    await subject.put(f"{number:08}", data)
                except Exception as error:  # noqa: BLE001 - failures are counted
                    failures += 1
                    if failures == 1:
                        print(f"  {subject.name}: {error!r}")

        cpu, begun = _cpu(), time.perf_counter()
        await asyncio.gather(*(work() for _ in range(load.tasks)))
        elapsed = time.perf_counter() - begun
        return Rate((load.puts - failures) / elapsed, (_cpu() - cpu) / load.puts, failures)


class Counting(LayerDriver):
    """Counts the requests to the store and the bytes that are sent to it."""

    def __init__(self, inner: Driver) -> None:
        super().__init__(inner)
        self.calls: Counter[str] = Counter()
        self.sent = 0

    async def around(self, operation: Operation, call: Call[R]) -> R:
        self.calls[operation.name] += 1
        result = await call()
        self.sent += 0 if operation.body is None else operation.body.taken
        return result


async def count_proof(url: str) -> list[str]:
    """Count what it takes to give another name to content that is known, by a proof."""
    content = os.urandom(MIB)
    async with AsyncExitStack() as opened:
        store = await opened.enter_async_context(trove_async.open("memory://", layers=[Counting]))
        database = await opened.enter_async_context(connect(url))
        await store.create_bucket(BUCKET)
        opening = managed.open(store, database=database, bucket=BUCKET, space=uuid.uuid4().hex)
        storage = await opened.enter_async_context(opening)
        await storage.put_for_bucket("one", "name", content)
        counting = trove_async.unwrap(store.driver, Counting)
        counting.calls.clear()
        counting.sent = 0
        trips = _count_trips(database)
        request = await storage.put_for_bucket_request("two", "name", hashlib.sha384(content).hexdigest())
        lines = [f"request: {_told(trips)} to the database, {counting.sent} bytes sent to the store"]
        trips.clear()
        response = await managed.new_put_response(request, content)
        await storage.proof_of_access_response(response)
        calls = ", ".join(f"{count} {name}" for name, count in counting.calls.items()) or "no requests"
        lines.append(f"proof: {_told(trips)} to the database, {counting.sent} bytes sent to the store ({calls})")
        return lines


def _told(trips: Counter[str]) -> str:
    return f"{trips.total()} round trip{'' if trips.total() == 1 else 's'}"


def _count_trips(database: Database) -> Counter[str]:
    """Count the transactions of a database from now on."""
    counts: Counter[str] = Counter()
    backend: Any = database._backend
    for name in ("read", "write"):
        inner = getattr(backend, name)

        def counted(unit: Any, name: str = name, inner: Any = inner) -> Any:
            counts[name] += 1
            return inner(unit)

        setattr(backend, name, counted)
    return counts


async def large(folder: Path, size: int) -> dict[str, float]:
    """Return the bytes a second of a large put into local files, without fsync, and of what it consists of."""
    chunk = os.urandom(MIB)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(size // MIB):
            yield chunk

    rates = {}
    database = f"sqlite:///{folder}/large.db"
    async with trove_async.open(f"local://{folder}/store?create=1&fsync=0") as store:
        await store.create_bucket(BUCKET)
        async with managed.open(store, database=database, bucket=BUCKET) as storage:
            begun = time.perf_counter()
            await storage.put_for_bucket("tenant", "large", chunks())
            rates["managed storage"] = size / (time.perf_counter() - begun)
        begun = time.perf_counter()
        await store.put(BUCKET, "plain", chunks())
        rates["put alone"] = size / (time.perf_counter() - begun)
    begun = time.perf_counter()
    hasher = hashlib.sha384()
    for _ in range(size // MIB):
        hasher.update(chunk)
    rates["hashlib.sha384 alone"] = size / (time.perf_counter() - begun)
    return rates


@dataclass(frozen=True, slots=True)
class Versions:
    """What it took to store the second version of a large file.

    Attributes:
        seconds: of the put, by the name of the store.
        sent: bytes, by the name of the store.
        cut: how long it takes to cut and digest the file, relative to `hashlib.sha256`.
    """

    seconds: dict[str, float]
    sent: dict[str, int]
    cut: float


async def versions(folder: Path, size: int) -> Versions:
    """Store a file, and then one in which some bytes are inserted, in local files without fsync."""
    first = os.urandom(size)
    second = first[: size // 3] + b"inserted" + first[size // 3 :]
    found = Versions({}, {}, await _cut(first))
    for name, chunking in (("with chunking", Chunking()), ("without", None)):
        dedup = Dedup(f"sqlite:///{folder}/{name}.db", bucket=BUCKET, chunking=chunking)
        async with trove_async.open(f"local://{folder}/store?create=1&fsync=0", layers=[Counting, dedup]) as store:
            await store.create_bucket(name)
            await store.put(name, "file", first)
            counting = trove_async.unwrap(store.driver, Counting)
            counting.sent = 0
            begun = time.perf_counter()
            await store.put(name, "file", second)
            found.seconds[name] = time.perf_counter() - begun
            found.sent[name] = counting.sent
    return found


async def _cut(data: bytes) -> float:
    begun = time.perf_counter()
    async for _ in Cutter(Chunking(), 1, "sha256").cut(Body(data)):
        pass
    middle = time.perf_counter()
    hashlib.sha256(data)
    return (middle - begun) / (time.perf_counter() - middle)


def _row(name: str, rates: Sequence[Rate], plain: float) -> str:
    rate = statistics.median(one.per_second for one in rates)
    cpu = statistics.median(one.cpu for one in rates)
    return f"| {name} | {rate:,.0f} | {rate / plain:.1f} | {cpu * 1e6:,.0f} | {sum(one.failures for one in rates)} |"


def compare(title: str, url: str, load: Load, rounds: int, directory: Path | None) -> list[str]:
    """Measure what stores contents, in turns; return a table."""
    kinds: list[type[Subject]] = [Managed, DedupStore, Plain]
    rates: dict[str, list[Rate]] = {kind.name: [] for kind in kinds}
    for number in range(rounds):
        for kind in kinds[:: -1 if number % 2 else 1]:
            with tempfile.TemporaryDirectory(prefix="trove-bench-", dir=directory) as folder:
                subject = kind(url.format(folder=folder, schema=_schema(url)))
                rates[kind.name].append(asyncio.run(measure(subject, load)))
    plain = statistics.median(one.per_second for one in rates[Plain.name])
    return [
        f"### {title}, {load.tasks} tasks, {load.size} bytes, {load.puts:,} new contents, median of {rounds} rounds",
        "",
        "| | puts/s | ratio | CPU µs/put | failures |",
        "|---|---|---|---|---|",
        *(_row(name, found, plain) for name, found in rates.items()),
        "",
    ]


def _schema(url: str) -> str:
    """Make a schema of PostgreSQL, if the URL has a place for it."""
    if "{schema}" not in url:
        return ""
    from tests.database.conftest import execute

    schema = f"bench_{uuid.uuid4().hex}"
    execute(url.partition("?")[0], f"CREATE SCHEMA {schema}")
    return schema


def main() -> None:
    """Measure with the options of the command line, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.managed", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each measurement (default: 5)")
    parser.add_argument("--puts", type=int, default=4000, help="new contents of each measurement (default: 4000)")
    parser.add_argument("--tasks", type=int, default=16, help="that put at the same time (default: 16)")
    parser.add_argument("--size", type=int, default=1024, help="bytes of a small content (default: 1024)")
    parser.add_argument("--large", type=int, default=512, help="MiB of the large content (default: 512)")
    parser.add_argument("--directory", type=Path, help="for databases and files (default: a temporary directory)")
    parser.add_argument("--no-postgres", action="store_true", help="SQLite alone")
    arguments = parser.parse_args()
    load = Load(arguments.puts, arguments.tasks, arguments.size)
    lines = compare("SQLite", "sqlite:///{folder}/managed.db", load, arguments.rounds, arguments.directory)
    if not arguments.no_postgres:
        url = f"{running('postgres').url}?search_path={{schema}}"
        lines += compare("PostgreSQL", url, load, arguments.rounds, arguments.directory)
    with tempfile.TemporaryDirectory(prefix="trove-bench-") as folder:
        lines += ["### A proof", "", *asyncio.run(count_proof(f"sqlite:///{folder}/proof.db")), ""]
    runs, second = [], []
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory(prefix="trove-bench-", dir=arguments.directory) as folder:
            runs.append(asyncio.run(large(Path(folder), arguments.large * MIB)))
            second.append(asyncio.run(versions(Path(folder), arguments.large * MIB)))
    lines += [f"### {arguments.large} MiB in local files, median of {arguments.rounds} rounds", ""]
    lines += [f"- {name}: {statistics.median(run[name] for run in runs) / MIB:,.0f} MiB/s" for name in runs[0]]
    lines += ["", f"### The second version of a file of {arguments.large} MiB, median of {arguments.rounds} rounds", ""]
    for name in second[0].sent:
        sent, took = (statistics.median(getattr(run, what)[name] for run in second) for what in ("sent", "seconds"))
        lines.append(f"- {name}: {sent / MIB:,.1f} MiB sent, {took:.2f} s")
    lines += [f"- to cut the file: {statistics.median(run.cut for run in second):.1f} times as long as hashlib.sha256"]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
