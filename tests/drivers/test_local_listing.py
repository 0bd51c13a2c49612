"""Listings of a large local directory whose names are in a temporary file."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import trove_async as trove
from tests import churn
from tests.tree.counting import deleted_files
from trove_async.driver import ListOptions
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


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _listing(driver: LocalDriver, **arguments: Any) -> Listing:
    """Return what lists with most names in files."""
    tree = driver._tree
    small = partial(Sorter, limit=1000, run=500)
    return Listing(driver._fs, tree.layout, tree.buckets, tree.objects, make_sorter=small, **arguments)


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
        driver._tree.listing = _listing(driver)
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


async def test_an_id_that_somebody_made_up_is_not_kept(store: trove.Trove) -> None:
    for cursor in ("k0100\0made up", "k0100\0" + "long" * 10_000):
        page = await store.driver.list_page("b", ListOptions(page_size=10, cursor=cursor))
        assert [info.key for info in page.objects] == KEYS[100:110]
        key, _, listing = str(page.cursor).partition("\0")
        assert key == KEYS[110]
        assert len(listing) == 16


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


async def test_objects_put_and_deleted_during_a_listing(store: trove.Trove) -> None:
    listing = store.list("b", page_size=100)
    assert (await listing.next()).key == KEYS[0]
    await store.put("b", "k0000-behind", b"")
    await store.put("b", "k2000-ahead", b"")
    await store.put("b", KEYS[2400], b"another")
    await store.delete("b", KEYS[2500])
    shown = [info async for info in listing]
    assert [info.key for info in shown if info.key != "k2000-ahead"] == sorted({*KEYS[1:]} - {KEYS[2500]})
    assert [info.size for info in shown if info.key == KEYS[2400]] == [7]
    now = {*KEYS, "k0000-behind", "k2000-ahead"} - {KEYS[2500]}
    assert [info.key for info in await store.list("b").all()] == sorted(now)


async def test_a_listing_that_was_given_up_leaves_its_names_for_some_minutes_only(
    store: trove.Trove, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = deleted_files()
    driver, clock = store.driver, Clock()
    assert isinstance(driver, LocalDriver)
    driver._tree.listing = _listing(driver, clock=clock)
    timers: list[tuple[float, Callable[[], object]]] = []

    def call_later(delay: float, call: Callable[..., object], *arguments: object) -> asyncio.TimerHandle:
        timers.append((delay, partial(call, *arguments)))
        return asyncio.TimerHandle(0, call, arguments, loop)

    loop = asyncio.get_running_loop()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "call_later", call_later)
        for _ in range(2):
            await store.list("b", page_size=100).next()
    assert deleted_files() == before + 1
    (call,) = [call for delay, call in timers if delay == 300]
    clock.now += 300
    call()
    assert deleted_files() == before


async def test_a_listing_while_another_process_changes_the_directory(store: trove.Trove, tmp_path: Path) -> None:
    churn.place(tmp_path / "churn")
    await churn.list_while_names_change(store, "churn", tmp_path / "churn", rounds=10, seed=1)
