"""Completion of buckets and keys in a shell."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

import trove_async
from trove_async.cli.names import is_dsn, is_path, named_of, store_of
from trove_async.cli.options import STORE_VARIABLE
from trove_async.config import Config
from trove_async.dsn import NAMED
from trove_async.errors import ConfigError, TroveError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["complete", "complete_name"]

_MOST: Final = 100
_SECONDS: Final = 2.0


def complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a name for a shell, which itself completes the path of a file."""
    from click.shell_completion import CompletionItem

    if is_path(incomplete):
        return [CompletionItem(incomplete, type="file")]
    return [CompletionItem(name) for name in complete_name(incomplete)]


def complete_name(incomplete: str) -> list[str]:
    """Return the names that begin with the typed text, one level at a time.

    They are those of the stores of the configuration, and of what is in such a store or in that of ``TROVE_DSN``.

    Returns nothing if the store does not answer within two seconds: the shell should not hang.
    """
    if is_dsn(incomplete) or is_path(incomplete):
        return []
    names = _names()
    named = named_of(incomplete)
    if named is not None and named.store in names:
        start = f"{named.store}:"
        return [f"{start}{found}" for found in _found(named.dsn, named.path)]
    store = os.environ.get(STORE_VARIABLE)
    found = _found(store_of(store), incomplete) if store else []
    return [*(f"{name}:" for name in names if name.startswith(incomplete)), *found]


def _names() -> Sequence[str]:
    try:
        config = Config.find()
    except ConfigError:
        return []
    return [] if config is None else config.names


def _found(dsn: str, incomplete: str) -> list[str]:
    try:
        return asyncio.run(asyncio.wait_for(_complete(dsn, incomplete), _SECONDS))
    except (TroveError, OSError, TimeoutError):
        return []


async def _complete(dsn: str, incomplete: str) -> list[str]:
    bucket, slash, prefix = incomplete.partition("/")
    async with trove_async.open(dsn) as store:
        default = store.driver.default_bucket
        if default is not None and dsn.startswith(f"{NAMED}://"):
            return [item.key async for item in store.list(default, incomplete, delimiter="/", max_keys=_MOST)]
        if not slash:
            return [f"{found.name}/" for found in await store.list_buckets() if found.name.startswith(bucket)]
        return [f"{bucket}/{item.key}" async for item in store.list(bucket, prefix, delimiter="/", max_keys=_MOST)]
