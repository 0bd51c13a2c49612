"""Completion of buckets and keys in a shell."""

from __future__ import annotations

import asyncio
import os
from typing import Final

import trove_async
from trove_async.cli.names import STORE_VARIABLE, is_dsn, is_path
from trove_async.errors import TroveError

__all__ = ["complete_name"]

_MOST: Final = 100
_SECONDS: Final = 2.0


def complete_name(incomplete: str) -> list[str]:
    """Return the names in the store of ``TROVE_DSN`` that begin with the typed text, one level at a time.

    Returns nothing if the store does not answer within two seconds: the shell should not hang.
    """
    store = os.environ.get(STORE_VARIABLE)
    if not store or is_dsn(incomplete) or is_path(incomplete):
        return []
    try:
        return asyncio.run(asyncio.wait_for(_complete(store, incomplete), _SECONDS))
    except (TroveError, OSError, TimeoutError):
        return []


async def _complete(dsn: str, incomplete: str) -> list[str]:
    bucket, slash, prefix = incomplete.partition("/")
    async with trove_async.open(dsn) as store:
        if not slash:
            return [f"{found.name}/" for found in await store.list_buckets() if found.name.startswith(bucket)]
        return [f"{bucket}/{item.key}" async for item in store.list(bucket, prefix, delimiter="/", max_keys=_MOST)]
