"""A loop whose clock goes on at once to the next timer."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

__all__ = ["Simulated"]


class Simulated(asyncio.SelectorEventLoop):
    """A loop whose clock goes on at once to the next timer, so that nothing takes time."""

    def __init__(self) -> None:
        super().__init__(_Skipping(self))
        self.now = 0.0

    def time(self) -> float:
        return self.now


class _Skipping(selectors.DefaultSelector):
    def __init__(self, loop: Simulated) -> None:
        super().__init__()
        self.loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout:
            self.loop.now += timeout
        return super().select(0 if timeout is not None else None)
