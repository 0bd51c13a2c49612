"""Listing a bucket a page at a time, without walking the whole of it.

A page begins at a key. On the way to it only the directories of its path are read, each in one pass that
keeps no more names than the page can hold; below, directories are read as the page reaches them. Only
what the page returns is asked for its status.

A directory that a page leaves in the middle is read again by the next page. Where that would happen to a
large one, its sorted names are remembered instead, for as long as its time says that nothing in it has changed.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from heapq import nsmallest
from itertools import groupby
from typing import Final, NamedTuple

from trove_async.driver.options import ListOptions
from trove_async.keys import successor
from trove_async.listing import ListPage
from trove_async.tree.attributes import listed
from trove_async.tree.buckets import Buckets
from trove_async.tree.filesystem import FileSystem, is_dir, is_file
from trove_async.tree.layout import Layout
from trove_async.tree.names import CONTINUED, DIRECTORY, FILE, decode, path_of
from trove_async.types import ObjectInfo, Prefix

__all__ = ["Listing"]

_REMEMBERED_NAMES: Final = 250_000
_REMEMBERED_DIRECTORIES: Final = 1_000
_SETTLED_NS: Final = 50_000_000
"""A directory that changed later than this before it was read may change again within the same tick of its clock."""


class _Name(NamedTuple):
    """A name in a directory, which sorts as the keys that it stands for."""

    text: str  # what it adds to a key; with a slash at the end for a directory
    path: str
    is_dir: bool


class _Remembered(NamedTuple):
    mtime_ns: int
    names: list[_Name]


class Listing:
    """Lists buckets."""

    def __init__(self, fs: FileSystem, layout: Layout, buckets: Buckets) -> None:
        self._fs = fs
        self._layout = layout
        self._buckets = buckets
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()
        self._left_in_the_middle: OrderedDict[str, None] = OrderedDict()

    async def page(self, bucket: str, options: ListOptions) -> ListPage:
        """Return a page. Its cursor is the smallest key that the next page may hold."""
        await self._buckets.require(bucket)
        prefix = options.prefix
        lower = max(prefix, options.cursor or "", "" if options.start_after is None else options.start_after + "\0")
        above, directories = await self._below(bucket, prefix)
        objects: list[ObjectInfo] = []
        prefixes: list[Prefix] = []
        while True:
            following: str | None = None
            async with aclosing(self._walk(directories, above, lower, prefix, options.page_size + 1)) as walk:
                async for key, path in walk:
                    if len(objects) + len(prefixes) == options.page_size:
                        return ListPage(objects, prefixes, key)
                    group = _group(key, prefix, options.delimiter)
                    if group is not None:
                        prefixes.append(Prefix(group))
                        following = successor(group)
                        break
                    status = await self._fs.lstat(path)
                    if status is not None and is_file(status):
                        objects.append(listed(key, status))
            if following is None:
                return ListPage(objects, prefixes, None)
            lower = following

    async def _below(self, bucket: str, prefix: str) -> tuple[str, list[str]]:
        """Return the part of the prefix that is a path, and the directories that it leads to."""
        directories = [self._layout.bucket(bucket)]
        if "/" not in prefix:
            return "", directories
        path = prefix[: prefix.rindex("/")]
        for name in path_of(path):
            variants = (name,) if name.endswith(CONTINUED) else (name, name + DIRECTORY)
            candidates = [f"{directory}/{variant}" for directory in directories for variant in variants]
            directories = [c for c in candidates if is_dir(await self._fs.lstat(c))]
        return path + "/", directories

    async def _walk(
        self, directories: list[str], above: str, lower: str, prefix: str, limit: int
    ) -> AsyncGenerator[tuple[str, str], None]:
        """Yield keys that begin with ``prefix``, from ``lower`` on and in order, with their paths.

        The directories all stand for ``above``: there are two where a file stood in the first one's way.
        """
        while True:
            names = await self._names(directories, above, lower, prefix, limit)
            for text, same in groupby(names, key=lambda name: name.text):
                entries = list(same)
                if not entries[0].is_dir:
                    yield above + text, entries[0].path
                    continue
                paths = [entry.path for entry in entries]
                async for below in self._walk(paths, above + text, lower, prefix, limit):
                    yield below
            if len(names) < limit:
                return
            last = names[-1]
            following = successor(above + last.text) if last.is_dir else above + last.text + "\0"
            if following is None:
                return
            lower = max(lower, following)

    async def _names(self, directories: list[str], above: str, lower: str, prefix: str, limit: int) -> list[_Name]:
        """Return the first ``limit`` names, and those of the same text as the last, that lead to what is wanted."""
        found: list[_Name] = []
        for directory in directories:
            wanted = _Wanted(above, lower, prefix, limit + 1)  # one more, to see whether the last has a twin
            remembered = await self._recall(directory)
            if remembered is not None:
                found += wanted.slice_of(remembered)
                continue
            async for name in self._read(directory, ""):
                wanted.offer(name)
            names = wanted.first()
            if len(names) >= limit:
                self._left_in_the_middle[directory] = None
                if len(self._left_in_the_middle) > _REMEMBERED_DIRECTORIES:
                    self._left_in_the_middle.popitem(last=False)
            found += names
        if len(directories) > 1:
            found.sort()
        return _cut(found, limit)

    async def _read(self, directory: str, start: str) -> AsyncIterator[_Name]:
        """Yield the names in a directory; those of continued components as if they stood in it."""
        async for entry in self._fs.scan(directory):
            decoded = decode(entry.name)
            if decoded is None:
                continue
            path = f"{directory}/{entry.name}"
            if entry.is_dir:
                if decoded.mark == CONTINUED:
                    async for name in self._read(path, start + decoded.text):
                        yield name
                elif decoded.mark != FILE:
                    yield _Name(f"{start}{decoded.text}/", path, True)
            elif entry.is_file and decoded.mark in ("", FILE):
                yield _Name(start + decoded.text, path, False)

    async def _recall(self, directory: str) -> list[_Name] | None:
        """Return the sorted names of a directory that pages come back to; None if it is to be read anew."""
        if directory not in self._left_in_the_middle and directory not in self._remembered:
            return None
        status = await self._fs.lstat(directory)
        if status is None:
            return None
        known = self._remembered.get(directory)
        if known is not None and known.mtime_ns == status.st_mtime_ns:
            self._remembered.move_to_end(directory)
            return known.names
        self._remembered.pop(directory, None)
        if time.time_ns() - status.st_mtime_ns < _SETTLED_NS:
            return None
        names = sorted([name async for name in self._read(directory, "")])
        after = await self._fs.lstat(directory)
        if after is None or after.st_mtime_ns != status.st_mtime_ns or len(names) > _REMEMBERED_NAMES:
            return None
        self._remembered[directory] = _Remembered(status.st_mtime_ns, names)
        while sum(len(r.names) for r in self._remembered.values()) > _REMEMBERED_NAMES:
            self._remembered.popitem(last=False)
        return names


class _Wanted:
    """Chooses, of the names in a directory, the first few that lead to what a page is to hold."""

    def __init__(self, above: str, lower: str, prefix: str, limit: int) -> None:
        self._above = above
        self._lower = lower
        self._prefix = prefix
        self._limit = limit
        self._names: list[_Name] = []
        self._bound: _Name | None = None  # what sorts after it is not among the first

    def _leads(self, name: _Name) -> bool:
        key = self._above + name.text
        if name.is_dir:
            return (key >= self._lower or self._lower.startswith(key)) and (
                key.startswith(self._prefix) or self._prefix.startswith(key)
            )
        return key >= self._lower and key.startswith(self._prefix)

    def offer(self, name: _Name) -> None:
        """Take a name of a directory that is read in any order."""
        if (self._bound is None or name < self._bound) and self._leads(name):
            self._names.append(name)
            if len(self._names) >= 2 * self._limit:
                self._names = nsmallest(self._limit, self._names)
                self._bound = self._names[-1]

    def first(self) -> list[_Name]:
        """Return the first of those that were offered."""
        return nsmallest(self._limit, self._names)

    def _is_past(self, name: _Name) -> bool:
        """Tell whether neither this name nor any after it begins with the prefix."""
        key = self._above + name.text
        return key > self._prefix and not key.startswith(self._prefix)

    def slice_of(self, names: list[_Name]) -> list[_Name]:
        """Return the first of sorted names."""
        at = 0
        if self._lower.startswith(self._above):
            rest = self._lower[len(self._above) :]
            # The directory that the lower bound lies in sorts before it.
            start = rest[: rest.index("/") + 1] if "/" in rest else rest
            at = bisect_left(names, start, key=_text)
        chosen: list[_Name] = []
        while at < len(names) and len(chosen) < self._limit:
            name = names[at]
            at += 1
            if self._leads(name):
                chosen.append(name)
            elif self._is_past(name):
                break
        return chosen


def _text(name: _Name) -> str:
    return name.text


def _cut(names: list[_Name], limit: int) -> list[_Name]:
    """Return the first ``limit`` names, and those of the same text as the last of them."""
    end = limit
    while limit <= end < len(names) and names[end].text == names[limit - 1].text:
        end += 1
    return names[:end]


def _group(key: str, prefix: str, delimiter: str | None) -> str | None:
    """Return the group that a listing with a delimiter shows instead of a key; None if it shows the key."""
    if delimiter is None:
        return None
    at = key.find(delimiter, len(prefix))
    return None if at < 0 else key[: at + len(delimiter)]
