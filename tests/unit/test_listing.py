from __future__ import annotations

import base64
import contextlib
import json
import re
from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trove_async.errors import BackendError, InvalidCursorError
from trove_async.listing import Item, ListPage, ObjectIterator
from trove_async.types import ObjectInfo, Prefix

pytestmark = pytest.mark.asyncio


class Backend:
    """A bucket that lists its sorted keys in pages; a cursor is the last key of its page."""

    def __init__(self, *keys: str, page_size: int = 3) -> None:
        self.keys = set(keys)
        self.page_size = page_size
        self.requests: list[str | None] = []

    async def fetch(self, cursor: str | None) -> ListPage:
        self.requests.append(cursor)
        keys = sorted(self.keys)
        first = 0 if cursor is None else bisect_right(keys, cursor)
        page = keys[first : first + self.page_size]
        more = first + self.page_size < len(keys)
        return ListPage([ObjectInfo(key, 1, key) for key in page], cursor=page[-1] if more else None)


def iterate(backend: Backend, **options: object) -> ObjectIterator[ObjectInfo]:
    return ObjectIterator(backend.fetch, bucket="b", **options)  # type: ignore[arg-type]


async def keys_of(iterator: ObjectIterator[ObjectInfo]) -> list[str]:
    return [item.key async for item in iterator]


async def test_it_pages_through_all_items() -> None:
    backend = Backend(*"abcdefgh")
    assert await keys_of(iterate(backend)) == list("abcdefgh")
    assert backend.requests == [None, "c", "f"]


async def test_no_request_is_made_before_the_first_step() -> None:
    backend = Backend("a")
    iterate(backend)
    assert backend.requests == []


async def test_next_returns_the_next_item_and_raises_at_the_end() -> None:
    iterator = iterate(Backend("a", "b"))
    assert (await iterator.next()).key == "a"
    assert (await anext(iterator)).key == "b"
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await iterator.next()


async def test_all_returns_the_remaining_items() -> None:
    iterator = iterate(Backend(*"abcde"))
    await iterator.next()
    assert [item.key for item in await iterator.all()] == list("bcde")
    assert await iterator.all() == []


@pytest.mark.parametrize("max_keys", [0, 1, 3, 4, 7, 100])
async def test_max_keys_bounds_what_is_yielded(max_keys: int) -> None:
    expected = list("abcdefg")[:max_keys]
    assert await keys_of(iterate(Backend(*"abcdefg"), max_keys=max_keys)) == expected
    pages = [[item.key for item in page] async for page in iterate(Backend(*"abcdefg"), max_keys=max_keys).pages()]
    assert [key for page in pages for key in page] == expected
    assert all(pages)


async def test_max_keys_of_zero_makes_no_request() -> None:
    backend = Backend("a")
    assert await iterate(backend, max_keys=0).all() == []
    assert backend.requests == []


async def test_pages_are_those_of_the_backend() -> None:
    iterator = iterate(Backend(*"abcdefgh"))
    await iterator.next()
    assert [[item.key for item in page] async for page in iterator.pages()] == [["b", "c"], ["d", "e", "f"], ["g", "h"]]


async def test_empty_pages_with_a_cursor_are_skipped() -> None:
    pages = {
        None: ListPage(cursor="1"),
        "1": ListPage([ObjectInfo("a", 1, "e")], cursor="2"),
        "2": ListPage(cursor="3"),
        "3": ListPage(cursor=None),
    }

    async def fetch(cursor: str | None) -> ListPage:
        return pages[cursor]

    iterator: ObjectIterator[ObjectInfo] = ObjectIterator(fetch, bucket="b")
    assert [item.key async for item in iterator] == ["a"]
    assert iterator.cursor is None


async def test_a_backend_that_repeats_its_cursor_does_not_hang() -> None:
    async def fetch(cursor: str | None) -> ListPage:
        return ListPage(cursor="same")

    iterator: ObjectIterator[ObjectInfo] = ObjectIterator(fetch, bucket="b")
    with pytest.raises(BackendError, match="does not end"):
        await iterator.all()


