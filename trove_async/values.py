"""Checks of plain values and functions that callers give. A bool is an int in Python, but is refused as a number."""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import TypeGuard

from trove_async.errors import InvalidArgumentError

__all__ = ["can_be_kept", "check_function", "check_text", "is_number", "is_whole"]


def is_whole(value: object) -> TypeGuard[int]:
    """Tell whether a value is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether a value is a number; NaN and the infinities are numbers too."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def can_be_kept(text: str) -> bool:
    """Tell whether every database can keep a text: it has no NUL and no lone surrogate.

    Any other text is in no database, and a statement that looks for it fails instead of finding nothing.
    """
    return not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text)


def check_text(what: str, value: object, *, longest: int | None = None) -> None:
    """Check that a value is text that every database can keep.

    Args:
        what: it is, for the message.
        value: what the user gave.
        longest: how many bytes of UTF-8 it has at most; None for any number.

    Raises:
        InvalidArgumentError: it is no text, or empty, or too long, or has a NUL or a lone surrogate in it.
    """
    if not isinstance(value, str) or not value or not can_be_kept(value):
        raise InvalidArgumentError(f"{what} is text that is not empty, without NUL and lone surrogates; not {value!r}")
    if longest is not None and (size := len(value.encode())) > longest:
        raise InvalidArgumentError(f"{what} has at most {longest} bytes of UTF-8, not {size}")


def check_function(name: str, argument: str, function: object) -> None:
    """Check that something can be called, and is no coroutine function, whose coroutine nobody would await.

    Args:
        name: what the function is, for the message.
        argument: what it is called with, for the message.
        function: what the user gave.

    Raises:
        InvalidArgumentError: it cannot be called, or is defined by ``async def``.
    """
    if not callable(function):
        raise InvalidArgumentError(f"{name} is a function of {argument}, not {function!r}")
    if iscoroutinefunction(function):
        raise InvalidArgumentError(
            f"{name} is called and not awaited: write a plain function of {argument}, not one with 'async def'"
        )
