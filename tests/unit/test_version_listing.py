"""The iterator over versions, its cursors, checks of pages, and emptying a bucket."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TypeVar

import pytest

import trove_async as trove
from trove_async.driver import DeleteOptions, Driver, OpenOptions, VersionListOptions
from trove_async.drivers.memory import MemoryDriver
from trove_async.errors import BackendError, InvalidCursorError
from trove_async.layers import Call, LayerDriver, Operation
from trove_async.testing.mock import MockDriver
from trove_async.types import VersionInfo
from trove_async.version_listing import VersionIterator, VersionMark, VersionPage

pytestmark = pytest.mark.asyncio

START = datetime(2026, 1, 1, tzinfo=UTC)


def version(key: str, number: int, *, size: int = 1, latest: bool = False, second: int | None = None) -> VersionInfo:
    return VersionInfo(f"v{number}", key, size, START + timedelta(seconds=number if second is None else second), latest)


class Backend:
    """A bucket whose pages are slices of a list; its cursors are positions."""

    def __init__(self, versions: Sequence[VersionInfo], page_size: int) -> None:
        self.versions = list(versions)
        self.page_size = page_size

    async def fetch(self, cursor: str | None) -> VersionPage:
        left = self.versions if cursor is None else VersionMark.decode(cursor).after(self.versions)
        left = [v for v in left if cursor is None or v.key >= VersionMark.decode(cursor).key]
        page = left[: self.page_size]
        return VersionPage(page, VersionMark.of(page[-1]).encode() if len(left) > len(page) else None)


def iterate(backend: Backend, cursor: str | None = None, prefix: str = "") -> VersionIterator:
    return VersionIterator(backend.fetch, bucket="b", prefix=prefix, cursor=cursor)


SAME_SECOND = [version("a", n, second=0) for n in range(9, 0, -1)] + [version("b", 1)]


@pytest.mark.parametrize("size", [1, 2, 5, 10])
@pytest.mark.parametrize("resumed_size", [1, 3, 10])
async def test_a_cursor_continues_after_each_version(size: int, resumed_size: int) -> None:
    """Also if versions have the same time, and the pages are smaller than before."""
    backend = Backend(SAME_SECOND, size)
    listing = iterate(backend)
    for count in range(1, len(SAME_SECOND)):
        await listing.next()
        resumed = iterate(Backend(SAME_SECOND, resumed_size), listing.cursor)
        assert await resumed.all() == SAME_SECOND[count:]
    await listing.next()
    assert listing.cursor is None
    assert [len(page) async for page in iterate(backend).pages()] == [
        min(size, len(SAME_SECOND) - start) for start in range(0, len(SAME_SECOND), size)
    ]


async def test_the_version_before_the_cursor_may_be_deleted() -> None:
    versions = [version("a", number) for number in (4, 3, 2, 1)]
    backend = Backend(versions, 10)
    listing = iterate(backend)
    await listing.next()
    backend.versions.pop(0)
    assert await iterate(backend, listing.cursor).all() == versions[1:]


@pytest.mark.parametrize("cursor", ["", "x", "e30", "WzFd", "ü"])
async def test_invalid_cursors(cursor: str) -> None:
    with pytest.raises(InvalidCursorError):
        iterate(Backend([], 1), cursor)


async def test_cursors_of_other_listings_are_refused() -> None:
    async with trove.open("memory://") as t:
        b = await t.create_bucket("b")
        for key in ("a", "b"):
            await b.put(key, b"")
        versions, objects = b.list_all_versions(), b.list()
        await versions.next()
        await objects.next()
        with pytest.raises(InvalidCursorError):
            b.list(cursor=versions.cursor)
        with pytest.raises(InvalidCursorError):
            b.list_all_versions(cursor=objects.cursor)
        with pytest.raises(InvalidCursorError, match="prefix"):
            b.list_all_versions("a", cursor=versions.cursor)


@pytest.mark.parametrize(
    ("pages", "message"),
    [
        ([[version("b", 1), version("a", 1)]], "out of order"),
        ([[version("b", 1)], [version("a", 1)]], "out of order"),
        ([[version("a", 1), version("a", 2), version("a", 1)]], "twice"),
        ([[version("a", 1)], [version("a", 1)]], "twice"),
        ([[version("a", 1, size=-1)]], "negative"),
        ([[]] * 1002, "empty pages"),
    ],
)
async def test_invalid_pages(pages: list[list[VersionInfo]], message: str) -> None:
    answers = iter([VersionPage(page, str(number)) for number, page in enumerate(pages)])
    mock = MockDriver(list_versions_page=lambda bucket, options: next(answers))
    async with trove.open(mock) as t:
        with pytest.raises(BackendError, match=message):
            await t.list_all_versions("b").all()


async def test_keys_outside_of_the_prefix() -> None:
    mock = MockDriver(list_versions_page=VersionPage([version("b", 1)]))
    async with trove.open(mock) as t:
        with pytest.raises(BackendError, match="does not begin with"):
            await t.list_all_versions("b", "a").all()


async def test_arguments() -> None:
    mock = MockDriver(list_versions_page=VersionPage())
    async with trove.open(mock) as t:
        await t.list_all_versions("b", "p", page_size=7).all()
        [call] = mock.calls_to("list_versions_page")
        assert call.arguments["options"] == VersionListOptions(prefix="p", page_size=7)
        for size in (0, 1001, "x"):
            with pytest.raises(trove.InvalidArgumentError, match="page_size"):
                t.list_all_versions("b", page_size=size)  # type: ignore[arg-type]


async def test_a_driver_without_version_listing() -> None:
    """It has only `VersioningDriver`; emptying with versions is refused, since it would be incomplete."""
    async with trove.open(MockDriver(capabilities=[trove.VersioningDriver])) as t:
        with pytest.raises(trove.UnsupportedError, match="version listing"):
            t.list_all_versions("b")
        with pytest.raises(trove.UnsupportedError, match="version listing"):
            t.empty_bucket("b", versions=True)


R = TypeVar("R")


class Recorder(LayerDriver):
    """Records the listings and deletions, in order."""

    def __init__(self, inner: Driver) -> None:
        super().__init__(inner)
        self.calls: list[str] = []

    async def around(self, operation: Operation, call: Call[R]) -> R:
        options = operation.arguments.get("options")
        if operation.name == "list_versions_page":
            self.calls.append("page")
        elif isinstance(options, DeleteOptions):
            self.calls.append(f"delete {options.version_id}")
        return await call()


async def recorded() -> tuple[trove.Trove, Recorder]:
    driver = MemoryDriver()
    await driver.open(trove.parse_dsn("memory://"), OpenOptions())
    recorder = Recorder(driver)
    return await trove.open(recorder), recorder


async def test_the_latest_version_is_deleted_last() -> None:
    """Otherwise a deleted object would reappear briefly."""
    store, recorder = await recorded()
    async with store as t:
        b = await t.create_bucket("b")
        await b.set_versioning(True)
        for number in range(3):
            await b.put("k", b"%d" % number)
        latest = (await b.list_versions("k"))[0].version_id
        assert await b.empty_bucket(versions=True) == 3
        assert recorder.calls[-1] == f"delete {latest}"


async def test_the_next_page_is_fetched_before_a_page_is_deleted() -> None:
    """After the version of a cursor is deleted, some services list nothing."""
    store, recorder = await recorded()
    async with store as t:
        b = await t.create_bucket("b")
        for number in range(2500):
            await b.put(f"{number:04}", b"")
        assert await b.empty_bucket(versions=True) == 2500
        kinds = [call.partition(" ")[0] for call in recorder.calls]
        assert [kind for kind, _ in groupby(kinds)] == ["page", "delete", "page", "delete"]
        assert kinds[:2] == ["page", "page"]


async def test_objects_written_during_emptying_may_stay() -> None:
    async with trove.open("memory://") as t:
        b = await t.create_bucket("b")
        await b.set_versioning(True)
        for number in range(3):
            await b.put(f"{number}", b"")
        async for result in b.empty_bucket(versions=True):
            await b.put(result.key, b"new")
        assert len(await b.list_all_versions().all()) == 3


async def test_failures_are_collected() -> None:
    refused = trove.AccessDeniedError("no")
    mock = MockDriver(
        list_versions_page=VersionPage([version("a", 2, latest=True), version("a", 1), version("b", 1)]),
        delete=lambda bucket, key, options: (_ for _ in ()).throw(refused) if options.version_id == "v2" else None,
        capabilities=[trove.VersioningDriver],
    )
    async with trove.open(mock) as t:
        with pytest.raises(trove.BulkError) as caught:
            await t.empty_bucket("b", versions=True)
        assert [(r.key, r.version_id) for r in caught.value.failed] == [("a", "v2")]
        assert caught.value.deleted_count == 2


async def test_emptying() -> None:
    async with trove.open("memory://") as t:
        b = await t.create_bucket("b")
        await b.set_versioning(True)
        for number in range(3):
            await b.put("k", b"%d" % number)
        assert await b.empty_bucket() == 1
        assert [v.is_delete_marker for v in await b.list_all_versions().all()] == [True, False, False, False]
        assert await b.empty_bucket(versions=True) == 4
        await t.delete_bucket("b")
        with pytest.raises(trove.BucketNotFoundError):
            await t.empty_bucket("b", versions=True)
