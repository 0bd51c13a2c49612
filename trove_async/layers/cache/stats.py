"""What a cache counts, and what it reports to observers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trove_async.driver.events import OBSERVER, Event

__all__ = ["CacheRead", "CacheStats", "CacheStoreFailed", "Counters", "Outcome"]

Outcome = Literal["hit", "validated", "shared", "miss"]
"""How a body was read: from the cache, from the cache after the backend was asked, with another reader, or not."""


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a cache did so far, and what it holds.

    Attributes:
        hits: reads whose bytes came from the cache; validated ones included.
        misses: reads for which the backend was asked for bytes.
        shared: reads that took their bytes from a request that another reader had begun.
        validations: questions to the backend whether an entry is still current.
        evictions: entries that were removed to make room.
        expirations: entries that were removed because of their age.
        store_errors: failures of the cache's own store.
        entries: the number of entries now; a range is one.
        bytes: their size now, with what is needed to keep them.
    """

    hits: int = 0
    misses: int = 0
    shared: int = 0
    validations: int = 0
    evictions: int = 0
    expirations: int = 0
    store_errors: int = 0
    entries: int = 0
    bytes: int = 0


class Counters:
    """The numbers of `CacheStats`, which change."""

    __slots__ = (
        "bytes", "entries", "evictions", "expirations", "hits", "misses", "shared", "store_errors", "validations",
    )  # fmt: skip

    def __init__(self) -> None:
        self.hits = self.misses = self.shared = self.validations = 0
        self.evictions = self.expirations = self.store_errors = 0
        self.entries = self.bytes = 0

    def snapshot(self) -> CacheStats:
        """Return the numbers as they are now."""
        return CacheStats(**{name: getattr(self, name) for name in self.__slots__})


@dataclass(frozen=True, slots=True)
class CacheRead(Event):
    """A body was opened through a cache.

    Attributes:
        outcome: ``hit``: it came from the cache, without a request. ``validated``: it did so after the backend had said
            that the entry is current. ``shared``: it comes from a request that another reader has begun. ``miss``: the
            backend was asked for it.
    """

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class CacheStoreFailed(Event):
    """The store of a cache failed; the operation went on without it.

    Attributes:
        error: why.
    """

    error: Exception


def report_read(outcome: Outcome) -> None:
    """Report a `CacheRead`, if somebody observes the operation."""
    observer = OBSERVER.get()
    if observer is not None:
        observer.report(_READS[outcome])


_READS: dict[Outcome, CacheRead] = {
    "hit": CacheRead("hit"),
    "validated": CacheRead("validated"),
    "shared": CacheRead("shared"),
    "miss": CacheRead("miss"),
}
