"""How many names are cached, and how long."""

from __future__ import annotations

from tests.tree.counting import deleted_files
from tests.tree.test_sorted_names import many
from trove_async.tree.remembered import RememberedNames
from trove_async.tree.sorted_names import Sorter


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_names_that_nobody_uses_expire() -> None:
    clock = Clock()
    cache = RememberedNames(clock)
    cache.keep(("a",), many(Sorter(), 100), {"a": 1})
    for _ in range(5):
        clock.now += 20
        known = cache.get(("a",))
        assert known is not None
        assert known[1] == {"a": 1}
    clock.now += 30
    assert cache.get(("a",)) is None


def test_names_with_a_status_expire_although_they_are_used() -> None:
    clock = Clock()
    cache = RememberedNames(clock)
    cache.keep(("a",), many(Sorter(), 100), {"a": 1}, dated=True)
    clock.now += 20
    assert cache.get(("a",)) is not None
    clock.now += 20
    assert cache.get(("a",)) is None


def test_files_and_bytes_are_bounded() -> None:
    before = deleted_files()
    cache = RememberedNames()
    for number in range(20):
        cache.keep((f"{number}",), many(Sorter(100, run=100), 1000), {})
    assert deleted_files() == before + 8
    assert [number for number in range(20) if cache.get((f"{number}",))] == list(range(12, 20))
    cache.clear()
    assert deleted_files() == before
    small = RememberedNames(max_bytes=12_000)
    small.keep(("large",), many(Sorter(), 2000), {})
    assert small.get(("large",)) is None
    for number in range(3):
        small.keep((f"{number}",), many(Sorter(), 700), {})
    assert [number for number in range(3) if small.get((f"{number}",))] == [1, 2]
