"""Layers for checks: one that counts what reaches the driver, one that takes everything optional away."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from trove_async.driver import CAPABILITIES, Driver, Features
from trove_async.layers import Call, LayerDriver, Operation
from trove_async.ranges import ByteRange

__all__ = ["CallCounter", "bare"]

R = TypeVar("R")


class CallCounter:
    """A layer that notes the operations that reach the driver.

    Attributes:
        calls: in the order in which they began.
        ranges: of the gets among them; None for a whole object.
    """

    def __init__(self) -> None:
        self.calls: list[Operation] = []
        self.ranges: list[ByteRange | None] = []

    def __call__(self, driver: Driver) -> Driver:
        """Put the counter around a driver."""
        return _CountingDriver(driver, self)

    def count(self, name: str) -> int:
        """Return how many operations of a name there were."""
        return sum(call.name == name for call in self.calls)


class _CountingDriver(LayerDriver):
    def __init__(self, inner: Driver, counter: CallCounter) -> None:
        super().__init__(inner)
        self._counter = counter

    async def around(self, operation: Operation, call: Call[R]) -> R:
        self._counter.calls.append(operation)
        if operation.name == "get":
            self._counter.ranges.append(operation.arguments["options"].range)
        return await call()


def bare(driver: Driver) -> Driver:
    """Put a layer around a driver that leaves it neither capability nor condition."""
    return _BareDriver(driver)


class _BareDriver(LayerDriver):
    drops = dict.fromkeys(CAPABILITIES, "the check is about stores that have none")

    @property
    def features(self) -> Features:
        return replace(super().features, conditions=frozenset(), presign_methods=frozenset(), watch_resume=False)
