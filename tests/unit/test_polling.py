from __future__ import annotations

import asyncio
import logging
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import pytest

import trove_async
from trove_async.driver import ListOptions, WatchOptions
from trove_async.driver.polling import poll
from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    BucketNotFoundError,
    ThrottledError,
    TroveError,
    UnavailableError,
)
from trove_async.listing import ListPage
from trove_async.store import Trove
from trove_async.types import EventType, ObjectEvent, ObjectInfo

pytestmark = pytest.mark.asyncio

CREATED, UPDATED, DELETED = EventType.CREATED, EventType.UPDATED, EventType.DELETED

Step = Callable[[], Awaitable[object]]


class OverError(Exception):
    """The script has ended."""


class Backend:
    """The memory driver's listing in pages of a chosen size, and a sleep that runs the next step of a script.

    Attributes:
        script: the steps, one for each sleep; after the last step the watch is ended.
        errors: each is raised by one listing before any that succeeds; None lets one succeed.
        cursors: the cursor of each request.
        slept: the seconds of each sleep.
    """

    def __init__(self, store: Trove, page_size: int = 1000) -> None:
        self.store = store
        self.page_size = page_size
        self.script: list[Step] = []
        self.errors: list[TroveError | None] = []
        self.cursors: list[str | None] = []
        self.slept: list[float] = []
        self.ready = 0

    async def list_page(self, bucket: str, options: ListOptions) -> ListPage:
        self.cursors.append(options.cursor)
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error
        return await self.store.driver.list_page(bucket, replace(options, page_size=self.page_size))

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if not self.script:
            raise OverError
        await self.script.pop(0)()

    def watch(
        self, *, prefix: str = "", events: frozenset[EventType] = frozenset(EventType), bucket: str = "b"
    ) -> AsyncGenerator[ObjectEvent, None]:
        options = WatchOptions(prefix=prefix, events=events, poll_interval=7, on_ready=self._on_ready)
        return poll(self.list_page, bucket, options, sleep=self.sleep)

    def _on_ready(self) -> None:
        self.ready += 1

    async def seen(self, *script: Step, prefix: str = "", events: frozenset[EventType] = frozenset(EventType)) -> str:
        """Run a script while watching, and return the events: ``+``, ``-`` or ``~`` before each key."""
        self.script = list(script)
        found = []
        try:
            async for event in self.watch(prefix=prefix, events=events):
                assert event.bucket == "b"
                found.append({CREATED: "+", UPDATED: "~", DELETED: "-"}[event.type] + event.key)
        except OverError:
            return " ".join(found)
        raise AssertionError("the watch ended by itself")

    def put(self, *keys: str, data: bytes = b"x") -> Step:
        async def work() -> None:
            for key in keys:
                await self.store.put("b", key, data)

        return work

    def delete(self, *keys: str) -> Step:
        return lambda: self.store.delete_many("b", keys)


@asynccontextmanager
async def backend(page_size: int = 1000) -> AsyncIterator[Backend]:
    async with trove_async.open("memory://") as store:
        await store.create_bucket("b")
        yield Backend(store, page_size)


async def nothing() -> None:
    """A step in which nothing changes."""


@pytest.mark.parametrize("page_size", [1, 2, 3, 1000])
async def test_changes_are_found_with_any_page_size(page_size: int) -> None:
    async with backend(page_size) as b:
        await b.put("a", "c", "e", "g")()
        seen = await b.seen(
            nothing,
            b.put("b", "d"),
            b.put("a", "g", data=b"yy"),
            b.delete("a", "c", "e", "g"),
            b.put("z"),
            b.delete("b", "d", "z"),
            nothing,
            b.put("again"),
        )
        expected = ["+b +d", "~a ~g", "-a -c -e -g", "+z", "-b -d -z", "+again"]
        assert seen.split() == " ".join(expected).split()


@pytest.mark.parametrize("page_size", [1, 3])
async def test_one_interval_may_hold_every_kind_of_change(page_size: int) -> None:
    async with backend(page_size) as b:
        await b.put("a", "b", "c", "d")()

        async def change() -> None:
            await b.delete("a", "d")()
            await b.put("b", data=b"yy")()
            await b.put("aa", "e")()

        assert set((await b.seen(change)).split()) == {"-a", "-d", "~b", "+aa", "+e"}


