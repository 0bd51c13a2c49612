"""`Session`: what a command works with while it runs."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self

import trove_async
from trove_async.cli.errors import ExitCode, UsageError, code_of, combined, line_of
from trove_async.cli.names import FilePath, Name, Named, StoreName, is_dsn, named_of, parse_name, store_of
from trove_async.cli.output import Output
from trove_async.cli.patterns import is_pattern, matcher
from trove_async.config import Config
from trove_async.driver.base import Layer
from trove_async.errors import BucketNotFoundError
from trove_async.store import Trove

__all__ = ["GlobalOptions", "Session", "StorePath", "buckets_of"]


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """The options that every command has.

    Attributes:
        store: the DSN of the store for ``bucket/key``; it may contain secrets.
        json, quiet: how to print; see `Output`.
        debug: show tracebacks.
    """

    store: str | None = field(default=None, repr=False)
    json: bool = False
    quiet: bool = False
    debug: bool = False


class StorePath(NamedTuple):
    """A bucket, a key or a prefix in an open store; bucket and key may be empty."""

    store: Trove
    bucket: str
    key: str


async def buckets_of(place: StorePath) -> list[StorePath]:
    """Return a name in each of the buckets that match its bucket, which is a pattern.

    Raises:
        BucketNotFoundError: none matches.
    """
    store, pattern, key = place
    matches = matcher(pattern).fullmatch
    found = [StorePath(store, bucket.name, key) for bucket in await store.list_buckets() if matches(bucket.name)]
    if not found:
        raise BucketNotFoundError("no bucket matches", bucket=pattern)
    return found


class Session:
    """One run of a command: its open stores, its output and its failures.

    Use it in ``async with``, which closes the stores.
    """

    def __init__(self, options: GlobalOptions) -> None:
        self.options = options
        self.output = Output(json=options.json, quiet=options.quiet)
        self._stores: dict[str, Trove] = {}
        self._config: Config | None = None
        self._config_read = False
        self._exits = AsyncExitStack()
        self._failures: list[ExitCode] = []

    @property
    def exit_code(self) -> ExitCode:
        """Return the exit code for the failures so far."""
        return combined(self._failures)

    def fail(self, error: BaseException, about: str | None = None, *, hint: str = "") -> None:
        """Report an error and go on; it counts for the exit code.

        Args:
            error: what went wrong.
            about: the object that it concerns, if the message does not name it.
            hint: what to do, behind the message.

        Raises:
            BrokenPipeError: this is the error: nothing reads the results any more.
        """
        if isinstance(error, BrokenPipeError):
            raise error
        self._failures.append(code_of(error))
        line = line_of(error) + hint
        self.output.error(line if about is None else f"{about}: {line}")

    async def parse(self, name: str) -> Name:
        """Return what a name means; see `parse_name`. If it names a store of the configuration, open that."""
        named = named_of(name)
        if named is not None and self.names_store(name):
            return await self._within(named)
        hint = "" if named is None or self._config is None else f"; {self._config.unknown(named.store)}"
        return await parse_name(name, store=self.options.store, hint=hint)

    def names_store(self, name: str) -> bool:
        """Return whether a name begins with that of a store of the configuration.

        The configuration is read once, when a name may be one of its own.
        """
        named = named_of(name)
        if named is None or is_dsn(name):
            return named is not None
        if not self._config_read:
            self._config, self._config_read = Config.find(), True
        return self._config is not None and named.store in self._config.names

    async def _within(self, named: Named) -> StoreName:
        store = await self.open(named.dsn)
        bucket = store.driver.default_bucket
        folder = named.path.endswith("/")
        if bucket is not None:
            return StoreName(named.dsn, bucket, named.path, folder)
        bucket, _, key = named.path.partition("/")
        if key and not bucket:
            name = f"{named.store}:{named.path}"
            raise UsageError(f"the bucket of {name!r} is empty: write {named.store}:{key}, with the bucket first")
        return StoreName(named.dsn, bucket, key, folder)

    async def open(self, dsn: str, *layers: Layer) -> Trove:
        """Open a store, once for each DSN unless there are layers."""
        if layers:
            return await self._exits.enter_async_context(trove_async.open(dsn, layers=layers))
        store = self._stores.get(dsn)
        if store is None:
            store = self._stores[dsn] = await self._exits.enter_async_context(trove_async.open(dsn))
        return store

    def store_dsn(self, dsn: str | None) -> str:
        """Return the given DSN, else that of ``--store`` or ``TROVE_DSN``."""
        if dsn is not None:
            dsn = store_of(dsn)
        if dsn is not None and not is_dsn(dsn):
            raise UsageError(f"{dsn!r} is not a DSN; write for example local:///srv/data, or a name of trove.toml")
        chosen = dsn or self.options.store
        if chosen is None:
            raise UsageError("no store is given: give a DSN or the name of a store of trove.toml, or set TROVE_DSN")
        return chosen

    async def resolve(self, name: str) -> StorePath:
        """Open the store of a name; bucket and key may be empty."""
        return await self.open_name(await self._stored(name))

    async def open_name(self, name: StoreName) -> StorePath:
        """Open the store of a parsed name."""
        return StorePath(await self.open(name.dsn), name.bucket, name.key)

    async def resolve_all(self, name: str, *, literal: bool) -> list[StorePath]:
        """Open the store of a name whose bucket may be a pattern; return the name in each bucket that matches.

        Raises:
            BucketNotFoundError: none matches.
        """
        place = await self.resolve(name)
        return [place] if literal or not is_pattern(place.bucket) else await buckets_of(place)

    async def object(self, name: str) -> StorePath:
        """Open the store of a name that must be an object's."""
        parsed = await self._stored(name)
        if not parsed.key:
            raise UsageError(f"{name!r} does not name an object; write bucket/key")
        return await self.open_name(parsed)

    async def bucket(self, name: str) -> tuple[Trove, str]:
        """Open the store of a name that must be a bucket's."""
        parsed = await self._stored(name)
        if not parsed.bucket or parsed.key:
            raise UsageError(f"{name!r} does not name a bucket")
        return await self.open(parsed.dsn), parsed.bucket

    async def _stored(self, name: str) -> StoreName:
        parsed = await self.parse(name)
        if isinstance(parsed, FilePath):
            raise UsageError(f"{name!r} is a local file; name something in a store: bucket/key or a DSN")
        return parsed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._exits.aclose()
