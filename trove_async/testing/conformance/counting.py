"""Layers for checks: one that counts the driver's calls, and one that removes all optional features."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from trove_async.driver import CAPABILITIES, Driver, Features
from trove_async.layers import Call, LayerDriver, Operation
from trove_async.ranges import ByteRange

__all__ = ["CallCounter", "bare"]

R = TypeVar("R")


class CallCounter:
    """A layer that records the operations that reach the driver.

    Attributes:
        calls: in the order in which they began.
        ranges: the ranges of its gets; None for a complete object.
    """

    def __init__(self) -> None:
        self.calls: list[Operation] = []
        self.ranges: list[ByteRange | None] = []

    def __call__(self, driver: Driver) -> Driver:
        """Wrap a driver."""
        return _CountingDriver(driver, self)

    def count(self, name: str) -> int:
        """Return the number of operations with a name."""
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
    """Wrap a driver in a layer that removes all capabilities and conditions."""
    return _BareDriver(driver)


class _BareDriver(LayerDriver):
    drops = dict.fromkeys(CAPABILITIES, "the check needs a store without it")

    @property
    def features(self) -> Features:
        return replace(super().features, conditions=frozenset(), presign_methods=frozenset(), watch_resume=False)
