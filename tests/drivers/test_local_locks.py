"""The locks of a local root: who excludes whom, what waiting costs, and roots of other formats."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

import trove_async as trove
from tests.drivers.local_residue import residue_of
from trove_async.drivers.local import LocalDriver
from trove_async.drivers.local import lock_file as lock_file_module
from trove_async.drivers.local.filesystem import LocalFileSystem
from trove_async.errors import BackendError, ClosedError, ConflictError, UnsupportedError
from trove_async.tree import Layout
from trove_async.tree.layout import STRIPES

pytestmark = pytest.mark.asyncio


@pytest.fixture(params=["byte ranges", "whole file"])
def locking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with the locks of Linux and with those of systems that have no such locks."""
    if request.param == "whole file":
        monkeypatch.setattr(lock_file_module, "_SET_LOCK", None)
    kind: str = request.param
    return kind


@pytest_asyncio.fixture
async def store(tmp_path: Path, locking: str) -> AsyncIterator[trove.Trove]:
    async with trove.open(f"local://{tmp_path}?fsync=0") as t:
        await t.create_bucket("b")
        yield t
        assert residue_of(tmp_path) == []


def driver_of(store: trove.Trove) -> LocalDriver:
    return trove.unwrap(store.driver, LocalDriver)


def files_of(store: trove.Trove) -> LocalFileSystem:
    return driver_of(store)._fs


def key_of_stripe(stripe: int) -> str:
    return next(key for key in map(str, range(100_000)) if Layout.stripe("b", key) == stripe)


@asynccontextmanager
async def held_by_stranger(root: Path, start: int, length: int = 1) -> AsyncIterator[None]:
    """Hold stripes as another process would: through another open file description."""
    with open(root / ".trove/locks", "r+b") as file:
        lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)
        yield


