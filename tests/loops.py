"""The event loops that tests run on.

A test, a class or a module that is marked with ``pytest.mark.every_loop`` runs on each of them; all others run on one:
asyncio's, or the one that the environment variable ``TROVE_LOOP`` names.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

import pytest
import uvloop

__all__ = ["LOOPS", "pytest_asyncio_loop_factories"]

LOOPS: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return the loops that pytest-asyncio runs a test on."""
    if item.get_closest_marker("every_loop") is not None:
        return LOOPS
    name = os.environ.get("TROVE_LOOP", "asyncio")
    return {name: LOOPS[name]}
