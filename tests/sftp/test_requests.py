"""The number of round trips and requests of each operation."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest
import pytest_asyncio

import trove_async as trove
from tests.sftp.stores import ServerName, fs_of, opened, pattern, remote

pytestmark = pytest.mark.asyncio

SMALL = b"x" * 4096


@pytest_asyncio.fixture
async def store(server: ServerName, root: Path) -> AsyncIterator[trove.Trove]:
    async with opened(server, root) as store:
        await store.create_bucket("bucket")
        yield store


class Cost:
    """The requests that were sent between two moments."""

    def __init__(self, turns: int, counts: dict[str, int]) -> None:
        self.turns = turns
        self.counts = counts

    @property
    def requests(self) -> int:
        return sum(self.counts.values())


async def cost_of(store: trove.Trove, call: Awaitable[object]) -> Cost:
    connection = remote(store).connection
    channel = await connection.channel()
    turns, counts = channel.turns, dict(connection.counts)
    await call
    assert await connection.channel() is channel
    found = {name: count - counts.get(name, 0) for name, count in connection.counts.items()}
    return Cost(channel.turns - turns, {name: count for name, count in found.items() if count})


async def test_a_put_is_three_round_trips(store: trove.Trove) -> None:
    cost = await cost_of(store, store.put("bucket", "key", SMALL))
    assert (cost.turns, cost.requests) == (3, 8)
    assert (await cost_of(store, store.put("bucket", "key", SMALL))).turns == 3


async def test_a_put_below_prefixes_takes_no_more_round_trips(store: trove.Trove) -> None:
    await store.put("bucket", "a/b/c/first", SMALL)
    cost = await cost_of(store, store.put("bucket", "a/b/c/key", SMALL))
    assert cost.turns == 3


async def test_new_directories_take_no_round_trip(store: trove.Trove) -> None:
    cost = await cost_of(store, store.put("bucket", "a/b/c/key", SMALL))
    assert cost.turns == 3
    assert cost.counts["MKDIR"] == 3


async def test_a_put_with_metadata_is_four_round_trips(store: trove.Trove) -> None:
    await store.put("bucket", "first", SMALL, metadata={"a": "b"})
    await store.put("bucket", "second", SMALL, metadata={"a": "b"})
    cost = await cost_of(store, store.put("bucket", "second", SMALL, metadata={"a": "b"}))
    assert cost.turns <= 5  # the last one removes the metadata of the replaced object


async def test_a_small_get_is_two_round_trips(store: trove.Trove) -> None:
    await store.put("bucket", "key", SMALL)
    cost = await cost_of(store, store.read("bucket", "key"))
    assert (cost.turns, cost.requests) == (2, 7)
    await store.put("bucket", "with", SMALL, metadata={"a": "b"})
    assert (await cost_of(store, store.read("bucket", "with"))).turns == 3


async def test_a_head_is_one_round_trip(store: trove.Trove) -> None:
    await store.put("bucket", "key", SMALL)
    cost = await cost_of(store, store.head("bucket", "key"))
    assert (cost.turns, cost.counts) == (1, {"LSTAT": 3})


async def test_a_delete_is_two_round_trips(store: trove.Trove) -> None:
    await store.put("bucket", "key", SMALL)
    cost = await cost_of(store, store.delete("bucket", "key"))
    assert (cost.turns, cost.counts) == (2, {"LSTAT": 3, "REMOVE": 1})


async def test_no_lease_is_taken_by_reads_and_plain_puts(store: trove.Trove) -> None:
    async def work() -> None:
        for number in range(5):
            await store.put("bucket", f"a/{number}", SMALL, metadata={"a": "b"})
            await store.put("bucket", f"a/{number}", SMALL)
            await store.read("bucket", f"a/{number}")
        for number in range(4):
            await store.delete("bucket", f"a/{number}")

    cost = await cost_of(store, work())
    # Each put is one rename, which has its own extension; a lease would be a link.
    assert cost.counts["EXTENDED"] == 10


async def test_the_bytes_of_a_copy_stay_on_the_server(store: trove.Trove) -> None:
    await store.put("bucket", "key", pattern(3_000_000))
    cost = await cost_of(store, store.copy("bucket", "key", "bucket", "copy"))
    assert not {"READ", "WRITE"} & set(cost.counts)
    assert await store.read("bucket", "copy") == pattern(3_000_000)


async def test_a_large_object_uses_many_concurrent_requests(store: trove.Trove) -> None:
    data = pattern(20_000_000)
    put = await cost_of(store, store.put("bucket", "key", data))
    assert put.counts["WRITE"] >= 70
    assert put.turns <= 5
    get = await cost_of(store, store.read("bucket", "key"))
    assert get.counts["READ"] >= 70
    assert get.turns <= 5


async def test_a_listing_makes_no_request_for_each_object(store: trove.Trove, root: Path) -> None:
    for number in range(10_000):
        (root / f"bucket/key-{number:05}").write_bytes(b"x" * (number % 7))
    before = time.time() - 60
    os.utime(root / "bucket", (before, before))  # a time since which another change of the directory shows
    found: list[trove.ObjectInfo] = []

    async def listing() -> None:
        found.extend(await store.list("bucket").all())

    cost = await cost_of(store, listing())
    assert [info.size for info in found] == [number % 7 for number in range(10_000)]
    # The directory is read once, and the server returns its names a hundred at a time.
    assert cost.counts["READDIR"] <= 10_000 / 100 + 10
    assert cost.counts["LSTAT"] <= 40
    (last,) = await store.list("bucket", start_after="key-09998").all()
    assert last.etag == (await store.head("bucket", last.key)).etag


async def test_pages_of_an_unchanged_directory_read_it_once(
    store: trove.Trove, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first page keeps all names; later pages only check for changes."""
    for start in range(0, 2_000, 500):
        await asyncio.gather(*(store.put("bucket", f"key-{number:05}", b"") for number in range(start, start + 500)))
    fs = fs_of(store)
    monkeypatch.setattr(fs, "settled", lambda mtime_ns, elapsed_ns: True)

    async def listing() -> None:
        assert len(await store.list("bucket", page_size=100).all()) == 2_000

    cost = await cost_of(store, listing())
    assert cost.counts["OPENDIR"] == 1


async def test_handles_are_bounded(server: ServerName, root: Path, store: trove.Trove) -> None:
    async with opened(server, root, handles=6, clean=False) as bounded:
        driver = remote(bounded)
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, driver.connection.open_handles)
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        await asyncio.gather(*(bounded.put("bucket", f"{number}", SMALL, metadata={"a": "b"}) for number in range(60)))
        await asyncio.gather(*(bounded.read("bucket", f"{number}") for number in range(60)))
        watching.cancel()
        assert 0 < most <= 7  # the folder of temporaries briefly needs one more


async def test_the_wait_for_a_handle_has_a_time_limit(server: ServerName, root: Path, store: trove.Trove) -> None:
    async with opened(server, root, handles=4, idle_timeout=1.0, clean=False) as bounded:
        await bounded.put("bucket", "key", pattern(1_000_000))
        readers = [await bounded.get("bucket", "key") for _ in range(3)]
        with pytest.raises(trove.OperationTimeoutError, match="handles"):
            await bounded.put("bucket", "other", SMALL)
        for reader in readers:
            assert await reader.read() == pattern(1_000_000)
        await bounded.put("bucket", "other", SMALL)
