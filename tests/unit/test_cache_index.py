"""`Index`: what it finds is what was added, its sums are right, and it stays within its bounds."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from trove_async.layers.cache.index import Index, Piece
from trove_async.layers.cache.stats import Counters
from trove_async.types import ObjectInfo

LIMIT = 60
SIZE = 20
MAX_AGE = 10

spans = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(lambda span: (min(span), max(span)))
actions = st.one_of(
    st.tuples(st.just("add"), st.sampled_from("ab"), st.sampled_from("12"), spans),
    st.tuples(st.just("add"), st.sampled_from("ab"), st.just("1"), spans),
    st.tuples(st.just("saw"), st.sampled_from("ab"), st.sampled_from("12"), st.just((0, 0))),
    st.tuples(st.just("drop"), st.sampled_from("ab"), st.just(""), st.just((0, 0))),
    st.tuples(st.just("touch"), st.sampled_from("ab"), st.just(""), spans),
    st.tuples(st.just("reserve"), st.just(""), st.just(""), spans),
    st.tuples(st.just("wait"), st.just(""), st.just(""), spans),
)


class Harness:
    """An index of bytes, in which byte ``n`` of an object with ETag ``e`` is the text ``e:n``."""

    def __init__(self) -> None:
        self.now = 0.0
        self.removed: Counter[int] = Counter()
        self.counters = Counters()
        self.added: dict[int, int] = {}
        self.index: Index[tuple[int, str]] = Index(
            LIMIT, MAX_AGE, self.counters, lambda payload: self.removed.update([payload[0]]), lambda: self.now
        )

    def act(self, number: int, action: tuple[str, str, str, tuple[int, int]]) -> None:
        name, place, etag, (start, stop) = action
        index = self.index
        if name == "add":
            cost = stop - start + 3
            info = ObjectInfo(place, SIZE, etag)
            held = index.add(place, None, etag, start, stop, (number, etag), cost, info=info, checked=self.now)
            if held is not None and held.payload[0] == number:
                self.added[number] = cost
            assert held is None or (held.start, held.stop, held.record.etag) == (start, stop, etag)
        elif name == "saw":
            index.saw(place, None, etag, ObjectInfo(place, SIZE, etag), self.now)
            record = index.find(place, None)
            assert record is None or record.etag == etag
        elif name == "drop":
            index.drop_all_of(place)
            assert index.find(place, None) is None
        elif name == "touch":
            self.look(place, start, stop)
        elif name == "reserve":
            if index.reserve(stop):
                assert index.used + stop <= LIMIT
                index.release(stop)
        else:
            self.now += start

    def look(self, place: str, start: int, stop: int) -> None:
        record = self.index.find(place, None)
        if record is None:
            return
        pieces = record.covering(start, stop)
        have = {at for piece in record.pieces for at in range(piece.start, piece.stop)}
        if start < stop:
            assert (pieces is not None) == (set(range(start, stop)) <= have)
        if pieces is not None:
            assert pieces[0].start <= start
            assert pieces[-1].stop >= stop
            assert all(a.stop >= b.start for a, b in pairwise(pieces))
            self.index.touch(pieces)

    def check(self) -> None:
        index, held = self.index, self.index.pieces()
        assert index.used == sum(piece.cost for piece in held) == self.counters.bytes <= LIMIT
        assert len(held) == self.counters.entries
        assert {piece.payload[0] for piece in held} == self.added.keys() - self.removed.keys()
        assert set(self.removed.values()) <= {1}
        for piece in held:
            assert piece in piece.record.pieces
            assert piece.payload[1] == piece.record.etag
            assert index.find(piece.record.place, None) is piece.record
            self.check_order(piece.record.pieces)

    def check_order(self, pieces: list[Piece[tuple[int, str]]]) -> None:
        """None lies within another: both ends ascend."""
        for before, after in pairwise(pieces):
            assert before.start < after.start
            assert before.stop < after.stop


@given(st.lists(actions, max_size=60))
def test_it_holds_what_was_added(plan: list[tuple[str, str, str, tuple[int, int]]]) -> None:
    harness = Harness()
    for number, action in enumerate(plan):
        harness.act(number, action)
        for place in "ab":
            harness.index.find(place, None)  # removes what is too old
        assert all(piece.stored > harness.now - MAX_AGE for piece in harness.index.pieces())
        harness.check()
    harness.index.close()
    assert harness.index.pieces() == []
    assert (harness.counters.entries, harness.counters.bytes) == (0, 0)
    assert harness.index.add("a", None, "1", 0, 1, (1000, "1"), 4) is None