def threads() -> set[threading.Thread]:
    """Return the threads of local stores; those of other tests may be open, such as the ones of the portal."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("trove-local")}


async def _ignoring_checkpoint(work: Callable[[int], Awaitable[None]], number: int, checkpoint: object) -> None:
    await work(number)


async def settle(store: trove.Trove, key: str = "other") -> None:
    """Let the store do other work, through which everything that could go on has gone on."""
    for _ in range(5):
        await store.exists("b", key)


# Within a process


async def test_operations_on_one_key_follow_one_another(store: trove.Trove) -> None:
    infos = await asyncio.gather(
        *(store.put("b", "k", b"%d" % n, if_none_match="*") for n in range(50)), return_exceptions=True
    )
    assert sum(isinstance(info, trove.ObjectInfo) for info in infos) == 1


async def test_a_lock_of_a_stranger_stops_one_key_and_takes_no_thread(tmp_path: Path) -> None:
    others = threads()
    async with trove.open(f"local://{tmp_path}?fsync=0") as store:
        await store.create_bucket("b")
        await store.put("b", "other", b"")
        async with held_by_stranger(tmp_path, 7):
            waiting = [asyncio.ensure_future(store.put("b", key_of_stripe(7), b"%d" % n)) for n in range(200)]
            await settle(store)
            for n in range(50):
                await store.put("b", key_of_stripe(8 + n), b"data")
            assert not any(task.done() for task in waiting)
            assert len(threads() - others) < 20
        await asyncio.gather(*waiting)
        assert residue_of(tmp_path) == []


async def test_an_operation_that_is_cancelled_while_it_waits_changes_nothing(tmp_path: Path) -> None:
    async with trove.open(f"local://{tmp_path}?fsync=0") as store:
        await store.create_bucket("b")
        key = key_of_stripe(7)
        await store.put("b", key, b"old")
        async with held_by_stranger(tmp_path, 7):
            waiting = [asyncio.ensure_future(store.put("b", key, b"new")) for _ in range(10)]
            await settle(store)
            for task in waiting:
                task.cancel()
            for task in waiting:
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert os.listdir(next((tmp_path / ".trove/tmp").iterdir())) == []
        assert await store.read("b", key) == b"old"
        await store.put("b", key, b"newer")


async def test_of_those_that_wait_one_may_be_cancelled(store: trove.Trove) -> None:
    """The stripe is handed over to the next one, whichever of them are cancelled."""
    locks = files_of(store).locks
    entered: list[int] = []

    async def enter(number: int) -> None:
        async with locks.lock(7):
            entered.append(number)

    run = driver_of(store)._run
    release = asyncio.Event()
    loop = asyncio.get_running_loop()
    holding = threading.Event()

    async def hold() -> None:
        async with locks.lock(7):
            loop.call_soon_threadsafe(release.set)
            holding.wait()

    holder = asyncio.ensure_future(run(lambda _: hold(), slow=True))
    await release.wait()
    tasks = [asyncio.ensure_future(run(partial(_ignoring_checkpoint, enter, n), slow=True)) for n in range(6)]
    await settle(store)
    assert entered == []
    for number in (0, 3, 5):
        tasks[number].cancel()
    await settle(store)
    holding.set()
    await holder
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [True, False, False, True, False, True]
    assert entered == [1, 2, 4]


async def test_all_locks_exclude_every_other_one(store: trove.Trove, tmp_path: Path, locking: str) -> None:
    async with trove.open(f"local://{tmp_path}?fsync=0") as other:
        for theirs in (store, other):
            async with asyncio.TaskGroup() as group:
                group.create_task(store.create_bucket("c"))
                for number in range(40):
                    group.create_task(theirs.put("b", f"key-{number}", b"data"))
            await store.delete_bucket("c")
            run = driver_of(store)._run
            seen: list[str] = []

            async def all_of_them(seen: list[str] = seen) -> None:
                async with files_of(store).lock_bucket("b"):
                    seen.append("all")

            async def one(stripe: int, seen: list[str] = seen, theirs: trove.Trove = theirs) -> None:
                async with files_of(theirs).lock(stripe):
                    seen.append("one")

            their_run = driver_of(theirs)._run
            await asyncio.gather(
                *(their_run(partial(_ignoring_checkpoint, one, s), slow=True) for s in range(0, STRIPES, 16)),
                *(run(lambda _: all_of_them(), slow=True) for _ in range(3)),
                *(their_run(partial(_ignoring_checkpoint, one, s), slow=True) for s in range(0, STRIPES, 16)),
            )
            assert sorted(seen) == ["all"] * 3 + ["one"] * 32


async def test_one_that_wants_all_locks_does_not_stop_the_others_for_ever(tmp_path: Path) -> None:
    async with trove.open(f"local://{tmp_path}?fsync=0") as store:
        await store.create_bucket("b")
        run = driver_of(store)._run

        async def all_of_them() -> str:
            async with files_of(store).lock_bucket("b"):
                return "all"

        async with held_by_stranger(tmp_path, 200):
            waiting = asyncio.ensure_future(run(lambda _: all_of_them(), slow=True))
            blocked = asyncio.ensure_future(store.put("b", key_of_stripe(200), b"data"))
            for number in range(20):
                await store.put("b", key_of_stripe(number), b"data")
            assert not waiting.done()
            assert not blocked.done()
        assert await waiting == "all"
        await blocked


async def test_a_store_can_be_closed_while_an_operation_waits(tmp_path: Path) -> None:
    store = await trove.open(f"local://{tmp_path}?fsync=0", cleanup_timeout=4)
    await store.create_bucket("b")
    async with held_by_stranger(tmp_path, 7):
        waiting = asyncio.ensure_future(store.put("b", key_of_stripe(7), b"data"))
        await settle(store)
        await store.aclose()
        with pytest.raises(ClosedError, match="closed while the operation waited"):
            await waiting
    assert residue_of(tmp_path) == []


# Descriptors


async def test_idle_stores_hold_few_files_open(tmp_path: Path) -> None:
    def held() -> int:
        return sum(name.startswith(str(tmp_path)) for name in map(_target, os.listdir("/proc/self/fd")))

    async with contextlib.AsyncExitStack() as stack:
        for number in range(4):
            store = await stack.enter_async_context(trove.open(f"local://{tmp_path}/{number}?create=1&fsync=0"))
            await store.create_bucket("b")
            for at in range(300):
                await store.put("b", f"{at % 40}/{at}", b"data")
            await asyncio.gather(*(store.read("b", f"{at % 40}/{at}") for at in range(300)))
            await store.exists("b", "k")
            assert held() <= 8 * (number + 1)
    assert held() == 0


_FEW_FILES = """
import asyncio, resource, sys
import trove_async as trove
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

async def body(number):
    for _ in range(4):
        yield b"%d" % number * 100_000
        await asyncio.sleep(0)

async def main():
    async with trove.open(f"local://{sys.argv[1]}") as store:
        await store.create_bucket("b")
        await asyncio.gather(*(store.put("b", f"{n % 9}/s{n}", body(n)) for n in range(150)),
                             *(store.put("b", f"{n % 9}/k{n}", b"data", metadata={"a": "b"}) for n in range(150)))
        await asyncio.gather(*(store.read("b", f"{n % 9}/s{n}") for n in range(150)))
        await asyncio.gather(*(store.delete("b", f"{n % 9}/k{n}") for n in range(150)))
        print(len(await store.list("b").all()))

asyncio.run(main())
"""


_MIXED = """
import asyncio, resource, sys
import trove_async as trove
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

async def body(number):
    for _ in range(4):
        yield b"%d" % number * 100_000
        await asyncio.sleep(0)

async def use(store, n):
    key = f"{n}/x/k"
    await store.put("b", key, body(n) if n % 2 else b"x" * 350_000)
    await store.read("b", key)
    await store.copy("b", key, "b", f"copies/{n}")
    await store.list_versions("b", key)
    await store.delete("b", key)

async def main():
    async with trove.open(f"local://{sys.argv[1]}?fsync=0") as store:
        await store.create_bucket("b")
        await store.set_versioning("b", True)
        await asyncio.gather(*(use(store, n) for n in range(150)))
        print(len(await store.list("b").all()))

