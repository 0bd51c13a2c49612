"""The cost of a page of a listing in buckets of 10,000 and 100,000 objects; counted, not timed."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tree.counting import CountedTree, CountingFileSystem, counted_tree, without_names
from trove_async.tree.filesystem import TakeNames

OBJECTS = 100_000
FEWER = 10_000
FULL = (0, 7, 50, 99)
"""The directories of ``deep`` that tests look into; each of the others has one file."""
PAGE = 1000
MEMORY = 2 * 1024 * 1024


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """Create ``flat``, a directory of 100,000 files, ``some``, one of 10,000, and ``deep``, without a driver.

    ``deep`` has 100 directories, of which those in `FULL` have 100 directories of ten files.
    """
    memory = "/dev/shm"  # in memory, if possible: there many files are created and removed quickly
    root = Path(tempfile.mkdtemp(prefix="trove-scale-", dir=memory if os.access(memory, os.W_OK) else None))
    for name, count in (("flat", OBJECTS), ("some", FEWER)):
        _place(root / name, (f"k{number:06}" for number in range(count)))
    for one in range(100):
        for two in range(100 if one in FULL else 1):
            _place(root / f"deep/a{one:02}/b{two:02}", (f"c{three}" for three in range(10)))
    try:
        yield root
    finally:
        shutil.rmtree(root)


def _place(folder: Path, names: Iterator[str]) -> None:
    os.makedirs(folder)
    descriptor = os.open(folder, os.O_RDONLY)
    for name in names:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)
    _settle(folder)


def _settle(folder: Path) -> None:
    """Set a directory's time so far back that no later change can have the same time."""
    os.utime(folder, (1_600_000_000, 1_600_000_000))


@pytest.fixture
def tree(root: Path) -> Iterator[CountedTree]:
    with counted_tree(root) as tree:
        yield tree


@pytest.mark.parametrize(
    ("cursor", "first", "following"),
    [(None, "k000000", "k001000"), ("k050000", "k050000", "k051000"), ("k099000", "k099000", None)],
    ids=["first", "middle", "last"],
)
def test_a_cold_page_of_a_flat_bucket(tree: CountedTree, cursor: str | None, first: str, following: str | None) -> None:
    tracemalloc.start()
    page = tree.page("flat", cursor=cursor)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    at = int(first[1:])
    assert [info.key for info in page.objects] == [f"k{number:06}" for number in range(at, at + PAGE)]
    assert without_names(page.cursor) == following
    assert tree.fs.entries <= OBJECTS
    assert tree.fs.scans == 1
    assert tree.fs.stats <= PAGE + 5
    assert peak <= MEMORY


@pytest.mark.parametrize(
    ("cursor", "first", "following"),
    [(None, "a00/b00/c0", "a01/b00/c0"), ("a99/b00/c0", "a99/b00/c0", None)],
    ids=["first", "last"],
)
def test_a_cold_page_of_a_deep_bucket_reads_only_the_directories_on_its_path(
    tree: CountedTree, cursor: str | None, first: str, following: str | None
) -> None:
    page = tree.page("deep", cursor=cursor)
    branch = first[:4]
    assert [info.key for info in page.objects] == [f"{branch}b{two:02}/c{n}" for two in range(100) for n in range(10)]
    assert without_names(page.cursor) == following
    # The root, one complete branch, and the first leaf of the next, to know that more follows.
    assert tree.fs.entries <= 100 + 100 + 1000 + 100 + 10
    assert tree.fs.stats <= PAGE + 5


def test_a_prefix_reads_only_its_directory(tree: CountedTree) -> None:
    page = tree.page("deep", prefix="a50/b5")
    assert len(page.objects) == 100
    assert tree.fs.entries <= 100 + 100
    assert tree.fs.stats <= 100 + 10


def test_groups_need_one_look_into_each(tree: CountedTree) -> None:
    page = tree.page("deep", delimiter="/")
    assert [prefix.prefix for prefix in page.prefixes] == [f"a{one:02}/" for one in range(100)]
    assert page.objects == []
    assert tree.fs.entries <= 100 + 2 * 100
    assert tree.page("deep", prefix="a07/", delimiter="/").prefixes[-1].prefix == "a07/b99/"
    assert tree.fs.entries <= 100 + 100
    page = tree.page("flat", delimiter="0", page_size=10)
    assert [prefix.prefix for prefix in page.prefixes] == ["k0"]
    assert tree.fs.entries <= 2 * OBJECTS


