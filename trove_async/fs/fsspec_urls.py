"""The URLs of `TroveFileSystem`: which store one names, and which path in it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Final

from trove_async.config import Reference
from trove_async.driver import lookup
from trove_async.dsn import DSN, NAMED, is_store_name, parse_dsn

__all__ = ["PROTOCOLS", "is_named", "keywords_of", "path_of", "path_under"]

_SCHEMES: Final = ("memory", "local", "file", "s3", "gcs", "azure", "sftp")
_WITH_DSN: Final = f"{NAMED}+"

PROTOCOLS: Final = (NAMED, *(f"{_WITH_DSN}{scheme}" for scheme in _SCHEMES))
"""The protocols of fsspec; all but the first are those of a DSN."""


def is_named(text: str) -> bool:
    """Tell whether text is a URL that begins with ``trove://``."""
    return text.startswith(f"{NAMED}://")


def keywords_of(url: str) -> dict[str, Any]:
    """Return the arguments of `TroveFileSystem` that a URL holds."""
    if url.startswith(_WITH_DSN):
        return {"dsn": _split(url)[0]}
    if is_named(url) and is_store_name(url.partition("://")[2].partition("/")[0].partition("?")[0]):
        reference = Reference.of(url)
        return {"name": reference.name, **reference.settings}
    return {}


def path_of(url: str) -> str:
    """Return the path of a URL; one that begins with ``trove://`` is returned as it is.

    Only the file system knows whether the first part of that is a name of the configuration or a bucket.
    """
    if url.startswith(_WITH_DSN):
        return _split(url)[1]
    return url.rstrip("/") if is_named(url) else url.strip("/")


def path_under(url: str, name: str | None) -> str:
    """Return the path of a URL that begins with ``trove://``.

    Args:
        url: the URL.
        name: that of the store in the configuration; None if the URL names no store.
    """
    if name is None:
        return url.partition("://")[2].strip("/")
    reference = Reference.of(url)
    return reference.path.strip("/") if reference.name == name else f"{reference.name}{reference.path}".strip("/")


@lru_cache(maxsize=256)
def _split(url: str) -> tuple[str, str]:
    """Return the DSN and the path; for some drivers this looks at the store."""
    dsn = parse_dsn(url.removeprefix(_WITH_DSN))
    with ThreadPoolExecutor(1) as thread:  # the caller's may run a loop
        store, bucket, key = thread.submit(asyncio.run, _ask(dsn)).result()
    return store, f"{bucket or ''}/{key}".strip("/")


async def _ask(dsn: DSN) -> tuple[str, str | None, str]:
    return await lookup(dsn.scheme)().split(dsn)
