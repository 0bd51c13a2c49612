"""Durable writes: the order of flushes and renames, what is shared, and what a failure or a cancellation leaves."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import stat
import threading
import warnings
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import trove_async as trove
from tests.drivers.local_residue import residue_of
from trove_async.drivers.local import flushing
from trove_async.drivers.local.errors import FlushError
from trove_async.drivers.local.filesystem import LocalFileSystem
from trove_async.drivers.local.flushing import Flush, Flushers
from trove_async.errors import BackendError, ClosedError
from trove_async.tree import Temporary

pytestmark = pytest.mark.asyncio

BOUND = 30.0
TASKS = 20


class Disk:
    """Stands in for fsync(2): notes each flush, and can hold or fail one.

    Attributes:
        log: what happened, in order: ``begin`` and ``end`` of the flush of a path, and ``publish`` of a path.
        fail: returns the error of a flush, given the path.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._mutex = threading.Lock()
        self._flushes = 0
        self._held: int | None = None
        self._reached = threading.Event()
        self._released = threading.Event()
        self.log: list[tuple[str, str]] = []
        self.fail: Callable[[str], OSError | None] = lambda path: None
        real, publish = os.fsync, LocalFileSystem.publish

        def fsync(descriptor: int) -> None:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                path = f"file {os.fstat(descriptor).st_ino}"
            with self._mutex:
                self.log.append(("begin", path))
                held = self._flushes == self._held
                self._flushes += 1
            if held:
                self._reached.set()
                assert self._released.wait(BOUND)
            if (error := self.fail(path)) is not None:
                raise error
            real(descriptor)
            self.log.append(("end", path))

        async def noted(fs: LocalFileSystem, temporary: Temporary, path: str, *, replace: bool) -> None:
            inode = os.fstat(temporary.handle).st_ino
            await publish(fs, temporary, path, replace=replace)
            self.log.append((f"publish file {inode}", path))

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(LocalFileSystem, "publish", noted)

    @property
    def flushes(self) -> int:
        return self._flushes

    def hold(self, number: int) -> None:
        """Make the flush with this number from now on wait for `release`."""
        with self._mutex:
            self._flushes, self._held = 0, number
            self._reached.clear()
            self._released.clear()
            self.log.clear()

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._reached.wait, BOUND)

    def release(self) -> None:
        self._held = None
        self._released.set()

    def flushes_of(self, path: Path) -> int:
        return self.log.count(("begin", str(path)))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Replace fsync(2), which always is slow enough to be made by a thread for flushes."""
    monkeypatch.setattr(flushing, "_INSTANT", 0.0)
    monkeypatch.setattr(flushing, "_QUICK", 0.0)
    return Disk(monkeypatch)


@pytest_asyncio.fixture
async def store(disk: Disk, tmp_path: Path) -> AsyncIterator[trove.Trove]:
    async with trove.open(f"local://{tmp_path}?min_part_size=1") as t:
        await t.create_bucket("b")
        disk.log.clear()
        yield t
        assert residue_of(tmp_path) == []


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOUND):
        while not condition():  # noqa: ASYNC110 - what threads do is no event of the loop
            await asyncio.sleep(0.001)


# Order


async def test_each_put_returns_after_a_flush_of_its_directory_that_began_after_its_rename(
    store: trove.Trove, disk: Disk, tmp_path: Path
) -> None:
    returned: dict[str, int] = {}

    async def put(key: str) -> None:
        await store.put("b", key, key.encode())
        returned[key] = len(disk.log)

    await asyncio.gather(*(put(f"k{number}") for number in range(TASKS)))
    log = list(disk.log)
    directory = str(tmp_path / "b")
    for key, before in returned.items():
        at = next(at for at, (what, path) in enumerate(log) if "publish" in what and path == f"{directory}/{key}")
        file = log[at][0].removeprefix("publish ")
        assert ("end", file) in log[:at], "the file is flushed before it gets its name"
        following = log[at:before]
        assert ("begin", directory) in following
        assert ("end", directory) in following[following.index(("begin", directory)) :]


async def test_puts_share_the_flush_of_their_directory(store: trove.Trove, disk: Disk, tmp_path: Path) -> None:
    disk.hold(1)  # the flush of the directory for the first
    first = asyncio.ensure_future(store.put("b", "first", b"data"))
    await disk.reached()
    others = [asyncio.ensure_future(store.put("b", f"k{number}", b"data")) for number in range(TASKS)]
    await until(lambda: all((tmp_path / f"b/k{number}").exists() for number in range(TASKS)))
    assert not any(other.done() for other in others), "the flush under way began before their renames"
    await store.list_buckets()  # the worker has left the last of them
    disk.release()
    await asyncio.gather(first, *others)
    assert disk.flushes_of(tmp_path / "b") == 2


async def test_a_put_below_a_directory_that_another_makes_returns_after_the_flush_that_keeps_the_directory(
    store: trove.Trove, disk: Disk, tmp_path: Path
) -> None:
    returned: dict[str, int] = {}

    async def put(key: str) -> None:
        await store.put("b", key, b"data")
        returned[key] = len(disk.log)

    disk.hold(1)  # that of the bucket, in which the first put has made a directory
    first = asyncio.ensure_future(put("new/first"))
    await disk.reached()
    second = asyncio.ensure_future(put("new/second"))
    await until(lambda: ("end", str(tmp_path / "b/new")) in disk.log)
    await store.list_buckets()  # the worker has left the second
    disk.release()
    await asyncio.gather(first, second)
    end = disk.log.index(("end", str(tmp_path / "b")))
    assert min(returned.values()) > end, "without its directory, an object is lost in a power cut"


async def test_while_the_flush_of_a_new_directory_fails_nothing_below_it_is_durable(
    store: trove.Trove, disk: Disk, tmp_path: Path
) -> None:
    bucket = str(tmp_path / "b")
    disk.fail = lambda path: OSError(errno.EIO, os.strerror(errno.EIO)) if path == bucket else None
    disk.hold(1)
    first = asyncio.ensure_future(store.put("b", "new/first", b"data"))
    await disk.reached()
    second = asyncio.ensure_future(store.put("b", "new/second", b"data"))
    await until(lambda: ("end", f"{bucket}/new") in disk.log)
    disk.release()
    failed, ambiguous = await asyncio.gather(first, second, return_exceptions=True)
    assert isinstance(failed, BackendError)
    assert not failed.ambiguous
    assert isinstance(ambiguous, BackendError)
    assert ambiguous.ambiguous
    with pytest.raises(BackendError):
        await store.put("b", "new/third", b"data")
    disk.fail = lambda path: None
    disk.hold(-1)
    await store.put("b", "new/fourth", b"data")
    assert disk.flushes_of(tmp_path / "b") == 1


async def test_one_task_is_served_by_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flushing, "_QUICK", float("inf"))
    threads: set[str] = set()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        threads.add(threading.current_thread().name)
        real(descriptor)

    async with trove.open(f"local://{tmp_path}") as store:
        await store.create_bucket("b")
        await store.put("b", "first", b"data")  # by then it is known how long a flush takes
        monkeypatch.setattr(os, "fsync", fsync)
        await store.put("b", "k", b"data")
    assert threads == {"trove-local"}


async def test_a_read_is_served_while_all_puts_wait_for_the_disk(store: trove.Trove, disk: Disk) -> None:
    await store.put("b", "k", b"old")
    disk.hold(0)
    put = asyncio.ensure_future(store.put("b", "k", b"new"))
    await disk.reached()
    assert await store.read("b", "k") == b"old"
    disk.release()
    await put
    assert await store.read("b", "k") == b"new"


# Failures


async def test_a_file_that_cannot_be_flushed_fails_its_put_alone(
    store: trove.Trove, disk: Disk, tmp_path: Path
) -> None:
    failed: list[str] = []

    def fail_once(path: str) -> OSError | None:
        if path.startswith("file") and not failed:
            failed.append(path)
            return OSError(errno.EIO, os.strerror(errno.EIO))
        return None

    disk.fail = fail_once
    puts = [store.put("b", f"k{number}", b"data") for number in range(TASKS)]
    results = await asyncio.gather(*puts, return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    assert len(errors) == 1
    assert isinstance(errors[0], BackendError)
    assert not errors[0].ambiguous
    assert len(list((tmp_path / "b").iterdir())) == TASKS - 1
    assert disk.log.count(("begin", failed[0])) == 1, "the file is not flushed again: its pages seem clean now"


async def test_all_that_share_a_flush_or_wait_for_the_next_one_get_its_failure(
    store: trove.Trove, disk: Disk, tmp_path: Path
) -> None:
    disk.hold(1)
    first = asyncio.ensure_future(store.put("b", "first", b"data"))
    await disk.reached()
    others = [asyncio.ensure_future(store.put("b", f"k{number}", b"data")) for number in range(TASKS)]
    await until(lambda: all((tmp_path / f"b/k{number}").exists() for number in range(TASKS)))
    await store.list_buckets()  # the worker has left the last of them
    disk.fail = lambda path: OSError(errno.EIO, os.strerror(errno.EIO)) if not path.startswith("file") else None
    disk.release()
    results = await asyncio.gather(first, *others, return_exceptions=True)
    assert len({id(result) for result in results}) == TASKS + 1
    for result in results:
        assert isinstance(result, BackendError)
        assert result.ambiguous
    assert disk.flushes_of(tmp_path / "b") == 1
    disk.fail = lambda path: None
    await store.put("b", "after", b"data")


async def test_too_many_open_files_delay_the_flush_of_a_directory(
    store: trove.Trove, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []
    real = LocalFileSystem._flush_directory

    def flush(fs: LocalFileSystem, path: str) -> None:
        if len(refused) < 3:
            refused.append(path)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        real(fs, path)

    monkeypatch.setattr(LocalFileSystem, "_flush_directory", flush)
    await store.put("b", "k", b"data")
    assert len(refused) == 3


# Cancellation: at the wait for each flush of each operation


async def _new(store: trove.Trove) -> None:
    await store.put("b", "new/folder/k", b"new")


async def _replaced(store: trove.Trove) -> None:
    await store.put("b", "k", b"new")


async def _copied(store: trove.Trove) -> None:
    await store.copy("b", "source", "b", "k")


async def _deleted(store: trove.Trove) -> None:
    await store.delete("b", "k")


async def _tagged(store: trove.Trove) -> None:
    await store.set_tags("b", "k", {"a": "b"})


async def _initiated(store: trove.Trove) -> None:
    await store.initiate_multipart("b", "k")


WRITES: dict[str, tuple[Callable[[trove.Trove], Awaitable[None]], int, int]] = {
    # how many flushes there are, and how many before the commit, after which the change is complete
    "new": (_new, 4, 3),
    "replaced": (_replaced, 2, 1),
    "copied": (_copied, 2, 1),
    "deleted": (_deleted, 1, 0),
    "tagged": (_tagged, 1, 0),
}


async def state_of(store: trove.Trove) -> dict[str, tuple[bytes, dict[str, str]]]:
    return {
        key: (await store.read("b", key), dict(await store.get_tags("b", key)))
        for key in [info.key async for info in store.list("b")]
    }


async def cancelled_at(store: trove.Trove, disk: Disk, write: Awaitable[None], number: int) -> None:
    """Cancel a write during its flush with this number; it waits for that flush only, and makes no other."""
    disk.hold(number)
    call = asyncio.ensure_future(write)
    await disk.reached()
    call.cancel()
    await store.exists("b", "k")
    assert not call.done(), "it waits for the flush under way"
    disk.release()
    with pytest.raises(asyncio.CancelledError):
        await call


@pytest.mark.parametrize(
    ("name", "number"), [(name, at) for name, (_, most, _) in WRITES.items() for at in range(most)]
)
async def test_a_write_that_is_cancelled_during_a_flush_is_old_or_new(
    store: trove.Trove, disk: Disk, tmp_path: Path, name: str, number: int
) -> None:
    write, flushes, before_commit = WRITES[name]
    await store.put("b", "k", b"old")
    await store.put("b", "source", b"new")
    old = await state_of(store)
    await cancelled_at(store, disk, write(store), number)
    found = await state_of(store)
    if number < before_commit:
        assert found == old
    else:
        await write(store)
        assert found == await state_of(store)
    assert residue_of(tmp_path) == []
    await write(store)  # no lock is left
    disk.hold(-1)
    await store.put("b", "k", b"old")
    await store.delete("b", "new/folder/k")
    disk.hold(-1)
    await write(store)
    assert disk.flushes == flushes, "each flush was tried"


@pytest.mark.parametrize("number", range(6))
async def test_a_versioned_put_that_is_cancelled_during_a_flush_is_old_or_new(
    store: trove.Trove, disk: Disk, tmp_path: Path, number: int
) -> None:
    await store.set_versioning("b", True)
    await store.put("b", "k", b"first")
    disk.hold(-1)
    await store.put("b", "other", b"first")
    await store.put("b", "k", b"old")
    await cancelled_at(store, disk, _put_twice(store), number)
    content = await store.read("b", "k")
    versions = await store.list_versions("b", "k")
    assert content == (await store.read("b", "k", version_id=versions[0].version_id))
    assert content in (b"old", b"new")
    assert len(versions) == (3 if content == b"new" else 2)
    assert residue_of(tmp_path) == []
    await store.put("b", "k", b"next")
    assert len(await store.list_versions("b", "k")) == len(versions) + 1


async def _put_twice(store: trove.Trove) -> None:
    """The first of the two makes the directory for the versions of its key."""
    await store.put("b", "other", b"new")
    await store.put("b", "k", b"new")


async def test_an_initiation_that_is_cancelled_during_a_flush_leaves_no_upload(
    store: trove.Trove, disk: Disk, tmp_path: Path
) -> None:
    for _ in range(2):  # the first makes a directory that stays
        disk.hold(-1)
        await store.abort_multipart("b", "k", await store.initiate_multipart("b", "k"))
    for number in range(disk.flushes):
        await cancelled_at(store, disk, _initiated(store), number)
        await until(lambda: residue_of(tmp_path) == [])
        assert await store.list_multipart_uploads("b") == []


async def test_puts_of_one_key_that_wait_for_each_other_bear_cancellation(store: trove.Trove, disk: Disk) -> None:
    disk.hold(1)  # of the directory, under the key's lock
    calls = [asyncio.ensure_future(store.put("b", "k", b"first"))]
    await disk.reached()
    calls += [asyncio.ensure_future(store.put("b", "k", b"%d" % number)) for number in range(TASKS)]
    await until(lambda: disk.flushes == TASKS + 2)  # all their files
    for call in calls[:-1]:
        call.cancel()
    disk.release()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results[:-1])
    assert await store.read("b", "k") == b"%d" % (TASKS - 1)


# Closing and forking


def flushers() -> set[threading.Thread]:
    """Return the threads that flush; stores of other tests may be open, such as those of the portal."""
    return {thread for thread in threading.enumerate() if thread.name == "trove-local-flush"}


async def test_closing_waits_for_flushes_and_ends_the_threads(disk: Disk, tmp_path: Path) -> None:
    others = flushers()
    store = await trove.open(f"local://{tmp_path}")
    await store.create_bucket("b")
    disk.hold(0)
    call = asyncio.ensure_future(store.put("b", "k", b"data"))
    await disk.reached()
    closing = asyncio.ensure_future(store.aclose())
    await asyncio.sleep(0)
    assert not closing.done()
    disk.release()
    await closing
    assert (await call).size == 4
    assert (tmp_path / "b/k").read_bytes() == b"data"
    await until(lambda: flushers() <= others)


async def test_a_put_whose_flush_hangs_while_its_store_is_closed_stores_nothing(disk: Disk, tmp_path: Path) -> None:
    others = flushers()
    store = await trove.open(f"local://{tmp_path}", cleanup_timeout=0.2)
    await store.create_bucket("b")
    disk.hold(0)
    call = asyncio.ensure_future(store.put("b", "k", b"data"))
    await disk.reached()
    with pytest.warns(trove.CleanupWarning):
        await store.aclose()
    disk.release()
    with pytest.raises(ClosedError):
        await call
    await until(lambda: flushers() <= others)
    await until(lambda: list((tmp_path / ".trove/tmp").iterdir()) == [])
    assert list((tmp_path / "b").iterdir()) == []


async def test_an_operation_whose_loop_was_closed_during_a_flush_gives_up_its_lock(disk: Disk, tmp_path: Path) -> None:
    others = flushers()
    gates = {str(tmp_path / bucket): threading.Event() for bucket in ("b", "c")}

    def wait(path: str) -> None:
        assert path not in gates or gates[path].wait(BOUND)

    async def open_store() -> trove.Trove:
        store = await trove.open(f"local://{tmp_path}")
        for bucket in ("b", "c"):
            await store.create_bucket(bucket)
        disk.fail = wait
        disk.log.clear()
        return store

    def abandon() -> list[Any]:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda loop, context: None)
        store = loop.run_until_complete(open_store())
        puts = [loop.create_task(store.put(bucket, "k", b"data")) for bucket in ("b", "c")]
        loop.run_until_complete(until(lambda: all(("begin", path) in disk.log for path in gates)))
        loop.close()
        return [store, *puts]

    held = await asyncio.to_thread(abandon)
    gates[str(tmp_path / "b")].set()
    await until(lambda: disk.log[-1] == ("end", str(tmp_path / "b")))
    await until(lambda: held[0].driver._quick._exchange.queue.empty())
    gates[str(tmp_path / "c")].set()
    async with asyncio.timeout(BOUND), trove.open(f"local://{tmp_path}") as store:
        await store.put("c", "k", b"again")
        assert await store.read("c", "k") == b"again"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        held.clear()
        gc.collect()
    await until(lambda: flushers() <= others)


async def test_a_child_that_is_forked_during_a_flush_disturbs_nothing(
    store: trove.Trove, disk: Disk, tmp_path: Path
) -> None:
    disk.hold(1)
    call = asyncio.ensure_future(store.put("b", "k", b"data"))
    await disk.reached()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # fork with threads, since Python 3.12
        child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, child, 0))[1]) == 0
    disk.release()
    await call
    await store.put("b", "k", b"again")


# The threads alone


class Waiter:
    """Flushes by the threads, each of which is made when the test says so."""

    def __init__(self) -> None:
        self.begun: list[int | str] = []
        self.let_go: defaultdict[int | str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(0))
        self.ended: list[str] = []
        self.error: OSError | None = None

    def call(self, argument: int | str) -> None:
        self.begun.append(argument)
        assert self.let_go[argument].acquire(timeout=BOUND)
        if self.error is not None:
            raise self.error

    def take(self, flushers: Flushers, argument: int | str, name: str, *, shared: bool = True) -> Flush:
        flush = Flush(self.call, argument, shared=shared)
        flushers.take(flush, partial(self.ended.append, name))
        return flush


async def test_a_flush_that_has_begun_is_not_shared() -> None:
    threads, waiter = Flushers("test-flush"), Waiter()
    waiter.take(threads, "/a", "first")
    await until(lambda: waiter.begun == ["/a"])
    waiter.take(threads, "/a", "second")
    waiter.take(threads, "/a", "third")
    waiter.take(threads, "/b", "elsewhere")
    await until(lambda: waiter.begun == ["/a", "/b"])
    waiter.let_go["/a"].release()
    waiter.let_go["/b"].release()
    await until(lambda: len(waiter.begun) == 3)
    assert sorted(waiter.ended) == ["elsewhere", "first"]
    waiter.let_go["/a"].release()
    await until(lambda: len(waiter.ended) == 4)
    assert waiter.begun == ["/a", "/b", "/a"]
    threads.end()


async def test_where_no_thread_can_start_the_workers_make_the_flushes(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "trove-local-flush":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    async with asyncio.timeout(BOUND), trove.open(f"local://{tmp_path}") as store:
        await store.create_bucket("b")
        disk.log.clear()
        await asyncio.gather(*(store.put("b", f"k{number}", b"data") for number in range(TASKS)))
        assert disk.flushes_of(tmp_path / "b") > 0
        assert sum(path.startswith("file ") for what, path in disk.log if what == "end") == TASKS


async def test_the_threads_can_be_ended_in_a_child_that_was_forked_while_they_were_used() -> None:
    threads = Flushers("test-flush")
    with threads._mutex, warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        child = os.fork()
        if child == 0:
            signal.alarm(5)
            threads.end()
            os._exit(0)
    assert os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, child, 0))[1]) == 0


async def test_files_are_never_shared() -> None:
    threads, waiter = Flushers("test-flush"), Waiter()
    for name in ("first", "second"):
        waiter.take(threads, 7, name, shared=False)
    waiter.let_go[7].release(2)
    await until(lambda: len(waiter.ended) == 2)
    assert waiter.begun == [7, 7]
    threads.end()


async def test_an_error_that_says_nothing_about_the_disk_is_not_passed_to_the_next() -> None:
    threads, waiter = Flushers("test-flush"), Waiter()
    first = waiter.take(threads, "/a", "first")
    await until(lambda: waiter.begun == ["/a"])
    second = waiter.take(threads, "/a", "second")
    waiter.error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    waiter.let_go["/a"].release()
    await until(lambda: waiter.begun == ["/a", "/a"])
    waiter.error = None
    waiter.let_go["/a"].release()
    await until(lambda: len(waiter.ended) == 2)
    assert isinstance(first.error, OSError)
    assert second.error is None
    threads.end()


async def test_a_slow_disk_gets_more_threads_and_they_end_when_it_is_quick_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def running() -> int:
        return sum(thread.name == "test-slow" for thread in threading.enumerate())

    monkeypatch.setattr(flushing, "_QUICK", 0.0)
    threads, waiter = Flushers("test-slow"), Waiter()
    for number in range(flushing._MANY + 1):
        waiter.take(threads, number, str(number), shared=False)
    await until(lambda: len(waiter.begun) == flushing._MANY)
    monkeypatch.setattr(flushing, "_QUICK", float("inf"))
    for number in range(flushing._MANY + 1):
        waiter.let_go[number].release()
    await until(lambda: len(waiter.ended) == flushing._MANY + 1)
    await until(lambda: running() == flushing._FEW)
    threads.end()
    await until(lambda: running() == 0)


async def test_the_error_of_a_shared_flush_is_a_copy_for_each() -> None:
    threads, waiter = Flushers("test-flush"), Waiter()
    waiter.take(threads, "/a", "first")
    await until(lambda: waiter.begun == ["/a"])
    waiting = [waiter.take(threads, "/a", str(number)) for number in range(3)]
    waiter.error = FlushError(errno.EIO, os.strerror(errno.EIO))
    waiter.let_go["/a"].release()
    await until(lambda: len(waiter.ended) == 4)
    assert waiter.begun == ["/a"], "those that waited for the next one have failed too"
    errors = [flush.error for flush in waiting]
    assert len(set(map(id, errors))) == 3
    for error in errors:
        assert isinstance(error, FlushError)
        assert error.errno == errno.EIO
    threads.end()
