"""Names in directories, each packed into a text that sorts like the keys that it stands for.

A directory may have millions of names. Usually the name of a file is the end of its key; then it is packed as it is.
The text of any other name is followed by NUL, which no key contains, and by what else has to be known.
"""

from __future__ import annotations

import stat
from typing import Final, NamedTuple

from trove_async.tree.filesystem import Stat

__all__ = ["AFTER", "Known", "Name", "end_of_text", "is_plain", "pack", "text_of", "unpack"]

_SEPARATOR: Final = "\0"
AFTER: Final = "\1"
"""Appended to a text, it makes one that sorts after all names with that text, and not after those of any other."""


class Name(NamedTuple):
    """A name in a directory.

    Attributes:
        text: the part of the key; ends in a slash for a directory.
        path: of the file or directory, from the directory that is listed, or from the root of the file system.
        status: None if reading the directory does not return it.
    """

    text: str
    path: str
    status: Stat | None

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return self.text.endswith("/")


class Known(NamedTuple):
    """The status of a file, a regular one by default; a `Stat`."""

    st_ino: int
    st_size: int
    st_mtime_ns: int
    st_mode: int = stat.S_IFREG


def pack(text: str, path: str, status: Stat | None = None) -> str:
    """Pack a name; its attributes are those of `Name`."""
    if status is not None:
        return f"{text}\0{path}\0{status.st_ino} {status.st_size} {status.st_mtime_ns}"
    return text if path == text.removesuffix("/") else text + _SEPARATOR + path


def unpack(packed: str) -> Name:
    """Return what was packed."""
    text, _, other = packed.partition(_SEPARATOR)
    path, _, known = other.partition(_SEPARATOR)
    return Name(text, path or text.removesuffix("/"), Known(*map(int, known.split())) if known else None)


def text_of(packed: str) -> str:
    """Return the text of a packed name."""
    return packed.partition(_SEPARATOR)[0]


def end_of_text(names: list[str], end: int) -> int:
    """Return where in an ordered list the names end that have the text of the one before ``end``."""
    if end < len(names):
        text = text_of(names[end - 1])
        while end < len(names) and text_of(names[end]) == text:
            end += 1
    return end


def is_plain(names: list[str]) -> bool:
    """Return whether all of these packed names are files of different texts, packed as the texts themselves."""
    joined = "".join(names)
    return _SEPARATOR not in joined and "/" not in joined and len(set(names)) == len(names)
