"""A bounded log of the requests that the server answered, for tests to count."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["LoggedRequest", "RequestLog"]


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """A request that was answered.

    Attributes:
        method, target: of the request line; the target is path and query.
        status: of the response.
        body_size: the size of the body in bytes.
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
    """The latest requests, and the number of all requests.

    Attributes:
        total: the number of requests answered since the start or the last `clear`.
    """

    def __init__(self, size: int) -> None:
        self.total = 0
        self._requests: deque[LoggedRequest] = deque(maxlen=size)

    def __iter__(self) -> Iterator[LoggedRequest]:
        return iter(tuple(self._requests))

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: LoggedRequest) -> None:
        """Record a request."""
        self.total += 1
        self._requests.append(request)

    def count(self, method: str | None = None, target: str = "", status: int | None = None) -> int:
        """Return the number of recorded requests with a method, a status, and a target that contains ``target``."""
        return sum(
            (method is None or request.method == method)
            and target in request.target
            and (status is None or request.status == status)
            for request in tuple(self._requests)
        )

    def clear(self) -> None:
        """Remove all requests, and reset the total."""
        self.total = 0
        self._requests.clear()
