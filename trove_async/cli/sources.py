"""The sources of ``cp`` and ``mv``, divided into single copies."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import suppress

import anyio.to_thread

from trove_async.cli.destination import Destination, MarkerError, UnsafeNameError
from trove_async.cli.errors import UsageError
from trove_async.cli.names import FilePath
from trove_async.cli.patterns import expand, fixed_part, is_pattern
from trove_async.cli.session import Session, StorePath
from trove_async.errors import ObjectNotFoundError
from trove_async.transfers import End, Found, Job, LocalFile, StoredObject, describe, files_below, objects_below
from trove_async.types import ObjectInfo

__all__ = ["Source", "skipped_directory", "source_of"]


class Source(ABC):
    """One of the names to copy.

    Attributes:
        is_tree: it may stand for several objects or files, which are skipped if they were copied before.
        is_local: it is a local path.
        base_name: its name in a folder; empty if the names of its members are used.
    """

    is_tree: bool = True
    is_local: bool = False
    base_name: str = ""

    @abstractmethod
    def jobs(self, session: Session, target: Destination) -> AsyncIterator[Job]:
        """Yield the copies to make.

        Raises:
            NotFoundError, FileNotFoundError: nothing has this name.
        """

    async def tidy(self) -> None:
        """Remove directories that a move has left empty."""


class _Single(Source):
    is_tree = False

    def __init__(self, end: End, base_name: str) -> None:
        self._end = end
        self.base_name = base_name
        self.is_local = isinstance(end, LocalFile)

    async def jobs(self, session: Session, target: Destination) -> AsyncIterator[Job]:
        described = await describe(self._end)
        if described is None:
            if isinstance(self._end, LocalFile):
                raise FileNotFoundError(f"{self._end.path!r} does not exist")
            raise ObjectNotFoundError(operation="cp", bucket=self._end.bucket, key=self._end.key)
        goal = target.single(self.base_name)
        if goal == self._end:
            raise UsageError(f"{str(goal)!r} would be copied onto itself")
        yield Job(self._end, goal, described.size)


class _Directory(Source):
    is_local = True

    def __init__(self, path: str) -> None:
        self.path = path
        self.base_name = os.path.basename(os.path.abspath(path))

    async def jobs(self, session: Session, target: Destination) -> AsyncIterator[Job]:
        found = files_below(
            self.path,
            on_skip=lambda path: session.output.note(f"{path}: skipped, since it is a link or no regular file"),
            on_error=lambda path, error: session.fail(error),
        )
        async for job in _members(session, found, target, self.base_name):
            yield job

    async def tidy(self) -> None:
        await anyio.to_thread.run_sync(_remove_empty_directories, self.path)


class _Below(Source):
    """Everything below a key as a folder, or in a bucket; if there is nothing, the object with this key."""

    def __init__(self, place: StorePath) -> None:
        self._place = place
        self._prefix = place.key if not place.key or place.key.endswith("/") else f"{place.key}/"
        self.base_name = os.path.basename(self._prefix.removesuffix("/")) or place.bucket

    async def jobs(self, session: Session, target: Destination) -> AsyncIterator[Job]:
        store, bucket, key = self._place
        if target.holds(StoredObject(store, bucket, self._prefix), self.base_name):
            raise UsageError(f"the target is within {f'{bucket}/{key}'!r}, so copying would never end")
        empty = True
        async for job in _members(session, objects_below(store, bucket, self._prefix), target, self.base_name):
            empty = False
            yield job
        if empty and key and not key.endswith("/"):
            async for job in _Single(StoredObject(store, bucket, key), os.path.basename(key)).jobs(session, target):
                yield job
        elif empty and key:
            raise ObjectNotFoundError("nothing is below it", operation="cp", bucket=bucket, key=key)


class _Pattern(Source):
    def __init__(self, place: StorePath, recursive: bool) -> None:
        self._place = place
        self._recursive = recursive

    async def jobs(self, session: Session, target: Destination) -> AsyncIterator[Job]:
        store, bucket, key = self._place
        base = fixed_part(key)
        if target.holds(StoredObject(store, bucket, base), ""):
            raise UsageError("the target is within what the pattern matches, so copying would never end")
        empty = True
        async for job in _members(session, self._found(base), target, ""):
            empty = False
            yield job
        if empty:
            raise ObjectNotFoundError("nothing matches", operation="cp", bucket=bucket, key=key)

    async def _found(self, base: str) -> AsyncIterator[Found]:
        store, bucket, key = self._place
        async for item in expand(store, bucket, key, prefixes=self._recursive):
            if isinstance(item, ObjectInfo):
                yield Found(item.key[len(base) :], StoredObject(store, bucket, item.key), item.size)
            else:
                async for info in store.list(bucket, item.prefix):
                    yield Found(info.key[len(base) :], StoredObject(store, bucket, info.key), info.size)


async def _members(session: Session, found: AsyncIterator[Found], target: Destination, tree: str) -> AsyncIterator[Job]:
    async for member in found:
        try:
            yield Job(member.end, target.member(tree, member.name), member.size)
        except MarkerError:
            session.output.note(skipped_directory(member.end))
        except UnsafeNameError as error:
            session.fail(error, about=str(member.end))


def skipped_directory(end: End) -> str:
    """Return the note about an object that only marks a directory."""
    return f"{end}: skipped, since it stands for a folder"


def _remove_empty_directories(root: str) -> None:
    for path, _, _ in os.walk(root, topdown=False):
        with suppress(OSError):  # it is not empty
            os.rmdir(path)


async def source_of(session: Session, name: str, *, recursive: bool, literal: bool) -> Source:
    """Return the source for a name.

    Raises:
        UsageError: it is a tree and ``recursive`` is False, or it cannot be copied.
    """
    parsed = await session.parse(name)
    if isinstance(parsed, FilePath):
        if not await anyio.to_thread.run_sync(os.path.isdir, parsed.path):
            return _Single(LocalFile(parsed.path), os.path.basename(parsed.path))
        if not recursive:
            raise UsageError(f"{name!r} is a directory; add -r")
        return _Directory(parsed.path)
    place = await session.open_name(parsed)
    if not place.bucket:
        raise UsageError(f"{name!r} does not name a bucket")
    if not literal and is_pattern(place.key):
        return _Pattern(place, recursive)
    if recursive:
        return _Below(place)
    base_name = os.path.basename(place.key)
    if not base_name:
        raise UsageError(f"{name!r} is a bucket or a folder; add -r")
    return _Single(StoredObject(*place), base_name)