async def test_objects_and_prefixes_come_in_one_order() -> None:
    async def fetch(cursor: str | None) -> ListPage:
        return ListPage([ObjectInfo("a", 1, "e"), ObjectInfo("c", 1, "e")], [Prefix("b/"), Prefix("d/")])

    iterator: ObjectIterator[Item] = ObjectIterator(fetch, bucket="b", delimiter="/")
    assert [item.key async for item in iterator] == ["a", "b/", "c", "d/"]


@pytest.mark.parametrize("taken", range(9))
async def test_a_cursor_continues_after_the_last_item_taken(taken: int) -> None:
    backend = Backend(*"abcdefgh")
    iterator = iterate(backend)
    for _ in range(taken):
        await iterator.next()
    cursor = iterator.cursor
    if taken == 8:
        assert cursor is None
    else:
        assert await keys_of(iterate(backend, cursor=cursor)) == list("abcdefgh")[taken:]


async def test_a_cursor_points_after_the_page_that_was_taken() -> None:
    backend = Backend(*"abcdefgh")
    async for page in iterate(backend).pages():
        assert [item.key for item in page] == ["a", "b", "c"]
        break
    iterator = iterate(backend)
    await anext(iterator.pages())
    assert await keys_of(iterate(backend, cursor=iterator.cursor)) == list("defgh")


listings = st.lists(st.text("abc/", min_size=1, max_size=3), max_size=20, unique=True)


@given(listings, st.integers(0, 20), listings, listings, st.integers(1, 5), st.integers(1, 5))
async def test_a_cursor_neither_repeats_nor_skips_whatever_is_inserted_and_deleted(
    keys: list[str], taken: int, inserted: list[str], deleted: list[str], first_size: int, second_size: int
) -> None:
    backend = Backend(*keys, page_size=first_size)
    iterator = iterate(backend)
    seen = [(await iterator.next()).key for _ in range(min(taken, len(keys)))]
    cursor = iterator.cursor
    backend.keys = (backend.keys | set(inserted)) - set(deleted)
    backend.page_size = second_size
    if cursor is None:
        assert seen == sorted(keys)
        return
    rest = await keys_of(iterate(backend, cursor=cursor))
    assert rest == [key for key in sorted(backend.keys) if not seen or key > seen[-1]]


async def test_max_keys_counts_what_is_yielded_after_the_cursor() -> None:
    backend = Backend(*"abcdefgh")
    iterator = iterate(backend, max_keys=2)
    assert await keys_of(iterator) == ["a", "b"]
    backend.page_size = 1
    assert await keys_of(iterate(backend, max_keys=2, cursor=iterator.cursor)) == ["c", "d"]


@pytest.mark.parametrize("other", [{"bucket": "c"}, {"prefix": "p"}, {"delimiter": "/"}, {"start_after": "x"}])
async def test_a_cursor_is_refused_by_another_listing(other: dict[str, str]) -> None:
    backend = Backend(*"abc")
    iterator = iterate(backend)
    await iterator.next()
    requests = list(backend.requests)
    with pytest.raises(InvalidCursorError):
        ObjectIterator(backend.fetch, **{"bucket": "b", "cursor": iterator.cursor, **other})  # type: ignore[arg-type]
    assert backend.requests == requests


async def test_a_cursor_includes_its_start_after() -> None:
    iterator = iterate(Backend(*"abc"), start_after="0")
    await iterator.next()
    resumed = iterate(Backend(*"abc"), cursor=iterator.cursor)
    assert resumed.start_after == "0"


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=8),
)


@given(st.one_of(st.text(), st.binary().map(lambda b: base64.urlsafe_b64encode(b).decode()), json_values.map(encoded)))
async def test_a_malformed_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursorError):
        iterate(Backend("a"), cursor=cursor)


@given(st.data())
async def test_a_damaged_cursor_is_refused_or_still_valid(data: st.DataObject) -> None:
    iterator = iterate(Backend(*"abcdef"))
    await iterator.next()
    cursor = list(iterator.cursor or "")
    position = data.draw(st.integers(0, len(cursor) - 1))
    cursor[position] = data.draw(st.characters(codec="ascii"))
    with contextlib.suppress(InvalidCursorError):
        iterate(Backend(*"abcdef"), cursor="".join(cursor))