asyncio.run(main())
"""


@pytest.mark.parametrize("script", [_FEW_FILES, _MIXED], ids=["one kind at a time", "mixed"])
async def test_a_process_that_may_open_few_files_is_slow_and_does_not_fail(tmp_path: Path, script: str) -> None:
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "150\n", "")
    assert residue_of(tmp_path) == []


# Formats and files


@contextlib.contextmanager
def old_process(root: Path) -> Iterator[None]:
    """Lock a directory of temporaries, as processes of the first format do."""
    scratch = root / ".trove/tmp/123-0a1b2c3d"
    scratch.mkdir(parents=True)
    descriptor = os.open(scratch, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def make_old_root(root: Path) -> None:
    (root / ".trove/locks").mkdir(parents=True)
    for number in range(256):
        (root / f".trove/locks/{number:03}").touch()
    (root / "b").mkdir()
    (root / "b/k").write_bytes(b"data")


@pytest.mark.parametrize("step", ["renamed", "lock file made", "renamed and lock file made", "renamed twice"])
async def test_an_upgrade_that_was_interrupted_is_completed(tmp_path: Path, step: str) -> None:
    make_old_root(tmp_path)
    internal = tmp_path / ".trove"
    (internal / "locks").rename(internal / "locks.old")
    inode = None
    if step == "lock file made":
        shutil.rmtree(internal / "locks.old")
    if "made" in step:
        (internal / "locks").touch()
        inode = (internal / "locks").stat().st_ino
    if step == "renamed twice":
        shutil.copytree(internal / "locks.old", internal / "locks")
    async with trove.open(f"local://{tmp_path}?fsync=0") as store:
        await store.put("b", "k", b"new")
    assert (internal / "format").read_text() == "2\n"
    assert (internal / "locks").is_file()
    assert inode in (None, (internal / "locks").stat().st_ino)
    assert not (internal / "locks.old").exists()


async def test_a_root_of_the_first_format_is_upgraded(tmp_path: Path) -> None:
    make_old_root(tmp_path)
    async with trove.open(f"local://{tmp_path}") as store:
        assert await store.read("b", "k") == b"data"
        await store.put("b", "k", b"new")
    assert (tmp_path / ".trove/format").read_text() == "2\n"
    assert (tmp_path / ".trove/locks").is_file()
    assert sorted(os.listdir(tmp_path / ".trove")) == ["buckets", "format", "locks", "meta", "tmp"]


async def test_a_root_that_an_older_process_uses_is_left_alone(tmp_path: Path) -> None:
    make_old_root(tmp_path)
    with old_process(tmp_path):
        with pytest.raises(ConflictError, match="a process of an older version"):
            await trove.open(f"local://{tmp_path}")
        assert not (tmp_path / ".trove/format").exists()
        assert len(os.listdir(tmp_path / ".trove/locks")) == 256
    async with trove.open(f"local://{tmp_path}") as store:
        assert await store.read("b", "k") == b"data"


async def test_an_older_process_that_starts_during_the_upgrade_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_old_root(tmp_path)
    rename = os.rename
    with contextlib.ExitStack() as stack:

        def and_start(source: str, target: str, **directories: int) -> None:
            rename(source, target, **directories)
            if target == "locks.old":
                stack.enter_context(old_process(tmp_path))

        monkeypatch.setattr(os, "rename", and_start)
        with pytest.raises(ConflictError, match="a process of an older version"):
            await trove.open(f"local://{tmp_path}")
        assert len(os.listdir(tmp_path / ".trove/locks")) == 256


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        ("3\n", UnsupportedError, "the root has the format 3"),
        ("", BackendError, "instead of a number"),
        ("two", BackendError, "instead of a number"),
    ],
)
async def test_other_formats_are_refused(tmp_path: Path, content: str, error: type[Exception], said: str) -> None:
    (tmp_path / ".trove").mkdir()
    (tmp_path / ".trove/format").write_text(content)
    with pytest.raises(error, match=said):
        await trove.open(f"local://{tmp_path}")
    assert os.listdir(tmp_path / ".trove") == ["format"]


@pytest.mark.parametrize(("root_mode", "mode"), [(0o755, 0o600), (0o2775, 0o660)])
async def test_the_lock_file_is_for_those_who_may_write_to_the_root(tmp_path: Path, root_mode: int, mode: int) -> None:
    tmp_path.chmod(root_mode)
    async with trove.open(f"local://{tmp_path}") as store:
        await store.create_bucket("b")
    status = (tmp_path / ".trove/locks").stat()
    assert status.st_mode & 0o7777 == mode
    assert status.st_gid == tmp_path.stat().st_gid


async def test_a_forked_child_holds_no_lock(tmp_path: Path) -> None:
    async with trove.open(f"local://{tmp_path}?fsync=0") as store:
        await store.create_bucket("b")
        await store.put("b", "k", b"data")
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            held = [name for name in open_files() if name.startswith(str(tmp_path))]
            os.write(write, repr(held).encode())
            os._exit(0)
        os.close(write)
        with open(read, "rb") as pipe:
            assert pipe.read() == b"[]"
        await asyncio.to_thread(os.waitpid, child, 0)


def open_files() -> list[str]:
    """Return the paths of the files that this process has open."""
    return [_target(descriptor) for descriptor in os.listdir("/proc/self/fd")]


def _target(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:
        return ""
