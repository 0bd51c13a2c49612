"""`FirstWritten`: a mirror that writes to one member, and leaves the others to the repairs."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from trove_async.layers.breaker import CircuitBreaker
from trove_async.layers.mirror.fleet import Fleet, Replica
from trove_async.layers.mirror.target import Mirror

__all__ = ["FirstWritten"]


@dataclass(frozen=True)
class FirstWritten(Mirror):
    """Write to the first member that works; the queue brings it to the others.

    Attributes:
        threshold: failures in a row after which a member is not asked.
    """

    threshold: int = 1

    def _breaker(self, name: str) -> CircuitBreaker:
        return CircuitBreaker(f"failover/{name}", threshold=self.threshold, open_for=self.test_every, prober=True)

    def _fleet(self, replicas: Sequence[Replica], cleanup_timeout: float) -> Fleet:
        return _Fleet(replicas, 1, cleanup_timeout)


class _Fleet(Fleet):
    def writable(self, *, without: Container[str] = ()) -> list[Replica]:
        """Return the first member that can be written."""
        return super().writable(without=without)[:1]
