"""Calls at the same time, whose first error is raised as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

__all__ = ["several"]

R = TypeVar("R")


async def several(calls: Sequence[Callable[[], Awaitable[R]]], *, limit: int) -> list[R]:
    """Make calls, a limited number at a time, and return their results in order; raise the first error."""
    results: dict[int, R] = {}
    waiting = iter(enumerate(calls))

    async def work() -> None:
        for number, call in waiting:
            results[number] = await call()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(limit, len(calls))):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
        raise first from first.__cause__
    return [results[number] for number in range(len(calls))]
