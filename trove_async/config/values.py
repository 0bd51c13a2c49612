"""Values of a configuration: as they stand, from the environment, from files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from trove_async.config.document import REFERENCE, Document
from trove_async.config.lines import KeyPath
from trove_async.dsn import trimmed_secret
from trove_async.errors import InvalidDSNError

__all__ = ["dsn_text", "source_of", "value_of"]

SOURCES: Final = ("env", "file", "path")
"""What stands alone in a table in place of a value."""

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_RELATIVE: Final = "sqlite:///"
"""What the URL of a database begins with; a relative path follows, which is relative to the file as well."""
_MOST_BYTES: Final = 64 * 1024


def source_of(table: Mapping[str, object]) -> str | None:
    """Return which of the `SOURCES` a table names; None for a table of values, such as one with a bucket ``env``."""
    return next((name for name in SOURCES if name in table and not isinstance(table[name], Mapping)), None)


def value_of(document: Document, value: object, path: KeyPath) -> Any:
    """Return what a value stands for.

    ``{ env = "NAME" }`` is the value of an environment variable, ``{ file = "PATH" }`` the text of a file without the
    white space around it, ``{ path = "PATH" }`` the absolute path; for URLs see `dsn_text`. Everything else is what it
    is; in lists and tables this holds for what is in them.

    Raises:
        ConfigError: the variable is not set, the file cannot be read, one of them is empty; or the table is malformed.
    """
    if isinstance(value, Mapping):
        source = source_of(value)
        if source is None:
            return {key: value_of(document, inner, (*path, key)) for key, inner in value.items()}
        if len(value) > 1:
            raise document.error(f"a table with {source!r} has nothing else in it", *path)
        return _from_source(document, source, value[source], (*path, source))
    if isinstance(value, list | tuple):
        return tuple(value_of(document, inner, (*path, index)) for index, inner in enumerate(value))
    if isinstance(value, datetime | date | time):
        raise document.error("nothing takes a date or a time; write text", *path)
    if isinstance(value, str) and REFERENCE.search(value):
        if "://" in value:
            return dsn_text(document, value, path)
        raise document.error('${…} has a meaning in DSNs and URLs only; write { env = "NAME" }', *path)
    if isinstance(value, str) and value.startswith(_RELATIVE) and not value.startswith(f"{_RELATIVE}/"):
        return f"{_RELATIVE}{quote(str(document.folder))}/{value.removeprefix(_RELATIVE)}"
    return value


def dsn_text(document: Document, value: object, path: KeyPath) -> str:
    """Return a DSN or a name, in which ``${NAME}`` stands for the value of an environment variable.

    A value is taken without the white space around it, and percent-encoded where that is needed: wholly in the user,
    the password and the parameters; elsewhere its slashes stay.

    Raises:
        ConfigError: it is no text, or a variable is not set or empty.
    """
    if isinstance(value, Mapping):
        value = value_of(document, value, path)
    if not isinstance(value, str) or not value:
        raise document.error("this is a DSN such as 's3://eu-west-1/assets', or the name of a store", *path)
    authority = re.match(r"[^/?]*://[^/?]*", value)
    userinfo = value.rfind("@", 0, authority.end() if authority else 0)
    query = value.find("?")

    def insert(found: re.Match[str]) -> str:
        text = _variable(document, found[1], path)
        encoded = found.start() < userinfo or 0 <= query < found.start()
        return quote(text, safe="" if encoded else "/")

    return REFERENCE.sub(insert, value)


def _from_source(document: Document, source: str, given: object, path: KeyPath) -> str:
    if not isinstance(given, str) or not given:
        what = "the name of an environment variable" if source == "env" else "the path of a file"
        raise document.error(f"this is {what}", *path)
    if source == "env":
        return _secret(document, _variable(document, given, path), f"the environment variable {given!r}", path)
    if "\0" in given:
        raise document.error("a path does not contain NUL", *path)
    file = document.folder / os.path.expanduser(given)
    if source == "path":
        return str(file)
    return _secret(document, _text(document, file, path), f"the file {str(file)!r}", path)


def _variable(document: Document, name: str, path: KeyPath) -> str:
    if not _VARIABLE.match(name):
        raise document.error(f"{name!r} is not the name of an environment variable", *path)
    found = os.environ.get(name)
    if found is None:
        raise document.error(f"the environment variable {name!r} is not set", *path)
    value = found.strip()
    if not value:
        raise document.error(f"the environment variable {name!r} is empty", *path)
    document.hide(value)
    document.hide(quote(value, safe=""))
    return value


def _text(document: Document, file: Path, path: KeyPath) -> str:
    try:
        with file.open("rb") as opened:
            raw = opened.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise document.error(f"the file {str(file)!r} does not exist", *path) from None
    except OSError as error:
        raise document.error(f"the file {str(file)!r} cannot be read: {error.strerror}", *path) from error
    if len(raw) > _MOST_BYTES:
        raise document.error(f"the file {str(file)!r} is larger than 64 KiB, so it holds no secret", *path)
    if not raw.strip():
        raise document.error(f"the file {str(file)!r} is empty", *path)
    try:
        return raw.decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError:
        # Without the cause, which has the content in it.
        raise document.error(f"the file {str(file)!r} is not UTF-8", *path) from None


def _secret(document: Document, text: str, what: str, path: KeyPath) -> str:
    try:
        value = trimmed_secret(what, text)
    except InvalidDSNError as error:
        raise document.error(error.message, *path) from None
    document.hide(value)
    return value
