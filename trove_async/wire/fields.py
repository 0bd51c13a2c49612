"""Header fields of HTTP that every service has: times, ETags, conditions, ranges."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from trove_async.driver import HeadOptions
from trove_async.errors import BackendError

__all__ = [
    "condition_headers",
    "content_length",
    "content_range",
    "etag_of",
    "http_date",
    "parse_http_date",
    "parse_retry_after",
    "required",
    "write_conditions",
]


_YEAR: Final = 365 * 24 * 3600.0
_NO_DATE: Final = (ValueError, OverflowError, TypeError)
"""The exceptions of `parsedate_to_datetime`, and of arithmetic with its result, for text that is not a date."""
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", re.ASCII)
_LENGTH: Final = re.compile(r"\d{1,19}", re.ASCII)


def http_date(moment: datetime) -> str:
    """Return a time as HTTP writes it (RFC 9110, section 5.6.7)."""
    from email.utils import format_datetime

    return format_datetime(moment.astimezone(UTC), usegmt=True)


_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), start=1
    )
}


@lru_cache(1024)  # what is read at once was often written at once
def parse_http_date(value: str | None) -> datetime | None:
    """Read a time of HTTP's preferred form at the cost of a slice; any other by the library's parser."""
    if value is None:
        return None
    try:
        return datetime(
            int(value[12:16]), _MONTHS[value[8:11]], int(value[5:7]),
            int(value[17:19]), int(value[20:22]), int(value[23:25]), tzinfo=UTC,
        )  # fmt: skip
    except (KeyError, ValueError):
        pass
    try:
        return _parse_date(value).astimezone(UTC)
    except _NO_DATE:
        return None


def parse_retry_after(value: str | None) -> float | None:
    """Read seconds or a date (RFC 9110, section 10.2.3); None for anything else. A year is the longest."""
    if value is None:
        return None
    try:
        seconds = float(value) if value.strip().isdecimal() else _seconds_until(_parse_date(value))
    except _NO_DATE:
        return None
    return min(max(0.0, seconds), _YEAR)


def _parse_date(value: str) -> datetime:
    from email.utils import parsedate_to_datetime  # is slow to import, and seldom needed

    return parsedate_to_datetime(value)


def _seconds_until(moment: datetime) -> float:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime.now(UTC)).total_seconds()


def etag_of(value: str) -> str:
    """Return an ETag without its quotes."""
    if value[:1] == '"' == value[-1:] and len(value) > 2:
        return value[1:-1]
    return value.strip().removeprefix("W/").strip('"')


def condition_headers(
    options: HeadOptions, *, quoted: bool = True, if_unmodified_since: bool = True
) -> list[tuple[str, str]]:
    """Return the headers of the conditions of a read; ``"*"`` needs none, since a missing object is an error.

    Args:
        options: of the read.
        quoted: whether ETags stand in quotes.
        if_unmodified_since: whether that condition is sent; `check_read` decides about it in any case.
    """
    headers: list[tuple[str, str]] = []
    if options.if_match not in (None, "*"):
        headers.append(("if-match", _quoted(options.if_match, quoted)))
    if options.if_none_match not in (None, "*"):
        headers.append(("if-none-match", _quoted(options.if_none_match, quoted)))
    # A date counts only where there is no ETag of the same sense (RFC 9110, 13.2.2), which not all servers know.
    if options.if_modified_since is not None and options.if_none_match is None:
        headers.append(("if-modified-since", http_date(options.if_modified_since)))
    if if_unmodified_since and options.if_unmodified_since is not None and options.if_match is None:
        headers.append(("if-unmodified-since", http_date(options.if_unmodified_since)))
    return headers


def write_conditions(if_match: str | None, if_none_match: str | None, *, quoted: bool = True) -> list[tuple[str, str]]:
    """Return the conditions of a write."""
    headers: list[tuple[str, str]] = []
    if if_match is not None:
        headers.append(("if-match", if_match if if_match == "*" else _quoted(if_match, quoted)))
    if if_none_match is not None:
        headers.append(("if-none-match", if_none_match if if_none_match == "*" else _quoted(if_none_match, quoted)))
    return headers


def _quoted(etag: str | None, quoted: bool) -> str:
    return f'"{etag}"' if quoted else str(etag)


def required(headers: Mapping[str, str], name: str, service: str) -> str:
    """Return a header that every answer of a service has.

    Raises:
        BackendError: it has none, so that the answer is not the service's.
    """
    try:
        return headers[name]
    except KeyError:
        raise BackendError(f"the answer has no {name} header: is the endpoint {service}?") from None


def content_length(headers: Mapping[str, str], service: str) -> int:
    """Return the size that the answer to a HEAD gives.

    Raises:
        BackendError: it gives none, or something that is not a size.
    """
    value = required(headers, "content-length", service)
    if not _LENGTH.fullmatch(value):
        raise BackendError(f"the answer has an invalid Content-Length: {value[:80]!r}")
    return int(value)


def content_range(value: str) -> tuple[int, int, int]:
    """Read ``bytes 0-9/100`` as offsets and size: 0, 10 and 100 (RFC 9110, section 14.4).

    Raises:
        BackendError: it is something else.
    """
    try:
        found = _CONTENT_RANGE.fullmatch(value)
        if found is None:
            raise ValueError(value)
        first, last, size = map(int, found.groups())
        if not first <= last + 1 <= size:  # one that is empty is refused by what was asked for
            raise ValueError(value)
    except ValueError:
        raise BackendError(f"the answer has a Content-Range that is none: {value[:80]!r}") from None
    return first, last + 1, size
