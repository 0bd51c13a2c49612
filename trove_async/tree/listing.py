"""Listing a bucket a page at a time, without walking all of it.

A page begins at a key. Only the directories on the way to it are read, and those below that the page reaches. Only the
files that the page returns are asked for their status.

The names of a directory are sorted when it is read: see `trove_async.tree.sorted_names`. Those of a large one are kept
for the next page of the same listing, and for other listings as long as the modification time of the directory stays
the same. Where a directory changes all the time, each listing so reads it once.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from itertools import groupby, repeat
from operator import attrgetter
from secrets import token_hex
from stat import S_ISREG
from typing import Final

from trove_async.driver.options import ListOptions
from trove_async.keys import MAX_KEY_BYTES, successor
from trove_async.listing import ListPage, group_of
from trove_async.tree.attributes import listed
from trove_async.tree.buckets import Buckets
from trove_async.tree.filesystem import FileSystem, Stat, is_file
from trove_async.tree.layout import Layout
from trove_async.tree.lookup import Lookup
from trove_async.tree.names import (
    CONTINUED,
    DIRECTORY,
    FILE,
    MAX_NAME_BYTES,
    decode,
    path_of,
    routes_of,
    stand_for_themselves,
)
from trove_async.tree.objects import Objects
from trove_async.tree.packed import AFTER, Known, Name, end_of_text, is_plain, pack, text_of, unpack
from trove_async.tree.remembered import Directories, KnownNames, RememberedNames
from trove_async.tree.sorted_names import SortedNames, Sorter
from trove_async.types import ObjectInfo, Prefix

__all__ = ["Listing"]

_MANY: Final = 512
_MOST_DIRECTORIES: Final = 64
"""How many directories of one level may be examined to find out whether its cached names are still right."""
_STATUS_SECONDS: Final = 30.0
"""How long the status of files is used that came with the names of a directory, if these have not changed."""
_LISTING: Final = "\0"
"""Separates the key of a cursor, which has none, from the id of the listing whose names are kept."""
_MOST_PIECES: Final = MAX_KEY_BYTES // (MAX_NAME_BYTES // 3 - 1)
"""How many names a component of a key may continue in, if all of its characters are escaped."""
_GONE: Final = Known(0, 0, 0, 0)
"""The status of a file that was removed: it is of no kind."""
_text = attrgetter("text")


class Listing:
    """Lists buckets.

    Args:
        fs, layout, buckets, objects: of the tree.
        make_sorter: makes what sorts the names of one directory.
        many: how many names make it worth to cache them.
        clock: returns seconds.
    """

    def __init__(
        self,
        fs: FileSystem,
        layout: Layout,
        buckets: Buckets,
        objects: Objects,
        *,
        make_sorter: Callable[[], Sorter] = Sorter,
        many: int = _MANY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fs = fs
        self._layout = layout
        self._buckets = buckets
        self._objects = objects
        self._lookup = Lookup(fs, layout)
        self._names = _Names(fs, make_sorter, many, clock)
        self._forgetting: asyncio.TimerHandle | None = None

    async def page(self, bucket: str, options: ListOptions) -> ListPage:
        """Return a page.

        Its cursor begins with the smallest key that the next page may contain. If names are kept for the next page, the
        id under which they are found follows, after a NUL.
        """
        await self._buckets.require(bucket)
        above, directories = await self._below(bucket, options.prefix)
        page = _Page(self._fs, self._objects, self._names, bucket, options)
        await page.fill(directories, above)
        return ListPage(page.objects, page.prefixes, page.cursor)

    def forget_in_time(self) -> None:
        """Have the event loop remove names when nobody has used them for some time; call it after a page."""
        if self._forgetting is None:
            seconds = self._names.remembered.forget_unused()
            if seconds is not None:
                # The loop does not keep a store alive that was given up.
                self._forgetting = asyncio.get_running_loop().call_later(seconds, _forget, weakref.ref(self))

    def forget_now(self) -> None:
        """Remove the names that nobody has used for some time; again later if there are others."""
        self._forgetting = None
        self.forget_in_time()

    def close(self) -> None:
        """Forget all names, and close the temporary files."""
        if self._forgetting is not None:
            self._forgetting.cancel()
        self._names.remembered.clear()

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


def _forget(listing: weakref.ref[Listing]) -> None:
    if (found := listing()) is not None:
        found.forget_now()


class _Level:
    """Directories that all stand for the same part of the keys, and how far the walk has come there.

    Args:
        known: the names in the directories.
        current: whether all the names exist, with the status that they may have.
        directories: there are two if a file had the name of the first.
        above: what the keys begin with.
    """

    __slots__ = ("above", "after", "current", "directories", "directory", "ended", "known", "names", "waiting")

    def __init__(self, known: KnownNames, current: bool, directories: Directories, above: str) -> None:
        self.known = known
        self.names = known.names
        self.current = current
        self.directories = directories
        self.directory = directories[0]
        self.above = above
        self.after = ""  # names before it were taken
        self.ended = False  # whether all were taken
        self.waiting: Iterator[tuple[str, Iterator[Name]]] = iter(())  # those that were taken, grouped by text


class _Page:
    """A page that is being filled, in the order of the keys.

    Attributes:
        objects, prefixes, cursor: of the page.
    """

    def __init__(self, fs: FileSystem, objects: Objects, names: _Names, bucket: str, options: ListOptions) -> None:
        self._fs = fs
        self._store = objects
        self._names = names
        self._bucket = bucket
        self._prefix = options.prefix
        self._delimiter = options.delimiter
        self._room = options.page_size
        key, _, listing = (options.cursor or "").partition(_LISTING)
        self._kept = names.remembered.get_for(listing)
        self._listing = listing if self._kept else ""  # only ids that were made here are kept, whoever made the cursor
        # The key from which the walk goes on; it advances when a group is complete.
        self._start = max(options.prefix, key, f"{options.start_after}\0" if options.start_after else "")
        self._ended = False  # whether the page is full, or no keys follow
        self.objects: list[ObjectInfo] = []
        self.prefixes: list[Prefix] = []
        self.cursor: str | None = None

    async def fill(self, directories: list[str], above: str) -> None:
        """Walk from directories that all stand for ``above``, until the page is full."""
        levels = [await self._level(directories, above)] if directories else []
        while levels and not self._ended:
            below = await self._walk(levels[-1])
            if below is not None:
                levels.append(below)
            elif not self._ended:
                levels.pop()
        # The next page begins at the levels where this one ends.
        listing = self._names.keep_for(self._listing, [] if self.cursor is None else levels)
        if listing:
            self.cursor = f"{self.cursor}{_LISTING}{listing}"

    async def _level(self, directories: list[str], above: str) -> _Level:
        level = tuple(directories)
        known, current = await self._names.of(level, self._kept.get(level))
        return _Level(known, current, level, above)

    async def _walk(self, level: _Level) -> _Level | None:
        """Add the names at a level up to one below it that must be walked first, and return that; None at the end."""
        above, directory = level.above, level.directory
        shows_files = self._delimiter is None or (self._delimiter == "/" and len(above) <= len(self._prefix))
        while not self._ended:
            files: list[str] = []  # that are examined together
            for text, same in level.waiting:
                entries = list(same)
                name = entries[0] if len(entries) == 1 else _found_first(entries)
                if shows_files and name.path == text and name.status is None:
                    files.append(text)
                    continue
                if files:
                    await self._add_files(files, directory, above)
                    files = []
                    if self._ended:
                        return None
                key = above + text
                if not name.is_dir:
                    if key >= self._start:
                        await self._add_file(key, _path(directory, name), name.status, exists=level.current)
                elif below := await self._add_directory(key, [_path(directory, entry) for entry in entries]):
                    return below
                if self._ended:
                    return None
            if not files:
                files = self._take(level)
                if not files:
                    return None
                if not (shows_files and is_plain(files)):
                    level.waiting = groupby(await self._unpacked(level, files), key=_text)
                    continue
            await self._add_files(files, directory, above)
        return None

    def _take(self, level: _Level) -> list[str]:
        """Return the next names at a level, packed; none at the end."""
        lower = None if level.ended else self._lower(level.above)
        if lower is None:
            return []
        names = level.names.first(max(lower, level.after))
        if not level.current:  # no more than the page needs: each costs a call
            names = names[: end_of_text(names, max(1, self._room))]
        if names:
            level.after = text_of(names[-1]) + AFTER
            level.ended = names[-1] == level.names.last
        wanted = self._prefix[len(level.above) :]
        # In this order all names that begin with it follow each other.
        return [name for name in names if name.startswith(wanted)] if wanted else names

    async def _unpacked(self, level: _Level, packed: list[str]) -> Iterable[Name]:
        """Unpack names; those that may have changed meanwhile get the status that they have now."""
        if level.current:
            return map(unpack, packed)
        names = [unpack(name)._replace(status=None) for name in packed]
        at = [number for number, name in enumerate(names) if not name.is_dir and "/" not in name.path]
        statuses = await self._fs.statuses(level.directory, [names[number].path for number in at])
        for number, status in zip(at, statuses, strict=True):
            names[number] = names[number]._replace(status=status or _GONE)
        return names

    def _lower(self, above: str) -> str | None:
        """Return where to begin among the names at a level; None if the walk has passed it."""
        if self._start <= above:
            return ""
        if not self._start.startswith(above):
            return None
        remainder = self._start[len(above) :]
        # The directory that contains the lower bound sorts before it.
        return remainder[: remainder.index("/") + 1] if "/" in remainder else remainder

    async def _add_directory(self, key: str, paths: list[str]) -> _Level | None:
        if (key < self._start and not self._start.startswith(key)) or len(key) >= MAX_KEY_BYTES:
            return None  # a directory may contain itself on a server
        # If everything below is one group, it only matters whether there is an object.
        group = group_of(key, self._prefix, self._delimiter) if self._start <= key else None
        if group is None or not await self._names.any_below(paths):
            return await self._level(paths, key)
        self._add_group(key, group)
        return None

    async def _add_file(self, key: str, path: str, status: Stat | None, *, exists: bool) -> None:
        group = group_of(key, self._prefix, self._delimiter)
        if group is None:
            if self._has_room(key):
                await self._add_object(key, path, status or await self._fs.lstat(path))
        elif exists or is_file(status or await self._fs.lstat(path)):
            self._add_group(key, group)

    def _add_group(self, key: str, group: str) -> None:
        if self._has_room(key):
            self._room -= 1
            self.prefixes.append(Prefix(group))
            following = successor(group)
            self._start = following or self._start
            self._ended = following is None

    async def _add_files(self, names: list[str], directory: str, above: str) -> None:
        """Add files whose names are the ends of their keys."""
        done = 0
        while done < len(names) and self._has_room(above + names[done]):
            some = names[done : done + self._room]
            done += len(some)
            statuses = zip(some, await self._fs.statuses(directory, some), strict=True)
            if self._fs.uses_tokens or len(above) + max(map(len, some)) > MAX_KEY_BYTES // 4:
                for name, status in statuses:
                    await self._add_object(above + name, f"{directory}/{name}", status)
            else:
                found = [listed(above + name, s) for name, s in statuses if s is not None and S_ISREG(s.st_mode)]
                self._room -= len(found)
                self.objects += found

    async def _add_object(self, key: str, path: str, status: Stat | None) -> None:
        if status is None or not is_file(status) or len(key.encode()) > MAX_KEY_BYTES:
            return  # a path made by hand may be longer than a key
        info: ObjectInfo | None = listed(key, status)
        if self._fs.uses_tokens:
            info = await self._store.described(self._bucket, key, path, status)
        if info is not None:
            self._room -= 1
            self.objects.append(info)

    def _has_room(self, key: str) -> bool:
        """Return whether something fits on the page; otherwise the next page begins at the key."""
        if not self._room:
            self.cursor = key
            self._ended = True
        return self._room > 0


class _Names:
    """The names at the levels of a tree.

    Args:
        fs: of the tree.
        make_sorter, many, clock: as for `Listing`.
    """

    def __init__(
        self, fs: FileSystem, make_sorter: Callable[[], Sorter], many: int, clock: Callable[[], float]
    ) -> None:
        self._fs = fs
        self._make_sorter = make_sorter
        self._many = many
        self._clock = clock
        self.remembered = RememberedNames(clock)

    async def of(self, directories: Directories, kept: KnownNames | None) -> tuple[KnownNames, bool]:
        """Return the names in directories that stand for the same part of the keys.

        Args:
            directories: of the level.
            kept: the names that the listing has begun with, if it did.

        Returns:
            The names, and whether the directories still have them all, with the same status.
        """
        if kept is not None:
            return kept, await self._is_current(kept)
        known = self.remembered.get(directories)
        if known is None or not await self._is_current(known):
            known = await self._read(directories)
            self.remembered.keep(directories, known if known.times is not None else None)
        return known, True

    def keep_for(self, listing: str, levels: Iterable[_Level]) -> str:
        """Keep the names of large levels for the next page of a listing; return its id, empty if nothing is kept."""
        large = {level.directories: level.known for level in levels if level.names.count > self._many}
        if large:
            listing = listing or token_hex(8)
        if listing:
            self.remembered.keep_for(listing, large)
        return listing if large else ""

    async def _is_current(self, known: KnownNames) -> bool:
        """Return whether reading the directories would return the same again."""
        if known.times is None or (known.until is not None and known.until <= self._clock()):
            return False
        return await self._times(known.times) == known.times

    async def _read(self, directories: Directories) -> KnownNames:
        began, until = time.monotonic_ns(), self._clock() + _STATUS_SECONDS
        reading = _Reading(self._fs, self._make_sorter())
        for directory in directories:
            await reading.read(directory, "" if directory == directories[0] else f"{directory}/")
        names = await reading.finish()
        times: Mapping[str, int] | None = None
        if names.count > self._many and len(reading.directories) <= _MOST_DIRECTORIES:
            found = await self._times(reading.directories)
            elapsed = time.monotonic_ns() - began
            if all(self._fs.settled(modified, elapsed) for modified in found.values()):
                times = found  # otherwise the directories may have changed while they were read
        return KnownNames(names, times, until if reading.dated else None)

    async def _times(self, directories: Iterable[str]) -> dict[str, int]:
        statuses = {directory: await self._fs.lstat(directory) for directory in directories}
        return {directory: 0 if s is None else s.st_mtime_ns for directory, s in statuses.items()}

    async def any_below(self, directories: list[str], depth: int = 8) -> bool:
        """Return True if an object is found below directories at once; if False, there may be one.

        Long names are not followed, nor more than ``depth`` levels, since each keeps a directory open.
        """
        for directory in directories:
            async with aclosing(self._fs.scan(directory)) as scan:
                async for entry in scan:
                    decoded = decode(entry.name)
                    if decoded is None or decoded.mark == CONTINUED:
                        continue
                    if entry.is_file and decoded.mark != DIRECTORY:
                        return True
                    below = [f"{directory}/{entry.name}"] if entry.is_dir and decoded.mark != FILE and depth else []
                    if await self.any_below(below, depth - 1):
                        return True
        return False


class _Reading:
    """Reads directories.

    Args:
        fs: where they are.
        sorter: takes the names.

    Attributes:
        directories: those that were read.
        dated: whether names have a status.
    """

    def __init__(self, fs: FileSystem, sorter: Sorter) -> None:
        self._fs = fs
        self._sorter = sorter
        self.directories: list[str] = []
        self.dated = False

    async def read(self, directory: str, path: str, start: str = "", chain: tuple[str, ...] = ()) -> None:
        """Take the names in a directory, and those of continued components.

        Args:
            directory: its path.
            path: what the paths of the names begin with.
            start, chain: if it is a continued component itself, its text so far and the names that form it.
        """
        continued: list[tuple[str, str]] = []

        add = self._sorter.add

        async def take(files: list[str], directories: list[str], statuses: Sequence[Stat] | None) -> None:
            if statuses is not None:
                self.dated = True
            if path or not stand_for_themselves(files):
                add(_packed_files(files, statuses, path, start, chain))
            elif statuses is None:
                add(files)
            else:
                add([pack(name, name, status) for name, status in zip(files, statuses, strict=True)])
            if directories and not path and stand_for_themselves(directories):
                add([name + "/" for name in directories])
            elif directories:
                add(_packed_directories(directories, path, start, chain, continued))
            if self._sorter.has_run:
                await self._fs.compute(self._sorter.sort)

        self.directories.append(directory)
        await self._fs.read_names(directory, take)
        for name, text in continued:
            await self.read(f"{directory}/{name}", f"{path}{name}/", text, (*chain, name))

    async def finish(self) -> SortedNames:
        """Return all names that were read."""
        merging = self._sorter.finish()
        names = next(merging) if self._sorter.is_small else None
        while names is None:
            names = await self._fs.compute(partial(next, merging))
        return names


def _packed_files(
    names: list[str], statuses: Sequence[Stat] | None, path: str, start: str, chain: tuple[str, ...]
) -> list[str]:
    packed: list[str] = []
    for name, status in zip(names, statuses or repeat(None), strict=False):
        decoded = decode(name)
        if decoded is not None and decoded.mark not in (DIRECTORY, CONTINUED):
            text = start + decoded.text
            if _is_cut_right(text, chain, name.removesuffix(decoded.mark)):
                packed.append(pack(text, path + name, status))
    return packed


def _packed_directories(
    names: list[str], path: str, start: str, chain: tuple[str, ...], continued: list[tuple[str, str]]
) -> list[str]:
    """Pack the names of directories; add those of continued components to ``continued``, with their text so far."""
    packed: list[str] = []
    for name in names:
        decoded = decode(name)
        if decoded is None or decoded.mark == FILE:
            continue
        text = start + decoded.text
        if decoded.mark == CONTINUED:
            if len(chain) < _MOST_PIECES:
                continued.append((name, text))
        elif _is_cut_right(text, chain, name.removesuffix(decoded.mark)):
            packed.append(pack(text + "/", path + name))
    return packed


def _is_cut_right(text: str, chain: tuple[str, ...], last: str) -> bool:
    """Return whether a component is cut where this library cuts it; otherwise no key has this path."""
    return not chain or path_of(text) == [*chain, last]


def _path(directory: str, name: Name) -> str:
    return name.path if name.path.startswith("/") else f"{directory}/{name.path}"


def _found_first(entries: list[Name]) -> Name:
    """Return the file that a lookup of the key finds: one that was placed by hand with a long name comes last."""
    return max(entries, key=lambda entry: entry.path.count(f"{CONTINUED}/"))
