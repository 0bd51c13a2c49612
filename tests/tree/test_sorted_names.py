"""Sorting names in runs and blocks, in memory and in a file."""

from __future__ import annotations

import errno
import logging
import os
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tree.counting import deleted_files
from trove_async.tree.packed import AFTER, is_plain, pack, text_of, unpack
from trove_async.tree.sorted_names import SortedNames, Sorter

TEXT = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), max_size=6)
NAMES = st.lists(st.tuples(TEXT, st.sampled_from(["", "x%C/yyy", "%46"])), max_size=60)


def packed(names: list[tuple[str, str]]) -> list[str]:
    return [pack(text, path or text) for text, path in names]


def read(names: SortedNames, lower: str = "") -> list[str]:
    """Return all names from ``lower`` on, as a walk takes them."""
    found: list[str] = []
    while block := names.first(lower):
        found += block
        lower = text_of(block[-1]) + AFTER
    return found


@given(NAMES, st.sampled_from([0, 20, 10_000]), st.integers(1, 9), st.integers(1, 4), st.lists(TEXT, max_size=5))
@settings(max_examples=200, deadline=None)
def test_names_are_read_in_order_from_anywhere(
    names: list[tuple[str, str]], limit: int, run: int, block: int, lowers: list[str]
) -> None:
    sorter = Sorter(limit, run, block)
    given_names = packed(names)
    for at in range(0, len(given_names), 3):
        sorter.add(given_names[at : at + 3])
        if sorter.has_run:
            sorter.sort()
    *_, found = sorter.finish()
    assert found is not None
    expected = sorted(given_names)
    assert found.count == len(expected)
    assert read(found) == expected
    for lower in [*lowers, *(text for text, _ in names)]:
        assert read(found, lower) == [name for name in expected if name >= lower]
    if expected:
        assert found.last == expected[-1]


@given(st.text(max_size=6).filter(lambda text: "\0" not in text and "/" not in text), st.booleans())
def test_packed_names_come_back(text: str, is_dir: bool) -> None:
    whole = text + "/" if is_dir else text
    status = os.stat(".")
    for path in (text, "x%C/" + text, "/root/b/" + text):
        name = unpack(pack(whole, path))
        assert (name.text, name.path, name.is_dir, name.status) == (whole, path, is_dir, None)
        seen = unpack(pack(whole, path, status))
        assert (seen.text, seen.path) == (whole, path)
        assert seen.status is not None
        assert (seen.status.st_ino, seen.status.st_size, seen.status.st_mtime_ns) == (
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
        )


@given(TEXT, TEXT)
def test_packed_names_sort_by_their_texts(one: str, two: str) -> None:
    for first in (pack(one, one), pack(one, "z%46")):
        for second in (pack(two, two), pack(two, "a%46")):
            if one != two:
                assert (first < second) == (one < two)
        assert first < one + AFTER


def test_only_different_files_are_plain() -> None:
    assert is_plain(["a", "b"])
    assert not is_plain(["a", "a"])
    assert not is_plain(["a", "b/"])
    assert not is_plain(["a", pack("b", "b%F")])


def many(sorter: Sorter, count: int = 3000) -> SortedNames:
    for at in range(0, count, 100):
        sorter.add([f"{number * 7919 % count:06}" for number in range(at, at + 100)])
        if sorter.has_run:
            sorter.sort()
    *_, names = sorter.finish()
    assert names is not None
    return names


def test_a_large_directory_takes_one_file_and_little_memory() -> None:
    before = deleted_files()
    tracemalloc.start()
    try:
        names = many(Sorter(64 * 1024), 200_000)
        size, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert names.in_file
    assert names.size <= 2 * 64 * 1024
    assert size <= 1024 * 1024
    assert peak <= 6 * 1024 * 1024  # the texts alone are 10 MiB
    assert deleted_files() == before + 1
    assert read(names)[::1000] == [f"{number:06}" for number in range(0, 200_000, 1000)]
    del names
    assert deleted_files() == before


def test_a_sorter_that_is_given_up_leaves_no_file() -> None:
    before = deleted_files()
    sorter = Sorter(0, run=100)
    sorter.add([f"{number:06}" for number in range(1000)])
    sorter.sort()
    assert deleted_files() == before + 1
    del sorter
    assert deleted_files() == before


def test_without_room_for_a_temporary_file_names_stay_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with caplog.at_level(logging.WARNING, "trove_async"):
        names = many(Sorter(1000, run=100))
    assert "stay in memory" in caplog.text
    assert not names.in_file
    assert read(names) == [f"{number:06}" for number in range(3000)]


def test_a_disk_that_fills_up_meanwhile_loses_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    original, written = os.pwrite, 0

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        nonlocal written
        written += 1
        if written > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(descriptor, bytes(data)[:50], offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    names = many(Sorter(1000, run=100))
    assert written > 5
    assert read(names) == [f"{number:06}" for number in range(3000)]
