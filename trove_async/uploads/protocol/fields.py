"""Structured fields (RFC 9651), as far as resumable uploads need them.

Whoever receives a malformed field ignores it (section 4.2), so that nothing here raises. Every kind of value is
recognised, so that a member with a later meaning does not spoil a dictionary; of the kinds that are not needed, the
value is dropped. The time is proportional to the length of the text: no two repetitions of a pattern can take the
same character.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

from trove_async.web.http import Headers

__all__ = ["Value", "boolean", "dictionary", "serialise_boolean", "whole_number"]

Value = int | bool | bytes | None
"""An integer, a boolean or a byte sequence; None for a value of another kind."""

# A number with more digits leaves some of them over. As no digit and no point may follow a value, it is malformed.
_BARE: Final = re.compile(
    r"(?P<other>-?[0-9]{1,12}\.[0-9]{1,3}"  # a decimal
    r"|@-?[0-9]{1,15}"  # a date
    r'|"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'  # a string
    r"|[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*)"  # a token
    r"|(?P<integer>-?[0-9]{1,15})"
    r"|\?(?P<boolean>[01])"
    r"|:(?P<binary>[A-Za-z0-9+/]*)={0,2}:"
    r'|%"(?P<display>(?:[\x20\x21\x23\x24\x26-\x7e]|%[0-9a-f]{2})*)"'
)
_KEY: Final = re.compile(r"[a-z*][a-z0-9_.*-]*")
_PARAMETER: Final = re.compile(r"; *[a-z*][a-z0-9_.*-]*=?")
_SPACES: Final = re.compile(r" *")
_OPTIONAL_SPACE: Final = re.compile(r"[ \t]*")


class _MalformedError(Exception):
    """The text is no structured field of this kind."""


def whole_number(headers: Headers, name: str) -> int | None:
    """Return an Integer that is not negative; None if the field is missing, malformed or something else."""
    value = _item(headers, name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def boolean(headers: Headers, name: str) -> bool | None:
    """Return a Boolean; None if the field is missing, malformed or something else."""
    value = _item(headers, name)
    return value if isinstance(value, bool) else None


def dictionary(headers: Headers, name: str) -> Mapping[str, Value]:
    """Return the members of a Dictionary, in their order; none if the field is missing or malformed."""
    try:
        return _Reader(headers.get(name, "")).dictionary()
    except _MalformedError:
        return {}


def serialise_boolean(value: bool) -> str:
    """Return the text of a Boolean."""
    return "?1" if value else "?0"


def _item(headers: Headers, name: str) -> Value:
    reader = _Reader(headers.get(name, ""))
    try:
        value = reader.item()
        reader.end()
    except _MalformedError:
        return None
    return value


class _Reader:
    """Parses a field from its start to its end, as the algorithms of section 4.2 do."""

    def __init__(self, text: str) -> None:
        self._text = text.strip(" ")
        self._at = 0

    def dictionary(self) -> dict[str, Value]:
        found: dict[str, Value] = {}
        while self._at < len(self._text):
            key = self._take(_KEY)[0]
            if not self._skip("="):
                found[key] = True
                self._parameters()
            elif self._skip("("):
                self._inner_list()
                found[key] = None
            else:
                found[key] = self.item()
            self._take(_OPTIONAL_SPACE)
            if not self._skip(","):
                self.end()
                break
            self._take(_OPTIONAL_SPACE)
            if self._at == len(self._text):
                raise _MalformedError
        return found

    def item(self) -> Value:
        value = self._bare()
        self._parameters()
        return value

    def end(self) -> None:
        if self._at != len(self._text):
            raise _MalformedError

    def _inner_list(self) -> None:
        while True:
            spaces = self._take(_SPACES)[0]
            if self._skip(")"):
                break
            if not spaces and self._text[self._at - 1] != "(":
                raise _MalformedError
            self.item()
        self._parameters()

    def _parameters(self) -> None:
        while match := _PARAMETER.match(self._text, self._at):
            self._at = match.end()
            if match[0].endswith("="):
                self._bare()

    def _bare(self) -> Value:
        match = self._take(_BARE)
        if match["other"] is not None:
            return None
        if match["integer"] is not None:
            return int(match["integer"])
        if match["boolean"] is not None:
            return match["boolean"] == "1"
        try:
            if match["binary"] is not None:
                # Padding may be missing, and its bits need not be zero.
                return b64decode(match["binary"] + "=" * (-len(match["binary"]) % 4))
            unquote_to_bytes(match["display"]).decode()
        except (Base64Error, UnicodeDecodeError) as error:
            raise _MalformedError from error
        return None

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str]:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise _MalformedError
        self._at = match.end()
        return match

    def _skip(self, character: str) -> bool:
        found = self._text.startswith(character, self._at)
        self._at += found
        return found
