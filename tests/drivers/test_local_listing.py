"""Listings of a large local directory whose names are in a temporary file."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

import trove_async as trove
from tests.tree.counting import deleted_files
from trove_async.drivers.local import LocalDriver
from trove_async.tree.listing import Listing
from trove_async.tree.sorted_names import Sorter

pytestmark = pytest.mark.asyncio

KEYS = [f"k{number:04}" for number in range(3000)]

IN_ANOTHER_PROCESS = """
import asyncio, sys
import trove_async as trove

async def main(dsn, cursor):
    async with trove.open(dsn) as t:
        print(*[info.key for info in await t.list("b", cursor=cursor, page_size=500).all()])

asyncio.run(main(*sys.argv[1:]))
"""


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[trove.Trove]:
    before = deleted_files()
    (tmp_path / "b").mkdir()
    for key in KEYS:
        (tmp_path / "b" / key).touch()
    os.utime(tmp_path / "b", (1_600_000_000, 1_600_000_000))
    async with trove.open(f"local://{tmp_path}?fsync=0") as t:
        driver = t.driver
        assert isinstance(driver, LocalDriver)
        tree = driver._tree
        tree.listing = Listing(
            driver._fs, tree.layout, tree.buckets, tree.objects, make_sorter=partial(Sorter, limit=1000, run=500)
        )
        yield t
    assert deleted_files() == before


async def test_a_listing_has_one_file_until_the_store_is_closed(store: trove.Trove) -> None:
    before = deleted_files()
    for _ in range(3):
        assert [info.key for info in await store.list("b", page_size=100).all()] == KEYS
        assert deleted_files() == before + 1


async def test_a_cursor_continues_in_another_process(store: trove.Trove, tmp_path: Path) -> None:
    listing = store.list("b", page_size=700)
    for key in KEYS[:1000]:
        assert (await listing.next()).key == key
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, f"local://{tmp_path}?fsync=0", str(listing.cursor)]
    result = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    assert result.stdout.split() == KEYS[1000:]


async def test_listings_of_the_same_directory_do_not_disturb_each_other(store: trove.Trove) -> None:
    found = await asyncio.gather(*(store.list("b", page_size=100 + size).all() for size in range(8)))
    assert all([info.key for info in infos] == KEYS for infos in found)


async def test_a_cancelled_listing_leaves_no_file(store: trove.Trove) -> None:
    before = deleted_files()
    for steps in range(12):
        task = asyncio.ensure_future(store.list("b", page_size=100).all())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert deleted_files() <= before + 1  # that of the cached names
    assert [info.key for info in await store.list("b").all()] == KEYS


async def test_objects_put_and_deleted_ahead_of_the_cursor_are_seen(store: trove.Trove) -> None:
    listing = store.list("b", page_size=100)
    assert (await listing.next()).key == KEYS[0]
    await store.put("b", "k0000-behind", b"")
    await store.put("b", "k2000-ahead", b"")
    await store.delete("b", KEYS[2500])
    shown = [info.key async for info in listing]
    assert shown == sorted({*KEYS[1:], "k2000-ahead"} - {KEYS[2500]})
