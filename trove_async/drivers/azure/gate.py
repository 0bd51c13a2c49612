"""What stands before every write of a user's object: nothing, or what keeps the version that is replaced."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

from trove_async.driver import CompleteOptions, CopyOptions, PutOptions

__all__ = ["Gate", "Send"]

T = TypeVar("T")

Send = Callable[[str | None, str | None, Mapping[str, str]], Awaitable[T]]
"""Sends a write with ``if_match``, ``if_none_match`` and metadata of the library's own; it may be called again."""


class Gate(Protocol):
    """Decides under which conditions a write is sent, and what it says of the version that it makes."""

    async def write(
        self, bucket: str, key: str, options: PutOptions | CopyOptions | CompleteOptions, send: Send[T]
    ) -> T:
        """Send a write whose conditions are those of ``options``, and more."""
