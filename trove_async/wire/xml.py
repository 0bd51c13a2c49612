"""The XML of the cloud services: responses parsed into elements without namespaces, and small documents written.

Only what such a service sends is accepted: UTF-8 without a document type, so that no entity can be declared or
expanded, and within bounds of depth and number of elements.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, TypeAlias
from xml.etree.ElementTree import Element, ParseError, XMLParser
from xml.parsers import expat

from trove_async.errors import BackendError, InvalidKeyError

__all__ = ["Children", "can_hold", "document", "number", "parse", "parse_if_xml", "parse_time", "required", "text"]

Children: TypeAlias = "Iterable[tuple[str, str | int | Children]]"
"""Elements in their order: each a name, and its text, number, truth value, or children."""

_FEW_ELEMENTS: Final = 20_000
"""The elements of a document whose depth is not checked: however they are nested, they do no harm.

A page of 1,000 keys has about 10,000.
"""

_MAX_DEPTH: Final = 32
"""The levels of a larger document; the services nest up to six."""

_MAX_ELEMENTS: Final = 500_000
"""The elements of a document. The largest is a page of 5,000 blobs with some 40 elements each, and their metadata."""

_BOM: Final = b"\xef\xbb\xbf"

# https://www.w3.org/TR/xml/#charsets
_INVALID: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SPECIAL: Final = re.compile(f"[&<>\r]|{_INVALID.pattern}")
# A parser reads a bare carriage return as a line feed (https://www.w3.org/TR/xml/#sec-line-ends).
_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}

_ROOT_NAMESPACE: Final = re.compile(rb"""\A((?:<\?xml[^>]*>)?\s*<\w+) xmlns=(?:"[^"<>]*"|'[^'<>]*')""")


def parse_if_xml(data: bytes) -> Element | None:
    """Parse a document that may be something else, such as an error page; see `parse`.

    Returns:
        Its root; None if it is not XML.
    """
    if not data.lstrip(_BOM + b" \t\r\n").startswith(b"<"):
        return None
    try:
        return parse(data)
    except BackendError:
        return None


def parse(data: bytes) -> Element:
    """Parse a document; namespaces are stripped from the names of its elements, not from attributes.

    A byte order mark or white space before the document is accepted; a service may send spaces to keep the connection
    of a slow response open.

    Raises:
        BackendError: it is not well-formed XML in UTF-8, declares a document type, or has too many elements or levels.
    """
    data = data.removeprefix(_BOM).lstrip()
    # The parser would switch to UTF-16, in which the search below finds nothing; XML in UTF-8 has no NUL.
    if b"\0" in data:
        raise BackendError("the backend answered with something that is not XML in UTF-8")
    if b"<!DOCTYPE" in data:
        _refuse_document_type(data)
    elements = data.count(b"<") - data.count(b"</")
    if elements > _MAX_ELEMENTS:
        raise BackendError(f"the backend answered with more than {_MAX_ELEMENTS} XML elements")
    # Names without a namespace are parsed in half the time.
    data = _ROOT_NAMESPACE.sub(rb"\1", data, count=1)
    # All of these services send UTF-8; a declared encoding that Python lacks would raise errors of other classes.
    parser = XMLParser(encoding="utf-8")
    try:
        parser.feed(data)
        root: Element = parser.close()
    except ParseError as error:
        raise BackendError(f"the backend answered with something that is not XML: {error}") from error
    if elements > _FEW_ELEMENTS:
        _check_depth(root)
    if b"xmlns" in data:
        _strip_namespaces(root)
    return root


def _check_depth(root: Element) -> None:
    level = [root]
    for _ in range(_MAX_DEPTH):
        level = [child for element in level for child in element]
        if not level:
            return
    raise BackendError(f"the backend answered with XML of more than {_MAX_DEPTH} levels")


def _refuse_document_type(data: bytes) -> None:
    """Raise if the document has a type; the characters alone may be in a comment or a CDATA section."""
    parser = expat.ParserCreate("utf-8")
    parser.StartDoctypeDeclHandler = _raise_document_type
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise BackendError(f"the backend answered with something that is not XML: {error}") from error


