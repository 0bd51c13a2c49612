"""Making, searching and removing directories with what is in them."""

from __future__ import annotations

import stat
from contextlib import aclosing, suppress
from typing import Final

from trove_async.tree.filesystem import Directories, DirEntry, FileSystem
from trove_async.tree.names import decode

__all__ = ["contains_files", "make_directories", "refusal_of", "remove_all", "remove_empty"]

_NAMED: Final = 3
"""How many foreign files an error names."""
_KINDS: Final = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFREG: "a file with a name that no key has",
}


async def make_directories(fs: FileSystem, path: str) -> None:
    """Make a directory and its missing parents."""
    if await fs.lstat(path) is None:
        await make_directories(fs, path.rpartition("/")[0])
        with suppress(FileExistsError):
            await fs.mkdir(path)


async def remove_all(fs: Directories, path: str) -> None:
    """Remove a directory and everything in it; a missing one is success."""
    entries = [entry async for entry in fs.scan(path)]
    for entry in entries:
        below = f"{path}/{entry.name}"
        if entry.is_dir:
            await remove_all(fs, below)
        else:
            await fs.unlink(below)
    await fs.rmdir(path)


async def remove_empty(fs: FileSystem, path: str) -> bool:
    """Remove a directory that contains only empty directories; return whether it is gone."""
    if await fs.rmdir(path):
        return True
    if await contains_files(fs, path):
        return False
    names = [entry.name async for entry in fs.scan(path)]
    for name in names:
        await remove_empty(fs, f"{path}/{name}")
    return await fs.rmdir(path)


async def contains_files(fs: FileSystem, path: str, *, but: str = "") -> bool:
    """Return whether there is anything but directories in a directory, or in those below it.

    Args:
        but: a name that does not count.
    """
    directories: list[str] = []
    async with aclosing(fs.scan(path)) as scan:
        async for entry in scan:
            if entry.is_dir:
                directories.append(f"{path}/{entry.name}")
            elif entry.name != but:
                return True
    # Only one directory is open at a time, however deep the tree is.
    for directory in directories:
        if await contains_files(fs, directory, but=but):
            return True
    return False


async def refusal_of(fs: FileSystem, path: str) -> str | None:
    """Return why a bucket cannot be deleted, and what to do; None if it contains only empty directories.

    Args:
        path: the directory of the bucket.
    """
    foreign: list[str] = []
    if await _contains_object(fs, path, foreign):
        return "empty_bucket deletes its objects"
    if not foreign:
        return None
    named = [f"{_shown(name[len(path) + 1 :])} ({await _kind(fs, name)})" for name in foreign[:_NAMED]]
    more = " and others" if len(foreign) > _NAMED else ""
    return f"it contains what no listing shows: {', '.join(named)}{more}; remove that by hand in {path!r}"


async def _contains_object(fs: FileSystem, path: str, foreign: list[str]) -> bool:
    """Return whether there is an object; add the paths of other files, until there are enough."""
    directories: list[str] = []
    async with aclosing(fs.scan(path)) as scan:
        async for entry in scan:
            below = f"{path}/{entry.name}"
            if entry.is_dir:
                directories.append(below)
            elif _is_object(entry):
                return True
            elif len(foreign) <= _NAMED:
                foreign.append(below)
    for directory in directories:
        if decode(directory.rpartition("/")[2]) is None:
            await _add_files(fs, directory, foreign)
        elif await _contains_object(fs, directory, foreign):
            return True
    return False


async def _add_files(fs: FileSystem, path: str, foreign: list[str]) -> None:
    """Add the directory if there is a file in it: no key leads there."""
    if len(foreign) <= _NAMED and await contains_files(fs, path):
        foreign.append(path)


def _is_object(entry: DirEntry) -> bool:
    return entry.is_file and decode(entry.name) is not None


async def _kind(fs: FileSystem, path: str) -> str:
    status = await fs.lstat(path)
    kind = 0 if status is None else stat.S_IFMT(status.st_mode)
    return _KINDS.get(kind, "a directory with a name that no key has")


def _shown(name: str) -> str:
    """Return a name for a message: in the notation of bytes if it is not UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return repr(name.encode(errors="surrogateescape"))
    return repr(name)
