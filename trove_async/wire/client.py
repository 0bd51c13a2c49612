"""`ServiceClient`: requests to a service over HTTP, sent again where that may help."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Generic, TypeVar

from trove_async.body import Piece
from trove_async.driver.put_settling import Settling
from trove_async.driver.retry import Attempts, Retries
from trove_async.errors import BackendError, ThrottledError, TransientError, TroveError
from trove_async.types import ObjectInfo
from trove_async.wire.errors import ErrorRules
from trove_async.wire.transport import Response, Transport

__all__ = ["Call", "Headers", "ServiceClient", "may_have_succeeded", "same_object", "settle"]

Headers = list[tuple[str, str]]
R = TypeVar("R")

_ERROR_LIMIT: Final = 64 * 1024
_DOCUMENT_LIMIT: Final = 16 * 1024 * 1024
_NEVER_CARRIED_OUT: Final = frozenset({501, 505, 507})


@dataclass(slots=True)
class Call:
    """One request in all its attempts.

    Attributes:
        method, bucket, key: of the request; no key for requests about the bucket.
        query: encoded, without ``?``.
        headers: in lower case, without those that each attempt adds.
        body: buffers, so that every request can be sent again.
        writes: whether the request changes something. If an attempt may have done so and the call fails, its error
            is ``ambiguous``.
        accepts: statuses that are no errors, beside those below 300.
        limit: of the attempts; None for the policy's.
        final: errors after which the request is not sent again, although they are transient.
        once: whether the request is not sent again after an answer was lost: the caller looks what became of it.
        settling: looks what became of the request, before it is sent again after a lost answer, and before it is given
            up. Not if a `Retry` layer begins the operation anew, which looks instead.
        ambiguous: whether an attempt may have changed something.
        corrected: codes of errors whose cause the client has removed; it does so once for each.
        document: whether the answer is a document of the service, and not the content of an object.
    """

    method: str
    bucket: str
    key: str
    query: str
    headers: Headers
    body: Sequence[Piece]
    writes: bool
    accepts: tuple[int, ...] = ()
    limit: int | None = None
    final: tuple[type[TroveError], ...] = ()
    once: bool = False
    settling: Settling | None = None
    ambiguous: bool = False
    corrected: frozenset[str | None] = frozenset()
    attempts: Attempts | None = None
    document: bool = False


C = TypeVar("C", bound=Call)


class ServiceClient(ABC, Generic[C]):
    """Sends requests, and sends them again after transient errors. A service's client signs and reads errors.

    Args:
        transport: carries the requests.
        retries: of the store; every request that is answered pays into their budget.

    Attributes:
        rules: say what the answers of the service mean.
        retries: of the store.
    """

    rules: ClassVar[ErrorRules]

    def __init__(self, transport: Transport, retries: Retries) -> None:
        self._successes = self.rules.successes
        self._request_id = self.rules.request_ids[0]
        self._may_be_bare = not self.rules.headed_writes
        self._transport = transport
        self.retries = retries

    @abstractmethod
    async def _attempt(self, call: C) -> Response:
        """Sign and send a request."""

    @abstractmethod
    async def _error_of(self, call: C, response: Response) -> TroveError | None:
        """Return the error that an answer stands for; None if its cause was removed, to try again at once."""

    def _error_in(self, call: C, response: Response, content: bytes) -> TroveError | None:
        """Return the error in the body of a success; None if there is none."""
        return None

    async def send(self, call: C) -> Response:
        """Send a request and return the answer, whose status is a success.

        Raises:
            TroveError: what the service answered, in its class of the tree.
            TransientError: after the last attempt.
        """
        while True:
            refused = False
            try:
                response = await self._attempt(call)
                status = response.status
                if status < 300 or status in call.accepts:
                    self.retries.budget.succeeded()
                    if call.key and not (call.writes or call.document):
                        return response  # who reads it checks it
                    if status in self._successes and (
                        self._request_id in response.headers
                        or (call.method == "PUT" and response.content == b"" and self._may_be_bare)
                    ):
                        return response  # the usual answers, without a call
                    failure = self._doubt(call, response, None if call.method == "HEAD" else response.content)
                    if failure is None:
                        return response
                    response.abort()
                else:
                    failure = await self._error_of(call, response)
                    if failure is None:
                        continue
                    failure.ambiguous = may_have_succeeded(status)
                    refused = isinstance(failure, ThrottledError) and self.rules.is_own(response.headers)
                    if not failure.retryable:
                        self.retries.budget.succeeded()  # the service works: it says that the request is at fault
            except TroveError as error:
                failure = error
            try:
                await self._failed(call, failure, refused=refused)
            finally:
                del failure  # see `Attempts.failed`

    async def send_for_headers(self, call: C) -> Mapping[str, str]:
        """Send a request and return the headers of the answer, whose body is not read; raises as `send`."""
        response = await self.send(call)
        if response.content is None:
            await response.aclose()
        return response.headers

    async def fetch(self, call: C) -> tuple[Response, bytes]:
        """Send a request and return the answer with its body, a document; one that is lost is asked for again.

        Raises:
            TroveError: as in `send`. If the answer to a write cannot be read, the error is ``ambiguous``.
            BackendError: the body is longer than 16 MiB.
        """
        call.document = True
        while True:
            response = await self.send(call)
            try:
                content = await response.read_all(_DOCUMENT_LIMIT)
            except TroveError as error:
                failure = error
                failure.ambiguous = True
            else:
                found = self._error_in(call, response, content)
                if found is not None:
                    found.ambiguous = isinstance(found, TransientError)
                else:
                    found = self._doubt(call, response, content)
                if found is None:
                    return response, content
                failure = found
            try:
                await self._failed(call, failure)
            finally:
                del failure  # see `Attempts.failed`

    def _doubt(self, call: C, response: Response, content: bytes | None) -> TroveError | None:
        """Return the error of an answer that only looks like a success; None if there is no sign of that."""
        if response.status in call.accepts:
            return None
        failure = self.rules.check_success(response.status, response.headers, content, writes=call.writes)
        if failure is not None:
            failure.ambiguous = True
        return failure

    async def _failed(self, call: C, failure: TroveError, *, refused: bool = False) -> None:
        """Wait for the next attempt, or raise the failure if there is none.

        Args:
            call: of the attempt.
            failure: of the attempt.
            refused: whether the service itself has refused the request, to be spared: that is no lost answer.
        """
        lost = call.writes and failure.ambiguous and not refused
        call.ambiguous |= call.writes and failure.ambiguous
        failure.ambiguous = call.ambiguous
        try:
            if isinstance(failure, call.final) or (lost and call.once):
                raise failure
            if call.attempts is None:
                call.attempts = self.retries.of_request(call.limit)
            another = await call.attempts.another(failure)
            if call.settling is not None and not self.retries.left_to_layer and (lost or not another):
                another = not (call.ambiguous and await call.settling.look(failure)) and another
            if not another:
                raise failure
        finally:
            del failure

    @staticmethod
    async def _error_body(call: C, response: Response) -> bytes:
        """Return the body of an error answer; empty if it does not arrive."""
        if call.method == "HEAD":
            return b""
        try:
            return await response.read_all(_ERROR_LIMIT)
        except (TransientError, BackendError):
            return b""  # the status says enough


def may_have_succeeded(status: int) -> bool:
    """Tell whether a request that was answered with an error may have been carried out.

    Any server between client and storage may answer 408, 429 or 5xx while the request is still under way.
    """
    return status in (408, 429) or (status >= 500 and status not in _NEVER_CARRIED_OUT)


async def settle(error: TroveError, look: Callable[[], Awaitable[R | None]]) -> R | None:
    """Look whether a write that failed was carried out all the same; return its result, or None if it was not.

    Args:
        error: of the write; unless it is ambiguous, there is nothing to look for.
        look: returns the result of the write if what is stored is what was written; else None.
    """
    if not error.ambiguous:
        return None
    try:
        return await look()
    except TroveError:
        return None  # the error of the write says more


def same_object(found: ObjectInfo, written: ObjectInfo) -> bool:
    """Tell whether an object is what was written, content and description, whatever its time and version."""
    return replace(found, last_modified=None, version_id=None) == replace(written, last_modified=None, version_id=None)
