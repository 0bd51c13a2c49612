"""`RetryingClient`: requests that are sent again where that mends what went wrong, whatever the service."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from trove_async.body import Chunk
from trove_async.errors import BackendError, TransientError, TroveError
from trove_async.wire.transport import Response, Transport

__all__ = ["Call", "Headers", "RetryingClient"]

Headers = list[tuple[str, str]]

_ERROR_LIMIT: Final = 64 * 1024
_ANSWER_LIMIT: Final = 16 * 1024 * 1024
_FIRST_DELAY: Final = 0.1
_LONGEST_DELAY: Final = 20.0
_LONGEST_WAIT: Final = 60.0
"""Seconds that a service may make us wait by Retry-After; beyond it the caller is told instead."""


@dataclass(slots=True)
class Call:
    """One request in all its attempts.

    Attributes:
        method, bucket, key: of the request; no key for requests about the bucket.
        query: encoded, without ``?``.
        headers: in lower case, beside those that each attempt adds.
        body: buffers, so that every request can be sent again.
        writes: whether an attempt whose answer was lost may have changed something. An error that is raised
            after such an attempt is ``ambiguous``.
        accepts: statuses that are no errors, beside those below 300.
        attempts: how many were made.
        ambiguous: whether one of them may have changed something.
        corrected: codes of errors whose reason was mended; it is tried once for each.
    """

    method: str
    bucket: str
    key: str
    query: str
    headers: Headers
    body: Sequence[Chunk]
    writes: bool
    accepts: tuple[int, ...] = ()
    attempts: int = 0
    ambiguous: bool = False
    corrected: frozenset[str | None] = frozenset()


C = TypeVar("C", bound=Call)


class RetryingClient(ABC, Generic[C]):
    """Sends requests, and again after errors in passing: a service's client says how it signs and what errors mean.

    Args:
        transport: carries the requests.
        attempts: of each request, the first one included.
    """

    def __init__(self, transport: Transport, attempts: int) -> None:
        self._transport = transport
        self._attempts = attempts

    @abstractmethod
    async def _attempt(self, call: C) -> Response:
        """Sign and send a request."""

    @abstractmethod
    async def _refused(self, call: C, response: Response) -> TroveError | None:
        """Return the error that an answer tells; None if its reason was mended, to try again at once."""

    def _told(self, call: C, response: Response, content: bytes) -> TroveError | None:
        """Return the error that the body of a success tells; None for none."""
        return None

    async def send(self, call: C) -> Response:
        """Send a request and return the answer, whose status says success.

        Raises:
            TroveError: what the service said, in its class of the tree.
            TransientError: after as many attempts as there may be.
        """
        while True:
            call.attempts += 1
            try:
                response = await self._attempt(call)
                if response.status < 300 or response.status in call.accepts:
                    return response
                failure = await self._refused(call, response)
                if failure is None:
                    call.attempts -= 1
                    continue
            except TroveError as error:
                failure = error
            await self._wait(call, failure)

    async def fetch(self, call: C) -> tuple[Response, bytes]:
        """Send a request and return the answer with its body, a document that is asked for again if it is lost.

        Raises:
            TroveError: as of `send`.
            BackendError: the body is longer than 16 MiB.
        """
        while True:
            response = await self.send(call)
            try:
                content = await response.read_all(_ANSWER_LIMIT)
                failure = self._told(call, response, content)
                if failure is None:
                    return response, content
            except TroveError as error:
                failure = error
            failure.ambiguous = call.writes and isinstance(failure, TransientError)
            await self._wait(call, failure)

    async def _wait(self, call: C, failure: TroveError) -> None:
        """Wait for the next attempt, or raise the failure where there is to be none."""
        call.ambiguous |= call.writes and failure.ambiguous
        delay = self._delay(call, failure)
        if delay is None:
            failure.ambiguous = call.ambiguous
            raise failure
        await asyncio.sleep(delay)

    def _delay(self, call: C, failure: TroveError) -> float | None:
        if not failure.retryable or call.attempts >= self._attempts:
            return None
        if failure.retry_after is not None:
            return failure.retry_after if failure.retry_after <= _LONGEST_WAIT else None
        # At random, so that clients that failed together do not come back together.
        return random.uniform(0, min(_LONGEST_DELAY, _FIRST_DELAY * 2**call.attempts))

    @staticmethod
    async def _error_body(call: C, response: Response) -> bytes:
        """Return the body of an answer that tells an error; nothing where it does not arrive."""
        if call.method == "HEAD":
            return b""
        try:
            return await response.read_all(_ERROR_LIMIT)
        except (TransientError, BackendError):
            return b""  # the status says enough
