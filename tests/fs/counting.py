"""What a file or path asks its store for."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import trove_async as trove
from trove_async.driver import Driver
from trove_async.layers import Call, LayerDriver, Operation

__all__ = ["Requests", "counted"]

R = TypeVar("R")


class Requests:
    """A layer that notes the operations, and the ranges that are read."""

    def __init__(self) -> None:
        self.operations: Counter[str] = Counter()
        self.ranges: list[tuple[int, int | None] | None] = []

    def __call__(self, driver: Driver) -> Driver:
        return _Noting(driver, self)

    def clear(self) -> None:
        self.operations.clear()
        self.ranges.clear()


class _Noting(LayerDriver):
    def __init__(self, inner: Driver, requests: Requests) -> None:
        super().__init__(inner)
        self._requests = requests

    def around(self, operation: Operation, call: Call[R]) -> Awaitable[R]:
        self._requests.operations[operation.name] += 1
        if operation.name == "get":
            wanted: Any = operation["options"].range
            self._requests.ranges.append(None if wanted is None else (wanted.offset, wanted.length))
        return call()


@asynccontextmanager
async def counted(folder: Path) -> AsyncIterator[tuple[trove.Trove, Requests]]:
    """Open a store of local files, whose large objects are not in memory, with the bucket ``b``."""
    requests = Requests()
    async with trove.open(f"local://{folder}?fsync=0", layers=[requests]) as store:
        await store.create_bucket("b")
        yield store, requests
