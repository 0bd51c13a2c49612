"""`ErrorRules`: from the error answers of a service to the classes of `trove_async.errors`.

A service brings its tables of codes and statuses, and says how its error documents are read. What is the same for all
of them stands here: the statuses of HTTP, answers of something that is not the service, and the message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from trove_async.dsn import redact
from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    BucketNotFoundError,
    ConflictError,
    ContentTooLargeError,
    CopyNotSupportedError,
    NotFoundError,
    NotModifiedError,
    ObjectAlreadyExistsError,
    ObjectNotFoundError,
    OperationTimeoutError,
    PreconditionFailedError,
    RangeNotSatisfiableError,
    StorageFullError,
    ThrottledError,
    TransientError,
    TroveError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)
from trove_async.types import EMPTY
from trove_async.wire.fields import parse_retry_after

__all__ = ["STATUSES", "ErrorDocument", "ErrorRules", "Rule", "clean", "condition_error", "copying"]

Rule = tuple[type[TroveError], str | None]
"""The class of an error, and advice that stands before the service's own words; None for the class's message."""

STATUSES: Final[Mapping[int, type[TroveError]]] = {
    304: NotModifiedError,
    401: UnauthenticatedError,
    403: AccessDeniedError,
    404: NotFoundError,
    405: UnsupportedError,
    407: UnauthenticatedError,
    408: OperationTimeoutError,
    409: ConflictError,
    410: NotFoundError,
    412: PreconditionFailedError,
    413: ContentTooLargeError,
    416: RangeNotSatisfiableError,
    425: UnavailableError,
    429: ThrottledError,
    501: UnsupportedError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
    505: BackendError,
    507: StorageFullError,
    509: ThrottledError,
}
"""The class for an answer without a known code. Others are `TransientError` from 500 on, else `BackendError`."""

_NO_SUCH_REQUEST: Final = frozenset({405, 501})
"""Statuses with which a service says that it does not have a request, which it has not carried out."""

_PROXY: Final = "a proxy requires a user and a password; give them in the URL of the proxy, before '@'"
_BETWEEN: Final = frozenset({407, 413})
"""Statuses that proxies and gateways answer for themselves, beside those that are transient."""

_HTML: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|meta|title|script)\b", re.I | re.S
)

_LONGEST_MESSAGE: Final = 400
_LONGEST_RAW: Final = 4 * _LONGEST_MESSAGE


@dataclass(frozen=True, slots=True)
class ErrorDocument:
    """What the body of an error answer says.

    Attributes:
        code, message: the service's own; None if it gives none.
        fields: what else it says, such as the region of a bucket.
    """

    code: str | None
    message: str | None
    fields: Mapping[str, str] = EMPTY


def _no_special_case(status: int | None, code: str | None, message: str) -> Rule | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRules:
    """What the error answers of one service mean.

    Attributes:
        service: its name, as in "the endpoint does not speak S3".
        read: parses the body of an error answer; None if it is not an error document of the service.
        codes: a service's code: the class of the error, and advice.
        statuses: what the service means by a status, where that differs from `STATUSES`.
        headers: what the names of headers begin with that only the service sends.
        request_ids: the headers that name the request.
        special: decides before the tables; None if they decide.
        unnamed: codes that say only that something is missing, and not what.
        headed: statuses that the service never answers without its headers, even if the answer has no body.
        successes: statuses with which the service says that something was done.
        headed_writes: whether the service always sends its headers when a write was done.
    """

    service: str
    read: Callable[[bytes], ErrorDocument | None]
    codes: Mapping[str, Rule]
    statuses: Mapping[int, type[TroveError]]
    headers: tuple[str, ...]
    request_ids: tuple[str, ...]
    special: Callable[[int | None, str | None, str], Rule | None] = _no_special_case
    unnamed: frozenset[str] = frozenset()
    headed: frozenset[int] = frozenset()
    successes: frozenset[int] = frozenset({200, 201, 204})
    headed_writes: bool = False

    def error_of(
        self,
        bucket: str,
        key: str,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        document: ErrorDocument | None,
    ) -> TroveError:
        """Return the error of an answer.

        Args:
            bucket, key: of the request; empty if it was about none.
            status, headers: of the answer; names in lower case.
            document: what `read` made of the body.
            body: as it arrived.
        """
        if document is None and self._is_foreign(status, headers, body):
            return self.foreign(status, headers)
        code = message = request_id = None
        if document is not None:
            code, message, request_id = document.code, document.message, document.fields.get("RequestId")
        error = self.error(
            status,
            code,
            message,
            request_id=next((found for name in self.request_ids if (found := headers.get(name))), request_id) or None,
            retry_after=parse_retry_after(headers.get("retry-after")),
            about="object" if key else "bucket" if bucket else "service",
        )
        if isinstance(error, BucketNotFoundError) and bucket:
            error.bucket = bucket
        if _is_redirect(status) and "location" in headers:
            error.message += f"; the answer redirects to {clean(headers['location'])}: check the endpoint"
        return error

    def error(
        self,
        status: int | None,
        code: str | None,
        message: str | None,
        *,
        request_id: str | None = None,
        retry_after: float | None = None,
        about: str = "object",
    ) -> TroveError:
        """Return the error for a service's status, code and message.

        Args:
            status: None if there is none, as for one key of a bulk request.
            code, message: the service's own; None or empty if it gave none.
            request_id: of the answer.
            retry_after: seconds.
            about: ``object``, ``bucket`` or ``service``: what is missing if the answer says only that something is.
        """
        kind, advice = self._rule(status, code, message or "")
        if kind is NotFoundError and (not code or code in self.unnamed):
            kind = {"object": ObjectNotFoundError, "bucket": BucketNotFoundError}.get(about, NotFoundError)
        said = ": ".join(part for part in (code, message) if part and part != "None")
        words = (advice or kind.default_message, clean(said))
        return kind(
            "; the service says: ".join(part for part in words if part),
            status=status,
            request_id=request_id,
            retry_after=retry_after,
        )

    def _rule(self, status: int | None, code: str | None, message: str) -> Rule:
        if status == 407:
            return UnauthenticatedError, _PROXY
        found = self.special(status, code, message)
        if found is not None:
            return found
        if code is not None and code in self.codes and status != 304:
            return self.codes[code]
        return self.class_of(status), None

    def class_of(self, status: int | None) -> type[TroveError]:
        """Return the class for a status alone."""
        if status is None:
            return BackendError
        kind = self.statuses.get(status) or STATUSES.get(status)
        return kind or (TransientError if status >= 500 else BackendError)

    def is_own(self, headers: Mapping[str, str]) -> bool:
        """Tell whether an answer has headers that only the service sends."""
        return any(name.startswith(self.headers) for name in headers)

    def _is_foreign(self, status: int, headers: Mapping[str, str], body: bytes) -> bool:
        if status == 304 or self.is_own(headers):
            return False
        return bool(body) or status in self.headed or _is_redirect(status)

    def check_success(
        self, status: int, headers: Mapping[str, str], body: bytes | None, *, writes: bool
    ) -> TroveError | None:
        """Return the error of an answer that only looks like a success; None if there is no sign of that.

        Captive portals, and proxies that want a login, answer every request with 200 and a page of HTML.

        Args:
            status, headers: of the answer, which does not hold the content of an object.
            body: its body; None if it has none by the rules of HTTP, or has not arrived.
            writes: whether the request changes something.
        """
        if status not in self.successes:
            return BackendError(
                f"the answer has the status {status}, which {self.service} does not send", status=status
            )
        if self.is_own(headers):
            return None
        # Some servers call a document of XML, or no body at all, HTML.
        html = headers.get("content-type", "").startswith("text/html") if body is None else _HTML.match(body)
        return self.foreign(status, headers) if html or (writes and self.headed_writes) else None

    def foreign(self, status: int, headers: Mapping[str, str]) -> TroveError:
        """Return the error for an answer of something that is not the service: a proxy, a gateway, a web site."""
        if status == 407:
            return UnauthenticatedError(_PROXY, status=status)
        kind = headers.get("content-type", "of no content type").partition(";")[0]
        server = headers.get("server")
        named = f" of {server!r}" if server else ""
        words = f"the answer{named} is {kind}, with none of the headers of {self.service}"
        location = headers.get("location")
        if _is_redirect(status) and location is not None:
            words += f", and redirects to {clean(location)}"
        found = self.class_of(status)
        if status in _BETWEEN or issubclass(found, TransientError):
            # Something between client and service answers, whatever its body: the status says what to do.
            words = f"{found.default_message}; {clean(words)}"
            return found(words, status=status, retry_after=parse_retry_after(headers.get("retry-after")))
        return BackendError(
            clean(f"the endpoint does not speak {self.service}: {words}; check the endpoint"), status=status
        )


def _is_redirect(status: int) -> bool:
    return 300 <= status < 400 and status != 304


def clean(text: str) -> str:
    """Return text of others as it can stand in a message: short, on one line, printable, without secrets."""
    line = redact(" ".join(text[:_LONGEST_RAW].split()))[:_LONGEST_MESSAGE]
    return line if line.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


def condition_error(
    error: PreconditionFailedError | NotModifiedError, if_none_match: str | None
) -> PreconditionFailedError:
    """Return the error of a write whose condition did not hold, in the class that says which condition it was."""
    kind = ObjectAlreadyExistsError if if_none_match == "*" else PreconditionFailedError
    return kind(
        error.message,
        status=error.status,
        request_id=error.request_id,
        ambiguous=error.ambiguous,
        retryable=error.retryable,
    )


@contextmanager
def copying() -> Iterator[None]:
    """Raise `CopyNotSupportedError` where a service answers a copy by saying that it has no such request."""
    try:
        yield
    except UnsupportedError as error:
        if error.ambiguous or error.status not in _NO_SUCH_REQUEST:
            raise
        raise CopyNotSupportedError(error.message, status=error.status, request_id=error.request_id) from error
