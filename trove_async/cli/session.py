"""`Session`: what a command works with while it runs."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self

import trove_async
from trove_async.cli.errors import ExitCode, UsageError, code_of, combined, line_of
from trove_async.cli.names import FilePath, Name, StoreName, is_dsn, parse_name
from trove_async.cli.output import Output
from trove_async.store import Trove

__all__ = ["Place", "Session", "Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The options that every command has.

    Attributes:
        store: the DSN that ``bucket/key`` belongs to; it may hold secrets.
        json, quiet: how to print; see `Output`.
        debug: show tracebacks.
    """

    store: str | None = field(default=None, repr=False)
    json: bool = False
    quiet: bool = False
    debug: bool = False


class Place(NamedTuple):
    """A name in a store that is open."""

    store: Trove
    bucket: str
    key: str


class Session:
    """One run of one command: the stores that it has opened, where it prints, and what has failed.

    Use it in ``async with``, which closes the stores.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.output = Output(json=settings.json, quiet=settings.quiet)
        self._stores: dict[str, Trove] = {}
        self._exits = AsyncExitStack()
        self._failures: list[ExitCode] = []

    @property
    def exit_code(self) -> ExitCode:
        """Return what the failures so far stand for."""
        return combined(self._failures)

    def fail(self, error: BaseException, about: str | None = None) -> None:
        """Tell of an error and go on; the exit code will say so too.

        Args:
            error: what went wrong.
            about: what it is about, where that is not in the message.

        Raises:
            BrokenPipeError: this is the error: whoever read the results has gone, and there is nothing to go on for.
        """
        if isinstance(error, BrokenPipeError):
            raise error
        self._failures.append(code_of(error))
        self.output.error(line_of(error) if about is None else f"{about}: {line_of(error)}")

    def parse(self, name: str) -> Name:
        """Return what a name stands for; `parse_name` says how."""
        return parse_name(name, store=self.settings.store)

    async def open(self, dsn: str) -> Trove:
        """Open a store, once for each DSN."""
        store = self._stores.get(dsn)
        if store is None:
            store = self._stores[dsn] = await self._exits.enter_async_context(trove_async.open(dsn))
        return store

    def store_dsn(self, dsn: str | None) -> str:
        """Return the DSN that was given, else that of ``--store`` or ``TROVE_DSN``."""
        if dsn is not None and not is_dsn(dsn):
            raise UsageError(f"{dsn!r} is no DSN; write for example local:///srv/data")
        chosen = dsn or self.settings.store
        if chosen is None:
            raise UsageError("no store is named: give a DSN, or set TROVE_DSN")
        return chosen

    async def place(self, name: str) -> Place:
        """Open the store that a name belongs to; bucket and key may be empty."""
        return await self.enter(self._stored(name))

    async def enter(self, name: StoreName) -> Place:
        """Open the store of a name."""
        return Place(await self.open(name.dsn), name.bucket, name.key)

    async def object(self, name: str) -> Place:
        """Open the store of a name that has to be an object's."""
        parsed = self._stored(name)
        if not parsed.key:
            raise UsageError(f"{name!r} names no object; write bucket/key")
        return await self.enter(parsed)

    async def bucket(self, name: str) -> tuple[Trove, str]:
        """Open the store of a name that has to be a bucket's."""
        parsed = self._stored(name)
        if not parsed.bucket or parsed.key:
            raise UsageError(f"{name!r} does not name a bucket")
        return await self.open(parsed.dsn), parsed.bucket

    def _stored(self, name: str) -> StoreName:
        parsed = self.parse(name)
        if isinstance(parsed, FilePath):
            raise UsageError(f"{name!r} is a file of this machine; name something in a store: bucket/key or a DSN")
        return parsed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._exits.aclose()
