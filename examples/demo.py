"""A demonstration of trove_async on this machine: ``make demo``, or ``python -m examples.demo``.

Everything happens in a temporary directory, which is removed at the end. Each step checks its result, and the exit
code is 1 if a check fails. The rates are those of this run on this machine; they are no benchmark.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import resource
import socket
import sys
import sysconfig
import tempfile
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from urllib.parse import quote

import trove_async as trove
from trove_async.web import signed_urls

TASKS = 32
MIB = 1024 * 1024
MAX_TREE_BYTES = 150 * MIB

WRITER = """
import asyncio, sys, trove_async
async def main(dsn):
    async with trove_async.open(dsn) as t:
        await t.put("inbox", "from/another/process.txt", b"hello")
asyncio.run(main(sys.argv[1]))
"""


class MismatchError(Exception):
    """A check has failed."""


def check(holds: bool, what: str) -> None:
    if not holds:
        raise MismatchError(what)


# Printing


def heading(text: str) -> None:
    print(f"\n{text}", flush=True)


def say(text: str) -> None:
    print(f"  {text}", flush=True)


def speed(seconds: float, size: int) -> str:
    return f"{size / 1e6:,.1f} MB in {seconds:.2f} s: {size / 1e6 / max(seconds, 1e-9):,.0f} MB/s"


def rates(seconds: float, count: int, unit: str, size: int) -> str:
    """Return a text such as ``2,000 files, 60.0 MB in 1.50 s: 40 MB/s, 1,333 files/s``."""
    return f"{count:,} {unit}, {speed(seconds, size)}, {count / max(seconds, 1e-9):,.0f} {unit}/s"


def peak_memory() -> str:
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB on Linux
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB:,.0f} MiB"


class ProgressLine:
    """A line that is overwritten on a terminal; elsewhere one line for each quarter."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = max(total, 1)
        self._done = 0
        self._shown = 0
        self._step = 1 if sys.stdout.isatty() else 25

    def advance(self, count: int = 1) -> None:
        self._done += count
        percent = self._done * 100 // self._total
        if percent >= self._shown + self._step:
            self._shown = percent - percent % self._step
            end = "\r" if self._step == 1 and self._done < self._total else "\n"
            print(f"  {self._what}: {percent:3}%, {self._done:,} of {self._total:,}", end=end, flush=True)


# A real directory tree


@dataclass(frozen=True)
class SourceFile:
    path: Path
    key: str
    size: int


def find_files(tree: Path, limit: int) -> list[SourceFile]:
    """Return the regular files below a directory, in order, up to a number and to `MAX_TREE_BYTES`."""
    found: list[SourceFile] = []
    left = MAX_TREE_BYTES
    for folder, folders, names in os.walk(tree):
        folders[:] = sorted(name for name in folders if name != "__pycache__")  # Python may be writing there
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_symlink() or not path.is_file():
                continue
            size = path.stat().st_size
            if len(found) == limit or size > left:
                return found
            left -= size
            found.append(SourceFile(path, path.relative_to(tree).as_posix(), size))
    return found


def total(files: Iterable[SourceFile]) -> int:
    return sum(file.size for file in files)


async def copy_tree(bucket: trove.Bucket, files: Sequence[SourceFile]) -> None:
    """Put every file. The tasks share one iterator, so that no list of pending work builds up."""
    heading(f"Copying {len(files):,} files into the bucket {bucket.name!r}, {TASKS} at a time")
    progress = ProgressLine("copied", len(files))
    todo = iter(files)

    async def copy_some() -> None:
        for file in todo:
            info = await bucket.put(file.key, file.path)
            check(info.size == file.size, f"{file.key} has {info.size} bytes, and should have {file.size}")
            progress.advance()

    began = perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(TASKS):
            group.create_task(copy_some())
    say(rates(perf_counter() - began, len(files), "files", total(files)))
    say("(this store was opened with fsync=0: the system decides when they reach the disk)")


