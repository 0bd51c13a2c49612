"""How keys become paths, and file names become keys again.

The key ``photos/a.jpg`` has the path ``photos/a.jpg``, as a person expects. What a file system cannot store is escaped,
so that different keys have different paths:

- ``%`` and control characters become ``%XX``; so do the dots of ``.`` and ``..``; an empty component is ``%E``.
- A component of more than 240 bytes is cut, and continues in a directory whose name ends in ``%C``.
- If ``a`` is a file, the directory for ``a/b`` is ``a%D``. If ``a`` is a directory, the file for ``a`` is ``a%F``. So
  no file ever moves because of another key.

A name of 241 to 255 bytes is never written, but may be placed by hand: it stands for that component too. The path that
this library writes comes first, in lookups and in listings. Any other name that this library would write differently
belongs to no object: it was made by hand, and is ignored.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = [
    "CONTINUED",
    "DIRECTORY",
    "FILE",
    "MAX_NAME_BYTES",
    "Entry",
    "decode",
    "may_be_placed_by_hand",
    "path_of",
    "routes_of",
    "stand_for_themselves",
]

DIRECTORY: Final = "%D"
FILE: Final = "%F"
CONTINUED: Final = "%C"
_EMPTY: Final = "%E"
MAX_NAME_BYTES: Final = 240
"""Bytes of a name that this library writes, without its mark."""
_LONGEST: Final = 255
"""Bytes of a name on most file systems."""

_NO_NAMES: Final = frozenset({"", ".", ".."})
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
    if (len(key) <= MAX_NAME_BYTES // 4 or (len(key) <= MAX_NAME_BYTES and key.isascii())) and not _SPECIAL.search(key):
        return key.split("/")
    names: list[str] = []
    for component in key.split("/"):
        names += _names_of(component)
    return names


def routes_of(key: str) -> list[tuple[tuple[str, ...], ...]]:
    """Return for each component of a key the names that may stand for it, as many as it continues in.

    The first is the one that `path_of` returns; another one is there only if it may have been placed by hand.
    """
    return [_routes_of(component) for component in key.split("/")]


def _routes_of(component: str) -> tuple[tuple[str, ...], ...]:
    names = tuple(_names_of(component))
    if len(names) > 1 and len((whole := _escaped(component)).encode()) <= _LONGEST:
        return names, (whole,)
    return (names,)


def may_be_placed_by_hand(names: list[str]) -> bool:
    """Return whether the key with this path may have another path too; see `routes_of`."""
    return any(name.endswith(CONTINUED) for name in names)


def _escaped(component: str) -> str:
    return _ESCAPED.sub(lambda m: f"%{ord(m[0]):02X}", component)


def _names_of(component: str) -> list[str]:
    if not component:
        return [_EMPTY]
    pieces: list[str] = []
    piece: list[str] = []
    size = 0
    for character in component:
        token = f"%{ord(character):02X}" if _ESCAPED.match(character) else character
        length = len(token.encode())
        if size + length > MAX_NAME_BYTES:
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
        if _SPECIAL.search(name) or not _is_text(name):
            return None
        return Entry(name, "")
    mark = name[-2:] if name.endswith((DIRECTORY, FILE, CONTINUED)) else ""
    escaped = name[: -len(mark)] if mark else name
    if escaped == _EMPTY:
        return Entry("", mark) if mark != CONTINUED else None
    if not _is_text(escaped):
        return None
    text = _ESCAPE.sub(lambda m: chr(int(m[1], 16)), escaped)
    if not text or "/" in text or "\0" in text:
        return None
    if _names_of(text) != [escaped] and (mark or _escaped(text) != escaped or len(escaped.encode()) <= MAX_NAME_BYTES):
        return None
    return Entry(text, mark)


def stand_for_themselves(names: list[str]) -> bool:
    """Return True if `decode` of each name is the name without a mark; False if that must be found out."""
    joined = "".join(names)
    return "%" not in joined and "/" not in joined and joined.isprintable() and _NO_NAMES.isdisjoint(names)


def _is_text(name: str) -> bool:
    # Python shows names that are not UTF-8 with lone surrogates (PEP 383).
    return name.isascii() or not any("\ud800" <= c <= "\udfff" for c in name)
