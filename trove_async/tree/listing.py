"""Listing a bucket a page at a time, without walking all of it.

A page begins at a key. Only the directories on the way to it are read, and those below that the page reaches. Only the
files that the page returns are asked for their status.

The names of a directory are sorted when it is read: see `trove_async.tree.sorted_names`. Those of a large one are
cached for the next page, as long as its modification time stays the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from itertools import groupby, repeat
from operator import attrgetter
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
from trove_async.tree.packed import AFTER, Name, is_plain, pack, text_of, unpack
from trove_async.tree.remembered import RememberedNames
from trove_async.tree.sorted_names import SortedNames, Sorter
from trove_async.types import ObjectInfo, Prefix

__all__ = ["Listing"]

_MANY: Final = 512
_MOST_DIRECTORIES: Final = 64
"""How many directories of one level may be examined to find out whether its cached names are still right."""
_MOST_PIECES: Final = MAX_KEY_BYTES // (MAX_NAME_BYTES // 3 - 1)
"""How many names a component of a key may continue in, if all of its characters are escaped."""
_text = attrgetter("text")


class Listing:
    """Lists buckets.

    Args:
        fs, layout, buckets, objects: of the tree.
        make_sorter: makes what sorts the names of one directory.
        many: how many names make it worth to cache them.
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
    ) -> None:
        self._fs = fs
        self._layout = layout
        self._buckets = buckets
        self._objects = objects
        self._lookup = Lookup(fs, layout)
        self._names = _Names(fs, make_sorter, many)

    async def page(self, bucket: str, options: ListOptions) -> ListPage:
        """Return a page. Its cursor is the smallest key that the next page may contain."""
        await self._buckets.require(bucket)
        above, directories = await self._below(bucket, options.prefix)
        page = _Page(self._fs, self._objects, self._names, bucket, options)
        await page.fill(directories, above)
        return ListPage(page.objects, page.prefixes, page.cursor)

    def close(self) -> None:
        """Forget all names, and close the temporary files."""
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