async def list_tree(bucket: trove.Bucket, files: Sequence[SourceFile]) -> None:
    heading("Listing them")
    top = await bucket.list(delimiter="/").all()
    groups = [item.prefix for item in top if isinstance(item, trove.Prefix)]
    say(f"with delimiter='/': {len(groups)} prefixes and {len(top) - len(groups)} objects at the top")

    began = perf_counter()
    listed: list[trove.ObjectInfo] = []
    pages = 0
    async for page in bucket.list(page_size=500).pages():
        pages += 1
        listed += page
    seconds = perf_counter() - began
    expected = sorted((file.key, file.size) for file in files)
    check([(info.key, info.size) for info in listed] == expected, "the listing is not what was copied, in order")
    say(f"recursively: {len(listed):,} objects on {pages} pages in {seconds:.2f} s, in the order of their keys")

    half = bucket.list()
    for _ in range(len(files) // 2):
        await half.next()
    rest = await bucket.list(cursor=half.cursor).all()
    check(rest == listed[len(files) // 2 :], "a listing does not go on where its cursor stands")
    say(f"and from a cursor in the middle of a page: the other {len(rest):,}")


async def read_tree_back(bucket: trove.Bucket, files: Sequence[SourceFile]) -> None:
    heading("Reading every file back and comparing it with the original")
    todo = iter(files)

    async def compare_some() -> None:
        for file in todo:
            original = await asyncio.to_thread(file.path.read_bytes)
            check(await bucket.read(file.key) == original, f"{file.key} is not what was copied")

    began = perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(TASKS):
            group.create_task(compare_some())
    say(f"all the same; {rates(perf_counter() - began, len(files), 'files', total(files))}")


async def read_ranges(bucket: trove.Bucket, files: Sequence[SourceFile]) -> None:
    largest = max(files, key=lambda file: file.size)
    heading(f"Reading ranges of the largest, {largest.key!r} ({largest.size:,} bytes)")
    original = largest.path.read_bytes()
    middle = largest.size // 2
    first, inner = await bucket.read_ranges(largest.key, [(0, 100), (middle, 1000)])
    last = await bucket.read(largest.key, (-100, None))
    wanted = (original[:100], original[middle : middle + 1000], original[-100:])
    check((first, inner, last) == wanted, "a range is not that of the original")
    say("the first 100 bytes, 1,000 from the middle and the last 100: as in the original")


# One large object of unknown length


async def generated(size: int, digest: hashlib._Hash) -> AsyncIterator[bytes]:
    """Yield chunks that are all different."""
    noise = os.urandom(MIB - 8)
    for number in range(size // MIB):
        chunk = number.to_bytes(8, "big") + noise
        digest.update(chunk)
        yield chunk


async def stream_large_object(bucket: trove.Bucket, size: int) -> None:
    heading(f"Streaming {size // MIB} MiB from an async generator, whose length the store does not know")
    written = hashlib.sha256()
    began = perf_counter()
    info = await bucket.put("large.bin", generated(size, written))
    say(f"in:  {speed(perf_counter() - began, info.size)}")

    read = hashlib.sha256()
    began = perf_counter()
    async with bucket.get("large.bin") as reader:
        async for chunk in reader:
            read.update(chunk)
    say(f"out: {speed(perf_counter() - began, info.size)}")
    check(info.size == size and read.digest() == written.digest(), "what came out is not what went in")
    say(f"the SHA-256 digests agree: {read.hexdigest()[:16]}... (hashing is part of both times)")
    say(f"the most memory that this process has had so far: {peak_memory()}")
    await bucket.delete("large.bin")


# The cost of fsync, and the effect of concurrency


async def put_durably(dsn: str, count: int = 100) -> None:
    heading(f"{count} puts of 4 KiB with fsync, which is the default: each would survive a power cut")
    async with trove.open(dsn) as t:
        bucket = await t.create_bucket("durable")
        bodies = {f"note-{number:03}": os.urandom(4096) for number in range(count)}
        began = perf_counter()
        await asyncio.gather(*(bucket.put(key, body) for key, body in bodies.items()))
        say(rates(perf_counter() - began, count, "objects", 4096 * count))


async def use_from_many_tasks(bucket: trove.Bucket, name: str, tasks: int = 100) -> None:
    heading(f"{tasks} concurrent tasks on {name}")
    bodies = {f"task-{number:03}": os.urandom(64 * 1024 + number) for number in range(tasks)}
    size = sum(map(len, bodies.values()))
    began = perf_counter()
    await asyncio.gather(*(bucket.put(key, body) for key, body in bodies.items()))
    say(f"puts:  {rates(perf_counter() - began, tasks, 'objects', size)}")
    began = perf_counter()
    read = await asyncio.gather(*map(bucket.read, bodies))
    say(f"reads: {rates(perf_counter() - began, tasks, 'objects', size)}")
    check(read == [*bodies.values()], "an object that was read differs from the one that was put")

    async def create(number: int) -> bool:
        try:
            await bucket.put("only-one", b"%d" % number, if_none_match="*")
        except trove.ObjectAlreadyExistsError:
            return False
        return True

    created = await asyncio.gather(*map(create, range(tasks)))
    check(created.count(True) == 1, f"{created.count(True)} of {tasks} create-only writers won")
    say(f"every object is whole, and of {tasks} create-only writers of one key one has won")


# Other processes


async def watch_another_process(t: trove.Trove, dsn: str) -> None:
    heading("Watching a bucket while another process puts an object into it")
    if not t.supports(trove.NotificationDriver):
        say("left out: it needs pip install 'trove-async[local]'")
        return
    await t.create_bucket("inbox")
    async with asyncio.timeout(60), t.watch("inbox") as events:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, dsn)
        event = await anext(events)
        check(await process.wait() == 0, "the other process failed")
    check((event.type, event.key) == ("object.created", "from/another/process.txt"), f"another event came: {event}")
    check(event.etag == (await t.head("inbox", event.key)).etag, "the event is of another object")
    say(f"{event.type}: {event.key!r}, {event.size} bytes, put by process {process.pid}")


@asynccontextmanager
async def serving(t: trove.Trove, listener: socket.socket) -> AsyncIterator[None]:
    """Serve the signed URLs of a store, as any ASGI server could."""
    import uvicorn

    config = uvicorn.Config(signed_urls(t), lifespan="off", log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await running


def fetch(url: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """Return status and body with a client that has no knowledge of the library."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=dict(headers)), timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


async def serve_signed_url(t: trove.Trove, bucket: trove.Bucket, key: str, listener: socket.socket) -> None:
    heading("Signing a URL and fetching it with urllib")
    if find_spec("uvicorn") is None:
        say("left out: it needs pip install 'trove-async[web]'")
        return
    url = await bucket.presign_get(key, expires=60)
    stored = await bucket.read(key)
    async with serving(t, listener):
        whole = await asyncio.to_thread(fetch, url, {})
        part = await asyncio.to_thread(fetch, url, {"Range": "bytes=0-9"})
        forged = await asyncio.to_thread(fetch, url.replace("expires=", "expires=9"), {})
    check(whole == (200, stored), f"the URL gave {whole[0]} and {len(whole[1])} bytes")
    check(part == (206, stored[:10]), f"the range gave {part[0]} and {len(part[1])} bytes")
    check(forged[0] == 403, f"a URL that was tampered with gave {forged[0]}")
    say(f"GET {url[:60]}...")
    say(f"200 with all {len(stored):,} bytes; with a Range header 206 with 10; with another expiry 403")


# All steps


class Tally:
    """Counts the operations of a store: the hook of an `Observe` layer."""

    def __init__(self) -> None:
        self.operations: Counter[str] = Counter()
        self.bytes = 0

    def __call__(self, seen: trove.Observation) -> None:
        self.operations[seen.operation] += 1
        self.bytes += seen.bytes

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count:,}" for name, count in self.operations.most_common())
        return f"{counts}; {self.bytes / 1e6:,.1f} MB in bodies"


async def demo(root: Path, files: Sequence[SourceFile], stream_size: int) -> None:
    dsn = f"local://{quote(str(root))}"
    tally = Tally()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        layers = [trove.Observe(tally)]
        async with trove.open(dsn, create=True, fsync=False, presign_url=base_url, layers=layers) as t:
            bucket = await t.create_bucket("stdlib")
            await copy_tree(bucket, files)
            await list_tree(bucket, files)
            await stream_large_object(bucket, stream_size)
            await read_ranges(bucket, files)
            await read_tree_back(bucket, files)
            await put_durably(dsn)
            await use_from_many_tasks(await t.create_bucket("tasks"), "local files")
            await watch_another_process(t, dsn)
            await serve_signed_url(t, bucket, files[0].key, listener)
    async with trove.open("memory://") as memory:
        await use_from_many_tasks(await memory.create_bucket("tasks"), "memory, with the same code")
    heading("What the Observe layer around the local store has counted")
    say(str(tally))


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description="Show what trove_async does.")
    parser.add_argument("--files", type=int, default=6000, help="the maximum number of files (default %(default)s)")
    parser.add_argument("--stream-mib", type=int, default=128, help="size of the large object (default %(default)s)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    began = perf_counter()
    tree = Path(sysconfig.get_path("stdlib"))
    files = find_files(tree, options.files)
    print(
        f"trove_async {trove.__version__}: {tree} has {len(files):,} files to play with, {total(files) / 1e6:,.1f} MB"
    )
    failures: Sequence[BaseException] = ()
    try:
        with tempfile.TemporaryDirectory(prefix="trove-demo-") as folder:
            asyncio.run(demo(Path(folder, "store"), files, options.stream_mib * MIB))
    except* (MismatchError, trove.TroveError, OSError) as group:
        failures = group.exceptions
    if failures:
        print(f"\nFAILED: {failures[0]!r}", file=sys.stderr)
        return 1
    print(f"\nAll of it was as it should be, in {perf_counter() - began:.1f} s; the temporary directory is gone.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
