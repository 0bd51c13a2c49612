"""The rules of RFC 9110 for objects: ranges, conditions, headers, statuses. No I/O and no framework.

The headers of requests are mappings with names in lower case, made by `join_headers`; the headers of answers are
pairs of name and value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from math import ceil, isfinite
from typing import Final, Literal
from urllib.parse import quote, unquote_to_bytes

from trove_async.driver import CONTENT_HEADERS
from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    BodySizeError,
    BucketAlreadyExistsError,
    BucketNotEmptyError,
    ChecksumError,
    ContentTooLargeError,
    InvalidArgumentError,
    InvalidBucketNameError,
    InvalidDSNError,
    LifetimeError,
    NotFoundError,
    OperationTimeoutError,
    PreconditionFailedError,
    RangeNotSatisfiableError,
    RootNotFoundError,
    StorageFullError,
    TransientError,
    TroveError,
    UnsupportedError,
)
from trove_async.ranges import ByteRange
from trove_async.store.arguments import ObjectArguments
from trove_async.types import ObjectInfo

__all__ = [
    "METADATA_PREFIX",
    "VERSION_HEADER",
    "Disposition",
    "Headers",
    "check_headers",
    "content_disposition",
    "content_length",
    "described_headers",
    "disposition_filename",
    "error_body",
    "error_members",
    "error_status",
    "evaluate",
    "http_date",
    "is_conditional",
    "join_headers",
    "media_type",
    "not_modified_headers",
    "object_headers",
    "parse_range",
    "range_applies",
    "retry_after",
    "write_conditions",
]

Headers = Mapping[str, str]

Disposition = Literal["inline", "attachment"]
"""Whether a browser shows an answer or saves it as a file."""

METADATA_PREFIX: Final = "X-Trove-Meta-"
"""The prefix of headers with metadata; their values are percent-encoded UTF-8."""

VERSION_HEADER: Final = "X-Trove-Version-Id"
"""The header with the id of the version that was read or written."""

_MAX_HEADER: Final = 64 * 1024
"""Characters of a header that is looked at; a longer one is malformed. Servers allow less."""
_MAX_RANGE: Final = 256
_MAX_DATE: Final = 64
_MAX_DIGITS: Final = 64
_MAX_RETRY_AFTER: Final = 300

# What clients send is matched only by patterns in which no two repetitions can take the same character: a search
# then takes time in proportion to the text.
_ETAG = re.compile(r'\s*(?P<weak>W/)?"(?P<tag>[\x21\x23-\x7e\x80-\xff]*)"\s*(?:,|\Z)')
_METADATA_NAME = re.compile(r"[A-Za-z0-9._-]+\Z")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")
_PLAIN_FILENAME = re.compile(r"[A-Za-z0-9 !#$&'()+,.;=@^_`{}~-]+\Z")
_ATTR_CHAR: Final = "!#$&+-.^_`|~"  # with letters and digits, the characters that RFC 8187 does not encode
_PARAMETER = re.compile(
    r"[ \t]*;[ \t]*(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*"
    r'(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<token>[^\s";,]+))[ \t]*'
)
_ESCAPED = re.compile(r"\\(.)")
_CONDITIONS: Final = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range")


_STATUSES: Final[tuple[tuple[type[TroveError], int], ...]] = (
    (PreconditionFailedError, 412),
    (RangeNotSatisfiableError, 416),
    (AccessDeniedError, 403),
    (RootNotFoundError, 500),
    (NotFoundError, 404),
    (BucketAlreadyExistsError, 409),
    (BucketNotEmptyError, 409),
    (InvalidArgumentError, 400),
    (ContentTooLargeError, 413),
    (BodySizeError, 400),
    (ChecksumError, 400),
    (StorageFullError, 507),
    (UnsupportedError, 501),
    (OperationTimeoutError, 504),
    (TransientError, 503),
    (LifetimeError, 503),
)

_ABOUT_REQUESTS: Final = (InvalidArgumentError, BodySizeError, ChecksumError, RangeNotSatisfiableError)
_ABOUT_STORES: Final = (InvalidBucketNameError, InvalidDSNError)
"""Errors whose messages are about what the app has chosen, and clients need not know."""


def join_headers(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return a request's headers; the values of a repeated header are joined (section 5.3)."""
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name.lower(), []).append(value.strip())
    return {name: values[0] if len(values) == 1 else ", ".join(values) for name, values in found.items()}


