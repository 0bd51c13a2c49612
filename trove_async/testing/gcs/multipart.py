"""Bodies of several parts: ``multipart/related``, ``mixed`` and ``form-data`` (RFC 2046, 5.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import Message
from typing import Final

from trove_async.testing.gcs.errors import ServiceError, invalid

__all__ = ["Part", "content_type", "divided", "split"]

_PARTS: Final = 200
_LINE_END: Final = re.compile(rb"\r?\n")
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")


@dataclass(frozen=True, slots=True)
class Part:
    """One part: headers by lower-case name, and the body as a view of the whole body."""

    headers: dict[str, str]
    body: memoryview

    def parameter(self, header: str, name: str) -> str | None:
        """Return a parameter of a header; None if it is absent."""
        return content_type(self.headers.get(header, ""))[1].get(name)


def content_type(value: str) -> tuple[str, dict[str, str]]:
    """Return the lower-case media type and the parameters of a Content-Type header."""
    message = Message()
    message["Content-Type"] = value
    parameters = message.get_params(failobj=[])
    main = parameters[0][0].lower() if parameters else ""
    return main, {key.lower(): text for key, text in parameters[1:]}


def split(body: bytes, header: str) -> list[Part]:
    """Return the parts of a body with the given Content-Type.

    Raises:
        ServiceError: 400; it has no boundary, is malformed, or ends before its last boundary.
    """
    boundary = content_type(header)[1].get("boundary")
    if not boundary:
        raise invalid("Missing multipart boundary.", reason="badContent")
    # gcsfs and Google's client for Python end lines with a line feed alone, which Google accepts.
    delimiter = re.compile(rb"(?:^|\r?\n)--" + re.escape(boundary.encode()) + rb"(--)?[ \t]*(?:\r?\n|$)")
    view = memoryview(body)
    found = delimiter.search(body)
    parts: list[Part] = []
    while found is not None and not found[1]:
        if len(parts) >= _PARTS:
            raise invalid("Too many parts.", reason="badContent")
        # The line end of the delimiter may also be the empty line of a part without headers.
        start = found.end()
        found = delimiter.search(body, max(start - 2, 0))
        if found is None:
            break
        parts.append(_part(body, view, start, found.start()))
    if found is None:
        raise _malformed()
    return parts


def divided(message: bytes) -> tuple[bytes, bytes]:
    """Return the head and the body of a message, whose lines may end with a line feed alone."""
    found = _HEAD_END.search(message)
    return (message, b"") if found is None else (message[: found.start()], message[found.end() :])


def _part(body: bytes, view: memoryview, start: int, end: int) -> Part:
    empty = _LINE_END.match(body, start)
    if empty is not None:
        return Part({}, view[empty.end() : end])
    found = _HEAD_END.search(body, start, end + 4)
    if found is None or found.start() > end:
        raise _malformed()
    headers: dict[str, str] = {}
    for line in body[start : found.start()].decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(":")
        if not colon:
            raise _malformed()
        headers[name.strip().lower()] = value.strip()
    return Part(headers, view[min(found.end(), end) : end])


def _malformed() -> ServiceError:
    return invalid("Malformed multipart body.", reason="badContent")