async def test_the_next_listing_starts_one_interval_after_the_last() -> None:
    async with backend() as b:
        await b.seen(nothing, nothing)
        assert b.slept == [7, 7, 7]
        assert len(b.cursors) == 3


async def test_quick_changes_of_a_key_are_at_most_one_event() -> None:
    async with backend() as b:
        await b.put("twice", "back")()

        async def change() -> None:
            await b.put("twice", data=b"1")()
            await b.put("twice", data=b"2")()
            await b.delete("back")()
            await b.put("back", data=b"new")()
            await b.put("brief")()
            await b.delete("brief")()

        assert (await b.seen(change)).split() == ["~back", "~twice"]


async def test_prefix_and_types_filter_the_events() -> None:
    async with backend() as b:
        await b.put("p/old", "q/old")()
        script = [b.put("p/new", "q/new", "p"), b.put("p/new", data=b"yy"), b.delete("p/old", "q/old")]
        assert await b.seen(*script, prefix="p/") == "+p/new ~p/new -p/old"
        await b.put("p/old")()
        await b.delete("p/new")()
        assert await b.seen(*script, prefix="p/", events=frozenset({DELETED})) == "-p/old"


async def test_the_order_of_events_holds_for_each_key() -> None:
    keys = ["", "\x01", "ä", "z", "中", "😀", "\uffee", "%00", "a\nb"]
    async with backend(2) as b:
        await b.put(*(f"k{key}" for key in keys))()
        assert await b.seen(nothing, nothing) == ""
        assert (await b.seen(b.delete(*(f"k{key}" for key in keys)))).count("-") == len(keys)


async def test_an_event_has_the_known_properties() -> None:
    async with backend() as b:
        b.script = [b.put("k", data=b"12345"), b.delete("k")]
        async with aclosing(b.watch()) as events:
            created = await anext(events)
            info = await b.store.head("b", "k")
            assert (created.type, created.size, created.etag) == (CREATED, 5, info.etag)
            assert created.time == info.last_modified
            deleted = await anext(events)
            assert (deleted.type, deleted.size, deleted.etag) == (DELETED, None, None)
            assert deleted.time is not None
            assert deleted.time.tzinfo is not None


async def test_it_is_ready_once_all_keys_were_listed() -> None:
    async with backend(1) as b:
        await b.put("a", "b", "c")()

        async def list_page(bucket: str, options: ListOptions) -> ListPage:
            assert b.ready == 0
            return await b.list_page(bucket, options)

        options = WatchOptions(on_ready=b._on_ready)
        events = poll(list_page, "b", options, sleep=b.sleep)
        with pytest.raises(OverError):
            await anext(events)
        assert b.ready == 1
        assert len(b.cursors) == 3


async def test_missing_and_deleted_bucket() -> None:
    async with backend() as b:
        with pytest.raises(BucketNotFoundError):
            await anext(b.watch(bucket="missing"))
        assert b.ready == 0
        b.script = [lambda: b.store.delete_bucket("b")]
        with pytest.raises(BucketNotFoundError):
            await anext(b.watch())
        assert b.ready == 1