class _Level:
    """Directories that all stand for the same part of the keys, and how far the walk has come there.

    Args:
        names: in the directories.
        directory: the first of them; there are two if a file had its name.
        above: what the keys begin with.
    """

    __slots__ = ("above", "after", "directory", "ended", "names", "waiting")

    def __init__(self, names: SortedNames, directory: str, above: str) -> None:
        self.names = names
        self.directory = directory
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
        # The key from which the walk goes on; it advances when a group is complete.
        self._start = max(
            options.prefix, options.cursor or "", f"{options.start_after}\0" if options.start_after else ""
        )
        self._ended = False  # whether the page is full, or no keys follow
        self.objects: list[ObjectInfo] = []
        self.prefixes: list[Prefix] = []
        self.cursor: str | None = None

    async def fill(self, directories: list[str], above: str) -> None:
        """Walk from directories that all stand for ``above``, until the page is full."""
        levels = [await self._level(directories, above)] if directories else []
        while levels and not self._ended:
            below = await self._walk(levels[-1])
            if below is None:
                levels.pop()
            else:
                levels.append(below)

    async def _level(self, directories: list[str], above: str) -> _Level:
        return _Level(await self._names.of(directories), directories[0], above)

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
                        await self._add_file(key, _path(directory, name), name.status)
                elif below := await self._add_directory(key, [_path(directory, entry) for entry in entries]):
                    return below
                if self._ended:
                    return None
            if not files:
                files = self._take(level)
                if not files:
                    return None
                if not (shows_files and is_plain(files)):
                    level.waiting = groupby(map(unpack, files), key=_text)
                    continue
            await self._add_files(files, directory, above)
        return None

    def _take(self, level: _Level) -> list[str]:
        """Return the next names at a level, packed; none at the end."""
        lower = None if level.ended else self._lower(level.above)
        if lower is None:
            return []
        names = level.names.first(max(lower, level.after))
        if names:
            level.after = text_of(names[-1]) + AFTER
            level.ended = names[-1] == level.names.last
        wanted = self._prefix[len(level.above) :]
        # In this order all names that begin with it follow each other.
        return [name for name in names if name.startswith(wanted)] if wanted else names

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

    async def _add_file(self, key: str, path: str, status: Stat | None) -> None:
        group = group_of(key, self._prefix, self._delimiter)
        if group is not None:
            self._add_group(key, group)
        elif self._has_room(key):
            await self._add_object(key, path, status or await self._fs.lstat(path))

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
        make_sorter, many: as for `Listing`.
    """

    def __init__(self, fs: FileSystem, make_sorter: Callable[[], Sorter], many: int) -> None:
        self._fs = fs
        self._make_sorter = make_sorter
        self._many = many
        self.remembered = RememberedNames()

    async def of(self, directories: list[str]) -> SortedNames:
        """Return the names in directories that stand for the same part of the keys."""
        level = tuple(directories)
        known = self.remembered.get(level)
        if known is not None:
            names, times = known
            if await self._times(times) == times:
                return names
            self.remembered.forget(level)
        reading = _Reading(self._fs, self._make_sorter(), dates=self.remembered.wants(level))
        for directory in directories:
            path = "" if directory == directories[0] else f"{directory}/"
            await reading.read(directory, path)
        names = reading.sorter.finish()
        if names.count > self._many:
            await self._keep(level, names, reading)
        return names

    async def _keep(self, level: tuple[str, ...], names: SortedNames, reading: _Reading) -> None:
        """Cache names, unless the directories may have changed while they were read."""
        times = reading.times
        if times is None:
            self.remembered.want(level)
        elif (
            len(times) <= _MOST_DIRECTORIES
            and all(map(self._fs.settled, times.values()))
            and await self._times(times) == times
        ):
            self.remembered.keep(level, names, times, dated=reading.dated)

    async def _times(self, directories: Iterable[str]) -> dict[str, int]:
        return {directory: await _time(self._fs, directory) for directory in directories}

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
        dates: whether to ask when each of them was modified, if reading it does not return that.

    Attributes:
        times: when they were modified, before they were read; 0 for those that do not exist, None if it is not known.
        dated: whether names have a status.
    """

    def __init__(self, fs: FileSystem, sorter: Sorter, *, dates: bool) -> None:
        self._fs = fs
        self.sorter = sorter
        self._dates = dates
        self.times: dict[str, int] | None = {}
        self.dated = False

    async def read(self, directory: str, path: str, start: str = "", chain: tuple[str, ...] = ()) -> None:
        """Take the names in a directory, and those of continued components.

        Args:
            directory: its path.
            path: what the paths of the names begin with.
            start, chain: if it is a continued component itself, its text so far and the names that form it.
        """
        continued: list[tuple[str, str]] = []

        def take(
            files: list[str], directories: list[str], statuses: Sequence[Stat] | None, modified: int | None
        ) -> None:
            if statuses is not None:
                self.dated = True
            if not self._dates:
                self._note(directory, modified)
            if path or not stand_for_themselves(files):
                self.sorter.add(_packed_files(files, statuses, path, start, chain))
            elif statuses is None:
                self.sorter.add(files)
            else:
                self.sorter.add([pack(name, name, status) for name, status in zip(files, statuses, strict=True)])
            if not directories:
                return
            if not path and stand_for_themselves(directories):
                self.sorter.add([name + "/" for name in directories])
            else:
                self.sorter.add(_packed_directories(directories, path, start, chain, continued))

        self._note(directory, await _time(self._fs, directory) if self._dates else 0)
        await self._fs.read_names(directory, take)
        for name, text in continued:
            await self.read(f"{directory}/{name}", f"{path}{name}/", text, (*chain, name))

    def _note(self, directory: str, modified: int | None) -> None:
        if modified is None:
            self.times = None
        elif self.times is not None:
            self.times[directory] = modified


async def _time(fs: FileSystem, directory: str) -> int:
    status = await fs.lstat(directory)
    return 0 if status is None else status.st_mtime_ns


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
