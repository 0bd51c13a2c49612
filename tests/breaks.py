"""Connections that break, as the tests of all drivers over HTTP meet them."""

from __future__ import annotations

from typing import Final

from trove_async.testing.proxy import ConnectionFault

__all__ = ["BREAKS", "IDLE_TIMEOUT", "a_break", "idle_timeout"]

BREAKS: Final = ("reset", "cut", "stall")

IDLE_TIMEOUT: Final = 2.0
"""Seconds after which a test gives up a connection that it made stall: more than any server takes, however busy."""


def a_break(kind: str, direction: str, after: int) -> ConnectionFault:
    """Return what breaks a connection so, after that many bytes ``up`` or ``down``."""
    return ConnectionFault(**{f"{kind}_{direction}_after": after})  # type: ignore[arg-type]


def idle_timeout(kind: str) -> float | None:
    """Return the timeout with which a store notices the break; None for the default where it is told."""
    return IDLE_TIMEOUT if kind == "stall" else None
