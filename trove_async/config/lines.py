"""The lines of the keys of a TOML document, which `tomllib` does not give."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

__all__ = ["KeyPath", "Lines", "Repeated", "lines_of", "written"]

KeyPath = tuple[str | int, ...]
"""The keys and indices that lead from the top of a document to a value."""

_SPACE: Final = re.compile(r"[ \t]*")
_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY: Final = re.compile(r"""[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*'""")
_STRING: Final = re.compile(
    r'''"""(?:\\.|[^"\\]|"{1,2}(?!"))*"{3,5}'''
    r"""|'''(?:[^']|'{1,2}(?!'))*'{3,5}"""
    r"""|"(?:\\.|[^"\\\n])*"|'[^'\n]*\'""",
    re.DOTALL,
)
_PLAIN: Final = re.compile(r"[^\s,\]}#=][^,\]}#\n]*")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+\Z")


class Repeated(NamedTuple):
    """A key that is defined twice."""

    path: KeyPath
    first: int
    line: int


class Lines(NamedTuple):
    """Where the keys of a document stand.

    Attributes:
        of: the line of each key and of each element of a list, counted from 1.
        repeated: the keys that are defined twice, which TOML does not allow.
    """

    of: Mapping[KeyPath, int]
    repeated: Sequence[Repeated]


def lines_of(text: str) -> Lines:
    """Find the keys of a document. One that is malformed is read up to the first thing that cannot be understood."""
    scanner = _Scanner(text)
    with suppress(_UnexpectedError):  # tomllib says what is wrong
        scanner.scan()
    return Lines(scanner.lines, scanner.repeated)


def written(path: KeyPath) -> str:
    """Return a key as one writes it in TOML, with the indices of lists in brackets, counted from 0."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = part if _BARE.match(part) else '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'
            text += f".{shown}" if text else shown
    return text


class _UnexpectedError(Exception):
    """The text is no TOML."""


class _Scanner:
    """Reads a document that `tomllib` has accepted; what only `tomllib` has to know, it does not check."""

    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.repeated: list[Repeated] = []
        self._text = text
        self._at = 0
        self._breaks = [found.start() for found in re.finditer("\n", text)]
        self._defined: set[KeyPath] = set()
        self._counts: dict[KeyPath, int] = {}

    def scan(self) -> None:
        """Read all of it."""
        table: KeyPath = ()
        while self._blank():
            if self._text.startswith("[", self._at):
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> KeyPath:
        """Read ``[a.b]`` or ``[[a.b]]`` and return the path of the table."""
        line = self._line()
        double = self._text.startswith("[[", self._at)
        self._at += 2 if double else 1
        path: KeyPath = ()
        keys = list(self._keys())
        for position, key in enumerate(keys):
            path = (*path, key)
            last = position == len(keys) - 1
            if last and double:
                self._record(path, line)
                self._counts[path] = self._counts.get(path, 0) + 1
            else:
                self._record(path, line, once=last)
            if path in self._counts:  # the newest element of a list of tables
                path = (*path, self._counts[path] - 1)
                self._record(path, line)
        self._expect("]]" if double else "]")
        return path

    def _pair(self, table: KeyPath) -> None:
        """Read ``key = value``."""
        line, path = self._line(), table
        keys = list(self._keys())
        for position, key in enumerate(keys):
            path = (*path, key)
            self._record(path, line, once=position == len(keys) - 1)
        self._expect("=")
        self._take(_SPACE)
        self._value(path)

    def _keys(self) -> Iterator[str]:
        while True:
            self._take(_SPACE)
            key = self._take(_KEY)
            if not key:
                raise _UnexpectedError
            yield key if _BARE.match(key) else _unquoted(key)
            self._take(_SPACE)
            if not self._text.startswith(".", self._at):
                return
            self._at += 1

    def _value(self, path: KeyPath) -> None:
        if self._text.startswith("[", self._at):
            self._list(path)
        elif self._text.startswith("{", self._at):
            self._at += 1
            while self._blank() and not self._text.startswith("}", self._at):
                self._pair(path)
                self._blank()
                self._skip(",")
            self._expect("}")
        elif not (self._take(_STRING) or self._take(_PLAIN)):
            raise _UnexpectedError

    def _list(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        while self._blank() and not self._text.startswith("]", self._at):
            self._record((*path, index), self._line())
            self._value((*path, index))
            index += 1
            self._blank()
            self._skip(",")
        self._expect("]")

    def _record(self, path: KeyPath, line: int, *, once: bool = False) -> None:
        first = self.lines.setdefault(path, line)
        if once:
            if path in self._defined:
                self.repeated.append(Repeated(path, first, line))
            self._defined.add(path)

    def _line(self) -> int:
        return bisect_left(self._breaks, self._at) + 1

    def _blank(self) -> bool:
        """Skip what means nothing, and return whether anything follows."""
        self._take(_BLANK)
        return self._at < len(self._text)

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            return ""
        self._at = found.end()
        return found[0]

    def _skip(self, text: str) -> None:
        if self._text.startswith(text, self._at):
            self._at += len(text)

    def _expect(self, text: str) -> None:
        if not self._text.startswith(text, self._at):
            raise _UnexpectedError
        self._at += len(text)


def _unquoted(key: str) -> str:
    import tomllib

    try:
        value: str = tomllib.loads(f"key = {key}")["key"]
    except tomllib.TOMLDecodeError:
        raise _UnexpectedError from None
    return value