def _raise_document_type(name: str, *_: object) -> None:
    raise BackendError(f"the backend answered with XML that declares a document type ({name[:40]})")


class _LocalNames(dict[str, str]):
    """Names without their namespaces; a page has thousands of elements, but about a dozen names."""

    def __missing__(self, name: str) -> str:
        local = self[name] = name.rpartition("}")[2]
        return local


def _strip_namespaces(root: Element) -> None:
    names = _LocalNames()
    for element in root.iter():
        element.tag = names[element.tag]


def text(element: Element, name: str, default: str | None = None) -> str | None:
    """Return the text of the first child with a name: empty if the child is empty, the default if there is none."""
    return element.findtext(name, default)


def required(element: Element, name: str) -> str:
    """Return the text of the first child with a name.

    Raises:
        BackendError: there is none.
    """
    value = text(element, name)
    if value is None:
        raise BackendError(f"the answer has a <{element.tag}> without a <{name}>")
    return value


def number(element: Element, name: str) -> int:
    """Return the number in the first child with a name.

    Raises:
        BackendError: there is none, or it is negative.
    """
    try:
        value = int(required(element, name))
    except ValueError:
        value = -1
    if value < 0:
        raise BackendError(f"the answer has a <{name}> that is not a number of bytes or parts")
    return value


def can_hold(value: str) -> bool:
    """Return whether XML 1.0 can hold a text: no control character except tab and line ends, no lone surrogate."""
    return _INVALID.search(value) is None


def document(root: str, children: Children, namespace: str | None = None) -> bytes:
    """Build a document in UTF-8, without white space between its elements.

    Args:
        root: the name of its outermost element.
        children: the elements in it; numbers are written in decimal, truth values as ``true`` and ``false``.
        namespace: the default namespace, for all of them.

    Raises:
        InvalidKeyError: a text has characters that XML 1.0 cannot hold, escaped or not; the message names them.
    """
    attribute = "" if namespace is None else f' xmlns="{_escape(namespace, "xmlns").replace(chr(34), "&quot;")}"'
    pieces = [f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}{attribute}>']
    _append(pieces, children)
    pieces.append(f"</{root}>")
    return "".join(pieces).encode()


def _append(pieces: list[str], children: Children) -> None:
    for name, value in children:
        if isinstance(value, str):
            pieces.append(f"<{name}>{_escape(value, name)}</{name}>")
        elif isinstance(value, bool):
            pieces.append(f"<{name}>{'true' if value else 'false'}</{name}>")
        elif isinstance(value, int):
            pieces.append(f"<{name}>{value}</{name}>")
        else:
            pieces.append(f"<{name}>")
            _append(pieces, value)
            pieces.append(f"</{name}>")


def _escape(value: str, name: str) -> str:
    if _SPECIAL.search(value) is None:
        return value
    invalid = sorted(set(_INVALID.findall(value)))
    if invalid:
        named = ", ".join(f"U+{ord(character):04X}" for character in invalid)
        raise InvalidKeyError(f"XML 1.0 cannot hold {named}, which the {name} contains")
    return _SPECIAL.sub(lambda found: _ESCAPES[found[0]], value)


def parse_time(value: str) -> datetime:
    """Parse a time into an aware one in UTC.

    ISO 8601, such as ``2009-10-12T17:50:30.000Z``, is what the services send; dates of RFC 1123 and RFC 2822, such as
    ``Mon, 02 Jan 2023 15:04:05 GMT``, are read too. A time without an offset is in UTC; digits below the microsecond
    are dropped.

    Raises:
        BackendError: it is not such a time.
    """
    try:
        time = datetime.fromisoformat(value)
        # The usual case: `Z` becomes this very object.
        if time.tzinfo is UTC:
            return time
    except (ValueError, OverflowError):
        time = _parse_mail_time(value)
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _not_a_time(value) from None


def _parse_mail_time(value: str) -> datetime:
    from email.utils import parsedate_to_datetime  # is slow to import, and seldom needed

    try:
        return parsedate_to_datetime(value.strip())
    except (ValueError, OverflowError, TypeError, IndexError):
        raise _not_a_time(value) from None


def _not_a_time(value: str) -> BackendError:
    return BackendError(f"the backend sent {value[:40]!r} as a time")
