"""The harnesses of a run: found by name, started once, and stopped at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache
from importlib import import_module

import pytest

from trove_async.testing.conformance.harness import Harness
from trove_async.testing.conformance.stacks import STACKS

__all__ = ["Harnesses", "check_stacks", "load_harness"]


@cache
def load_harness(spec: str) -> Harness:
    """Return the harness that ``module:attribute`` names; a class is instantiated.

    Raises:
        pytest.UsageError: it does not exist; the message has the name.
    """
    module, colon, attribute = spec.partition(":")
    if not (module and colon and attribute):
        raise pytest.UsageError(f"--trove-driver={spec}: write module:attribute, such as mypackage.tests:harness")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise pytest.UsageError(f"--trove-driver={spec}: {error}") from error
    harness = found() if isinstance(found, type) else found
    if not isinstance(harness, Harness):
        raise pytest.UsageError(f"--trove-driver={spec}: a {type(harness).__name__} is not a Harness")
    return harness


def check_stacks(names: Sequence[str]) -> None:
    """Check the names of stacks of layers.

    Raises:
        pytest.UsageError: a name is unknown; the message has the known ones.
    """
    for name in names:
        if name not in STACKS:
            raise pytest.UsageError(f"--trove-stack={name}: unknown stack; use one of {', '.join(STACKS)}")


class Harnesses:
    """The started harnesses."""

    def __init__(self) -> None:
        self._started: list[Harness] = []

    async def start(self, harness: Harness) -> None:
        """Start a harness, unless it is already started."""
        if harness not in self._started:
            await harness.start()
            self._started.append(harness)

    def stop(self) -> None:
        """Stop all harnesses, the last one first."""

        async def stop_all() -> None:
            while self._started:
                await self._started.pop().stop()

        asyncio.run(stop_all())
