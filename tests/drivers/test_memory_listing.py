"""Pages of the memory driver: their content, and the number of keys that they examine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sortedcontainers import SortedDict

from trove_async.driver import ListOptions
from trove_async.drivers.memory.entry import Entry
from trove_async.drivers.memory.listing import list_page
from trove_async.errors import InvalidCursorError
from trove_async.types import ObjectInfo


def entries_of(*keys: str) -> SortedDict[str, Entry]:
    return SortedDict({key: Entry(ObjectInfo(key, 0, "etag"), b"", {}) for key in keys})


def count_keys(entries: SortedDict[str, Entry], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list to which each key is added that is taken from the entries from now on."""
    taken: list[str] = []
    walk = entries.irange

    def irange(*args: Any, **kwargs: Any) -> Iterator[str]:
        for key in walk(*args, **kwargs):
            taken.append(key)
            yield key

    monkeypatch.setattr(entries, "irange", irange)
    return taken


def test_a_group_of_any_size_examines_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = entries_of(*(f"g{group}/{number:05}" for group in range(5) for number in range(2000)), "z")
    taken = count_keys(entries, monkeypatch)
    page = list_page(entries, ListOptions(delimiter="/"))
    assert [prefix.prefix for prefix in page.prefixes] == [f"g{group}/" for group in range(5)]
    assert [info.key for info in page.objects] == ["z"]
    assert page.cursor is None
    assert len(taken) == 6


def test_a_page_examines_its_own_keys_and_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = entries_of(*(f"{number:05}" for number in range(5000)))
    taken = count_keys(entries, monkeypatch)
    page = list_page(entries, ListOptions(page_size=10, cursor="k02499"))
    assert [info.key for info in page.objects] == [f"{number:05}" for number in range(2500, 2510)]
    assert len(taken) == 11


@pytest.mark.parametrize("page_size", [1, 2, 3, 100])
def test_a_page_never_has_more_than_the_requested_number(page_size: int) -> None:
    entries = entries_of("a", "b/1", "b/2", "c", "d/1", "e", "\U0010ffff/x")
    cursor, names = None, []
    while True:
        page = list_page(entries, ListOptions(delimiter="/", page_size=page_size, cursor=cursor))
        names += sorted([p.prefix for p in page.prefixes] + [o.key for o in page.objects])
        assert len(page.prefixes) + len(page.objects) <= page_size
        cursor = page.cursor
        if cursor is None:
            break
    assert names == ["a", "b/", "c", "d/", "e", "\U0010ffff/"]


def test_start_after_within_a_group_lists_the_group_if_more_of_it_follows() -> None:
    entries = entries_of("a/1", "a/2", "b")
    page = list_page(entries, ListOptions(delimiter="/", start_after="a/1"))
    assert [p.prefix for p in page.prefixes] == ["a/"]
    assert list_page(entries, ListOptions(delimiter="/", start_after="a/2")).prefixes == []


def test_start_after_outside_the_prefix() -> None:
    entries = entries_of("a/1", "b/1", "c/1")
    keys = [[o.key for o in list_page(entries, ListOptions(prefix="b/", start_after=after)).objects] for after in "ac"]
    assert keys == [["b/1"], []]


def test_a_cursor_stays_valid_while_keys_are_added_and_removed() -> None:
    entries = entries_of("a/1", "c", "d")
    page = list_page(entries, ListOptions(delimiter="/", page_size=1))
    del entries["a/1"]
    entries.update(entries_of("a/2", "b"))
    rest = list_page(entries, ListOptions(delimiter="/", cursor=page.cursor))
    assert [o.key for o in rest.objects] == ["b", "c", "d"]
    assert rest.prefixes == []


def test_a_cursor_of_another_driver_is_refused() -> None:
    with pytest.raises(InvalidCursorError):
        list_page(entries_of("a"), ListOptions(cursor="xyz"))