def parse_range(headers: Headers) -> ByteRange | None:
    """Return the range of a request; None for the whole object.

    A Range header that is malformed, or has another unit or several ranges, is ignored, as section 14.2 allows.
    """
    value = headers.get("range", "")
    if len(value) > _MAX_RANGE:
        return None
    unit, _, wanted = value.partition("=")
    first, dash, last = (part.strip(" \t") for part in wanted.partition("-"))
    if unit.strip(" \t").lower() != "bytes" or not dash or not (_is_number(first) and _is_number(last)):
        return None
    if first and last:
        length = int(last) - int(first) + 1
        return ByteRange(int(first), length) if length > 0 else None
    if first:
        return ByteRange(int(first))
    return ByteRange.suffix(int(last)) if last and int(last) else None


def _is_number(text: str) -> bool:
    """Whether text consists of decimal digits, a bounded number of them; it may be empty."""
    return not text or (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS)


def is_conditional(headers: Headers) -> bool:
    """Whether the request has conditions, so that the answer depends on the current object."""
    return any(name in headers for name in _CONDITIONS)


def evaluate(headers: Headers, info: ObjectInfo) -> int | None:
    """Evaluate the conditions of a read, in the order of section 13.2.2.

    Returns:
        412, 304, or None if all conditions hold.
    """
    modified = _whole_seconds(info.last_modified)
    if "if-match" in headers:
        if not _matches(headers["if-match"], info.etag, weakly=False):
            return 412
    elif (since := _date(headers.get("if-unmodified-since"))) and modified and modified > since:
        return 412
    if "if-none-match" in headers:
        if _matches(headers["if-none-match"], info.etag, weakly=True):
            return 304
    elif (since := _date(headers.get("if-modified-since"))) and modified and modified <= since:
        return 304
    return None


def range_applies(headers: Headers, info: ObjectInfo) -> bool:
    """Whether the range applies according to If-Range, if the request has it (section 13.1.5)."""
    value = headers.get("if-range")
    if value is None:
        return True
    date = _date(value)
    if date is not None:
        return date == _whole_seconds(info.last_modified)
    return "," not in value and value.strip() != "*" and _matches(value, info.etag, weakly=False)


def write_conditions(headers: Headers) -> tuple[str | None, str | None]:
    """Return ``if_match`` and ``if_none_match`` of a write; no condition is ignored.

    Raises:
        InvalidArgumentError: a condition does not have exactly one ETag.
        PreconditionFailedError: If-Match has a weak ETag, which never matches.
        UnsupportedError: a condition compares dates, which no store can do atomically.
    """
    if "if-unmodified-since" in headers:
        raise UnsupportedError("If-Unmodified-Since is not honoured for writes; use If-Match")
    weak, if_match = _single_etag(headers, "if-match")
    if weak:
        raise PreconditionFailedError("a weak ETag never matches in If-Match")
    return if_match, _single_etag(headers, "if-none-match")[1]


def _single_etag(headers: Headers, name: str) -> tuple[bool, str | None]:
    value = headers.get(name)
    if value is None:
        return False, None
    if value.strip() == "*":
        return False, "*"
    etags = _etags(value)
    if len(etags) != 1:
        raise InvalidArgumentError(f"{name} of a write is '*' or one quoted ETag")
    return etags[0]