@pytest.fixture
def longest_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every random delay be as long as it can be."""
    monkeypatch.setattr("trove_async.jitter.jitter.uniform", lambda low, high: high)


@pytest.mark.usefixtures("longest_delays")
async def test_transient_errors_are_survived_and_the_page_is_requested_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with backend(1) as b:
        await b.put("a", "b")()

        async def change() -> None:
            b.errors = [None, *(UnavailableError() for _ in range(8)), ThrottledError(retry_after=90), None]
            await b.put("b", data=b"yy")()
            b.cursors.clear()

        with caplog.at_level(logging.WARNING, "trove_async"):
            assert await b.seen(change, *[nothing] * 9) == "~b"
        assert b.cursors[0] is None
        assert len(set(b.cursors[1:])) == 1, "only the page that failed is requested again"
        assert b.slept == [7, 1, 2, 4, 8, 16, 32, 60, 60, 90 + 60, 7]
        assert len(caplog.records) == 9


@pytest.mark.usefixtures("longest_delays")
async def test_the_delay_is_short_again_after_a_success() -> None:
    async with backend(1) as b:
        await b.put("a", "b")()

        async def fail() -> None:
            b.errors = [UnavailableError(), UnavailableError(), None, UnavailableError(), None]

        await b.seen(fail, *[nothing] * 3, fail, *[nothing] * 3)
        assert b.slept == [7, 1, 2, 1, 7, 1, 2, 1, 7]


@pytest.mark.parametrize("error", [AccessDeniedError(), UnavailableError(retryable=False)])
async def test_other_errors_end_the_watch(error: TroveError) -> None:
    async with backend() as b:

        async def fail() -> None:
            b.errors = [error]

        b.script = [fail]
        with pytest.raises(type(error)):
            await anext(b.watch())
        assert b.slept == [7]


async def test_a_transient_error_before_the_subscription_is_raised() -> None:
    async with backend() as b:
        b.errors = [UnavailableError()]
        with pytest.raises(UnavailableError):
            await anext(b.watch())
        assert b.ready == 0
        assert b.slept == []


async def test_empty_pages_are_skipped_and_a_repeated_cursor_is_an_error() -> None:
    a, z = ObjectInfo("a", 1, "1"), ObjectInfo("z", 1, "1")
    full = [ListPage([a], cursor="1"), ListPage(cursor="2"), ListPage([z])]
    gone = [ListPage(cursor="1"), ListPage([a], cursor="2"), ListPage()]
    stuck = [ListPage(cursor="1"), ListPage(cursor="1")]
    pages = [*full, *full, *gone, *stuck]

    async def list_page(bucket: str, options: ListOptions) -> ListPage:
        return pages.pop(0)

    async def sleep(seconds: float) -> None:
        pass

    events = poll(list_page, "b", WatchOptions(), sleep=sleep)
    event = await anext(events)
    assert (event.type, event.key) == (DELETED, "z")
    with pytest.raises(BackendError, match="repeats its cursor"):
        await anext(events)


async def test_a_slow_consumer_delays_the_listing_and_loses_nothing() -> None:
    async with backend(2) as b:
        b.script = [b.put(*(f"k{n}" for n in range(9)))]
        events = poll(b.list_page, "b", WatchOptions(buffer_size=1), sleep=b.sleep)
        found = [(await anext(events)).key]
        requests = len(b.cursors)
        await b.delete("k1", "k8")()  # the page with k1 has been read, the page with k8 has not
        assert len(b.cursors) == requests
        b.script = [nothing]
        found += [(await anext(events)).key for _ in range(8)]
        assert found == [*(f"k{n}" for n in range(8)), "k1"]
        with pytest.raises(OverError):
            await anext(events)


async def test_it_ends_wherever_it_is_cancelled_and_leaves_no_task() -> None:
    async with backend(1) as b:
        await b.put("a", "b")()
        before = asyncio.all_tasks()
        entered = asyncio.Event()

        async def stall(*_: object) -> ListPage:
            entered.set()
            await asyncio.Event().wait()
            raise AssertionError

        async def list_once(bucket: str, options: ListOptions) -> ListPage:
            return await b.list_page(bucket, options) if len(b.cursors) < 3 else await stall()

        async def at_once(seconds: float) -> None:
            pass

        async def asleep(seconds: float) -> None:
            await stall()

        for list_page, sleep in ((stall, at_once), (list_once, at_once), (b.list_page, asleep)):
            entered.clear()
            b.cursors.clear()
            step = asyncio.ensure_future(anext(poll(list_page, "b", WatchOptions(), sleep=sleep)))
            await entered.wait()
            step.cancel()
            with pytest.raises(asyncio.CancelledError):
                await step
        assert asyncio.all_tasks() == before


async def test_memory_for_each_key_is_bounded() -> None:
    count, page = 50_000, 1000
    digests = [f"{n * 0x9E3779B97F4A7C15F39CC0605CEDC834 % 2**128:032x}" for n in range(count)]

    async def list_page(bucket: str, options: ListOptions) -> ListPage:
        start = int(options.cursor or 0)
        found = [ObjectInfo(f"photos/{n:08d}.jpg", 1, digests[n]) for n in range(start, start + page)]
        return ListPage(found, cursor=str(start + page) if start + page < count else None)

    held: list[int] = []

    async def sleep(seconds: float) -> None:
        held.append(tracemalloc.get_traced_memory()[0])
        if len(held) == 3:
            raise OverError

    tracemalloc.start()
    try:
        with pytest.raises(OverError):
            await anext(poll(list_page, "b", WatchOptions(), sleep=sleep))
    finally:
        tracemalloc.stop()
    assert max(held) < 40 * count
