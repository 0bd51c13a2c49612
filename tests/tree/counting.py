"""A local file system that counts the calls of a tree."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

from trove_async.driver import ListOptions
from trove_async.drivers.local.filesystem import LocalFileSystem
from trove_async.listing import ListPage
from trove_async.tree import Buckets, DirEntry, Layout, Tree, VersionedObjects, WriteClock, run_sync
from trove_async.tree.filesystem import Stat, TakeNames
from trove_async.tree.listing import Listing


class CountingFileSystem(LocalFileSystem):
    """Counts the directory entries read, the directories opened, and the files examined."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout, durable=False)
        self.entries = 0
        self.scans = 0
        self.stats = 0

    async def lstat(self, path: str) -> os.stat_result | None:
        self.stats += 1
        return await super().lstat(path)

    async def scan(self, path: str) -> AsyncGenerator[DirEntry, None]:
        self.scans += 1
        async with aclosing(super().scan(path)) as scan:
            async for entry in scan:
                self.entries += 1
                yield entry

    async def read_names(self, path: str, take: TakeNames) -> None:
        async def count(files: list[str], directories: list[str], statuses: Sequence[Stat] | None) -> None:
            self.entries += len(files) + len(directories)
            await take(files, directories, statuses)

        self.scans += 1
        await super().read_names(path, count)

    async def statuses(self, directory: str, names: Sequence[str]) -> Sequence[os.stat_result | None]:
        self.stats += len(names)
        return await super().statuses(directory, names)

    def forget_counts(self) -> None:
        self.entries = self.scans = self.stats = 0


class CountedTree:
    """A tree on a root, without a driver and its threads: every call returns when it is done.

    Args:
        root: of the store.
        listing: arguments of its `Listing`.
    """

    def __init__(self, root: Path, **listing: Any) -> None:
        layout, clock = Layout(str(root)), WriteClock()
        self.fs = CountingFileSystem(layout)
        self.fs.open_root()
        buckets = Buckets(self.fs, layout)
        objects = VersionedObjects(self.fs, layout, buckets, clock)
        self.tree = Tree(self.fs, layout, buckets, objects, clock=clock, min_part_size=1)
        self.tree.listing = Listing(self.fs, layout, buckets, objects, **listing)

    def page(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str | None = None,
        cursor: str | None = None,
        page_size: int = 1000,
    ) -> ListPage:
        options = ListOptions(prefix=prefix, delimiter=delimiter, cursor=cursor, page_size=page_size)
        self.fs.forget_counts()
        return run_sync(self.tree.listing.page(bucket, options))

    def keys(self, bucket: str, *, prefix: str = "", page_size: int = 1000) -> list[str]:
        """Return all keys, a page at a time."""
        keys: list[str] = []
        cursor: str | None = None
        while True:
            page = self.page(bucket, prefix=prefix, cursor=cursor, page_size=page_size)
            keys += [info.key for info in page.objects]
            cursor = page.cursor
            if cursor is None:
                return keys


def without_names(cursor: str | None) -> str | None:
    """Return a cursor as it is when the names that are kept for its listing have been removed."""
    return None if cursor is None else cursor.partition("\0")[0]


@contextmanager
def counted_tree(root: Path, **listing: Any) -> Iterator[CountedTree]:
    tree = CountedTree(root, **listing)
    try:
        yield tree
    finally:
        tree.tree.listing.close()
        tree.fs.close_root()


def deleted_files() -> int:
    """Return how many files without a name this process has open."""
    gc.collect()
    found = 0
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{descriptor}").endswith("(deleted)")
        except OSError:
            continue  # the descriptor of the listing itself
    return found
