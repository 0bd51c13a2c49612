"""The sync API in threads, in forked processes, beside other loops, and at the end of the interpreter."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

import trove_async as trove
from tests.drivers.local_residue import residue_of
from tests.servers import running
from tests.sync.processes import run


@pytest.fixture
def local(tmp_path: Path) -> Iterator[trove.sync.Trove]:
    with trove.sync.open(f"local://{tmp_path}/store?create=1") as t:
        t.create_bucket("b")
        yield t


def test_several_threads_use_one_store(local: trove.sync.Trove) -> None:
    def work(number: int) -> bytes:
        key = f"{number:02}"
        with local.writer("b", key) as writer:
            for _ in range(10):
                writer.write(bytes([number]) * 50_000)
        with local.get("b", key) as reader:
            data = b"".join(reader)
        assert key in [item.key for item in local.list("b")]
        return data

    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(work, range(40))] == [bytes([number]) * 500_000 for number in range(40)]


def test_threads_come_and_go(local: trove.sync.Trove) -> None:
    """As the requests of a web server, and the tasks of a worker."""
    answers: list[bytes] = []

    def request(key: str) -> None:
        local.put("b", key, key.encode())
        answers.append(local.read("b", key))

    request("first")
    for number in range(50):
        thread = threading.Thread(target=request, args=(f"{number}",))
        thread.start()
        thread.join()
    assert answers == [b"first", *(f"{number}".encode() for number in range(50))]
    assert [thread.name for thread in threading.enumerate()].count("trove-portal") == 1


def test_one_thread_opens_and_another_closes(tmp_path: Path) -> None:
    stores: list[trove.sync.Trove] = []
    thread = threading.Thread(target=lambda: stores.append(trove.sync.open("memory://")))
    thread.start()
    thread.join()
    stores[0].create_bucket("b")
    thread = threading.Thread(target=stores[0].close)
    thread.start()
    thread.join()
    with pytest.raises(trove.ClosedError):
        stores[0].ping()


@pytest.mark.every_loop
@pytest.mark.asyncio
async def test_beside_a_running_loop(tmp_path: Path) -> None:
    """As in Jupyter: it blocks the loop, and works."""
    async with trove.open(f"local://{tmp_path}/store?create=1") as t:
        await t.create_bucket("b")
        with trove.sync.open(f"local://{tmp_path}/store") as blocking:
            blocking.put("b", "k", b"data")
            assert await t.read("b", "k") == b"data"
            assert await asyncio.to_thread(blocking.read, "b", "k") == b"data"


def _in_child(root: str) -> tuple[int, list[str]]:
    with trove.sync.open(f"local://{root}") as t:
        t.put("b", f"child-{os.getpid()}", b"data")
        return os.getpid(), [item.key for item in t.list("b")]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_of_processes(local: trove.sync.Trove, tmp_path: Path, method: str) -> None:
    local.put("b", "k", b"data")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        for pid, keys in pool.map(_in_child, [f"{tmp_path}/store"] * 4):
            assert f"child-{pid}" in keys
    assert local.read("b", "k") == b"data"


def test_a_forked_child_leaves_the_connections_of_its_parent_alone() -> None:
    handle = running("ceph")
    dsn = f"s3://{handle.access_key}:{handle.secret_key}@{handle.region}?endpoint={handle.endpoint}&profile=ceph"
    code = """
    import gc, os, sys, warnings
    import trove_async as trove

    dsn, name = sys.argv[1:]
    data = os.urandom(12_000_000)
    with trove.sync.open(dsn) as t:
        t.create_bucket(name)
        t.put(name, "k", data)
        reader = t.get(name, "k")
        first = reader.read(1_000_000)
        child = os.fork()
        if not child:
            for use in (lambda: t.read(name, "k"), lambda: reader.read(1), lambda: t.list(name)):
                try:
                    use()
                except trove.ForkedError:
                    print("refused", flush=True)
            del reader, use
            gc.collect()
            t.close()
            with trove.sync.open(dsn) as own:
                print(own.read(name, "k") == data, flush=True)
            warnings.simplefilter("ignore", ResourceWarning)  # of the SDK's session, which the parent closes
            sys.exit()
        print(os.waitpid(child, 0)[1])
        print(first + reader.read() == data)
        print(t.empty_bucket(name))
        t.delete_bucket(name)
    """
    ended = run(code, dsn, f"sync-{uuid.uuid4().hex[:12]}")
    assert (ended.stdout, ended.stderr, ended.returncode) == ("refused\n" * 3 + "True\n0\nTrue\n1\n", "", 0)


@pytest.mark.parametrize("driver", ["memory", "local", "ceph"])
def test_the_interpreter_ends_with_an_open_store(tmp_path: Path, driver: str) -> None:
    """It says so, as for the async API."""
    handle = running("ceph")
    dsn = {
        "memory": "memory://",
        "local": f"local://{tmp_path}?create=1",
        "ceph": f"s3://{handle.access_key}:{handle.secret_key}@{handle.region}?endpoint={handle.endpoint}&profile=ceph",
    }[driver]
    code = """
    import sys
    import trove_async as trove

    t = trove.sync.open(sys.argv[1])
    t.list_buckets()
    """
    ended = run(code, dsn, options=["-W", "default"])
    assert (ended.stdout, ended.returncode) == ("", 0)
    assert "ResourceWarning: unclosed <Trove" in ended.stderr
    for noise in ("Task was destroyed", "never awaited", "never retrieved", "loop is closed", "Traceback"):
        assert noise not in ended.stderr


def test_the_interpreter_ends_in_the_middle_of_a_put(tmp_path: Path) -> None:
    code = """
    import asyncio, sys, threading
    import trove_async as trove

    under_way = threading.Event()

    async def body():
        yield bytes(4_000_000)
        under_way.set()
        await asyncio.Event().wait()

    with trove.sync.open(f"local://{sys.argv[1]}?create=1") as t:
        bucket = t.create_bucket("b")
        bucket.put("k", b"old")
        threading.Thread(target=bucket.put, args=("k", body()), daemon=True).start()
        under_way.wait()
        if sys.argv[2] == "inside":
            sys.exit()
    """
    for place in ("inside", "outside"):
        root = tmp_path / place
        ended = run(code, str(root), place)
        assert (ended.stdout, ended.stderr, ended.returncode) == ("", "", 0)
        assert (root / "b" / "k").read_bytes() == b"old"
        assert residue_of(root) == []


def test_a_store_is_closed_in_an_atexit_callback() -> None:
    code = """
    import atexit

    @atexit.register
    def too_late():
        try:
            t.list_buckets()
        except trove.LifetimeError as error:
            print(error)

    import trove_async as trove

    t = trove.sync.open("memory://")
    atexit.register(t.close)
    """
    ended = run(code)
    assert "the interpreter is ending" in ended.stdout
    assert (ended.stderr, ended.returncode) == ("", 0)
