"""How things are named on the command line. Nothing here does I/O, but for the question which directory is a store.

- What begins with a scheme and ``://`` is a DSN that goes on to a bucket and a key.
- What begins with ``/``, ``~``, ``./`` or ``../``, or is ``.`` or ``..``, is a path of this machine.
- All else is ``bucket/key``, of the store that ``--store`` or ``TROVE_DSN`` names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from trove_async.cli.errors import UsageError
from trove_async.dsn import DSN, parse_dsn

__all__ = ["STORE_VARIABLE", "FilePath", "Name", "StoreName", "is_dsn", "is_store_root", "parse_name"]

STORE_VARIABLE: Final = "TROVE_DSN"
"""The environment variable that names the store of ``bucket/key``."""

IsRoot = Callable[[str], bool]

_DSN: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PATH: Final = re.compile(r"(?:/|~|\./|\.\./|\.\.?\Z)")


@dataclass(frozen=True, slots=True)
class FilePath:
    """A path of this machine; ``folder`` says that it was given with a slash at its end."""

    path: str
    folder: bool = False

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class StoreName:
    """A bucket, a key, or what keys begin with, in a store.

    Attributes:
        dsn: opens the store. It may hold secrets, and is shown nowhere.
        bucket: empty where the store itself is named.
        key: empty where a bucket is named.
        folder: the name was given with a slash at its end.
    """

    dsn: str = field(repr=False)
    bucket: str
    key: str = ""
    folder: bool = False

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}" if self.key else self.bucket


Name = FilePath | StoreName


def is_dsn(text: str) -> bool:
    """Tell whether a name is a DSN."""
    return _DSN.match(text) is not None


def is_store_root(directory: str) -> bool:
    """Tell whether a directory is the root of a local store: one that was opened before has ``.trove``."""
    return os.path.isdir(os.path.join(directory, ".trove"))


def parse_name(text: str, *, store: str | None, is_root: IsRoot = is_store_root) -> Name:
    """Return what a name stands for.

    Args:
        text: the name.
        store: the DSN that names without one belong to.
        is_root: tells which directory is the root of a local store.

    Raises:
        UsageError: it stands for nothing; says what to write.
        InvalidDSNError: it is a DSN, and malformed.
    """
    if not text:
        raise UsageError("a name is empty; write bucket/key, a DSN, or ./file")
    if is_dsn(text):
        return _parse_dsn_name(text, is_root)
    if _PATH.match(text):
        return FilePath(os.path.expanduser(text), text.endswith("/"))
    if store is None:
        raise UsageError(
            f"{text!r} is bucket/key of a store, and none is named: set TROVE_DSN, give --store, "
            f"or write ./{text} for a file of this machine"
        )
    return _store_name(store, text)


def _store_name(dsn: str, rest: str) -> StoreName:
    bucket, _, key = rest.partition("/")
    return StoreName(dsn, bucket, key, folder=rest.endswith("/"))


def _parse_dsn_name(text: str, is_root: IsRoot) -> StoreName:
    dsn = parse_dsn(text)
    split = _SPLITTERS.get(dsn.scheme)
    if split is None:
        raise UsageError(
            f"where the bucket begins in a {dsn.scheme} DSN is not known: give --store {dsn.scheme}://…, "
            "and name the object as bucket/key"
        )
    _, question, query = text.partition("?")
    store, rest = split(dsn, is_root)
    return _store_name(f"{dsn.scheme}://{store}{question}{query}", rest)


def _split_local(dsn: DSN, is_root: IsRoot) -> tuple[str, str]:
    """Look for the store's root among the directories of the path, which alone does not tell where it ends."""
    path = dsn.path
    ends = [i for i in range(1, len(path)) if path[i] == "/" and path[i - 1] != "/"]
    candidates = ["/", *(path[:end] for end in ends)]
    if not path.endswith("/"):
        candidates.append(path)
    roots = [candidate for candidate in dict.fromkeys(candidates) if is_root(candidate)]
    if not roots:
        raise UsageError(
            f"no directory of {path!r} is a store (has .trove): give the store with --store {dsn.scheme}:///srv/data "
            "or TROVE_DSN, and name the object as bucket/key"
        )
    if len(roots) > 1:
        # Not the innermost: then whoever may store an object named "x/.trove/y" could make "x" a store of its own.
        raise UsageError(
            f"both {roots[0]!r} and {roots[-1]!r} have .trove: say which one is the store with --store "
            f"{dsn.scheme}://PATH, and name the object as bucket/key"
        )
    root = roots[0]
    return quote(root), path[len(root) :].lstrip("/")


def _split_memory(dsn: DSN, _is_root: IsRoot) -> tuple[str, str]:
    return quote(dsn.host, safe=""), dsn.path.removeprefix("/")


def _split_path(dsn: DSN, _is_root: IsRoot) -> tuple[str, str]:
    """Take the path as bucket and key; what opens the store is what stands before it."""
    # The driver refuses a port where it has none, and says what to write.
    port = "" if dsn.port is None else f":{dsn.port}"
    return f"{_userinfo(dsn)}{quote(dsn.host, safe='')}{port}/", dsn.path.removeprefix("/")


def _split_host(dsn: DSN, _is_root: IsRoot) -> tuple[str, str]:
    """Take the host as the bucket and the path as the key; the account, if any, stands before them."""
    return _userinfo(dsn), f"{dsn.host}{dsn.path}"


def _userinfo(dsn: DSN) -> str:
    if dsn.user is None:
        return ""
    password = "" if dsn.password is None else f":{quote(dsn.password, safe='')}"
    return f"{quote(dsn.user, safe='')}{password}@"


_SPLITTERS: Final[Mapping[str, Callable[[DSN, IsRoot], tuple[str, str]]]] = {
    "local": _split_local,
    "file": _split_local,
    "memory": _split_memory,
    "s3": _split_path,
    "gcs": _split_path,
    "gs": _split_host,
    "azure": _split_host,
}
"""For each scheme, what follows ``://`` in the store's own DSN, and the bucket and key behind it."""
