"""Completion of buckets and keys in a shell."""

from __future__ import annotations

import asyncio
import os
from typing import Final

import trove_async
from trove_async.cli.errors import UsageError
from trove_async.cli.names import STORE_VARIABLE, StoreName, parse_name
from trove_async.errors import TroveError

__all__ = ["complete_name"]

_MOST: Final = 100
_SECONDS: Final = 2.0


def complete_name(incomplete: str) -> list[str]:
    """Return the names of the store of ``TROVE_DSN`` that begin with what was typed, a level at a time.

    Nothing, if there are none, or the store does not answer soon: a shell that waits is worse than one that does
    not complete.
    """
    store = os.environ.get(STORE_VARIABLE)
    try:
        name = parse_name(incomplete or "?", store=store, is_root=lambda _: False)
        if not store or not isinstance(name, StoreName):
            return []
        return asyncio.run(asyncio.wait_for(_complete(store, incomplete), _SECONDS))
    except (UsageError, TroveError, OSError, TimeoutError):
        return []


async def _complete(dsn: str, incomplete: str) -> list[str]:
    bucket, slash, prefix = incomplete.partition("/")
    async with trove_async.open(dsn) as store:
        if not slash:
            return [f"{found.name}/" for found in await store.list_buckets() if found.name.startswith(bucket)]
        return [f"{bucket}/{item.key}" async for item in store.list(bucket, prefix, delimiter="/", max_keys=_MOST)]
