"""The sources of ``cp`` and ``mv``, divided into single copies."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import suppress

import anyio.to_thread

from trove_async.cli.destination import Destination, MarkerError, UnsafeNameError
from trove_async.cli.errors import UsageError
from trove_async.cli.names import FilePath, local_hint
from trove_async.cli.patterns import expand, fixed_part, is_pattern, matching_paths
from trove_async.cli.session import Session, StorePath, buckets_of
from trove_async.errors import ObjectNotFoundError
from trove_async.transfers import End, Found, Job, LocalFile, StoredObject, describe, files_below, objects_below
from trove_async.types import ObjectInfo

__all__ = ["Source", "skipped_directory", "source_of"]


class Source(ABC):
    """One of the names to copy.

    Attributes:
        is_tree: it may stand for several objects or files, which are skipped if they were copied before.
        name: as it was given.
        is_local: it is a local path.
        base_name: its name in a folder; empty if the names of its members are used.
    """

    name: str = ""
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
            raise ObjectNotFoundError(bucket=self._end.bucket, key=self._end.key)
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
        async for job in _members(session, _files(session, self.path), target, self.base_name):
            yield job

    async def tidy(self) -> None:
        await anyio.to_thread.run_sync(_remove_empty_directories, self.path)


class _LocalPattern(Source):
    is_local = True

    def __init__(self, pattern: str, recursive: bool) -> None:
        self._pattern = pattern
        self._recursive = recursive
        self._base = fixed_part(pattern)

    async def jobs(self, session: Session, target: Destination) -> AsyncIterator[Job]:
        empty = True
        async for job in _members(session, self._found(session), target, ""):
            empty = False
            yield job
        if empty:
            raise FileNotFoundError(f"no file matches {self._pattern!r}")

    async def _found(self, session: Session) -> AsyncIterator[Found]:
        for path in await anyio.to_thread.run_sync(matching_paths, self._pattern):
            name = path[len(self._base) :]
            if not await anyio.to_thread.run_sync(os.path.isdir, path):
                described = await describe(LocalFile(path))
                yield Found(name, LocalFile(path), 0 if described is None else described.size)
            elif self._recursive:
                async for found in _files(session, path):
                    yield Found(f"{name.rstrip('/')}/{found.name}", found.end, found.size)


class _InBuckets(Source):
    """The same name in several buckets, whose names become folders in the target."""

    def __init__(self, place: StorePath, recursive: bool) -> None:
        self._place = place
        self._recursive = recursive

    async def jobs(self, session: Session, target: Destination) -> AsyncIterator[Job]:
        empty = True
        for place in await buckets_of(self._place):
            if target.holds(StoredObject(place.store, place.bucket, ""), ""):
                raise UsageError(f"the target is within {place.bucket!r}, so copying would never end")
            async for job in _members(session, self._found(place), target, ""):
                empty = False
                yield job
        if empty:
            raise ObjectNotFoundError("nothing matches", bucket=self._place.bucket, key=self._place.key)

    async def _found(self, place: StorePath) -> AsyncIterator[Found]:
        store, bucket, key = place
        if is_pattern(key):
            members = _matches(place, self._recursive)
        elif self._recursive:
            members = objects_below(store, bucket, _folder(key))
        else:
            members = _object(place)
        async for found in members:
            yield Found(f"{bucket}/{found.name}", found.end, found.size, found.info)


class _Below(Source):
    """Everything below a key as a folder, or in a bucket; if there is nothing, the object with this key."""

    def __init__(self, place: StorePath) -> None:
        self._place = place
        self._prefix = _folder(place.key)
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
            raise ObjectNotFoundError("nothing is below it", bucket=bucket, key=key)


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
        async for job in _members(session, _matches(self._place, self._recursive), target, ""):
            empty = False
            yield job
        if empty:
            raise ObjectNotFoundError("nothing matches", bucket=bucket, key=key)


def _folder(key: str) -> str:
    """Return what the keys below a name begin with."""
    return key if not key or key.endswith("/") else f"{key}/"


async def _object(place: StorePath) -> AsyncIterator[Found]:
    """Yield the object with this name, if there is one."""
    store, bucket, key = place
    described = await describe(StoredObject(store, bucket, key))
    if described is not None:
        yield Found(os.path.basename(key), StoredObject(store, bucket, key), described.size)


async def _matches(place: StorePath, recursive: bool) -> AsyncIterator[Found]:
    """Yield the objects that match a pattern, and with ``recursive`` those below the folders that match it."""
    store, bucket, key = place
    start = len(fixed_part(key))
    async for item in expand(store, bucket, key, prefixes=recursive):
        if isinstance(item, ObjectInfo):
            yield Found(item.key[start:], StoredObject(store, bucket, item.key), item.size, item)
        else:
            async for info in store.list(bucket, item.prefix):
                yield Found(info.key[start:], StoredObject(store, bucket, info.key), info.size, info)


def _files(session: Session, path: str) -> AsyncIterator[Found]:
    """Yield the files below a directory; what is skipped or cannot be read is reported."""
    return files_below(
        path,
        on_skip=lambda path: session.output.note(f"{path}: skipped: it is a symbolic link, or not a regular file"),
        on_error=lambda path, error: session.fail(error),
    )


async def _members(session: Session, found: AsyncIterator[Found], target: Destination, tree: str) -> AsyncIterator[Job]:
    async for member in found:
        try:
            yield Job(member.end, target.member(tree, member.name), member.size, member.info)
        except MarkerError:
            session.output.note(skipped_directory(member.end))
        except UnsafeNameError as error:
            session.fail(error, about=str(member.end))


def skipped_directory(end: End) -> str:
    """Return the note about an object that only marks a directory."""
    return f"{end}: skipped: it stands for a folder"


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
        source = await anyio.to_thread.run_sync(_local_source, parsed.path, name, recursive, literal)
    else:
        source = _stored_source(await session.open_name(parsed), name, recursive, literal)
    source.name = name
    return source


def _local_source(path: str, name: str, recursive: bool, literal: bool) -> Source:
    if not literal and is_pattern(path) and not os.path.lexists(path):
        return _LocalPattern(path, recursive)
    if not os.path.isdir(path):
        return _Single(LocalFile(path), os.path.basename(path))
    if not recursive:
        raise UsageError(f"{name!r} is a directory; add -r")
    return _Directory(path)


def _stored_source(place: StorePath, name: str, recursive: bool, literal: bool) -> Source:
    if not place.bucket:
        raise UsageError(f"{name!r} does not name a bucket{local_hint(name)}")
    if not literal and is_pattern(place.bucket):
        if not (place.key or recursive):
            raise UsageError(f"{name!r} names buckets; add -r")
        return _InBuckets(place, recursive)
    if not literal and is_pattern(place.key):
        return _Pattern(place, recursive)
    if recursive:
        return _Below(place)
    base_name = os.path.basename(place.key)
    if not base_name:
        raise UsageError(f"{name!r} is a bucket or a folder; add -r{local_hint(name)}")
    return _Single(StoredObject(*place), base_name)
