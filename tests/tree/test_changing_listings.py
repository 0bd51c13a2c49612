"""Listings of buckets that change between their pages, with every level cached, and sorted in tiny runs in files."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tree.counting import CountedTree, counted_tree, without_names
from tests.tree.test_listing import delete, groups, put
from trove_async.tree.sorted_names import Sorter

LONG = "x" * 250
KEY = st.text("ab/%", min_size=1, max_size=5) | st.sampled_from([LONG, LONG + "/a", LONG + "b", "\u00e9/\n"])
CHANGES = st.lists(st.tuples(st.sampled_from(["put", "delete"]), KEY), max_size=4)

tiny = partial(Sorter, limit=0, run=2, block=2)


class Clock:
    """Gives all directories a new time that is long ago, so that every change shows in it and it is settled."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seconds = 1_600_000_000

    def settle(self) -> None:
        self._seconds += 1
        for folder, _, _ in os.walk(self._root / "b"):
            os.utime(folder, (self._seconds, self._seconds))


def change(tree: CountedTree, keys: set[str], what: str, key: str) -> None:
    if what == "put":
        put(tree, key)
        keys.add(key)
    else:
        delete(tree, key)
        keys.discard(key)


@given(
    st.sets(KEY, max_size=12),
    st.lists(CHANGES, max_size=12),
    st.sampled_from(["", "a", LONG]),
    st.sampled_from([None, "/", "b"]),
    st.integers(1, 4),
)
@settings(max_examples=150, deadline=None)
def test_a_page_shows_what_there_is_after_its_cursor(
    keys: set[str], changes: list[list[tuple[str, str]]], prefix: str, delimiter: str | None, page_size: int
) -> None:
    with tempfile.TemporaryDirectory() as root, counted_tree(Path(root), make_sorter=tiny, many=0) as tree:
        (Path(root) / "b").mkdir()
        clock = Clock(Path(root))
        for key in keys:
            put(tree, key)
        clock.settle()
        pending = iter(changes)
        cursor: str | None = None
        while True:
            expected = groups({key for key in keys if key >= (cursor or "")}, prefix, delimiter)[:page_size]
            page = tree.page("b", prefix=prefix, delimiter=delimiter, cursor=cursor, page_size=page_size)
            shown = sorted([*(info.key for info in page.objects), *(group.prefix for group in page.prefixes)])
            assert shown == expected
            cursor = without_names(page.cursor)
            if cursor is None:
                break
            for what, key in next(pending, []):
                change(tree, keys, what, key)
            clock.settle()


@given(
    st.sets(KEY, max_size=12),
    st.lists(CHANGES, max_size=12),
    st.sampled_from(["", "a", LONG]),
    st.sampled_from([None, "/", "b"]),
    st.integers(1, 4),
)
@settings(max_examples=150, deadline=None)
def test_a_listing_skips_and_repeats_nothing_while_directories_change(
    keys: set[str], changes: list[list[tuple[str, str]]], prefix: str, delimiter: str | None, page_size: int
) -> None:
    with tempfile.TemporaryDirectory() as root, counted_tree(Path(root), make_sorter=tiny, many=0) as tree:
        (Path(root) / "b").mkdir()
        for key in keys:
            put(tree, key)
        lasting = set(keys)  # keys that exist all the time
        pending = iter(changes)
        shown: list[str] = []
        cursor: str | None = None
        while True:
            page = tree.page("b", prefix=prefix, delimiter=delimiter, cursor=cursor, page_size=page_size)
            found = sorted([*(info.key for info in page.objects), *(group.prefix for group in page.prefixes)])
            assert set(found) <= set(groups(keys, prefix, delimiter))
            shown += found
            cursor = page.cursor
            if cursor is None:
                break
            for what, key in next(pending, []):
                change(tree, keys, what, key)
                lasting &= keys
        assert shown == sorted(set(shown))
        assert set(groups(lasting, prefix, delimiter)) <= set(shown)


def test_a_level_that_did_not_change_is_read_once(tmp_path: Path) -> None:
    with counted_tree(tmp_path, make_sorter=tiny, many=0) as tree:
        (tmp_path / "b").mkdir()
        keys = ["a", "b", "c", LONG, LONG + "y"]
        for key in keys:
            put(tree, key)
        Clock(tmp_path).settle()
        page = tree.page("b", page_size=1)
        assert tree.fs.scans == 2  # the directory, and that of the names that continue
        shown = [page.objects[0].key]
        while page.cursor is not None:
            page = tree.page("b", page_size=1, cursor=page.cursor)
            assert tree.fs.scans == 0
            shown += [info.key for info in page.objects]
        assert shown == keys


def test_a_file_that_was_edited_in_place_is_listed_as_it_is(tmp_path: Path) -> None:
    with counted_tree(tmp_path, many=0) as tree:
        (tmp_path / "b").mkdir()
        for key in ("a", "b"):
            put(tree, key)
        Clock(tmp_path).settle()
        cursor = tree.page("b", page_size=1).cursor
        (tmp_path / "b/b").write_bytes(b"edited")
        (info,) = tree.page("b", page_size=1, cursor=cursor).objects
        assert tree.fs.scans == 0
        assert info.size == 6
