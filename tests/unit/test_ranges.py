from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trove_async.errors import InvalidRangeError, RangeNotSatisfiableError
from trove_async.ranges import ByteRange, coalesce


@pytest.mark.parametrize("value", [(0, -1), (-1, 1), (0.5, 1), (0, "1"), (None, None), (1,), (1, 2, 3), 7, "ab", None])
def test_an_invalid_range_is_refused(value: object) -> None:
    with pytest.raises(InvalidRangeError):
        ByteRange.of(value)  # type: ignore[arg-type]


def test_a_pair_is_converted_to_a_range() -> None:
    assert ByteRange.of((3, None)) == ByteRange(3, None)
    given_range = ByteRange(1, 2)
    assert ByteRange.of(given_range) is given_range


def test_suffixes() -> None:
    assert ByteRange.suffix(3) == ByteRange(-3, None)
    assert ByteRange.suffix(0).empty
    with pytest.raises(InvalidRangeError):
        ByteRange.suffix(-1)


@pytest.mark.parametrize(
    ("wanted", "size", "expected"),
    [
        (ByteRange(), 10, (0, 10)),
        (ByteRange(2, 3), 10, (2, 5)),
        (ByteRange(9, 100), 10, (9, 10)),
        (ByteRange(-3), 10, (7, 10)),
        (ByteRange(-30), 10, (0, 10)),
        (ByteRange(5, 0), 10, (5, 5)),
        (ByteRange(50, 0), 10, (10, 10)),
        (ByteRange(0, 0), 0, (0, 0)),
    ],
)
def test_a_range_is_cut_off_at_the_end_of_the_object(wanted: ByteRange, size: int, expected: tuple[int, int]) -> None:
    assert wanted.resolve(size) == expected


@pytest.mark.parametrize(("wanted", "size"), [(ByteRange(10, 1), 10), (ByteRange(11), 10), (ByteRange(-1), 0)])
def test_a_range_that_starts_at_or_past_the_end_cannot_be_satisfied(wanted: ByteRange, size: int) -> None:
    with pytest.raises(RangeNotSatisfiableError):
        wanted.resolve(size)


@given(st.binary(max_size=50), st.integers(-60, 60), st.none() | st.integers(0, 60))
def test_a_range_resolves_to_the_same_bytes_as_a_slice(data: bytes, offset: int, length: int | None) -> None:
    if offset < 0 and length is not None:
        return
    wanted = ByteRange(offset, length)
    try:
        start, stop = wanted.resolve(len(data))
    except RangeNotSatisfiableError:
        assert data[offset:] == b"" if offset >= 0 else data == b""
        return
    assert data[start:stop] == data[offset:][:length]


ranges = st.lists(st.builds(ByteRange, st.integers(0, 300), st.none() | st.integers(0, 60)), max_size=12)


@given(ranges, st.integers(0, 100), st.integers(1, 400))
def test_joined_ranges_cover_each_range_once_and_do_not_touch(wanted: list[ByteRange], gap: int, most: int) -> None:
    joined = coalesce(wanted, gap, most)
    answered = sorted(position for _, positions in joined for position in positions)
    assert answered == [position for position, r in enumerate(wanted) if not r.empty]
    for outer, positions in joined:
        for position in positions:
            inner = wanted[position]
            assert inner.offset >= outer.offset
            if outer.length is not None:
                assert inner.length is not None
                assert inner.offset + inner.length <= outer.offset + outer.length
    for (first, _), (second, positions) in pairwise(joined):
        assert first.length is not None
        if second.offset <= first.offset + first.length + gap:  # the two, or the first of the second, were too much
            assert second.offset >= first.offset + first.length
            length = max((wanted[at].length or most) for at in positions if wanted[at].offset == second.offset)
            assert second.length is None or second.offset + length - first.offset > most or length > 60


bounded = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 60)), max_size=12)


@given(bounded, st.integers(0, 100))
def test_only_the_ranges_and_the_gaps_between_them_are_fetched(wanted: list[tuple[int, int]], gap: int) -> None:
    for outer, positions in coalesce([ByteRange(*pair) for pair in wanted], gap, 10_000):
        assert outer.length is not None
        reached = outer.offset
        for offset, length in sorted(wanted[position] for position in positions):
            assert offset - reached <= gap
            reached = max(reached, offset + length)
        assert reached == outer.offset + outer.length


def test_suffix_ranges_are_fetched_separately() -> None:
    wanted = [ByteRange(0, 5), ByteRange(-3), ByteRange(-5), ByteRange(6, 2)]
    assert sorted(positions for _, positions in coalesce(wanted, 10, 1000)) == [[0, 3], [1], [2]]


def test_adjacent_ranges_are_joined_up_to_a_size_and_overlapping_ones_always() -> None:
    adjacent = [ByteRange(n * 10, 10) for n in range(5)]
    assert [joined for joined, _ in coalesce(adjacent, 0, 25)] == [
        ByteRange(0, 20), ByteRange(20, 20), ByteRange(40, 10)
    ]  # fmt: skip
    assert coalesce([ByteRange(0, 20), ByteRange(10, 20)], 0, 25) == [(ByteRange(0, 30), [0, 1])]
    assert coalesce([ByteRange(0, 40), ByteRange(45, 5)], 10, 25) == [(ByteRange(0, 40), [0]), (ByteRange(45, 5), [1])]
