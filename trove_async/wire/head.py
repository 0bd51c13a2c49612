"""The head of an HTTP/1.1 response: status line and header fields, and how they frame the body (RFC 9112)."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MAX_HEAD", "UNTIL_CLOSE", "HeadError", "find_end", "frame", "parse_head"]

MAX_HEAD: Final = 64 * 1024
"""Bytes that a head may have, those of the interim responses before it included."""

UNTIL_CLOSE: Final = 1 << 62
"""The number of bytes to come where only the end of the connection ends the body."""

_MAX_FIELDS: Final = 2000  # Azure and Google take 8 KiB of metadata, which is more than a thousand short pairs
_MAX_DIGITS: Final = 18  # a Content-Length that fits 64 bits
_STATUS_LINE: Final = re.compile(r"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: .*)?")
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FOLD: Final = re.compile(r"\r?\n[ \t]+")

# Names come again and again, and are checked and lowered once. What is kept is bounded: servers choose the names.
_names: dict[str, str] = {}
_MAX_NAMES: Final = 1000
_MAX_NAME: Final = 64


class HeadError(Exception):
    """A head that cannot be used; the message completes "the server answered with"."""


def find_end(data: bytes) -> int:
    """Return the offset after the empty line that ends a head, 0 if there is none.

    A line feed alone ends a line too (RFC 9112, section 2.2).
    """
    end = data.find(b"\n\r\n") + 3
    bare = data.find(b"\n\n", 0, end if end > 2 else len(data)) + 2
    if bare > 1:
        return bare
    return end if end > 2 else 0


def parse_head(head: bytes) -> tuple[int, int, dict[str, str]]:
    """Parse a head, its empty line included: return the minor version, the status and the header fields.

    Names are in lower case; the values of a repeated field are joined with ``", "``. A value that is not UTF-8 is
    read as Latin-1.

    Raises:
        HeadError: it is not a head of HTTP/1.0 or 1.1, or has too many fields.
    """
    try:
        text = head.decode()
    except UnicodeDecodeError:
        text = "".join(_decode(line) for line in head.splitlines(keepends=True))
    lines = text.split("\r\n")
    breaks = len(lines) - 1
    if head.count(b"\n") == breaks and head.count(b"\r") == breaks and "\0" not in text:
        try:
            return _parse_lines(lines)
        except HeadError:
            pass  # unless its lines are folded
    return _parse_lines(_split_leniently(text))


def _split_leniently(text: str) -> list[str]:
    """Return the lines of a head that has folded lines, or lines that end without a carriage return."""
    lines = [line.removesuffix("\r") for line in _FOLD.sub(" ", text).split("\n")]
    for line in lines:
        if "\r" in line or "\0" in line:
            raise HeadError(f"a header field that is not HTTP/1.1: {line[:60]!r}")
    return lines


def _parse_lines(lines: list[str]) -> tuple[int, int, dict[str, str]]:
    first = _STATUS_LINE.fullmatch(lines[0])
    if first is None:
        raise HeadError("something that is not HTTP/1.1")
    if len(lines) > _MAX_FIELDS:
        raise HeadError(f"more than {_MAX_FIELDS} header fields")
    headers: dict[str, str] = {}
    for line in lines[1:-2]:
        name, colon, value = line.partition(":")
        lowered = _names.get(name) or _lower(name)
        if not colon:
            raise HeadError(f"a header field that is not HTTP/1.1: {line[:60]!r}")
        value = value.strip(" \t")
        headers[lowered] = f"{headers[lowered]}, {value}" if lowered in headers else value
    return int(first[1]), int(first[2]), headers


def _lower(name: str) -> str:
    if not _TOKEN.fullmatch(name):
        raise HeadError(f"a header field that is not HTTP/1.1: {name[:60]!r}")
    lowered = name.lower()
    if len(_names) < _MAX_NAMES and len(name) <= _MAX_NAME:
        _names[name] = lowered
    return lowered


def _decode(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


def frame(method: str, minor: int, status: int, headers: dict[str, str]) -> tuple[int, bool, bool]:
    """Decide how the body of a response ends (RFC 9112, section 6.3).

    Returns:
        The bytes of the body, or `UNTIL_CLOSE` if they are not declared; whether the body is chunked; whether the
        connection can carry another request afterwards.

    Raises:
        HeadError: the fields contradict each other, or name a coding that was not asked for.
    """
    keep = minor == 1
    connection = headers.get("connection")
    if connection is not None:
        options = [option.strip() for option in connection.lower().split(",")]
        keep = "close" not in options and (keep or "keep-alive" in options)
    coding = headers.get("transfer-encoding")
    if coding is not None:
        # It overrides a length. A server that sends both, or sends it in HTTP/1.0, may mean something else by it.
        keep = headers.pop("content-length", None) is None and minor == 1 and keep
    length = headers.get("content-length")
    size = UNTIL_CLOSE
    if length is not None:
        size, headers["content-length"] = _size(length)
    if method == "HEAD" or status in (204, 304):
        return 0, False, keep
    if coding is not None:
        if coding.lower() != "chunked":
            raise HeadError(f"the transfer coding {coding[:60]!r}; only 'chunked' can be read")
        return UNTIL_CLOSE, True, keep
    return size, False, keep and length is not None


def _size(value: str) -> tuple[int, str]:
    """Read a ``Content-Length``, in which equal values may be repeated; return it as a number and as one value."""
    digits = value
    if "," in value:
        first, *others = [item.strip() for item in value.split(",")]
        digits = first if all(other == first for other in others) else ""
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS):
        raise HeadError(f"a Content-Length that is not a number of bytes: {value[:60]!r}")
    return int(digits), digits
