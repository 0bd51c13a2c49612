"""Which name a mistyped one may have meant."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["guess", "nearest"]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like a name; None if none is like it."""
    from difflib import get_close_matches  # only for errors

    return next(iter(get_close_matches(name, [*known], n=1)), None)


def guess(name: str, known: Iterable[str]) -> str:
    """Return what a message about an unknown name asks behind it; empty if no known name is like it."""
    meant = nearest(name, known)
    return "" if meant is None else f" (is it {meant!r}?)"
