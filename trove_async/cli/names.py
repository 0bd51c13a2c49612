"""How things are named on the command line.

- A name that begins with a scheme and ``://`` is a DSN followed by a bucket and a key; its driver splits it.
- ``NAME:bucket/key`` is in a store of the configuration, if that has ``NAME``; `Session.parse` asks it.
- A name that begins with ``/``, ``~``, ``./`` or ``../``, or is ``.`` or ``..``, is a local path.
- Any other name is ``bucket/key`` in the store that ``--store`` or ``TROVE_DSN`` names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from trove_async.cli.errors import UsageError
from trove_async.cli.options import STORE_VARIABLE
from trove_async.config import Reference
from trove_async.driver import lookup
from trove_async.dsn import DSN, NAMED, is_store_name, parse_dsn
from trove_async.errors import DriverRegistrationError, InvalidDSNError
from trove_async.paths import local_path
from trove_async.types import EMPTY

__all__ = [
    "FilePath",
    "Name",
    "Named",
    "StoreName",
    "is_dsn",
    "is_path",
    "local_hint",
    "named_of",
    "parse_name",
    "store_of",
    "target_hint",
]

_DSN: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PATH: Final = re.compile(r"(?:/|~|\./|\.\./|\.\.?\Z)")


@dataclass(frozen=True, slots=True)
class Named:
    """A name that begins with that of a store of the configuration.

    Attributes:
        store: the name.
        path: bucket and key; the key alone if the DSN of the store names a bucket.
        settings: the parameters, if it is a DSN.
    """

    store: str
    path: str
    settings: Mapping[str, str] = EMPTY

    @property
    def dsn(self) -> str:
        """The DSN of the store."""
        return DSN(NAMED, host=self.store, params=self.settings).reveal()


@dataclass(frozen=True, slots=True)
class FilePath:
    """A local path; ``folder`` says that the name ends in a slash."""

    path: str
    folder: bool = False

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class StoreName:
    """A bucket, a key or a prefix of keys in a store.

    Attributes:
        dsn: opens the store. It may contain secrets and is never shown.
        bucket: empty if the name is the store itself.
        key: empty if the name is a bucket.
        folder: the name ends in a slash.
    """

    dsn: str = field(repr=False)
    bucket: str
    key: str = ""
    folder: bool = False

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}" if self.key else self.bucket


Name = FilePath | StoreName


def is_dsn(text: str) -> bool:
    """Return whether a name is a DSN."""
    return _DSN.match(text) is not None


def is_path(text: str) -> bool:
    """Return whether a name is a local path."""
    return _PATH.match(text) is not None


def named_of(text: str) -> Named | None:
    """Return what ``NAME:bucket/key`` or ``trove://NAME/bucket/key`` says; None for everything else.

    Raises:
        InvalidDSNError: it is a malformed ``trove://``.
    """
    if text[: len(NAMED) + 3].lower() == f"{NAMED}://":
        reference = Reference.of(text)
        return Named(reference.name, reference.path.removeprefix("/"), reference.settings)
    name, colon, path = text.partition(":")
    return Named(name, path) if colon and is_store_name(name) and not is_dsn(text) else None


def store_of(text: str) -> str:
    """Return the DSN of the store that ``--store`` or ``TROVE_DSN`` gives: a DSN, ``NAME`` or ``NAME:``."""
    name = text.removesuffix(":")
    return f"{NAMED}://{name}" if is_store_name(name) else text


def local_hint(text: str) -> str:
    """Return a hint for an error about a name in a store, if a local file has the same name; else nothing."""
    if not text or is_dsn(text) or is_path(text) or not os.path.lexists(text):
        return ""
    return f"; for the local file {text!r} write ./{text}"


def target_hint(text: str) -> str:
    """Return a hint for an error about a target whose bucket is missing, if the target may be meant as a local file."""
    return "" if is_dsn(text) else f"; for a local file or folder write ./{text}"


async def parse_name(text: str, *, store: str | None, hint: str = "") -> Name:
    """Return what a name means.

    For a DSN this asks its driver, which may have to look at the store.

    Args:
        text: the name.
        store: the DSN of the store for a name without one.
        hint: behind the error if that is needed and missing.

    Raises:
        UsageError: it has no meaning; says what to write.
        InvalidDSNError: it is a malformed DSN.
        TroveError: the driver cannot reach the store.
    """
    if not text:
        raise UsageError("a name is empty; write bucket/key, a DSN, or ./file")
    if is_dsn(text):
        return await _split_dsn(text)
    if is_path(text):
        return FilePath(os.path.expanduser(local_path(text)), text.endswith("/"))  # noqa: ASYNC240 - reads the environment
    if store is None:
        raise UsageError(
            f"{text!r} is bucket/key in a store, and no store is given: set {STORE_VARIABLE}, give --store, "
            f"or write ./{text} for a local file{hint}"
        )
    return _store_name(store, text)


def _store_name(dsn: str, text: str) -> StoreName:
    bucket, _, key = text.partition("/")
    return StoreName(dsn, bucket, key, folder=text.endswith("/"))


async def _split_dsn(text: str) -> StoreName:
    """Have the driver of a DSN split it."""
    dsn = parse_dsn(text)
    try:
        driver = lookup(dsn.scheme)()
    except DriverRegistrationError as error:
        raise UsageError(error.message) from error
    try:
        store, bucket, key = await driver.split(dsn)
    except InvalidDSNError as error:
        raise UsageError(
            f"{error.message}; give the store's own DSN with --store {dsn.scheme}://… or in {STORE_VARIABLE}, "
            "and name the object as bucket/key"
        ) from error
    if bucket is None:
        return StoreName(store, "")
    return StoreName(store, bucket, key, folder=dsn.path.endswith("/"))
