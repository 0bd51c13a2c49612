"""Merge the events of several members."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractContextManager

from trove_async.cancellation import finish
from trove_async.types import ObjectEvent

__all__ = ["merged_events"]

Events = AsyncGenerator[ObjectEvent, None]


async def merged_events(
    streams: Mapping[str, Events], cleanup_timeout: float, naming: Callable[[str], AbstractContextManager[None]]
) -> AsyncGenerator[tuple[str, ObjectEvent], None]:
    """Yield the events of all streams as they come, each with the name of its stream.

    A stream is asked for its next event when the consumer asks for the one after its last, which acknowledges that one.

    Args:
        streams: by name; they are closed at the end.
        cleanup_timeout: seconds for closing them.
        naming: names a stream in the errors of a block.
    """
    steps: dict[asyncio.Task[ObjectEvent | None], str] = {}

    def step(name: str) -> None:
        steps[asyncio.ensure_future(_next(streams[name], naming(name)))] = name

    try:
        for name in streams:
            step(name)
        while steps:
            done, _ = await asyncio.wait(steps, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                name = steps.pop(task)
                event = task.result()
                if event is not None:
                    yield name, event
                    step(name)
    finally:
        await finish(_close(streams, [*steps]), timeout=cleanup_timeout, leftover="the watches of a Route")


async def _next(events: Events, naming: AbstractContextManager[None]) -> ObjectEvent | None:
    """Return the next event; None at the end."""
    with naming:
        return await anext(events, None)


async def _close(streams: Mapping[str, Events], steps: list[asyncio.Task[ObjectEvent | None]]) -> None:
    for step in steps:
        step.cancel()
    if steps:
        await asyncio.gather(*steps, return_exceptions=True)
    for events in streams.values():
        await events.aclose()