@pytest.mark.parametrize(
    "value", [1, b"abc", ["a"], "[" * 100_000, encoded("x"), base64.b64encode(b"[" * 99_999).decode()]
)
async def test_a_cursor_of_the_wrong_type_is_refused(value: object) -> None:
    with pytest.raises(InvalidCursorError):
        iterate(Backend("a"), cursor=value)


# Pages of a broken backend


def info(key: str, size: int = 1) -> ObjectInfo:
    return ObjectInfo(key, size, "e")


def groups(*prefixes: str) -> list[Prefix]:
    return [Prefix(prefix) for prefix in prefixes]


def listing(*pages: ListPage, prefix: str = "") -> ObjectIterator[Item]:
    """Return a listing of these pages; a page without a cursor of its own has the number of the next page as cursor."""

    async def fetch(cursor: str | None) -> ListPage:
        return pages[int(cursor or 0)]

    return ObjectIterator(fetch, bucket="b", prefix=prefix, delimiter="/")


@pytest.mark.parametrize(
    ("pages", "message"),
    [
        ([ListPage([info("b"), info("a")])], "'a' after 'b'"),
        ([ListPage([info("a"), info("a")])], "'a' after 'a'"),
        ([ListPage([info("\U0001f600"), info("\uff5e")])], "'\uff5e' after '\U0001f600'"),
        ([ListPage([info("b")], cursor="1"), ListPage([info("a")])], "'a' after 'b'"),
        ([ListPage([info("b")], cursor="1"), ListPage([info("b"), info("c")])], "'b' after 'b'"),
        ([ListPage(prefixes=groups("b/", "a/"))], "'a/' after 'b/'"),
        ([ListPage(prefixes=groups("a/"), cursor="1"), ListPage([info("b")], groups("a/"))], "'a/' after 'a/'"),
        ([ListPage([info("a/")], groups("a/"))], "'a/' after 'a/'"),
        ([ListPage([info("a", -1)])], "negative size"),
        ([ListPage(cursor="1"), ListPage(cursor="2"), ListPage(cursor="1")], "repeats its cursor"),
        ([ListPage([info("a")], cursor="1"), ListPage(cursor="2"), ListPage(cursor="1")], "repeats its cursor"),
    ],
)
async def test_a_backend_that_breaks_the_contract_is_reported(pages: list[ListPage], message: str) -> None:
    with pytest.raises(BackendError, match=re.escape(message)):
        await listing(*pages).all()


@pytest.mark.parametrize("keys", [["a", "p/1"], ["p/1", "q"], ["P/1", "p/1", "q"]])
@pytest.mark.parametrize("as_groups", [False, True])
async def test_names_outside_the_prefix_are_reported(keys: list[str], as_groups: bool) -> None:
    page = ListPage(prefixes=groups(*keys)) if as_groups else ListPage([info(key) for key in keys])
    with pytest.raises(BackendError, match="does not begin with 'p/'"):
        await listing(page, prefix="p/").all()


async def test_a_backend_that_sends_empty_pages_forever_is_an_error() -> None:
    requests = 0

    async def fetch(cursor: str | None) -> ListPage:
        nonlocal requests
        requests += 1
        return ListPage(cursor=str(requests))

    iterator: ObjectIterator[ObjectInfo] = ObjectIterator(fetch, bucket="b")
    with pytest.raises(BackendError, match="1000 empty pages of a listing in a row"):
        await iterator.all()
    assert requests == 1000


async def test_items_before_a_broken_page_are_not_lost() -> None:
    iterator = listing(ListPage([info("b")], cursor="1"), ListPage([info("a")]))
    assert (await iterator.next()).key == "b"
    with pytest.raises(BackendError):
        await iterator.next()


async def test_a_resumed_listing_is_checked_from_its_first_page_on() -> None:
    pages = [ListPage([info("a"), info("b")], cursor="1"), ListPage([info("c")], cursor="2"), ListPage([info("b")])]
    iterator = listing(*pages)
    await iterator.next()

    async def fetch(cursor: str | None) -> ListPage:
        return pages[int(cursor or 0)]

    resumed: ObjectIterator[Item] = ObjectIterator(fetch, bucket="b", delimiter="/", cursor=iterator.cursor)
    assert [(await resumed.next()).key for _ in range(2)] == ["b", "c"]
    with pytest.raises(BackendError, match="'b' after 'c'"):
        await resumed.next()
