"""Ctrl-C in a transfer: nothing is left, and nothing goes on."""

from __future__ import annotations

import asyncio
import itertools
import signal
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

import trove_async as trove
from tests.drivers.local_residue import residue_of
from tests.s3.stores import address
from tests.servers import running
from tests.sync.processes import STRICT, start
from trove_async.testing.proxy import ConnectionFault, FaultProxy

SIZE: Final = 4_000_000
STALL_UP: Final = ConnectionFault(stall_up_after=1_000_000)
STALL_DOWN: Final = ConnectionFault(stall_down_after=1_000_000)


@pytest.mark.parametrize("verb", ["put", "writer"])
def test_an_interrupted_put_on_local_files(tmp_path: Path, verb: str) -> None:
    code = """
    import asyncio, sys
    import trove_async as trove

    root, verb = sys.argv[1:]

    async def body():
        yield bytes(4_000_000)
        print("under way", flush=True)
        await asyncio.Event().wait()

    with trove.sync.open(f"local://{root}?create=1") as t:
        bucket = t.create_bucket("b")
        old = bucket.put("k", b"old")
        try:
            if verb == "put":
                bucket.put("k", body())
            else:
                with bucket.writer("k") as writer:
                    writer.write(bytes(4_000_000))
                    print("under way", flush=True)
                    sys.stdin.read()
        except KeyboardInterrupt:
            print("interrupted", bucket.read("k"), bucket.head("k") == old)
    """
    with start(code, str(tmp_path), verb) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "under way\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "interrupted b'old' True\n"
    assert process.returncode == 0
    assert residue_of(tmp_path) == []


def test_an_interruption_that_nobody_catches_ends_the_program(tmp_path: Path) -> None:
    code = """
    import asyncio, sys
    import trove_async as trove

    async def body():
        yield bytes(4_000_000)
        print("under way", flush=True)
        await asyncio.Event().wait()

    with trove.sync.open(f"local://{sys.argv[1]}?create=1") as t:
        t.create_bucket("b").put("k", body())
    """
    with start(code, str(tmp_path)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "under way\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read().endswith("\nKeyboardInterrupt\n")
    assert process.returncode == -signal.SIGINT
    assert residue_of(tmp_path) == []
    assert [*(tmp_path / "b").iterdir()] == []


def test_an_interrupted_deletion_takes_no_more_keys() -> None:
    main = threading.main_thread().ident
    assert main is not None
    taken: list[int] = []

    def keys() -> Iterator[str]:
        for number in itertools.count():
            taken.append(number)
            if number == 1500:  # in the second chunk
                signal.pthread_kill(main, signal.SIGINT)
            yield f"{number}"

    with trove.sync.open("memory://") as t:
        bucket = t.create_bucket("b")
        with pytest.raises(KeyboardInterrupt):
            bucket.delete_many(keys())
        count = len(taken)
        bucket.put("k", b"data")
        assert [item.key for item in bucket.list()] == ["k"]
        assert len(taken) == count


@pytest_asyncio.fixture
async def bucket() -> AsyncIterator[str]:
    """A bucket on Ceph."""
    name = f"sync-{uuid.uuid4().hex[:12]}"
    async with trove.open(dsn_at(running("ceph").endpoint)) as t:
        await t.create_bucket(name)
        yield name
        await t.empty_bucket(name)
        await t.delete_bucket(name)


def dsn_at(endpoint: str) -> str:
    handle = running("ceph")
    return f"s3://{handle.access_key}:{handle.secret_key}@{handle.region}?endpoint={endpoint}&profile=ceph"


IN_A_TRANSFER: Final = """
import sys
import trove_async as trove

direct, proxied, bucket, verb = sys.argv[1:]
with trove.sync.open(direct) as t, trove.sync.open(proxied) as stalling:
    old = t.put(bucket, "k", bytes(4_000_000))
    try:
        if verb == "put":
            stalling.put(bucket, "k", b"new" * 1_500_000)
        elif verb == "read":
            stalling.read(bucket, "k")
        else:
            with stalling.get(bucket, "k") as reader:
                for chunk in reader:
                    pass
    except KeyboardInterrupt:
        print("interrupted", t.head(bucket, "k").etag == old.etag, t.list_multipart_uploads(bucket))
    print(len(stalling.read(bucket, "k")))
"""


@pytest.mark.asyncio
@pytest.mark.parametrize("verb", ["put", "read", "iterate"])
async def test_an_interrupted_transfer_of_a_service(bucket: str, verb: str) -> None:
    async with FaultProxy(*address("ceph")) as proxy:
        proxy.inject(STALL_UP if verb == "put" else STALL_DOWN)
        arguments = [dsn_at(running("ceph").endpoint), dsn_at(proxy.url()), bucket, verb]
        process = await asyncio.create_subprocess_exec(
            *STRICT, "-c", IN_A_TRANSFER, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        await proxy.until(lambda proxy: any(strike.kind == "stall" for strike in proxy.strikes))
        process.send_signal(signal.SIGINT)
        out, _ = await process.communicate()
        assert (out.decode(), process.returncode) == (f"interrupted True []\n{SIZE}\n", 0)
        await proxy.until(lambda proxy: proxy.open == 0)
