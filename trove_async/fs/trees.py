"""Trees of objects: entries of a directory, patterns, and copies of all that is below a path."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import TypeVar

from trove_async.errors import (
    BackendError,
    BucketNotFoundError,
    BulkError,
    InvalidArgumentError,
    InvalidKeyError,
    ObjectNotFoundError,
    TroveError,
)
from trove_async.fs.pure import PureStorePath
from trove_async.globs import WILDCARD, expression
from trove_async.paths import is_below
from trove_async.transfers import End, Job, LocalFile, Outcome, Result, StoredObject, Transfer, objects_below
from trove_async.types import DeleteResult, Prefix

__all__ = [
    "Once",
    "at_path",
    "carry",
    "entries",
    "exists",
    "in_folder",
    "is_directory",
    "is_file",
    "matching",
    "pattern_names",
]

P = TypeVar("P", bound=PureStorePath)

Place = Callable[[str | None], End]
"""Returns the target for the name of a member of a tree; for None, for the object at the path of the tree itself."""


class Once:
    """Leaves out a directory that has the name of an object: both are one path.

    In the order of keys, all names between the two begin with it; so few are remembered.
    """

    def __init__(self) -> None:
        self._names: list[str] = []

    def is_new(self, name: str, is_directory: bool) -> bool:
        """Tell whether a name comes for the first time; names come in the order of their keys."""
        self._names = [known for known in self._names if name.startswith(known)]
        if is_directory:
            return name not in self._names
        self._names.append(name)
        return True


async def entries(directory: PureStorePath, start: str = "") -> AsyncGenerator[tuple[str, bool], None]:
    """Yield the names in a directory that begin with ``start``, and whether it is that of a directory.

    A name comes twice if both an object and a directory have it.
    """
    prefix = directory.prefix
    async for item in directory.store.list(directory.bucket, prefix + start, delimiter="/"):
        name = item.key[len(prefix) :]
        if isinstance(item, Prefix):
            yield name.removesuffix("/"), True
        else:
            yield name, False


async def is_file(path: PureStorePath) -> bool:
    """Tell whether an object has the key of a path."""
    return bool(path.parts and path.key) and await path.store.exists(path.bucket, path.key)


async def is_directory(path: PureStorePath) -> bool:
    """Tell whether there are objects below a path, or it is the root of an existing bucket."""
    try:
        found = await path.store.list(path.bucket, path.prefix, max_keys=1).all()
    except BucketNotFoundError:
        return False
    return bool(found) or not path.parts


async def exists(path: PureStorePath) -> bool:
    """Tell whether a path is that of an object or a directory."""
    return await is_file(path) or await is_directory(path)


def pattern_names(pattern: str) -> list[str]:
    """Return the patterns of the names in a pattern of paths.

    Raises:
        InvalidArgumentError: it is empty, or begins or ends with a slash.
    """
    if not pattern or pattern.startswith("/") or pattern.endswith("/"):
        raise InvalidArgumentError(f"a pattern begins and ends with a name, unlike {pattern!r}")
    return pattern.split("/")


async def matching(directory: P, names: Sequence[str]) -> AsyncGenerator[P, None]:
    """Yield the objects and directories below a directory whose names match patterns."""
    name, *others = names
    wildcard = WILDCARD.search(name)
    if wildcard is None:
        child = directory.child(name)
        if others:
            async for path in matching(child, others):
                yield path
        elif await exists(child):
            yield child
    elif "**" in name:
        async for path in _matching_below(directory, "/".join(names)):
            yield path
    else:
        matches, once = re.compile(expression(name), re.DOTALL).fullmatch, Once()
        async for entry, is_folder in entries(directory, name[: wildcard.start()]):
            if not matches(entry):
                continue
            if others and is_folder:
                async for path in matching(directory.child(entry), others):
                    yield path
            elif not others and once.is_new(entry, is_folder):
                yield directory.child(entry)


async def _matching_below(directory: P, pattern: str) -> AsyncGenerator[P, None]:
    """Yield the objects and directories at any depth that match one pattern, in one listing."""
    matches, once = re.compile(expression(pattern), re.DOTALL).fullmatch, Once()
    wildcard = WILDCARD.search(pattern)
    assert wildcard is not None
    prefix, above = directory.prefix, [""]
    async for info in directory.store.list(directory.bucket, prefix + pattern[: wildcard.start()]):
        names = info.key[len(prefix) :].split("/")
        for depth in range(1, len(names) + 1):
            is_folder = depth < len(names)
            if is_folder and above[:depth] == names[:depth] and depth < len(above):
                continue  # it was there with the last object
            if matches(text := "/".join(names[:depth])) and once.is_new(text, is_folder):
                yield directory.below(names[:depth])
        above = names


def at_path(path: PureStorePath) -> Place:
    """Place a tree at a path of a store."""

    def place(name: str | None) -> End:
        return StoredObject(path.store, path.bucket, path.key if name is None else path.prefix + name)

    return place


def in_folder(path: str) -> Place:
    """Place a tree of objects in a local directory, or an object in the file of this path."""

    def place(name: str | None) -> End:
        if name is None:
            return LocalFile(path)
        if not is_below(name):
            raise InvalidKeyError(f"{name!r} is not the name of a file below {path!r}")
        return LocalFile(os.path.join(path, name), tree=path)

    return place


async def carry(source: PureStorePath, place: Place, *, operation: str, move: bool) -> None:
    """Copy the object at a path, and all objects below it; with ``move`` remove each once it is copied.

    Raises:
        ObjectNotFoundError: there is neither.
        BucketNotFoundError: a bucket is missing; no further object is tried.
        BulkError: some were not copied or moved; the message says how many were.
        TroveError, OSError: the only object was not.
    """
    done = 0
    failed: list[Result] = []
    no_bucket: list[BucketNotFoundError] = []

    def on_result(result: Result) -> None:
        nonlocal done
        if result.error is None:
            done += 1
        elif isinstance(result.error, BucketNotFoundError):
            no_bucket.append(result.error)
        else:
            failed.append(result)

    async def jobs() -> AsyncIterator[Job]:
        if await is_file(source):
            yield Job(StoredObject(source.store, source.bucket, source.key), place(None), 0)
        async for found in objects_below(source.store, source.bucket, source.prefix):
            if no_bucket:
                return
            try:
                yield Job(found.end, place(found.name), found.size, found.info)
            except InvalidKeyError as error:
                on_result(Result(Job(found.end, found.end, found.size), Outcome.FAILED, error))

    transfer = Transfer(skip_unchanged=False, skip_directories=False, record=False, move=move)
    verb = "moved" if move else "copied"
    try:
        await transfer.run(jobs(), on_result)
    except TroveError as error:
        error.add_note(f"{done} objects were {verb} before")
        raise
    if no_bucket:
        raise no_bucket[0]
    if not (done or failed):
        raise ObjectNotFoundError(operation=operation, bucket=source.bucket, key=source.key)
    if not failed:
        return
    first = failed[0]
    if not done and len(failed) == 1 and str(first.job.source) == str(source) and first.error is not None:
        raise first.error
    raise BulkError(
        f"{len(failed)} of {done + len(failed)} objects were not {verb}, {done} were; run it again for the others; "
        f"the first: {str(first.job.source)!r}: {first.error}",
        failed=[_as_failed(result) for result in failed],
        deleted_count=done if move else 0,
        operation=operation,
        bucket=source.bucket,
        driver=source.store.driver.name,
    ) from first.error


def _as_failed(result: Result) -> DeleteResult:
    assert isinstance(result.job.source, StoredObject)
    error = result.error
    if not isinstance(error, TroveError):  # of a local file
        wrapped = BackendError(str(error))
        wrapped.__cause__ = error
        error = wrapped
    return DeleteResult(result.job.source.key, error)
