"""HTTP requests and responses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from trove_async.testing.gcs.errors import invalid

__all__ = ["JSON_HEADERS", "Request", "Response", "decoded", "json_response", "mapping"]

_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus} | {
    308: "Resume Incomplete",
    499: "Client Closed Request",
}
_BODILESS: Final = (204, 304)


class Request:
    """A request, complete or as far as it has arrived.

    Attributes:
        method: as sent.
        target: the path and the query, as sent.
        raw_path: the path with its percent-encoding.
        raw_query: the query with its percent-encoding.
        headers: by lower-case name; values of the same name are joined with a comma.
        chunks: the body in the pieces in which it arrived.
        size: the number of bytes of the body that have arrived.
        complete: False if the connection broke before the end.
        abandoned: True once the client no longer waits for the response.
    """

    def __init__(self, method: str, target: str, headers: dict[str, str]) -> None:
        self.method = method
        self.target = target
        path, _, self.raw_query = target.partition("?")
        if not path.startswith("/"):  # the absolute form of RFC 9112, 3.2.2
            path = "/" + path.partition("://")[2].partition("/")[2]
        self.raw_path = path
        self.headers = headers
        self.chunks: list[bytes] = []
        self.size = 0
        self.complete = False
        self.keep_alive = True
        self.abandoned = False

    @cached_property
    def query(self) -> dict[str, str]:
        """The decoded parameters; the last one wins if a name is repeated."""
        try:
            return dict(parse_qsl(self.raw_query, keep_blank_values=True, errors="strict")) if self.raw_query else {}
        except UnicodeDecodeError as error:
            raise invalid("Invalid UTF-8 in the query.") from error

    @cached_property
    def segments(self) -> list[str]:
        """The segments of the path, each decoded once."""
        return [decoded(segment) for segment in self.raw_path[1:].split("/")]

    @cached_property
    def body(self) -> bytes:
        """The body as far as it has arrived."""
        return self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)

    def header(self, name: str, default: str = "") -> str:
        """Return a header by its name in lower case."""
        return self.headers.get(name, default)

    def flag(self, name: str) -> bool:
        """Return a boolean parameter; False if it is absent."""
        return self.query.get(name, "").lower() == "true"

    def integer(self, name: str) -> int | None:
        """Return a parameter that is a number; None if it is absent.

        Raises:
            ServiceError: 400; it is not a number.
        """
        value = self.query.get(name)
        if value is None or value == "":
            return None
        try:
            return int(value)
        except ValueError as error:
            raise invalid(f"Invalid value for parameter {name}: {value}", reason="invalidParameter") from error

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object; an empty one if there is no body.

        Raises:
            ServiceError: 400; it is something else.
        """
        if not self.size:
            return {}
        try:
            value = json.loads(self.body)
        except ValueError as error:
            raise invalid("Parse Error", reason="parseError") from error
        if not isinstance(value, dict):
            raise invalid("Parse Error", reason="parseError")
        return value


def mapping(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an object within a JSON object; an empty one if it is absent or null.

    Raises:
        ServiceError: 400; it is something else.
    """
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise invalid(f"Invalid value for: {name}", reason="parseError")
    return value


def decoded(part: str) -> str:
    """Percent-decode once.

    Raises:
        ServiceError: 400; it is not UTF-8.
    """
    if "%" not in part:
        return part
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError as error:
        raise invalid("The path is not UTF-8.") from error


class Response:
    """A response; with ``chunked`` it has no Content-Length."""

    __slots__ = ("body", "chunked", "headers", "length", "status")

    def __init__(
        self,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        body: bytes | memoryview = b"",
        *,
        chunked: bool = False,
        length: int | None = None,
    ) -> None:
        self.status = status
        self.headers = headers or {}
        self.body = body
        self.chunked = chunked
        self.length = length  # the Content-Length in a response to HEAD

    def head(self, date: str, *, close: bool) -> bytes:
        """Return the status line and the headers."""
        lines = [f"HTTP/1.1 {self.status} {_PHRASES.get(self.status, 'Unknown')}", f"Date: {date}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.chunked:
            lines.append("Transfer-Encoding: chunked")
        elif self.status not in _BODILESS:
            lines.append(f"Content-Length: {len(self.body) if self.length is None else self.length}")
        if close:
            lines.append("Connection: close")
        lines.append("\r\n")
        # Google's servers send metadata beyond ASCII as UTF-8.
        return "\r\n".join(lines).encode("utf-8", "surrogateescape")


JSON_HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "application/json; charset=UTF-8",
    "Server": "UploadServer",
}
"""The headers of every JSON response; do not change them."""


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with a JSON document."""
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return Response(status, {**JSON_HEADERS, **headers} if headers else JSON_HEADERS, body)
