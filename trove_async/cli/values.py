"""Parsing the values of options: ranges, times, pairs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from trove_async.cli.errors import UsageError
from trove_async.ranges import ByteRange

__all__ = ["parse_duration", "parse_pairs", "parse_range"]

_RANGE: Final = re.compile(r"(\d*)-(\d*)\Z", re.ASCII)
_DURATION: Final = re.compile(r"(\d+)([smhd]?)\Z", re.ASCII)
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_range(text: str) -> ByteRange:
    """Parse a range as in HTTP: ``A-B`` (both included), ``A-`` or ``-N`` (the last N bytes).

    Raises:
        UsageError: it is none of these.
    """
    found = _RANGE.match(text)
    if found is None or found[0] == "-":
        raise UsageError(f"{text!r} is not a range; write 0-99, 100- or -50")
    first, last = found.groups()
    if not first:
        return ByteRange.suffix(int(last))
    if not last:
        return ByteRange(int(first))
    if int(last) < int(first):
        raise UsageError(f"the range {text!r} ends before it begins")
    return ByteRange(int(first), int(last) - int(first) + 1)


def parse_duration(text: str) -> int:
    """Parse a time in seconds: ``90``, ``90s``, ``15m``, ``2h`` or ``7d``.

    Raises:
        UsageError: it is none of these.
    """
    found = _DURATION.match(text)
    if found is None:
        raise UsageError(f"{text!r} is not a time; write seconds, or 15m, 2h, 7d")
    return int(found[1]) * _SECONDS[found[2]]


def parse_pairs(pairs: Iterable[str], what: str) -> dict[str, str]:
    """Parse ``name=value`` pairs.

    Raises:
        UsageError: one has no name or no ``=``, or a name is given twice.
    """
    result: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"{what} {pair!r} is not name=value")
        if name in result:
            raise UsageError(f"{what} {name!r} is given twice")
        result[name] = value
    return result
