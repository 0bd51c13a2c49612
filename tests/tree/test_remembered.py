"""How many names are cached, and how long."""

from __future__ import annotations

from tests.tree.counting import deleted_files
from tests.tree.test_sorted_names import many
from trove_async.tree.remembered import KnownNames, RememberedNames
from trove_async.tree.sorted_names import Sorter


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def known(sorter: Sorter, count: int = 1000) -> KnownNames:
    return KnownNames(many(sorter, count), {"a": 1}, None)


def test_names_that_nobody_uses_are_removed() -> None:
    clock = Clock()
    cache = RememberedNames(clock)
    before = deleted_files()
    names = known(Sorter(100, run=100))
    cache.keep(("a",), names)
    cache.keep_for("listing", {("a",): names})
    del names
    for _ in range(5):
        clock.now += 200
        assert cache.get(("a",)) is not None
        assert cache.forget_unused() == (100 if clock.now == 200 else 300)
    assert cache.get_for("listing") == {}
    clock.now += 299
    assert cache.forget_unused() == 1
    assert deleted_files() == before + 1
    clock.now += 1
    assert cache.forget_unused() is None
    assert deleted_files() == before


def test_a_listing_keeps_the_names_at_which_it_goes_on() -> None:
    cache = RememberedNames()
    before = deleted_files()
    one, two = known(Sorter(100, run=100)), known(Sorter(100, run=100))
    cache.keep_for("listing", {("a",): one})
    cache.keep(("a",), two)
    cache.keep(("a",), None)
    assert cache.get_for("listing") == {("a",): one}
    assert cache.get_for("another") == {}
    cache.keep_for("listing", {("b",): two})
    assert cache.get_for("listing") == {("b",): two}
    cache.keep_for("listing", {})
    assert cache.get_for("listing") == {}
    del one, two
    assert deleted_files() == before


def test_files_and_bytes_are_bounded() -> None:
    before = deleted_files()
    cache = RememberedNames()
    for number in range(20):
        names = known(Sorter(100, run=100))
        cache.keep((f"{number}",), names)
        cache.keep_for(f"listing {number}", {(f"{number}",): names})  # the same file
        del names
    assert deleted_files() == before + 8
    assert [number for number in range(20) if cache.get((f"{number}",))] == list(range(12, 20))
    assert [number for number in range(20) if cache.get_for(f"listing {number}")] == list(range(12, 20))
    cache.clear()
    assert deleted_files() == before
    small = RememberedNames(max_bytes=12_000)
    small.keep(("large",), known(Sorter(), 2000))
    assert small.get(("large",)) is None
    for number in range(3):
        small.keep((f"{number}",), known(Sorter(), 700))
    assert [number for number in range(3) if small.get((f"{number}",))] == [1, 2]


def test_listings_that_are_begun_and_dropped_are_bounded() -> None:
    cache = RememberedNames()
    names = known(Sorter())
    cache.keep(("a",), names)
    for number in range(1500):
        assert cache.get(("a",)) == names
        cache.keep_for(f"listing {number}", {("a",): names})
    assert sum(bool(cache.get_for(f"listing {number}")) for number in range(1500)) == 999
    assert cache.get(("a",)) == names
