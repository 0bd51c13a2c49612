"""How the number of threads follows the rate of operations, with simulated kernels and a simulated clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from trove_async.drivers.local.pool_size import PoolSize

TICK = 0.001

Rate = Callable[[int], float]
"""Operations a second with a number of threads."""


def quick(threads: int) -> float:
    """Threads contend for the lock of the interpreter, as with small files in memory."""
    return float(20_000 / threads**0.7)


def slow(threads: int) -> float:
    """Each operation keeps a thread in the kernel for 300 µs; two processors share that."""
    return min(threads, 2) * 3_000 - 50 * threads


def distant(threads: int) -> float:
    """Each operation waits 2 ms for a server."""
    return threads * 500


def indifferent(threads: int) -> float:
    """Something else limits the rate, such as the disk."""
    return 4_000


class Simulation:
    """A pool under load.

    Args:
        size: the number of its threads.
        noise: by which share the rate of a millisecond is higher or lower at most.
    """

    def __init__(self, size: PoolSize, *, noise: float = 0.0, seed: int = 0) -> None:
        self.size = size
        self._noise = noise
        self._random = Random(seed)
        self._owed = 0.0

    def run(self, seconds: float, rate: Rate, *, waiting: bool = True) -> Counter[int]:
        """Let time pass; return for how many milliseconds there was each number of threads."""
        spent: Counter[int] = Counter()
        for _ in range(round(seconds / TICK)):
            spent[self.size.threads] += 1
            self._owed += rate(self.size.threads) * TICK * self._random.uniform(1 - self._noise, 1 + self._noise)
            completed = int(self._owed)
            self._owed -= completed
            self.size.observe(TICK, completed, waiting=waiting)
        return spent


def usual(spent: Counter[int]) -> int:
    return spent.most_common(1)[0][0]


def efficiency(spent: Counter[int], rate: Rate) -> float:
    """Return the share of the operations that the best number of threads would have done."""
    best = max(map(rate, range(1, 9)))
    return sum(rate(threads) * time for threads, time in spent.items()) / (best * spent.total())


def share(spent: Counter[int], threads: int) -> float:
    return spent[threads] / spent.total()


@pytest.mark.parametrize("initial", [1, 2, 8])
@pytest.mark.parametrize(("rate", "best"), [(quick, 1), (slow, 2), (distant, 8), (indifferent, 1)])
def test_the_number_becomes_the_fewest_threads_with_the_best_rate(initial: int, rate: Rate, best: int) -> None:
    pool = Simulation(PoolSize(initial))
    pool.run(5, rate)
    assert share(pool.run(20, rate), best) > 0.97


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("initial", [1, 8])
@pytest.mark.parametrize("rate", [quick, slow, distant])
def test_the_best_rate_is_reached_in_spite_of_noise(initial: int, rate: Rate, seed: int) -> None:
    pool = Simulation(PoolSize(initial), noise=0.9, seed=seed)
    pool.run(5, rate)
    assert efficiency(pool.run(20, rate), rate) > 0.95


@pytest.mark.parametrize("seed", range(3))
def test_few_threads_are_left_where_more_do_not_help_in_spite_of_noise(seed: int) -> None:
    pool = Simulation(PoolSize(8), noise=0.9, seed=seed)
    pool.run(5, indifferent)
    assert share(pool.run(20, indifferent), 1) > 0.9


def test_a_slow_kernel_has_several_threads_soon() -> None:
    for rate, expected in ((slow, 2), (distant, 8)):
        pool = Simulation(PoolSize(1))
        pool.run(0.4, rate)
        assert usual(pool.run(0.2, rate)) == expected


def test_trials_cost_a_quick_kernel_little_from_the_start() -> None:
    assert share(Simulation(PoolSize(1)).run(0.25, quick), 1) >= 0.94


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_the_number_follows_a_kernel_that_becomes_slow_and_quick_again(noise: float) -> None:
    pool = Simulation(PoolSize(1), noise=noise)
    for rate in (quick, slow, distant, quick, distant, slow, quick):
        pool.run(2, rate)
        assert efficiency(pool.run(3, rate), rate) > 0.95


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rate", [quick, slow, indifferent])
def test_noise_changes_the_number_rarely(rate: Rate, seed: int) -> None:
    pool = Simulation(PoolSize(1), noise=0.9, seed=seed)
    pool.run(5, rate)
    changes, before = 0, pool.size.threads
    for _ in range(20_000):
        pool.run(TICK, rate)
        changes += pool.size.threads != before
        before = pool.size.threads
    assert changes <= 6 * 20  # of 180 samples a second; a trial that fails is two changes


def test_two_numbers_that_are_equally_good_do_not_alternate() -> None:
    """The rates of one and two threads differ by more than the hysteresis, in favour of each in turn."""
    size = PoolSize(1)
    changes = 0
    for turn in range(600):
        pool = Simulation(size)
        before = size.threads
        pool.run(0.1, lambda threads: 1000.0 * (1.3 if (threads == 1) == (turn % 2 == 0) else 1.0))  # noqa: B023
        changes += size.threads != before
    assert changes <= 100


def test_there_are_no_more_threads_while_no_operation_waits_for_one() -> None:
    assert set(Simulation(PoolSize(1)).run(10, distant, waiting=False)) == {1}


def test_there_are_one_to_eight_threads() -> None:
    up, down = Simulation(PoolSize(3)), Simulation(PoolSize(3))
    assert max(up.run(10, distant)) == 8
    assert min(down.run(10, quick)) == 1


def test_what_few_operations_took_is_no_rate() -> None:
    size = PoolSize(1)
    for _ in range(15):
        size.observe(60.0, 1, waiting=True)
    assert size.threads == 1


def test_a_pool_without_operations_keeps_its_threads() -> None:
    assert set(Simulation(PoolSize(2)).run(10, lambda threads: 0.0)) == {2}
