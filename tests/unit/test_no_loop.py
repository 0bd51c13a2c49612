"""Opening a store where no event loop of asyncio runs."""

from __future__ import annotations

import pytest

import trove_async as trove
from trove_async.errors import LifetimeError


def test_opening_needs_an_event_loop_of_asyncio() -> None:
    """Under trio a coroutine runs, and asyncio has no loop."""

    async def enter() -> None:
        async with trove.open("memory://"):
            pass

    async def wait() -> None:
        await trove.open("memory://")

    for work in (enter(), wait()):
        with pytest.raises(LifetimeError, match="needs asyncio, and does not work under trio"):
            work.send(None)
