"""``rm``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import click

from trove_async.cli.command import Literally, Names, command
from trove_async.cli.errors import UsageError
from trove_async.cli.parameters import option
from trove_async.cli.patterns import expand, is_pattern, literal_start, matcher
from trove_async.cli.progress import count_bar
from trove_async.cli.session import Session, StorePath, buckets_of
from trove_async.cli.streams import ask, is_terminal
from trove_async.errors import ObjectNotFoundError, TroveError
from trove_async.types import DeleteResult, ObjectInfo, VersionInfo

__all__ = ["register", "rm"]

Recursive = Annotated[bool, option("--recursive", "-r", help="Remove everything below a name too.")]
Yes = Annotated[
    bool, option("--yes", "-y", help="Do not ask; without a terminal, -r, --versions and patterns need it.")
]
Force = Annotated[bool, option("--force", "-f", help="Do not ask, and ignore objects that do not exist.")]
Versions = Annotated[bool, option("--versions", help="Remove all versions and delete markers permanently.")]
DryRun = Annotated[bool, option("--dry-run", "-n", help="Print what would be removed, and remove nothing.")]


def register(app: click.Group) -> None:
    """Add the command."""
    command(app, "rm")(rm)


async def rm(
    session: Session,
    names: Names,
    recursive: Recursive = False,
    yes: Yes = False,
    force: Force = False,
    dry_run: DryRun = False,
    versions: Versions = False,
    literal: Literally = False,
) -> None:
    """Remove objects.

    -r, --versions and patterns ask first. In a bucket that keeps versions, a delete marker hides a removed object;
    --versions removes its versions and delete markers permanently, those of deleted objects too.
    """
    selections = [one for name in names for one in await _selections(session, name, recursive, literal, versions)]
    if not (yes or force or dry_run or await _confirmed(selections)):
        session.output.note("nothing was removed")
        return
    if dry_run:
        await _show(session, selections, force)
        return
    async with count_bar(session.output, "removed") as removed:
        for selection in selections:
            try:
                async for target in _removed(session, selection, force):
                    removed()
                    session.output.record(_values(selection, target, "removed"))
            except (TroveError, OSError) as error:
                session.fail(error)


async def _show(session: Session, selections: Sequence[_Selection], force: bool) -> None:
    for selection in selections:
        try:
            async for target in selection.targets(force):
                values = _values(selection, target, "would remove")
                version = f" version {target.version_id}" if isinstance(target, VersionInfo) else ""
                session.output.record(values, f"would remove: {values['name']}{version}")
        except (TroveError, OSError) as error:
            session.fail(error)


def _values(selection: _Selection, target: str | VersionInfo | DeleteResult, outcome: str) -> dict[str, str]:
    key, version_id = (target, None) if isinstance(target, str) else (target.key, target.version_id)
    values = {"type": "removal", "name": f"{selection.place.bucket}/{key}", "outcome": outcome}
    return values if version_id is None else {**values, "version_id": version_id}


async def _removed(session: Session, selection: _Selection, force: bool) -> AsyncIterator[DeleteResult]:
    """Remove the selected objects and yield what was removed; failures are reported."""
    store, bucket, _ = selection.place
    async for result in store.delete_many(bucket, selection.targets(force), raise_errors=False):
        if result.error is None:
            yield result
        else:
            session.fail(result.error)


@dataclass(frozen=True)
class _Selection:
    """The objects or versions of one name; ``many`` if there may be any number."""

    name: str
    place: StorePath
    recursive: bool
    pattern: bool
    versions: bool
    several: bool  # it is one of the buckets of a pattern

    @property
    def many(self) -> bool:
        return self.recursive or self.pattern or self.versions or self.several

    async def targets(self, force: bool) -> AsyncIterator[str | VersionInfo]:
        """Yield the keys or versions to remove.

        Raises:
            ObjectNotFoundError: there is none, and ``force`` is not set.
        """
        found = False
        async for target in self._versions() if self.versions else self._keys():
            found = True
            yield target
        if not found and not force and self.place.key:
            raise ObjectNotFoundError(operation="rm", bucket=self.place.bucket, key=self.place.key)

    async def _versions(self) -> AsyncIterator[VersionInfo]:
        store, bucket, key = self.place
        if self.pattern:
            matchers = [matcher(key)] + ([matcher(f"{key.rstrip('/')}/**")] if self.recursive else [])
            listing = store.list_all_versions(bucket, literal_start(key))
            async for version in listing:
                if any(matches.fullmatch(version.key) for matches in matchers):
                    yield version
            return
        below = _below(key)
        async for version in store.list_all_versions(bucket, key):
            if version.key == key or (self.recursive and version.key.startswith(below)):
                yield version

    async def _keys(self) -> AsyncIterator[str]:
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
            async for info in store.list(bucket, _below(key)):
                if info.key != key:
                    yield info.key


def _below(key: str) -> str:
    """Return what the keys below a name begin with."""
    return key if not key or key.endswith("/") else f"{key}/"


async def _selections(session: Session, name: str, recursive: bool, literal: bool, versions: bool) -> list[_Selection]:
    place = await session.resolve(name)
    if not place.bucket or not (place.key or recursive):
        raise UsageError(f"{name!r} does not name an object; rm -r removes everything in a bucket, rb the bucket")
    several = not literal and is_pattern(place.bucket)
    pattern = not literal and is_pattern(place.key)
    if not several:
        return [_Selection(name, place, recursive, pattern, versions, several)]
    places = await buckets_of(place)
    return [_Selection(f"{it.bucket}/{it.key}", it, recursive, pattern, versions, several) for it in places]


async def _confirmed(selections: Sequence[_Selection]) -> bool:
    many = [selection.name for selection in selections if selection.many]
    if not many:
        return True
    if not is_terminal():
        raise UsageError(
            "rm asks before it removes with -r, --versions or a pattern, and there is no terminal: add --yes"
        )
    what = "permanently remove all versions" if any(selection.versions for selection in selections) else "remove all"
    return await ask(f"{what} of {', '.join(map(repr, many))}?")
