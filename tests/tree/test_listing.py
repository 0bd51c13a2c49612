"""Listings in order, in pages, in groups, with any names and with foreign files in the directories."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tree.counting import CountedTree, counted_tree
from trove_async.driver import ListOptions
from trove_async.tree import run_sync
from trove_async.tree.attributes import NONE

LONG = "x" * 240


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[CountedTree]:
    (tmp_path / "b").mkdir()
    with counted_tree(tmp_path) as tree:
        yield tree


def put(tree: CountedTree, key: str) -> None:
    async def work() -> None:
        temporary = await tree.fs.create_temporary()
        try:
            await tree.tree.objects.commit("b", key, temporary, NONE, lambda: None)
        finally:
            await tree.fs.discard(temporary)

    run_sync(work())


def delete(tree: CountedTree, key: str) -> None:
    run_sync(tree.tree.objects.delete("b", key, lambda: None))


def settle(path: Path) -> None:
    os.utime(path, (1_600_000_000, 1_600_000_000))


def groups(keys: set[str], prefix: str, delimiter: str | None) -> list[str]:
    """Return what a listing has, in order; groups end in the delimiter and are listed once."""
    shown: list[str] = []
    for key in sorted(keys):
        if not key.startswith(prefix):
            continue
        at = -1 if delimiter is None else key.find(delimiter, len(prefix))
        item = key if delimiter is None or at < 0 else key[: at + len(delimiter)]
        if item not in shown[-1:]:
            shown.append(item)
    return shown


SMALL = st.text("ab/-%.", min_size=1, max_size=6)


DELIMITERS = st.sampled_from([None, "/", "-", "a/", "b"])


@given(st.sets(SMALL, max_size=12), SMALL | st.just(""), DELIMITERS, st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_joined_pages_are_the_listing(keys: set[str], prefix: str, delimiter: str | None, page_size: int) -> None:
    with tempfile.TemporaryDirectory() as root, counted_tree(Path(root)) as tree:
        (Path(root) / "b").mkdir()
        for key in keys:
            put(tree, key)
        shown: list[str] = []
        cursor: str | None = None
        while True:
            page = tree.page("b", prefix=prefix, delimiter=delimiter, cursor=cursor, page_size=page_size)
            items = [*(info.key for info in page.objects), *(group.prefix for group in page.prefixes)]
            assert len(items) <= page_size
            shown += sorted(items)
            cursor = page.cursor
            if cursor is None:
                break
            assert len(items) == page_size
        assert shown == groups(keys, prefix, delimiter)


def test_groups_do_not_read_a_directory_repeatedly(tree: CountedTree, tmp_path: Path) -> None:
    for number in range(500):
        folder = tmp_path / f"b/d{number:03}"
        folder.mkdir()
        (folder / "object").touch()
    page = tree.page("b", delimiter="/")
    assert len(page.prefixes) == 500
    assert tree.fs.entries <= 500 + 500
    page = tree.page("b", delimiter="/", page_size=100)
    assert [page.prefixes[-1].prefix, page.cursor] == ["d099/", "d100/"]
    assert tree.fs.entries <= 500 + 101


def test_a_group_with_only_empty_directories_is_not_listed(tree: CountedTree, tmp_path: Path) -> None:
    (tmp_path / "b/empty/deeper").mkdir(parents=True)
    (tmp_path / "b/full/empty").mkdir(parents=True)
    (tmp_path / "b/full/zz").touch()
    (tmp_path / "b/deep/1/2/3/4/5/6/7/8/9/10/11/12").mkdir(parents=True)
    (tmp_path / "b/deep/1/2/3/4/5/6/7/8/9/10/11/12/object").touch()
    assert [group.prefix for group in tree.page("b", delimiter="/").prefixes] == ["deep/", "full/"]


def test_a_cursor_within_a_group_lists_the_group_if_more_of_it_follows(tree: CountedTree, tmp_path: Path) -> None:
    (tmp_path / "b/group").mkdir()
    for name in "ac":
        (tmp_path / f"b/group/{name}").touch()
    assert [group.prefix for group in tree.page("b", delimiter="/", cursor="group/b").prefixes] == ["group/"]
    assert tree.page("b", delimiter="/", cursor="group/d").prefixes == []


def test_a_long_name_that_is_added_later_is_not_missed(tree: CountedTree, tmp_path: Path) -> None:
    """It is stored in a directory of continued components, and the time of the directory above does not change."""
    for name in "abcdef":
        (tmp_path / f"b/{name}").touch()
    put(tree, LONG + "1")
    settle(tmp_path / "b")
    assert tree.keys("b", page_size=2) == [*"abcdef", LONG + "1"]
    put(tree, LONG + "2")
    settle(tmp_path / "b")
    assert tree.keys("b", page_size=2) == [*"abcdef", LONG + "1", LONG + "2"]
    delete(tree, LONG + "1")
    settle(tmp_path / "b")
    assert tree.keys("b", page_size=2) == [*"abcdef", LONG + "2"]


def test_long_names_are_in_order_among_the_others(tree: CountedTree) -> None:
    keys = {LONG, LONG + "-", LONG + "/x", LONG + "a", LONG * 2 + "z", LONG * 2, LONG[:-1] + "y", LONG + "a/b"}
    for key in keys:
        put(tree, key)
    assert tree.keys("b") == tree.keys("b", page_size=1) == sorted(keys)
    assert tree.keys("b", prefix=LONG + "a") == [LONG + "a", LONG + "a/b"]


@pytest.mark.parametrize(
    "path",
    ["short%C/rest", f"{'x' * 100}%C/rest", "%00", "a%2", "new\nline", f"{LONG}%C/%C", f"{'d/' * 600}file", "a%D"],
)
def test_names_that_no_key_produces_are_not_objects(tree: CountedTree, tmp_path: Path, path: str) -> None:
    target = tmp_path / "b"
    for name in path.split("/"):
        target.mkdir(exist_ok=True)
        target = target / name
    target.touch()
    assert tree.keys("b") == []


def test_names_that_are_not_text_are_not_objects(tree: CountedTree, tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/b/\xff\xfe", "wb"):
        pass
    os.mkdir(os.fsencode(tmp_path) + b"/b/\xfd")
    (tmp_path / "b/object").touch()
    assert tree.keys("b") == ["object"]


def test_a_file_with_any_time_is_listed(tree: CountedTree, tmp_path: Path) -> None:
    (tmp_path / "b/old").touch()
    os.utime(tmp_path / "b/old", (-10, -10))
    (info,) = tree.page("b").objects
    assert info.last_modified is not None
    assert info.last_modified.year == 1969
    try:
        os.utime(tmp_path / "b/old", (10**12, 10**12))
    except OSError:
        return  # the file system does not support this year
    assert [info.key for info in tree.page("b").objects] == ["old"]


def test_threads_can_list_while_the_directory_changes(tree: CountedTree, tmp_path: Path) -> None:
    """They share what is kept in memory; keys that exist throughout are listed by each."""
    stay = [f"k{number:03}" for number in range(60)]
    for name in stay:
        (tmp_path / "b" / name).touch()
    settle(tmp_path / "b")
    failures: list[BaseException] = []

    def walk() -> None:
        try:
            for _ in range(60):
                keys: list[str] = []
                cursor: str | None = None
                while cursor is not None or not keys:
                    options = ListOptions(cursor=cursor, page_size=7)
                    page = run_sync(tree.tree.listing.page("b", options))
                    keys += [info.key for info in page.objects]
                    cursor = page.cursor
                    if cursor is None:
                        break
                assert [key for key in keys if key.startswith("k")] == stay
        except BaseException as error:  # noqa: BLE001 - it fails the test
            failures.append(error)

    threads = [threading.Thread(target=walk) for _ in range(4)]
    for thread in threads:
        thread.start()
    seconds = 1_600_000_000
    while any(thread.is_alive() for thread in threads):
        seconds += 1
        (tmp_path / "b/other").touch()
        os.utime(tmp_path / "b", (seconds, seconds))
        (tmp_path / "b/other").unlink()
        os.utime(tmp_path / "b", (seconds, seconds))
    for thread in threads:
        thread.join()
    assert failures == []
