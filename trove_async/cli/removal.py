"""``rm``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from trove_async.cli.command import Literally, Names, command
from trove_async.cli.errors import UsageError
from trove_async.cli.patterns import expand, is_pattern
from trove_async.cli.progress import count_bar
from trove_async.cli.session import Session, StorePath
from trove_async.cli.streams import ask, is_terminal
from trove_async.errors import ObjectNotFoundError, TroveError
from trove_async.types import ObjectInfo

__all__ = ["register", "rm"]

Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Also everything below a name.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; required for -r and patterns without a terminal.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Ignore what does not exist.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Print what would be removed, and remove nothing.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "rm")(rm)


async def rm(
    session: Session,
    names: Names,
    recursive: Recursive = False,
    yes: Yes = False,
    force: Force = False,
    dry_run: DryRun = False,
    literal: Literally = False,
) -> None:
    """Remove objects.

    -r and patterns ask first. In a bucket that keeps versions, a delete marker hides a removed object.
    """
    selections = [await _selection(session, name, recursive, literal) for name in names]
    if not (yes or dry_run or await _confirmed(selections)):
        session.output.note("nothing was removed")
        return
    if dry_run:
        await _show(session, selections, force)
        return
    async with count_bar(session.output, "removed") as removed:
        for selection in selections:
            try:
                async for key in _removed(session, selection, force):
                    removed()
                    session.output.record(_values(selection, key, "removed"))
            except (TroveError, OSError) as error:
                session.fail(error)


async def _show(session: Session, selections: Sequence[_Selection], force: bool) -> None:
    for selection in selections:
        try:
            async for key in selection.keys(force):
                values = _values(selection, key, "would remove")
                session.output.record(values, f"would remove: {values['name']}")
        except (TroveError, OSError) as error:
            session.fail(error)


def _values(selection: _Selection, key: str, outcome: str) -> dict[str, str]:
    return {"type": "removal", "name": f"{selection.place.bucket}/{key}", "outcome": outcome}


async def _removed(session: Session, selection: _Selection, force: bool) -> AsyncIterator[str]:
    """Remove the selected objects and yield their keys; failures are reported."""
    store, bucket, _ = selection.place
    async for result in store.delete_many(bucket, selection.keys(force), raise_errors=False):
        if result.error is None:
            yield result.key
        else:
            session.fail(result.error)


@dataclass(frozen=True)
class _Selection:
    """The objects of one name; ``many`` if there may be any number."""

    name: str
    place: StorePath
    recursive: bool
    pattern: bool

    @property
    def many(self) -> bool:
        return self.recursive or self.pattern

    async def keys(self, force: bool) -> AsyncIterator[str]:
        """Yield the keys to remove.

        Raises:
            ObjectNotFoundError: there is no object, and ``force`` is not set.
        """
        found = False
        async for key in self._found():
            found = True
            yield key
        if not found and not force and self.place.key:
            raise ObjectNotFoundError(operation="rm", bucket=self.place.bucket, key=self.place.key)

    async def _found(self) -> AsyncIterator[str]:
        store, bucket, key = self.place
        if self.pattern:
            async for item in expand(store, bucket, key, prefixes=self.recursive):
                if isinstance(item, ObjectInfo):
                    yield item.key
                else:
                    async for info in store.list(bucket, item.prefix):
                        yield info.key
            return
        if key:
            async for info in store.list(bucket, key, max_keys=1):  # a key sorts before all keys that it is a prefix of
                if info.key == key:
                    yield key
        if self.recursive:
            below = key if not key or key.endswith("/") else f"{key}/"
            async for info in store.list(bucket, below):
                if info.key != key:
                    yield info.key


async def _selection(session: Session, name: str, recursive: bool, literal: bool) -> _Selection:
    place = await session.resolve(name)
    if not place.bucket or not (place.key or recursive):
        raise UsageError(f"{name!r} does not name an object; rm -r removes everything in a bucket, rb the bucket")
    return _Selection(name, place, recursive, not literal and is_pattern(place.key))


async def _confirmed(selections: Sequence[_Selection]) -> bool:
    many = [selection.name for selection in selections if selection.many]
    if not many:
        return True
    if not is_terminal():
        raise UsageError("rm asks before it removes with -r or a pattern, and there is no terminal: add --yes")
    return await ask(f"remove all of {', '.join(map(repr, many))}?")
