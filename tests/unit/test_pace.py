"""`Pace`: more ranges at once while the rate of the whole rises."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trove_async.driver.pace import Pace

MIB = 1024 * 1024


def run(
    pace: Pace, rate_of: Callable[[int], float], seconds: float, *, waiting: float = 1.0, start: float = 0.0
) -> list[int]:
    """Let bytes arrive at a rate that depends on the width, and return the widths in their order."""
    widths = [pace.width]
    now, step = start, 0.01
    while now < start + seconds:
        now += step
        pace.waited(step * waiting)
        pace.arrived(round(rate_of(pace.width) * step), now)
        if pace.width != widths[-1]:
            widths.append(pace.width)
            pace.begin()
    return widths


def test_the_width_grows_while_each_connection_has_a_rate_of_its_own() -> None:
    assert run(Pace(25), lambda width: width * 15e6, 5) == [1, 4, 16, 25]


def test_it_stays_where_more_connections_are_no_faster() -> None:
    assert run(Pace(25), lambda width: min(width, 5) * 15e6, 3) == [1, 4, 16, 4]


def test_it_goes_back_to_one_where_the_link_is_the_limit() -> None:
    assert run(Pace(25), lambda _: 15e6, 3) == [1, 4, 1]


def test_more_is_tried_again_after_a_while_and_more_and_more_seldom() -> None:
    assert run(Pace(25), lambda _: 30e6, 60) == [1, *[4, 1] * 5]  # after 0, 3, 6, 13, 26 and not 51 seconds more
    late = Pace(25)
    assert run(late, lambda _: 30e6, 1) == [1, 4, 1]
    assert run(late, lambda width: width * 15e6, 5, start=1) == [1, 4, 16, 25]


@pytest.mark.parametrize("rate", [250e6, 450e6, 2e9])
def test_a_connection_that_is_fast_gets_no_company(rate: float) -> None:
    assert run(Pace(25), lambda width: width * rate, 5) == [1]


def test_a_consumer_that_is_slower_than_one_connection_gets_no_more() -> None:
    assert run(Pace(25), lambda _: 15e6, 5, waiting=0.2) == [1]


def test_the_limit_is_not_exceeded() -> None:
    assert run(Pace(3), lambda width: width * 15e6, 5) == [1, 3]
    assert run(Pace(1), lambda width: width * 15e6, 5) == [1]
