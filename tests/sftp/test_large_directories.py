"""Listings of directories with many names: what is asked of the server, and what keeps the event loop waiting."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import trove_async as trove
from tests import churn
from tests.sftp.stores import ServerName, fs_of, opened, remote, scratch_root
from trove_async.drivers.sftp.channel import Channel
from trove_async.drivers.sftp.protocol import Kind
from trove_async.tree import sorted_names
from trove_async.tree.listing import Listing
from trove_async.tree.sorted_names import Sorter, _Blocks

pytestmark = pytest.mark.asyncio

KEYS = [f"k{number:04}" for number in range(3000)]
PAGE = 500


@pytest_asyncio.fixture
async def store(server: ServerName, root: Path) -> AsyncIterator[trove.Trove]:
    bucket = root / "bucket"
    bucket.mkdir()
    for key in KEYS:
        (bucket / key).touch()
    os.utime(bucket, (1_600_000_000, 1_600_000_000))
    async with opened(server, root) as store:
        yield store


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Counter[Kind]:
    """Count the requests."""
    counts: Counter[Kind] = Counter()
    original = Channel.request

    def request(self: Channel, kind: Kind, *packed: bytes) -> Any:
        counts[kind] += 1
        return original(self, kind, *packed)

    monkeypatch.setattr(Channel, "request", request)
    return counts


async def test_a_directory_is_read_once_if_it_does_not_change(
    store: trove.Trove, requests: Counter[Kind], root: Path
) -> None:
    for _ in range(2):
        assert [info.key for info in await store.list("bucket", page_size=PAGE).all()] == KEYS
    assert requests[Kind.OPENDIR] == 1
    assert requests[Kind.LSTAT] < 60  # no object was asked for its status


async def test_a_directory_that_changes_all_the_time_is_read_once_for_a_listing(
    store: trove.Trove, requests: Counter[Kind], root: Path
) -> None:
    shown: list[str] = []
    async for page in store.list("bucket", page_size=PAGE).pages():
        shown += [info.key for info in page]
        (root / "bucket/incoming").touch()
        (root / "bucket/incoming").unlink()
    assert shown == KEYS
    assert requests[Kind.OPENDIR] == 1
    assert requests[Kind.LSTAT] < len(KEYS) + 60
    remembered = remote(store)._store.tree.listing._names.remembered
    assert {type(key) for key in remembered._kept} <= {tuple}  # nothing is kept for the listing any longer


async def test_what_changes_during_a_listing_is_shown_as_it_is(store: trove.Trove, requests: Counter[Kind]) -> None:
    listing = store.list("bucket", page_size=PAGE)
    assert (await listing.next()).key == KEYS[0]
    await store.put("bucket", KEYS[2400], b"another")
    await store.delete("bucket", KEYS[2500])
    shown = {info.key: info async for info in listing}
    assert list(shown) == [key for key in KEYS[1:] if key != KEYS[2500]]
    assert shown[KEYS[2400]].size == 7
    assert shown[KEYS[2400]].etag == (await store.head("bucket", KEYS[2400])).etag
    assert requests[Kind.OPENDIR] == 1


async def test_many_names_are_sorted_in_threads(store: trove.Trove, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = remote(store)._store.tree
    make_sorter = partial(Sorter, limit=1000, run=500)
    tree.listing = Listing(fs_of(store), tree.layout, tree.buckets, tree.objects, make_sorter=make_sorter)
    sorted_where: Counter[bool] = Counter()

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any) -> Any:
            sorted_where[threading.current_thread() is threading.main_thread()] += len(arguments[-1])
            return function(*arguments)

        return count

    monkeypatch.setattr(sorted_names, "_sorted", counting(sorted_names._sorted))
    monkeypatch.setattr(_Blocks, "add", counting(_Blocks.add))
    assert [info.key for info in await store.list("bucket", page_size=PAGE).all()] == KEYS
    assert sorted_where[True] == 0
    assert sorted_where[False] >= 2 * len(KEYS)


async def test_a_listing_while_another_process_changes_the_directory() -> None:
    # asyncssh's server cannot read a directory from which a file is removed meanwhile.
    with scratch_root("sshd") as root:
        churn.place(root / "bucket")
        async with opened("sshd", root) as store:
            await churn.list_while_names_change(store, "bucket", root / "bucket", rounds=3, seed=1)
