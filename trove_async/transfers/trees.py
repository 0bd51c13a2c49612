"""The members of a tree: the files below a directory, the objects below a prefix."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import NamedTuple

import anyio.to_thread

from trove_async.paths import local_path
from trove_async.store import Trove
from trove_async.transfers.ends import End, LocalFile, StoredObject
from trove_async.types import ObjectInfo

__all__ = ["Found", "files_below", "objects_below"]


class Found(NamedTuple):
    """A member of a tree.

    Attributes:
        name: its path within the tree, with slashes.
        end: the file or object.
        size: bytes, when it was listed.
        info: what the listing says of an object, without its metadata.
    """

    name: str
    end: End
    size: int
    info: ObjectInfo | None = None


OnError = Callable[[str, OSError], object]


async def files_below(
    root: str, *, on_skip: Callable[[str], object] | None = None, on_error: OnError | None = None
) -> AsyncIterator[Found]:
    """Yield the regular files below a directory, in the order of their names as keys.

    Symbolic links are not followed: a link to a parent directory would never end, and a link to another place would
    include unrelated files. A directory is read when it is reached, so memory holds one directory per level.

    Args:
        root: the directory; it may itself be a link.
        on_skip: called with the path of each link, device, pipe or socket, which are skipped.
        on_error: called with the path and error of each directory that cannot be read, and the others continue;
            None to raise the error.

    Raises:
        InvalidArgumentError: no directory can have this path.
    """
    pending: list[Iterator[_Entry]] = [iter([_Entry("", local_path(root), "directory", 0)])]
    while pending:
        entry = next(pending[-1], None)
        if entry is None:
            pending.pop()
        elif entry.kind == "file":
            yield Found(entry.name, LocalFile(entry.path), entry.size)
        elif entry.kind == "directory":
            try:
                pending.append(iter(await anyio.to_thread.run_sync(partial(_entries, entry.name, entry.path))))
            except OSError as error:
                if on_error is None:
                    raise
                on_error(entry.path, error)
        elif on_skip is not None:
            on_skip(entry.path)


async def objects_below(store: Trove, bucket: str, prefix: str) -> AsyncIterator[Found]:
    """Yield the objects whose keys begin with a prefix, in order; their names are the keys without the prefix.

    Args:
        store, bucket: of the objects.
        prefix: ends in a slash; empty for the whole bucket.
    """
    async for info in store.list(bucket, prefix):
        yield Found(info.key[len(prefix) :], StoredObject(store, bucket, info.key), info.size, info)


class _Entry(NamedTuple):
    name: str
    path: str
    kind: str
    size: int

    @property
    def sort_key(self) -> str:
        # The order of keys: "a.txt" comes before "a/b", since "." sorts before "/".
        return self.name + "/" if self.kind == "directory" else self.name


def _entries(above: str, path: str) -> list[_Entry]:
    with os.scandir(path) as scan:
        found = [_entry(above, entry) for entry in scan]
    return sorted(found, key=lambda entry: entry.sort_key)


def _entry(above: str, entry: os.DirEntry[str]) -> _Entry:
    name = f"{above}/{entry.name}" if above else entry.name
    if entry.is_dir(follow_symlinks=False):
        return _Entry(name, entry.path, "directory", 0)
    if not entry.is_file(follow_symlinks=False):
        return _Entry(name, entry.path, "other", 0)
    try:
        return _Entry(name, entry.path, "file", entry.stat(follow_symlinks=False).st_size)
    except FileNotFoundError:  # removed meanwhile; reading it reports the error
        return _Entry(name, entry.path, "file", 0)
