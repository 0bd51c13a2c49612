"""Watches of a local store: what they share, and what they say when the system refuses them."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import trove_async as trove
from tests.web.serving import until
from trove_async.drivers.local.core import LocalCore
from trove_async.errors import BackendError, BucketNotFoundError, WatchOverflowError

pytestmark = pytest.mark.asyncio
SECONDS = 60.0


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[trove.Trove]:
    async with trove.open(f"local://{tmp_path}?fsync=0") as t:
        await t.create_bucket("b")
        yield t


def instances() -> int:
    return sum(_target(name) == "anon_inode:inotify" for name in os.listdir("/proc/self/fd"))


def _target(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:
        return ""


def threads() -> int:
    return sum(thread.name == "trove-local-watch" for thread in threading.enumerate())


async def test_all_watches_of_a_bucket_share_one_instance_and_one_thread(store: trove.Trove) -> None:
    before = instances()
    async with asyncio.timeout(SECONDS), AsyncExitStack() as stack:
        watches = [await stack.enter_async_context(store.watch("b")) for _ in range(200)]
        assert instances() == before + 1
        assert threads() == 1
        await store.put("b", "k", b"data")
        assert {(await anext(watch)).key for watch in watches} == {"k"}
        late = await stack.enter_async_context(store.watch("b"))
        await store.put("b", "k2", b"data")
        for watch in (*watches, late):
            assert (await anext(watch)).key == "k2"
        await store.create_bucket("c")
        async with store.watch("c"):
            assert threads() == 2
    assert threads() == 0
    await until(instances, lambda found: found == before)  # watchfiles closes it in a thread of its own


async def test_what_has_changed_is_found_out_once_for_all_watches(
    store: trove.Trove, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Counter[str] = Counter()
    for name in ("find", "list_page"):
        monkeypatch.setattr(LocalCore, name, counting(asked, name))
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "k").write_bytes(b"data")
    async with asyncio.timeout(SECONDS), AsyncExitStack() as stack:
        watches = [await stack.enter_async_context(store.watch("b")) for _ in range(50)]
        asked.clear()
        await store.put("b", "k", b"data")
        assert {(await anext(watch)).key for watch in watches} == {"k"}
        (tmp_path / "moved").rename(tmp_path / "b" / "d")
        assert {(await anext(watch)).key for watch in watches} == {"d/k"}
    assert 0 < asked["find"] < 10
    assert 0 < asked["list_page"] < 10


def counting(asked: Counter[str], name: str) -> Callable[..., Any]:
    original = getattr(LocalCore, name)

    async def counted(*arguments: Any) -> Any:
        asked[name] += 1
        return await original(*arguments)

    return counted


async def test_a_watch_that_joins_others_gets_only_later_changes(store: trove.Trove) -> None:
    await store.put("b", "gone", b"data")
    async with asyncio.timeout(SECONDS), store.watch("b") as one:
        await store.put("b", "early", b"data")
        await store.delete("b", "gone")
        async with store.watch("b") as other:  # most likely before the first has found out about these
            await store.put("b", "later", b"data")
            assert (await anext(other)).key == "later"
            assert {(await anext(one)).key for _ in range(3)} == {"early", "gone", "later"}
            await store.put("b", "early", b"other")
            for watch in (one, other):
                event = await anext(watch)
                assert (event.type, event.key) == (trove.EventType.UPDATED, "early")


async def test_a_watch_that_joins_others_sees_what_it_began_with_go(store: trove.Trove) -> None:
    async with asyncio.timeout(SECONDS), store.watch("b"):
        await store.put("b", "k", b"data")
        async with store.watch("b") as other:  # most likely before the first has found out about the key
            await store.delete("b", "k")
            event = await anext(other)
            assert (event.type, event.key) == (trove.EventType.DELETED, "k")


async def test_a_slow_consumer_gets_the_changes_of_a_key_as_one(store: trove.Trove) -> None:
    async with asyncio.timeout(SECONDS), store.watch("b") as slow, store.watch("b") as quick:
        for data in (b"1", b"22", b"333"):
            await store.put("b", "k", data)
            assert (await anext(quick)).size == len(data)
        await store.put("b", "brief", b"data")
        assert (await anext(quick)).key == "brief"
        await store.delete("b", "brief")
        assert (await anext(quick)).type == trove.EventType.DELETED
        await store.put("b", "last", b"data")
        assert (await anext(quick)).key == "last"
        found = [await anext(slow) for _ in range(3)]
    assert [(event.type, event.key, event.size) for event in found] == [
        (trove.EventType.CREATED, "k", 1),
        (trove.EventType.UPDATED, "k", 3),
        (trove.EventType.CREATED, "last", 4),
    ]


async def test_one_watch_that_overflows_ends_alone(store: trove.Trove) -> None:
    async with asyncio.timeout(SECONDS), store.watch("b", buffer_size=1) as slow, store.watch("b") as quick:
        for number in range(50):
            await store.put("b", f"k{number}", b"data")
        assert sorted([(await anext(quick)).key for _ in range(50)]) == sorted(f"k{n}" for n in range(50))
        with pytest.raises(WatchOverflowError):
            _ = [event async for event in slow]
        await store.put("b", "more", b"data")
        assert (await anext(quick)).key == "more"


async def test_a_bucket_that_is_made_again_is_watched_again(store: trove.Trove) -> None:
    async with asyncio.timeout(SECONDS), store.watch("b") as first:
        await store.delete_bucket("b")
        with pytest.raises(BucketNotFoundError):
            await anext(first)
        await store.create_bucket("b")
        async with store.watch("b") as second:
            await store.put("b", "k", b"data")
            assert (await anext(second)).key == "k"


async def test_names_that_are_not_utf8_end_no_watch_and_hide_no_change(store: trove.Trove, tmp_path: Path) -> None:
    bucket = os.fsencode(tmp_path / "b")
    await store.put("b", "gone", b"data")
    async with asyncio.timeout(SECONDS), store.watch("b") as one, store.watch("b") as other:
        for name in (b"\xff", b"\xfe"):
            Path(os.fsdecode(bucket + b"/" + name)).write_bytes(b"data")
            await store.put("b", f"new{name.hex()}", b"data")  # may happen before the watch begins again
            for watch in (one, other):
                assert (await anext(watch)).key == f"new{name.hex()}"
        await store.delete("b", "gone")
        for watch in (one, other):
            event = await anext(watch)
            assert (event.type, event.key) == (trove.EventType.DELETED, "gone")


@pytest.mark.parametrize(
    ("said", "setting"),
    [
        ("Error creating recommended watcher: Too many open files (os error 24)", "fs.inotify.max_user_instances"),
        ('OS file watch limit reached. about ["/b"]', "fs.inotify.max_user_watches"),
        ("No space left on device (os error 28)", "fs.inotify.max_user_watches"),
    ],
)
async def test_the_setting_that_is_too_low_is_named(
    store: trove.Trove, monkeypatch: pytest.MonkeyPatch, said: str, setting: str
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(said)

    monkeypatch.setattr("watchfiles._rust_notify.RustNotify", refuse)
    with pytest.raises(BackendError, match=f"raise the setting {setting}"):
        async with store.watch("b"):
            pass
    monkeypatch.undo()
    async with asyncio.timeout(SECONDS), store.watch("b") as watch:
        await store.put("b", "k", b"data")
        assert (await anext(watch)).key == "k"
