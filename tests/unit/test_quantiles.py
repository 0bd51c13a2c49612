"""The quantiles of the last values, and what is late by them."""

from __future__ import annotations

import math
import random

import pytest

from trove_async.layers.quantiles import Latencies, Window


def test_a_quantile_is_that_of_the_last_values() -> None:
    source = random.Random(1)
    values = [source.choice([source.random(), 0.5]) for _ in range(300)]
    window = Window(100)
    for count, value in enumerate(values, 1):
        window.add(value)
        last = sorted(values[max(0, count - 100) : count])
        assert len(window) == len(last)
        for share in (0.0, 0.5, 0.95, 1.0):
            assert window.quantile(share) == last[min(int(share * len(last)), len(last) - 1)]


def test_a_window_without_values_has_no_quantile() -> None:
    with pytest.raises(IndexError):
        Window(3).quantile(0.5)


def test_late_is_what_is_above_the_quantile_of_the_last_512() -> None:
    latencies = Latencies(0.95)
    for number in range(1000):
        latencies.add(1 + number / 1000)
    assert len(latencies) == Latencies.KEPT
    assert latencies.late_after == pytest.approx(1.488 + 0.95 * 0.512, abs=0.018)


def test_late_is_what_takes_five_medians_if_the_quantile_is_among_slow_answers() -> None:
    latencies = Latencies(0.95)
    for number in range(100):
        latencies.add(50.0 if number % 10 == 0 else 1.0)
    assert latencies.late_after == 5.0


def test_nothing_is_late_before_the_first_answer() -> None:
    latencies = Latencies(0.95)
    assert latencies.late_after == math.inf
    latencies.add(1.0)
    assert latencies.late_after == 1.0


def test_the_median_has_risen_until_slow_answers_are_the_usual_ones() -> None:
    latencies = Latencies(0.95)
    risen = []
    for number in range(1200):
        latencies.add(1.0 if number < 600 else 3.0)
        risen.append(latencies.risen)
    first, last = risen.index(True), len(risen) - 1 - risen[::-1].index(True)
    assert first == 600 + 15
    assert last == pytest.approx(600 + 256, abs=16)
    assert all(risen[first : last + 1])


@pytest.mark.parametrize("seed", range(5))
def test_the_median_has_risen_exactly_if_that_of_the_last_32_is_twice_the_usual_one(seed: int) -> None:
    """Where the usual one is known exactly, because it does not change."""
    source = random.Random(seed)
    latencies, values = Latencies(0.95), [1.0] * 512
    for value in values:
        latencies.add(value)
    for _ in range(200):
        values.append(source.choice((1.0, 1.0, 2.0, 2.5)))
        latencies.add(values[-1])
        assert latencies.risen == (sorted(values[-32:])[16] > 2.0)


def test_a_few_slow_answers_raise_no_median() -> None:
    latencies = Latencies(0.95)
    for number in range(1000):
        latencies.add(50.0 if number % 4 == 0 else 1.0)
        assert not latencies.risen
