"""Objects that expire by a rule of the bucket, and concurrent puts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import trove_async as trove
from tests.sftp.stores import ServerName, fs_of, opened, without_links
from trove_async.drivers.sftp.errors import DisconnectedError
from trove_async.testing.proxy import FaultProxy
from trove_async.types import LifecycleReport

pytestmark = pytest.mark.asyncio

LATER = datetime.now(UTC) + timedelta(days=2)
KEYS = ["key", "folder/key", "folder/key/below"]


def before(store: trove.Trove, name: str, act: Callable[[], Awaitable[object]]) -> None:
    """Run an action right before the first call of an operation of the store's file system, except for locks."""
    fs = fs_of(store)
    step = getattr(fs, name)

    async def do(*arguments: str) -> object:
        if "/.trove/leases/" not in arguments[-1]:
            setattr(fs, name, step)
            await act()
        return await step(*arguments)

    setattr(fs, name, do)


async def make_bucket(store: trove.Trove) -> None:
    await store.create_bucket("bucket")
    await store.set_lifecycle("bucket", [trove.LifecycleRule("rule", "", expiration_days=1)])


async def expire(store: trove.Trove) -> LifecycleReport:
    return await store.apply_lifecycle("bucket", now=LATER)


async def test_an_expired_object_is_removed_with_its_metadata(server: ServerName, root: Path) -> None:
    async with opened(server, root) as store:
        await make_bucket(store)
        for key in KEYS:
            await store.put("bucket", key, b"old", metadata={"name": "old"})
        assert await expire(store) == LifecycleReport(expired=3)
        assert await store.list("bucket").all() == []
    assert list((root / "bucket").iterdir()) == []


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("key", KEYS)
async def test_a_concurrent_put_is_not_lost(
    server: ServerName, root: Path, key: str, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        without_links(monkeypatch)
    async with opened(server, root) as store, opened(server, root, clean=False) as other:
        await make_bucket(store)
        await store.put("bucket", key, b"old", metadata={"name": "old"})
        before(store, "rename", lambda: other.put("bucket", key, b"new", metadata={"name": "new"}))
        assert await expire(store) == LifecycleReport()
        async with store.get("bucket", key) as reader:
            assert (await reader.read(), reader.info.metadata) == (b"new", {"name": "new"})


async def test_the_newest_of_two_concurrent_puts_stays(server: ServerName, root: Path) -> None:
    async with opened(server, root) as store, opened(server, root, clean=False) as other:
        await make_bucket(store)
        await store.put("bucket", "key", b"old")
        before(store, "rename", lambda: other.put("bucket", "key", b"new", metadata={"name": "new"}))
        before(store, "link", lambda: other.put("bucket", "key", b"newest", metadata={"name": "newest"}))
        assert await expire(store) == LifecycleReport()
        async with store.get("bucket", "key") as reader:
            assert (await reader.read(), reader.info.metadata) == (b"newest", {"name": "newest"})


async def test_a_concurrent_put_keeps_its_metadata_if_the_answer_to_its_restoration_is_lost(
    server: ServerName, root: Path
) -> None:
    async with opened(server, root) as store, opened(server, root, clean=False) as other:
        await make_bucket(store)
        await store.put("bucket", "key", b"old")
        fs = fs_of(store)
        link = fs.link

        async def unanswered(source: str, target: str) -> None:
            await link(source, target)
            if "/.trove/leases/" not in target:
                fs.link = link  # type: ignore[method-assign]
                raise DisconnectedError("the answer was lost")

        before(store, "rename", lambda: other.put("bucket", "key", b"new", metadata={"name": "new"}))
        fs.link = unanswered  # type: ignore[method-assign]
        assert await expire(store) == LifecycleReport()
        async with store.get("bucket", "key") as reader:
            assert (await reader.read(), reader.info.metadata) == (b"new", {"name": "new"})


async def test_the_renamed_directory_of_an_expired_object_is_removed(server: ServerName, root: Path) -> None:
    async with opened(server, root) as store:
        await make_bucket(store)
        await store.put("bucket", "a/b", b"old")
        await store.put("bucket", "a", b"old")
        await store.delete("bucket", "a/b")
        assert sorted(path.name for path in (root / "bucket").iterdir()) == ["a", "a%F"]
        assert await expire(store) == LifecycleReport(expired=1)
    assert list((root / "bucket").iterdir()) == []


@pytest.mark.parametrize("name", ["rename", "link", "unlink"])
async def test_a_concurrent_put_survives_a_lost_connection(
    server: ServerName, root: Path, network: FaultProxy, name: str
) -> None:
    async def break_off() -> None:
        network.break_open("reset")

    async with opened(server, root, port=network.port) as store, opened(server, root, clean=False) as other:
        await make_bucket(store)
        await store.put("bucket", "key", b"old")
        before(store, name, break_off)
        if name != "rename":
            before(store, "rename", lambda: other.put("bucket", "key", b"new"))
        expired = (await expire(store)).expired
        assert expired == (name == "rename")
        assert await store.exists("bucket", "key") == (not expired)
