"""Values of user metadata in headers: plain ASCII as it is, all else as encoded words of RFC 2047."""

from __future__ import annotations

import base64
import quopri
import re
from binascii import Error as Base64Error
from typing import Final

__all__ = ["decode_value", "encode_value"]

_PLAIN: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_WORD: Final = re.compile(r"=\?([^?\s]+)\?([bBqQ])\?([^?\s]*)\?=")
_BROKEN_ESCAPE: Final = re.compile(r"=(?![0-9A-Fa-f]{2})")
# White space between two encoded words is not part of the text (RFC 2047, section 6.2).
_BETWEEN: Final = re.compile(r"(?<=\?=)[ \t]+(?==\?)")


def encode_value(value: str) -> str:
    """Return a value as it can stand in a header."""
    if _PLAIN.fullmatch(value) and "  " not in value and not _WORD.search(value):
        return value
    return f"=?UTF-8?B?{base64.b64encode(value.encode()).decode()}?=" if value else ""


def decode_value(value: str) -> str:
    """Return the text of a value; one with a word that is not valid stays as it is, for another program wrote it."""
    if "=?" not in value:
        return value
    try:
        return _WORD.sub(_decoded, _BETWEEN.sub("", value))
    except (LookupError, UnicodeDecodeError, Base64Error, ValueError):
        return value


def _decoded(word: re.Match[str]) -> str:
    charset, encoding, text = word.groups()
    if encoding in "bB":
        data = base64.b64decode(text, validate=True)
    elif _BROKEN_ESCAPE.search(text):
        raise ValueError(text)
    else:
        data = quopri.decodestring(text, header=True)
    return data.decode(charset.partition("*")[0])  # a language may follow (RFC 2231, section 5)