@pytest.mark.parametrize(
    ("bucket", "objects"), [("some", FEWER), pytest.param("flat", OBJECTS, marks=pytest.mark.long)]
)
def test_a_walk_through_a_flat_bucket_reads_the_directory_once(tree: CountedTree, bucket: str, objects: int) -> None:
    entries = stats = 0
    keys: list[str] = []
    cursor: str | None = None
    while cursor is not None or not keys:
        page = tree.page(bucket, cursor=cursor)
        keys += [info.key for info in page.objects]
        entries += tree.fs.entries
        stats += tree.fs.stats
        cursor = page.cursor
    assert keys == [f"k{number:06}" for number in range(objects)]
    assert entries == objects
    assert stats <= objects + 5 * (objects // PAGE)


def test_a_directory_that_changes_all_the_time_is_read_once_for_a_listing(tree: CountedTree, root: Path) -> None:
    entries = 0
    keys: list[str] = []
    listing, cursor = "", None
    tracemalloc.start()
    try:
        while cursor is not None or not keys:
            page = tree.page("some", cursor=cursor)
            keys += [info.key for info in page.objects]
            entries += tree.fs.entries
            listing, cursor = cursor or "", page.cursor
            (root / "some/incoming").touch()
            (root / "some/incoming").unlink()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        _settle(root / "some")
    assert keys == [f"k{number:06}" for number in range(FEWER)]
    assert entries == FEWER
    assert peak <= MEMORY + FEWER * 200
    assert tree.tree.listing._names.remembered.get_for(listing.partition("\0")[2]) == {}


def test_a_page_from_memory_reads_no_directory(tree: CountedTree) -> None:
    cursor = tree.page("flat").cursor
    cursor = tree.page("flat", cursor=cursor).cursor
    tracemalloc.start()
    page = tree.page("flat", cursor=cursor)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert page.objects[0].key == "k002000"
    assert tree.fs.entries == 0
    assert tree.fs.stats <= PAGE + 5
    assert peak <= MEMORY


def test_a_cursor_whose_names_were_removed_lists_what_there_is(tree: CountedTree, root: Path) -> None:
    cursor = without_names(tree.page("some").cursor)
    cursor = without_names(tree.page("some", cursor=cursor).cursor)
    assert cursor == "k002000"
    new, gone = root / "some/k002000-new", root / "some/k002001"
    try:
        new.touch()
        gone.unlink()
        _settle_anew(root / "some", 1)
        keys = [info.key for info in tree.page("some", cursor=cursor).objects]
        assert keys[:3] == ["k002000", "k002000-new", "k002002"]
        # Once more, right after a change, while the directory's time may still represent two states.
        new.unlink()
        gone.touch()
        keys = [info.key for info in tree.page("some", cursor=cursor).objects]
        assert keys[:3] == ["k002000", "k002001", "k002002"]
    finally:
        new.unlink(missing_ok=True)
        gone.touch()
        _settle(root / "some")


def test_changes_within_a_tick_of_the_clock_are_listed(tree: CountedTree, root: Path) -> None:
    """As long as a directory's time may also be that of a later state, its names are not kept."""
    now = (time.time_ns() + 10**10,) * 2
    os.utime(root / "some", ns=now)
    new = root / "some/k002000-new"
    try:
        cursor = without_names(tree.page("some").cursor)
        cursor = without_names(tree.page("some", cursor=cursor).cursor)
        new.touch()
        os.utime(root / "some", ns=now)
        assert tree.page("some", cursor=cursor).objects[1].key == "k002000-new"
    finally:
        new.unlink(missing_ok=True)
        _settle(root / "some")


def test_changes_while_a_directory_is_read_are_on_the_next_page(
    tree: CountedTree, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = root / "some/k003000-new"
    original = CountingFileSystem.read_names

    async def read_names(self: CountingFileSystem, path: str, take: TakeNames) -> None:
        # The system may or may not return an entry that is added while it reads a directory; here it does not.
        await original(self, path, take)
        new.touch()

    try:
        with monkeypatch.context() as patch:
            patch.setattr(CountingFileSystem, "read_names", read_names)
            cursor = without_names(tree.page("some").cursor)
        for _ in range(2):
            cursor = without_names(tree.page("some", cursor=cursor).cursor)
        assert cursor == "k003000"
        assert tree.page("some", cursor=cursor).objects[1].key == "k003000-new"
    finally:
        new.unlink(missing_ok=True)
        _settle(root / "some")


def _settle_anew(folder: Path, seconds: int) -> None:
    os.utime(folder, (1_600_000_000 + seconds, 1_600_000_000 + seconds))
