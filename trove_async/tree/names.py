"""How keys become paths, and file names become keys again.

The key ``photos/a.jpg`` has the path ``photos/a.jpg``, as a person expects. What a file system cannot store is escaped,
so that different keys have different paths:

- ``%`` and control characters become ``%XX``; so do the dots of ``.`` and ``..``; an empty component is ``%E``.
- A component of more than 240 bytes is cut, and continues in a directory whose name ends in ``%C``.
- If ``a`` is a file, the directory for ``a/b`` is ``a%D``. If ``a`` is a directory, the file for ``a`` is ``a%F``. So
  no file ever moves because of another key.

A name that this library would write differently belongs to no object: it was made by hand, and is ignored.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["CONTINUED", "DIRECTORY", "FILE", "Entry", "decode", "path_of"]

DIRECTORY: Final = "%D"
FILE: Final = "%F"
CONTINUED: Final = "%C"
_EMPTY: Final = "%E"
_MAX: Final = 240

_SPECIAL = re.compile(r"[%\x00-\x1f\x7f]|(?:^|/)\.{0,2}(?:/|$)")
_ESCAPED = re.compile(r"[%\x00-\x1f\x7f]")
_ESCAPE = re.compile(r"%([0-9A-F]{2})")


class Entry(NamedTuple):
    """What a name in a directory stands for.

    Attributes:
        text: the part of a key.
        mark: `DIRECTORY`, `FILE`, `CONTINUED`, or ``""``.
    """

    text: str
    mark: str


def path_of(key: str) -> list[str]:
    """Return the names on the path of a key's file, without the marks that a conflict makes necessary."""
    if (len(key) <= _MAX // 4 or (len(key) <= _MAX and key.isascii())) and not _SPECIAL.search(key):
        return key.split("/")
    names: list[str] = []
    for component in key.split("/"):
        names += _names_of(component)
    return names


def _names_of(component: str) -> list[str]:
    if not component:
        return [_EMPTY]
    pieces: list[str] = []
    piece: list[str] = []
    size = 0
    for character in component:
        token = f"%{ord(character):02X}" if _ESCAPED.match(character) else character
        length = len(token.encode())
        if size + length > _MAX:
            pieces.append("".join(piece))
            piece, size = [], 0
        piece.append(token)
        size += length
    pieces.append("".join(piece))
    pieces = [p.replace(".", "%2E") if p in (".", "..") else p for p in pieces]
    return [*(p + CONTINUED for p in pieces[:-1]), pieces[-1]]


def decode(name: str) -> Entry | None:
    """Return what a name stands for; None if no key has this name."""
    if "%" not in name:
        if _SPECIAL.search(name) or not _is_text(name) or len(name.encode()) > _MAX:
            return None
        return Entry(name, "")
    mark = name[-2:] if name.endswith((DIRECTORY, FILE, CONTINUED)) else ""
    escaped = name[: -len(mark)] if mark else name
    if escaped == _EMPTY:
        return Entry("", mark) if mark != CONTINUED else None
    if not _is_text(escaped):
        return None
    text = _ESCAPE.sub(lambda m: chr(int(m[1], 16)), escaped)
    if not text or "/" in text or "\0" in text or _names_of(text) != [escaped]:
        return None
    return Entry(text, mark)


def _is_text(name: str) -> bool:
    # Python shows names that are not UTF-8 with lone surrogates (PEP 383).
    return name.isascii() or not any("\ud800" <= c <= "\udfff" for c in name)
