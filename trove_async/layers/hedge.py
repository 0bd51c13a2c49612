"""`Hedge`: a second read beside one whose answer is late."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, TypeVar

from trove_async.driver.base import Driver
from trove_async.driver.order import Placed
from trove_async.errors import InvalidArgumentError, TroveError
from trove_async.layers.base import Call, LayerDriver, Operation
from trove_async.layers.quantiles import Latencies
from trove_async.layers.race import Race
from trove_async.layers.verdict import verdict_on
from trove_async.layers.waiting import Waiting
from trove_async.values import is_number, is_whole

__all__ = ["Hedge"]

R = TypeVar("R")

_CAPACITY: Final = 10.0
"""Second reads that can be saved up."""


@dataclass(frozen=True)
class Hedge(Placed):
    """Begin a read a second time if its answer is later than usual, and return the answer that comes first.

    It covers get, get_range and get_version until their reader is returned, and head. The slower read is cancelled, and
    has ended when the other one is returned. An error that shows that the backend works, such as that of a missing
    object, is an answer. After any other error the second read, if there is one, decides; if both fail, the error of
    the first is raised.

    If both reads find an object, and the ETags differ, the one that was stored later is the answer. That an object has
    another ETag than ``if_match`` is the answer only if the other read does not find the object either.

    Nothing is read twice while the median of the last 32 answers is more than twice the median of the last 512: a
    second read does not help where all are slow.

    Attributes:
        delay: seconds after which an answer is late; None to learn it from the last 512 answers.
        quantile: the share of answers that are not late, more than 0 and less than 1, if the delay is learned. An
            answer that takes five medians is late in any case.
        budget: second reads for each read, more than 0 and at most 1; up to 10 are saved up. It is not shared with
            `Retry`.
        minimum: answers before the first second read, if the delay is learned; at most 512.

    Raises:
        InvalidArgumentError: a value is out of range.
    """

    layer_name: ClassVar[str | None] = "Hedge"
    never_around: ClassVar[Mapping[str, str]] = {
        "Retry": "each of the two reads would be tried again on its own",
        "Hedge": "each of the two reads would be made twice",
    }

    delay: float | None = None
    quantile: float = 0.95
    budget: float = 0.05
    minimum: int = 50

    def __post_init__(self) -> None:
        if self.delay is not None and not (is_number(self.delay) and 0 < self.delay < math.inf):
            raise InvalidArgumentError(f"delay is a number of seconds, more than 0, not {self.delay!r}")
        if not (is_number(self.quantile) and 0 < self.quantile < 1):
            raise InvalidArgumentError(f"quantile is more than 0 and less than 1, as 0.95, not {self.quantile!r}")
        if not (is_number(self.budget) and 0 < self.budget <= 1):
            raise InvalidArgumentError(
                f"budget is the number of second reads for each read, more than 0 and at most 1, not {self.budget!r}"
            )
        if not is_whole(self.minimum) or not 1 <= self.minimum <= Latencies.KEPT:
            raise InvalidArgumentError(
                f"minimum is a whole number of answers from 1 to {Latencies.KEPT}, not {self.minimum!r}"
            )

    def __call__(self, driver: Driver) -> Driver:
        """Put the layer around a driver; each driver has its own times and budget."""
        return _HedgeDriver(driver, self)


class _HedgeDriver(LayerDriver):
    layer_name: ClassVar[str | None] = Hedge.layer_name
    never_around: ClassVar[Mapping[str, str]] = Hedge.never_around

    def __init__(self, inner: Driver, hedge: Hedge) -> None:
        super().__init__(inner)
        self._budget: Final = hedge.budget
        self._saved = 0.0
        bodies, heads = _Reads(hedge, self._pay), _Reads(hedge, self._pay)
        self._reads: Final = {"get": bodies, "get_range": bodies, "get_version": bodies, "head": heads}

    def around(self, operation: Operation, call: Call[R]) -> Awaitable[R]:
        reads = self._reads.get(operation.name)
        if reads is None:
            return call()
        if self._saved < _CAPACITY and operation.part_of is None:
            self._saved = min(_CAPACITY, self._saved + self._budget)
        return reads.carry_out(call)

    def _pay(self) -> bool:
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True

    async def close(self) -> None:
        try:
            await super().close()  # which may wait for operations that are under way
        finally:
            for reads in self._reads.values():
                reads.waiting.close()


class _Reads:
    """The reads of one kind: how long their answers take, and which of them wait for theirs.

    Args:
        rules: of the layer.
        pay: takes the price of a second read from the budget; False if that does not have it.
    """

    def __init__(self, rules: Hedge, pay: Callable[[], bool]) -> None:
        self._delay: Final = rules.delay
        self._minimum: Final = rules.minimum
        self._pay: Final = pay
        self._latencies: Final = Latencies(rules.quantile)
        self.waiting: Final = Waiting()

    async def carry_out(self, call: Call[R]) -> R:
        """Return the first answer to a read, of which there may be two."""
        loop = asyncio.get_running_loop()
        began, delay = loop.time(), self._late_after()
        try:
            if delay is None:
                result = await call()
            else:
                result = await Race(call, self._may_hedge, loop, began).run(self.waiting, delay)
        except TroveError as error:
            if verdict_on(error) == "works":
                self._latencies.add(loop.time() - began)
            raise
        self._latencies.add(loop.time() - began)
        return result

    def _late_after(self) -> float | None:
        """Return the seconds after which an answer is late; None if there is to be no second read."""
        if self._latencies.risen:
            return None
        if self._delay is not None:
            return self._delay
        return self._latencies.late_after if len(self._latencies) >= self._minimum else None

    def _may_hedge(self) -> bool:
        return not self._latencies.risen and self._pay()
