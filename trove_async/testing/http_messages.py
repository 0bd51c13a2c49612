"""The messages of HTTP/1.1 that `AnsweringProxy` sees and sends, parsed as they arrive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import ModuleType
from xml.sax.saxutils import escape

from trove_async.errors import InvalidArgumentError, MissingDependencyError

__all__ = ["Answer", "BadRequestError", "RequestParser", "ResponseParser", "SeenRequest", "load_parsers", "s3_error"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that a client gets instead of the server's.

    Attributes:
        status: the status code.
        headers: the headers to send. If ``Content-Length`` and ``Transfer-Encoding`` are absent, Content-Length is
            added, except to a 204 or 304.
        body: the body to send; not sent after HEAD.
        reason: the reason phrase; default: the usual one for the status.
        content_length: the declared length, if it differs from the length of ``body``. If it is larger, the body is
            truncated: the connection ends after ``body``.
        close: send ``Connection: close`` and close the connection after the answer.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    reason: str | None = None
    content_length: int | None = None
    close: bool = False

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 999:
            raise InvalidArgumentError("an answer has a final status of three digits")
        if self.content_length is not None and self.content_length < len(self.body):
            raise InvalidArgumentError("content_length must not be less than the length of the body")

    @property
    def truncated(self) -> bool:
        """Whether the declared length is larger than the body."""
        return self.content_length is not None and self.content_length > len(self.body)

    def encode(self, method: str = "GET", *, close: bool = False) -> bytes:
        """Return the bytes of the answer to a request.

        Args:
            method: the request's method.
            close: send ``Connection: close`` even if the answer does not have it.
        """
        lines = [
            f"HTTP/1.1 {self.status} {self._phrase}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        names = {name.lower() for name in self.headers}
        if not names & {"content-length", "transfer-encoding"} and self.status not in (204, 304):
            lines.append(f"Content-Length: {len(self.body) if self.content_length is None else self.content_length}")
        if (close or self.close) and "connection" not in names:
            lines.append("Connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        return head if method == "HEAD" else head + self.body

    @property
    def _phrase(self) -> str:
        if self.reason is not None:
            return self.reason
        return HTTPStatus(self.status).phrase if self.status in HTTPStatus._value2member_map_ else "Unknown"


def s3_error(
    status: int,
    code: str,
    message: str = "injected",
    *,
    headers: Mapping[str, str] | None = None,
    request_id: str = "injected",
) -> Answer:
    """Return an error as S3 sends it: an XML document with the code, the message and the request's id.

    With the status 200 it is an answer that CompleteMultipartUpload and CopyObject may give after they have started it
    (https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html).
    """
    document = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
        f"<RequestId>{escape(request_id)}</RequestId></Error>"
    )
    named = {"Content-Type": "application/xml", "x-amz-request-id": request_id, **(headers or {})}
    return Answer(status, named, document.encode())


@dataclass(slots=True)
class SeenRequest:
    """A request whose head has arrived.

    Attributes:
        method, target: of the request line; the target is path and query.
        headers: names in lower case, and values, in order.
        connection: the number of the client's connection, from 1.
        body_size: the number of bytes of its body that have arrived, without the framing of chunks.
        complete: True when all of it has arrived.
        forwarded: True if any of it was sent to the server.
        answer: the answer that the client got instead of the server's; None for the server's.
        status: the status that was sent to the client; None if none was sent.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    connection: int
    body_size: int = 0
    complete: bool = False
    forwarded: bool = False
    answer: Answer | None = None
    status: int | None = None

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def header(self, name: str) -> str | None:
        """Return the first value of a header, or None."""
        return next((value for known, value in self.headers if known == name.lower()), None)


def load_parsers() -> ModuleType:
    """Import httptools.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import httptools
    except ImportError as error:
        raise MissingDependencyError("AnsweringProxy needs: pip install 'trove-async[testing]'") from error
    return httptools


class BadRequestError(Exception):
    """The request is not supported; the message says why."""


class RequestParser:
    """Parses one request as it arrives; the methods ``on_…`` are the callbacks of httptools."""

    def __init__(self, httptools: ModuleType, connection: int) -> None:
        self._errors = (httptools.HttpParserError, httptools.HttpParserUpgrade)
        self._parser = httptools.HttpRequestParser(self)
        self._connection = connection
        self._target = b""
        self._headers: list[tuple[str, str]] = []
        self._begun = 0
        self.request: SeenRequest | None = None
        self.keeps_alive = True

    def feed(self, data: bytes) -> None:
        """Parse bytes that have arrived.

        Raises:
            BadRequestError: they are not HTTP, or another request has begun.
        """
        try:
            self._parser.feed_data(data)
        except self._errors as error:
            raise BadRequestError(f"not valid HTTP: {error!r}") from error
        if self._begun > 1:
            raise BadRequestError("this proxy does not support pipelined requests")

    def on_message_begin(self) -> None:
        """Count the requests."""
        self._begun += 1

    def on_url(self, url: bytes) -> None:
        """Take in a piece of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take in a header."""
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """Make the request."""
        if self._begun == 1:
            method = self._parser.get_method().decode("latin-1")
            target = self._target.decode("latin-1")
            self.request = SeenRequest(method, target, tuple(self._headers), self._connection)
            self.keeps_alive = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        """Count the bytes of the body."""
        if self.request is not None and self._begun == 1:
            self.request.body_size += len(body)

    def on_message_complete(self) -> None:
        """Take in that all of it has arrived."""
        if self.request is not None:
            self.request.complete = True


class ResponseParser:
    """Finds the end of the response to one request."""

    def __init__(self, httptools: ModuleType, method: str) -> None:
        self._errors = (httptools.HttpParserError, httptools.HttpParserUpgrade)
        self._parser = httptools.HttpResponseParser(self)
        self._bodiless = method == "HEAD"
        self.status: int | None = None
        self.complete = False
        self.keeps_alive = False
        self.continues = 0

    def feed(self, data: bytes) -> None:
        """Parse bytes that have arrived.

        Raises:
            ConnectionAbortedError: they are not HTTP.
        """
        try:
            self._parser.feed_data(data)
        except self._errors as error:
            raise ConnectionAbortedError(f"the server's response is not valid: {error!r}") from error

    def on_headers_complete(self) -> None:
        """Take in the final status."""
        status = self._parser.get_status_code()
        if status >= 200:
            self.status = status
            self.keeps_alive = self._parser.should_keep_alive()
            self.complete = self._bodiless

    def on_message_complete(self) -> None:
        """Take in the end of an interim or of the final response."""
        if self.status is not None:
            self.complete = True
        elif self._parser.get_status_code() == HTTPStatus.CONTINUE:
            self.continues += 1
