"""`Document`: the text of a configuration, where it comes from, and errors that name their place in it."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from trove_async.config.lines import KeyPath, Lines, lines_of, written
from trove_async.dsn import is_secret_name, parse_dsn
from trove_async.errors import ConfigError, InvalidDSNError
from trove_async.guesses import guess

__all__ = ["REFERENCE", "VARIABLE", "ConfigWarning", "Document", "Source", "find"]

VARIABLE: Final = "TROVE_CONFIG"
"""The environment variable with the path of the configuration."""

REFERENCE: Final = re.compile(r"\$\{([^}]*)\}")
"""``${NAME}`` in a DSN: the value of an environment variable."""

Source = str | os.PathLike[str] | Mapping[str, Any]
"""The path of a file, or a mapping with what a file would have."""

_NAME: Final = "trove.toml"
_POSITION: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)\Z")
_MOST_BYTES: Final = 1 << 20
_HIDDEN: Final = "***"
_SHORTEST_SECRET: Final = 4  # what is shorter stands by chance in the words of a message


class ConfigWarning(UserWarning):
    """A configuration holds a secret, and other users can read the file."""


class Document:
    """The data of a configuration.

    Attributes:
        data: as TOML means it.
        file: the path of the file, for messages; ``config`` if there is no file.
        folder: what relative paths are relative to.
    """

    def __init__(self, data: Mapping[str, Any], file: str, folder: Path, lines: Lines) -> None:
        self.data = data
        self.file = file
        self.folder = folder
        self._lines = lines
        self._hidden: set[str] = set()

    @classmethod
    def read(cls, path: Path) -> Document:
        """Read a file.

        Raises:
            ConfigError: it cannot be read, is no TOML, or has a key twice.
        """
        import tomllib  # only if there is a configuration

        file = str(path)
        try:
            with path.open("rb") as opened:
                mode = os.fstat(opened.fileno()).st_mode
                raw = opened.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            raise ConfigError.at("the file does not exist", file=file) from None
        except OSError as error:
            raise ConfigError.at(f"the file cannot be read: {error.strerror}", file=file) from error
        if len(raw) > _MOST_BYTES:
            raise ConfigError.at("the file is larger than 1 MiB, so it is no configuration", file=file)
        text = _decoded(raw, file).replace("\r\n", "\n")
        try:
            lines = lines_of(text)
            try:
                data = tomllib.loads(text)
            except tomllib.TOMLDecodeError as error:
                raise _malformed(str(error), file, text, lines) from None
        except RecursionError:
            raise ConfigError.at("lists or tables are nested too deeply", file=file) from None
        document = cls(data, file, path.absolute().parent, lines)
        document._warn_of_readers(mode)
        return document

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Document:
        """Return the document for a mapping; relative paths are relative to the current directory."""
        return cls(data, "config", _current_folder(), Lines({}, ()))

    def hide(self, value: str) -> None:
        """Keep a value from outside of the document out of all errors."""
        self._hidden.add(value)

    def error(self, message: str, *path: str | int) -> ConfigError:
        """Return an error about a key, with the line of the nearest one around it that the document has."""
        at: KeyPath = path
        while at and at not in self._lines.of:
            at = at[:-1]
        for value in sorted(self._hidden, key=len, reverse=True):
            message = message.replace(repr(value), _HIDDEN)
            if len(value) >= _SHORTEST_SECRET:
                message = message.replace(value, _HIDDEN)
        return ConfigError.at(message, file=self.file, line=self._lines.of.get(at), config_key=written(path) or None)

    def unknown(self, path: KeyPath, known: Sequence[str], has: str = "it has") -> ConfigError:
        """Return an error about a key that has no meaning, with the nearest of those that have one."""
        meant = guess(str(path[-1]), known)
        return self.error(f"there is no key {path[-1]!r}{meant}; {has}: {', '.join(known) or 'none'}", *path)

    def table(self, value: object, *path: str | int) -> Mapping[str, Any]:
        """Return a value that has to be a table.

        Raises:
            ConfigError: it is something else, or has a key that is no text.
        """
        if not isinstance(value, Mapping):
            raise self.error(f"this is a table of keys and values, not {_kind(value)}", *path)
        for key in value:
            if not isinstance(key, str):
                raise self.error(f"a key is text, not {key!r}", *path)
        return value

    def secrets(self) -> list[KeyPath]:
        """Return where secrets stand as text."""
        return list(_secrets(self.data, ()))

    def _warn_of_readers(self, mode: int) -> None:
        """Warn if other users can read the file and it holds a secret."""
        if not mode & 0o044:
            return
        for path in self.secrets()[:1]:
            error = self.error("other users can read this file, and it holds a secret", *path)
            advice = 'allow only yourself to read it (chmod 600), or write { env = "NAME" } or { file = "PATH" }'
            warnings.warn(f"{error.message}; {advice}", ConfigWarning, stacklevel=2)


def find() -> Path | None:
    """Return the path of the configuration; None if there is none.

    It is that of ``TROVE_CONFIG``; else ``trove.toml`` of the current directory; else ``trove/trove.toml`` in
    ``XDG_CONFIG_HOME``, by default ``~/.config``.

    Raises:
        ConfigError: the file that ``TROVE_CONFIG`` names does not exist; or the file in the current directory belongs
            to someone else, or others can write to it.
    """
    given = os.environ.get(VARIABLE)
    if given:
        path = Path(os.path.expanduser(given))
        if not path.exists():
            raise ConfigError.at(f"the file does not exist, and {VARIABLE} names it", file=str(path))
        return path
    here = _current_folder() / _NAME
    if here.is_file():
        _check_trusted(here)
        return here
    home = os.environ.get("XDG_CONFIG_HOME") or ""
    folder = home if os.path.isabs(home) else os.path.expanduser("~/.config")
    found = Path(folder, "trove", _NAME)
    # A user without a home directory, as in many containers, has none here either.
    return found if found.is_absolute() and found.exists() else None


def _current_folder() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:  # it was removed, so nothing is found there
        return Path()


def _check_trusted(path: Path) -> None:
    """Refuse a file that someone else may have put into the current directory.

    It decides where data and secrets are sent, and nobody has named it.
    """
    status = path.stat()
    if status.st_uid not in (os.getuid(), 0) or status.st_mode & 0o002:
        whose = "everyone can write to it" if status.st_mode & 0o002 else "it belongs to another user"
        raise ConfigError.at(
            f"this file of the current directory is not used, since {whose}; to use it, name it in {VARIABLE}",
            file=str(path),
        )


def _decoded(raw: bytes, file: str) -> str:
    try:
        return raw.decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError.at("the file is not UTF-8", file=file, line=line) from None


def _malformed(message: str, file: str, text: str, lines: Lines) -> ConfigError:
    position = _POSITION.search(message)
    said = _POSITION.sub("", message)
    last = text.count("\n") + 1
    line = int(position[1]) if position and position[1] else last
    for repeated in lines.repeated:
        if repeated.first <= repeated.line <= line:
            return ConfigError.at(
                f"this name is defined twice; it is defined first in line {repeated.first}",
                file=file,
                line=repeated.line,
                config_key=written(repeated.path),
            )
    return ConfigError.at(f"this is not TOML: {said}", file=file, line=line)


def _kind(value: object) -> str:
    names = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", tuple: "a list"}
    return names.get(type(value)) or ("a table" if isinstance(value, Mapping) else type(value).__name__)


def _secrets(value: object, path: KeyPath) -> Iterator[KeyPath]:
    """Yield where a secret stands as text."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _secrets(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _secrets(inner, (*path, index))
    elif isinstance(value, str) and value:
        if "://" in value:
            try:
                secret = parse_dsn(REFERENCE.sub("", value)).holds_secret
            except InvalidDSNError:
                secret = False
        else:
            secret = is_secret_name(next((part for part in reversed(path) if isinstance(part, str)), ""))
        if secret:
            yield path
