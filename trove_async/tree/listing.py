"""Listing a bucket a page at a time, without walking all of it.

A page begins at a key. On the way to it only the directories of its path are read, each in one pass that keeps at most
as many names as the page needs. Directories below are read when the page reaches them. Only the files that the page
returns are asked for their status.

A directory in which a page ends is read again by the next page. The sorted names of a large one are cached instead, as
long as its modification time stays the same.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncGenerator
from contextlib import aclosing
from heapq import nsmallest
from itertools import groupby, zip_longest
from typing import Final

from trove_async.driver.options import ListOptions
from trove_async.keys import MAX_KEY_BYTES, successor
from trove_async.listing import ListPage, group_of
from trove_async.tree.attributes import listed
from trove_async.tree.buckets import Buckets
from trove_async.tree.filesystem import FileSystem, Stat, is_file
from trove_async.tree.layout import Layout
from trove_async.tree.lookup import Lookup
from trove_async.tree.names import CONTINUED, DIRECTORY, FILE, decode, path_of, routes_of
from trove_async.tree.objects import Objects
from trove_async.tree.remembered import MAX_NAMES, Name, RememberedNames
from trove_async.types import ObjectInfo, Prefix

__all__ = ["Listing"]

_RUN: Final = 2048
"""How many names are sorted at once."""


class _Start:
    """The key from which a walk goes on; it advances during the walk."""

    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        self.key = key

    def enters(self, directory: str) -> bool:
        """Return whether the walk may still reach keys that begin with this directory, which ends in a slash."""
        return directory >= self.key or self.key.startswith(directory)


class Listing:
    """Lists buckets."""

    def __init__(self, fs: FileSystem, layout: Layout, buckets: Buckets, objects: Objects) -> None:
        self._fs = fs
        self._layout = layout
        self._buckets = buckets
        self._objects = objects
        self._lookup = Lookup(fs, layout)
        self._remembered = RememberedNames()

    async def page(self, bucket: str, options: ListOptions) -> ListPage:
        """Return a page. Its cursor is the smallest key that the next page may contain."""
        await self._buckets.require(bucket)
        prefix = options.prefix
        start = _Start(max(prefix, options.cursor or "", f"{options.start_after}\0" if options.start_after else ""))
        above, directories = await self._below(bucket, prefix)
        objects: list[ObjectInfo] = []
        prefixes: list[Prefix] = []
        async with aclosing(self._walk(directories, above, start, options)) as walk:
            async for key, path, seen in walk:
                if len(objects) + len(prefixes) == options.page_size:
                    return ListPage(objects, prefixes, key)
                group = group_of(key, prefix, options.delimiter)
                if group is None:
                    if len(key) * 4 > MAX_KEY_BYTES and len(key.encode()) > MAX_KEY_BYTES:
                        continue  # a path made by hand that is longer than a key may be
                    status = seen or await self._fs.lstat(path)
                    if status is not None and is_file(status):
                        info: ObjectInfo | None = listed(key, status)
                        if self._fs.uses_tokens:
                            info = await self._objects.described(bucket, key, path, status)
                        if info is not None:
                            objects.append(info)
                    continue
                prefixes.append(Prefix(group))
                following = successor(group)
                if following is None:
                    break
                start.key = following
        return ListPage(objects, prefixes, None)

    async def _below(self, bucket: str, prefix: str) -> tuple[str, list[str]]:
        """Return the part of the prefix that is a path, and the directories at that path."""
        directories = [self._layout.bucket(bucket)]
        if "/" not in prefix:
            return "", directories
        path = prefix[: prefix.rindex("/")]
        for routes in routes_of(path):
            directories = [
                below
                for directory in directories
                for names in routes
                for below in await self._lookup.directories(directory, names)
            ]
        return path + "/", directories

    async def _walk(
        self, directories: list[str], above: str, start: _Start, options: ListOptions
    ) -> AsyncGenerator[tuple[str, str, Stat | None], None]:
        """Yield keys that begin with the prefix, from ``start`` on and in order, with their path and status if known.

        All directories stand for ``above``; there are two if a file had the name of the first one.
        """
        limit = options.page_size + 1
        while True:
            names = await self._names(directories, above, start.key, options.prefix, limit)
            for text, same in groupby(names, key=_text):
                entries = list(same)
                key = above + text
                if not entries[0].is_dir:
                    if key >= start.key:
                        entry = entries[0] if len(entries) == 1 else _found_first(entries)
                        yield key, entry.path, entry.status
                elif start.enters(key) and len(key) < MAX_KEY_BYTES:  # a directory may contain itself on a server
                    paths = [entry.path for entry in entries]
                    # If everything below is one group, it only matters whether there is an object.
                    whole = start.key <= key and group_of(key, options.prefix, options.delimiter) is not None
                    if whole and await self._holds_object(paths):
                        yield key, "", None
                        continue
                    async with aclosing(self._walk(paths, key, start, options)) as walk:
                        async for below in walk:
                            yield below
            if len(names) < limit:
                return
            last = names[-1]
            following = successor(above + last.text) if last.is_dir else above + last.text + "\0"
            if following is None:
                return
            start.key = max(start.key, following)

    async def _holds_object(self, directories: list[str], depth: int = 8) -> bool:
        """Return whether a directory contains an object; ``depth`` levels at most, since each keeps one open."""
        for directory in directories:
            async with aclosing(self._read(directory)) as names:
                async for name in names:
                    if not name.is_dir or (depth and await self._holds_object([name.path], depth - 1)):
                        return True
        return False

    async def _names(self, directories: list[str], above: str, lower: str, prefix: str, limit: int) -> list[Name]:
        """Return the first ``limit`` names that lead to wanted keys, and those with the same text as the last."""
        found: list[Name] = []
        for directory in directories:
            wanted = _Wanted(above, lower, prefix, limit + 1)  # one more, to see whether the last text occurs twice
            remembered = await self._recall(directory)
            if remembered is not None:
                found += wanted.slice_of(remembered)
                continue
            async with aclosing(self._read(directory)) as read:
                async for name in read:
                    wanted.offer(name)
            names = wanted.first()
            if len(names) >= limit:
                self._remembered.want(directory)
            found += names
        if len(directories) > 1:
            found.sort()
        return _cut(found, limit)

    async def _read(
        self, directory: str, start: str = "", chain: tuple[str, ...] = (), continued: list[str] | None = None
    ) -> AsyncGenerator[Name, None]:
        """Yield the names in a directory, including those of continued components.

        Args:
            directory: its path.
            start, chain: if it is a continued component itself, its text so far and the names that form it.
            continued: the directories of continued components are added to it.
        """
        async with aclosing(self._fs.scan(directory)) as scan:
            async for entry in scan:
                decoded = decode(entry.name)
                if decoded is None:
                    continue
                path = f"{directory}/{entry.name}"
                text = start + decoded.text
                if decoded.mark == CONTINUED:
                    if entry.is_dir:
                        if continued is not None:
                            continued.append(path)
                        async with aclosing(self._read(path, text, (*chain, entry.name), continued)) as read:
                            async for name in read:
                                yield name
                elif chain and path_of(text) != [*chain, entry.name.removesuffix(decoded.mark)]:
                    continue  # not cut where this library cuts it: no key has this path
                elif entry.is_dir:
                    if decoded.mark != FILE:
                        yield Name(text + "/", path, True)
                elif entry.is_file and decoded.mark != DIRECTORY:
                    yield Name(text, path, False, entry.status)

    async def _recall(self, directory: str) -> list[Name] | None:
        """Return the sorted names of a directory that several pages read; None if it must be read again."""
        if not self._remembered.wants(directory):
            return None
        status = await self._fs.lstat(directory)
        if status is None:
            return None
        known = self._remembered.get(directory, status.st_mtime_ns)
        if known is not None:
            return known
        if not self._fs.settled(status.st_mtime_ns):
            return None
        continued: list[str] = []
        names: list[Name] = []
        async with aclosing(self._read(directory, continued=continued)) as read:
            async for name in read:
                names.append(name)
                # A change in the directory of a continued component does not change the time of this directory.
                if continued or len(names) > MAX_NAMES:
                    return None
        names = _sorted(names)
        after = await self._fs.lstat(directory)
        if not continued and after is not None and after.st_mtime_ns == status.st_mtime_ns:
            self._remembered.keep(directory, status.st_mtime_ns, names)
        return names


class _Wanted:
    """Chooses the first names in a directory that lead to keys of a page."""

    def __init__(self, above: str, lower: str, prefix: str, limit: int) -> None:
        self._above = above
        self._lower = lower
        self._prefix = prefix
        self._limit = limit
        self._names: list[Name] = []
        self._bound: Name | None = None  # names that sort after it are not among the first

    def _leads(self, name: Name) -> bool:
        key = self._above + name.text
        if name.is_dir:
            return (key >= self._lower or self._lower.startswith(key)) and (
                key.startswith(self._prefix) or self._prefix.startswith(key)
            )
        return key >= self._lower and key.startswith(self._prefix)

    def offer(self, name: Name) -> None:
        """Consider a name; names may come in any order."""
        if (self._bound is None or name < self._bound) and self._leads(name):
            self._names.append(name)
            if len(self._names) >= 2 * self._limit:
                self._names = nsmallest(self._limit, self._names)
                self._bound = self._names[-1]

    def first(self) -> list[Name]:
        """Return the first of the names that were offered."""
        return nsmallest(self._limit, self._names)

    def _is_past(self, name: Name) -> bool:
        """Return whether neither this name nor any later one begins with the prefix."""
        key = self._above + name.text
        return key > self._prefix and not key.startswith(self._prefix)

    def slice_of(self, names: list[Name]) -> list[Name]:
        """Return the first of sorted names."""
        at = 0
        if self._lower.startswith(self._above):
            remainder = self._lower[len(self._above) :]
            # The directory that contains the lower bound sorts before it.
            start = remainder[: remainder.index("/") + 1] if "/" in remainder else remainder
            at = bisect_left(names, start, key=_text)
        chosen: list[Name] = []
        while at < len(names) and len(chosen) < self._limit:
            name = names[at]
            at += 1
            if self._leads(name):
                chosen.append(name)
            elif self._is_past(name):
                break
        return chosen


def _found_first(entries: list[Name]) -> Name:
    """Return the file that a lookup of the key finds: one that was placed by hand with a long name comes last."""
    return max(entries, key=lambda entry: entry.path.count(f"{CONTINUED}/"))


def _text(name: Name) -> str:
    return name.text


def _sorted(names: list[Name]) -> list[Name]:
    """Sort by merging runs: a single sort of many names would keep all other threads waiting."""
    runs = [sorted(names[at : at + _RUN]) for at in range(0, len(names), _RUN)] or [[]]
    nothing: list[Name] = []
    while len(runs) > 1:
        pairs = zip_longest(runs[::2], runs[1::2], fillvalue=nothing)
        runs = [sorted(left + right) for left, right in pairs]
    return runs[0]


def _cut(names: list[Name], limit: int) -> list[Name]:
    """Return the first ``limit`` names, and those with the same text as the last of them."""
    end = limit
    while limit <= end < len(names) and names[end].text == names[limit - 1].text:
        end += 1
    return names[:end]
