"""An event loop whose time depends on what happens and not on how long that takes.

A test of rates and delays on a real server would otherwise measure the machine.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, TypeVar

from trove_async.driver.base import Driver
from trove_async.layers import Call, LayerDriver, Operation
from trove_async.reader import ByteStream, ObjectReader, StreamWrapper
from trove_async.testing.answers import AnsweringProxy

__all__ = ["Gauge", "VirtualTimeLoop"]

R = TypeVar("R")

_PATIENCE: Final = 60
"""Seconds of real time that the loop waits for the real server."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop with real input and output whose clock can be detached from the real one.

    Attributes:
        awaits_server: None while the clock runs as the real one does. Otherwise a function: while it returns True the
            clock stands still, since a real server is at work. As soon as there is nothing to do but to wait for a
            timer, the clock jumps to that timer.
    """

    def __init__(self) -> None:
        self.awaits_server: Callable[[], bool] | None = None
        self._now = 1000.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        """Return the seconds of this clock."""
        return self._now


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        loop = self._loop
        if loop.awaits_server is None:
            began = time.monotonic()
            ready = super().select(timeout)
            loop._now += time.monotonic() - began
            return ready
        # What this process sends to itself arrives immediately.
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None or loop.awaits_server():
            ready = super().select(_PATIENCE)
            assert ready, f"nothing happened for {_PATIENCE} s"
            return ready
        loop._now += timeout
        return []


class Gauge:
    """The innermost layer, which knows whether the server is at work: what is under way is not delayed by the proxy.

    Args:
        proxy: which one; the paths of its requests are bucket and key.
    """

    def __init__(self, proxy: AnsweringProxy) -> None:
        self._proxy = proxy
        self.under_way: Counter[str] = Counter()

    def __call__(self, driver: Driver) -> Driver:
        """Put the layer around a driver."""
        return _GaugedDriver(driver, self.under_way)

    def awaits_server(self) -> bool:
        """Whether an operation is under way whose request the proxy does not delay."""
        delayed = Counter(request.path.partition("/")[2].partition("/")[2] for request in self._proxy.delayed)
        waiting = (self.under_way - delayed).total()
        return waiting > delayed[""]  # an operation on a key may ask for its bucket


class _GaugedDriver(LayerDriver):
    def __init__(self, inner: Driver, under_way: Counter[str]) -> None:
        super().__init__(inner)
        self._under_way = under_way

    async def around(self, operation: Operation, call: Call[R]) -> R:
        key = operation.key or ""
        with _Counted(self._under_way, key):
            result = await call()
        if isinstance(result, ObjectReader):
            result.wrap(lambda stream: _GaugedStream(stream, self._under_way, key))
        return result


class _GaugedStream(StreamWrapper):
    def __init__(self, inner: ByteStream, under_way: Counter[str], key: str) -> None:
        super().__init__(inner)
        self._counted = _Counted(under_way, key)

    async def read(self, size: int) -> bytes:
        with self._counted:
            return await self.inner.read(size)


class _Counted:
    def __init__(self, counter: Counter[str], key: str) -> None:
        self._counter = counter
        self._key = key

    def __enter__(self) -> None:
        self._counter[self._key] += 1

    def __exit__(self, *_: object) -> None:
        self._counter[self._key] -= 1
        if not self._counter[self._key]:
            del self._counter[self._key]