def _etags(value: str) -> list[tuple[bool, str]]:
    """Parse a list of ETags, each with whether it is weak; return no ETags if the list is malformed."""
    found: list[tuple[bool, str]] = []
    position = 0
    if len(value) > _MAX_HEADER:
        return []
    while position < len(value):
        match = _ETAG.match(value, position)
        if match is None:
            return []
        found.append((match["weak"] is not None, match["tag"]))
        position = match.end()
    return found


def _matches(value: str, etag: str, *, weakly: bool) -> bool:
    if value.strip() == "*":
        return True
    return any(tag == etag and (weakly or not weak) for weak, tag in _etags(value))


def _date(value: str | None) -> datetime | None:
    """Parse a date header; return None if it is malformed, and so to be ignored."""
    if value is None or len(value) > _MAX_DATE:
        return None
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _whole_seconds(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(microsecond=0)


def object_headers(
    info: ObjectInfo,
    *,
    content_type: str | None = None,
    content_disposition: str | None = None,
    metadata: bool = True,
) -> list[tuple[str, str]]:
    """Return the headers that describe an object, except its length.

    Args:
        info: of the object.
        content_type, content_disposition: replace the stored values.
        metadata: whether to include the metadata.

    A value that is not valid in a header is left out.
    """
    said = {"content_disposition": content_disposition}
    found: list[tuple[str, str | None]] = [
        ("Content-Type", content_type or info.content_type),
        *((name.title(), said.get(field) or getattr(info, field)) for name, field in CONTENT_HEADERS),
        ("ETag", f'"{info.etag}"' if _ETAG.match(f'"{info.etag}"') else None),
        ("Last-Modified", None if info.last_modified is None else http_date(info.last_modified)),
        (VERSION_HEADER, info.version_id),
        ("Accept-Ranges", "bytes"),
        # Users have uploaded the content: browsers must not guess that it is HTML.
        ("X-Content-Type-Options", "nosniff"),
        *(
            (METADATA_PREFIX + name, quote(value, safe=""))
            for name, value in info.metadata.items()
            if metadata and _METADATA_NAME.match(name)
        ),
    ]
    return [(name, value) for name, value in found if value and value.isascii() and value.isprintable()]


def not_modified_headers(info: ObjectInfo) -> list[tuple[str, str]]:
    """Return the headers of a 304: those that a cache needs (section 15.4.5)."""
    wanted = ("ETag", "Last-Modified", "Cache-Control")
    return [(name, value) for name, value in object_headers(info) if name in wanted]


def http_date(moment: datetime) -> str:
    """Return a moment as headers have it (section 5.6.7)."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def described_headers(headers: Headers) -> ObjectArguments:
    """Return the content headers of an upload as arguments of ``put``."""
    return ObjectArguments(
        content_type=headers.get("content-type") or None,
        content_encoding=headers.get("content-encoding") or None,
        content_language=headers.get("content-language") or None,
    )


def content_disposition(disposition: Disposition, filename: str) -> str:
    """Return a Content-Disposition header (RFC 6266) with a filename, which may be any text.

    A name with special characters is sent twice: encoded according to RFC 8187, and for old clients with ``_`` in
    place of these characters. Slashes and characters that cannot be printed, such as line breaks and marks that change
    the direction of text, become ``_`` in both.

    Raises:
        ValueError: the disposition is neither ``inline`` nor ``attachment``.
    """
    if disposition not in ("inline", "attachment"):
        raise ValueError(f"disposition is 'inline' or 'attachment', not {disposition!r}")
    name = "".join(c if c.isprintable() and c not in "/\\" else "_" for c in filename)
    if name.strip(" .") == "":
        name = "_"
    if _PLAIN_FILENAME.match(name):
        return f'{disposition}; filename="{name}"'
    plain = "".join(c if _PLAIN_FILENAME.match(c) else "_" for c in name)
    return f"{disposition}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe=_ATTR_CHAR)}"


def disposition_filename(value: str) -> str | None:
    """Return the filename of a Content-Disposition header, without folders; None if it has none or is malformed.

    Of both forms, the encoded one (``filename*``, RFC 8187) counts if it can be decoded.
    """
    position = value.find(";")
    found: dict[str, str] = {}
    while 0 <= position < len(value):
        match = _PARAMETER.match(value, position)
        if match is None:
            return None
        quoted = match["quoted"]
        found.setdefault(match["name"].lower(), match["token"] if quoted is None else _ESCAPED.sub(r"\1", quoted))
        position = match.end()
    name = _decoded(found.get("filename*")) or found.get("filename", "")
    return re.split(r"[/\\]", name)[-1] or None


def _decoded(value: str | None) -> str | None:
    """Decode an extended value (RFC 8187); None if it cannot be decoded."""
    charset, _, rest = (value or "").partition("'")
    if charset.lower() not in ("utf-8", "iso-8859-1"):
        return None
    try:
        return unquote_to_bytes(rest.partition("'")[2]).decode(charset)
    except UnicodeDecodeError:
        return None


def check_headers(headers: Iterable[tuple[str, str]]) -> None:
    """Check that the names and values of headers are valid and do not inject other headers (section 5.5).

    Raises:
        ValueError: one is not valid.
    """
    for name, value in headers:
        if not _HEADER_NAME.match(name) or not _HEADER_VALUE.match(value):
            raise ValueError(f"{name!r}: {value!r} is not valid in a header")


def content_length(headers: Headers) -> int | None:
    """Return the Content-Length of a request; None if it has none.

    Raises:
        InvalidArgumentError: it is not a number.
    """
    value = headers.get("content-length")
    if value is None:
        return None
    if not value.isascii() or not value.isdigit() or len(value) > 20:
        raise InvalidArgumentError("Content-Length is not a number")
    return int(value)


def media_type(headers: Headers) -> str:
    """Return the media type of a body in lower case, without parameters; empty if the headers have none."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def error_status(error: TroveError) -> int:
    """Return the status code for an error.

    A backend that refuses access refuses it to this server, and not to the client, so that the fault is the server's.
    """
    if isinstance(error, AccessDeniedError) and _is_of_backend(error):
        return 500
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def error_body(error: TroveError) -> bytes:
    """Return the JSON for an error: its `error_members`."""
    return json.dumps(error_members(error)).encode()


def error_members(error: TroveError) -> dict[str, str]:
    """Return what an answer says of an error: ``code`` and ``message``.

    What the backend says about itself is for the log: the message is then that of the error's class. Where the fault
    is the server's, a refused access or a missing root is a ``Backend`` error.
    """
    hidden = error_status(error) == 500 and isinstance(error, AccessDeniedError | RootNotFoundError)
    kind = BackendError if hidden else type(error)
    message = error.message if _is_for_clients(error) else kind.default_message
    return {"code": kind.__name__.removesuffix("Error"), "message": message}


def _is_of_backend(error: TroveError) -> bool:
    """Whether a service or an operating system is the origin of an error."""
    return error.driver is not None and not (
        error.status is None and error.request_id is None and error.__cause__ is None
    )


def _is_for_clients(error: TroveError) -> bool:
    """Whether the message of an error is about the request, and says nothing about the store."""
    if error.status is not None or error.request_id is not None:
        return False
    if isinstance(error, UnsupportedError) and error.driver is None:  # the app refuses a method or a header
        return True
    if error_status(error) >= 500:
        return False
    if error.driver is None:  # it was raised by the app, before any store
        return True
    return isinstance(error, _ABOUT_REQUESTS) and not isinstance(error, _ABOUT_STORES) and error.__cause__ is None


def retry_after(error: TroveError) -> int | None:
    """Return the seconds for a Retry-After header, 0 to 300; None for an error without it (section 10.2.3)."""
    seconds = error.retry_after
    if seconds is None or not isfinite(seconds):
        return 1 if isinstance(error, TransientError) else None
    return ceil(min(max(seconds, 0), _MAX_RETRY_AFTER))
