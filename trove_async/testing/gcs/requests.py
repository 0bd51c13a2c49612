"""What the server was asked: a bounded record for tests to count on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["RequestLog", "Seen"]


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that was answered.

    Attributes:
        method, target: of the request line; the target is path and query.
        status: of the answer.
        body_size: how many bytes the body had.
    """

    method: str
    target: str
    status: int
    body_size: int

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


class RequestLog:
    """The last requests, and how many there were in all.

    Attributes:
        total: how many requests were answered since the start or the last `clear`.
    """

    def __init__(self, size: int) -> None:
        self.total = 0
        self._seen: deque[Seen] = deque(maxlen=size)

    def __iter__(self) -> Iterator[Seen]:
        return iter(tuple(self._seen))

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, seen: Seen) -> None:
        """Record a request."""
        self.total += 1
        self._seen.append(seen)

    def count(self, method: str | None = None, target: str = "", status: int | None = None) -> int:
        """Return how many of the recorded requests are of a method and status and hold ``target`` in theirs."""
        return sum(
            (method is None or seen.method == method)
            and target in seen.target
            and (status is None or seen.status == status)
            for seen in tuple(self._seen)
        )

    def clear(self) -> None:
        """Forget all."""
        self.total = 0
        self._seen.clear()
