"""`Progress`: how far an upload is, told to the application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from trove_async.body import Progress as OnProgress

__all__ = ["Meter", "Progress"]

_INTERVAL: Final = 0.1
"""Seconds between two calls; the first and the last are never left out."""


class Progress:
    """Adds up the meters of an upload, and calls the application with the sum.

    Args:
        callback: gets the sum, and the size; None if nobody wants to know.
        size: returns the bytes of the upload; None while they are not known.
        clock: seconds of a monotonic clock.
    """

    def __init__(self, callback: OnProgress | None, size: Callable[[], int | None], clock: Callable[[], float]) -> None:
        self._size = size
        self._callback = callback
        self._clock = clock
        self._meters: list[Meter] = []
        self._told: tuple[int, int | None] | None = None
        self._next = 0.0

    def meter(self) -> Meter:
        """Return the meter of the upload, or of one more of its parts."""
        self._meters.append(Meter(self))
        return self._meters[-1]

    def tell(self, *, now: bool = False) -> None:
        """Call the application, at most ten times a second.

        Args:
            now: call it if there is anything new, however short the time since the last call.
        """
        if self._callback is None:
            return
        if not now and self._clock() < self._next:
            return
        state = sum(meter.position for meter in self._meters), self._size()
        if state != self._told:
            self._told = state
            self._next = self._clock() + _INTERVAL
            self._callback(*state)


class Meter:
    """How far one upload of the server is.

    Attributes:
        position: bytes that the server has, or that are on their way; it goes back only if the server loses bytes.
    """

    __slots__ = ("_progress", "position")

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.position = 0

    def reached(self, position: int) -> None:
        """Take in that bytes up to a position were sent."""
        if position > self.position:
            self.position = position
            self._progress.tell()

    def lost(self, position: int) -> None:
        """Take in that the server has only the bytes up to a position, although it had acknowledged more."""
        self.position = position
        self._progress.tell(now=True)
