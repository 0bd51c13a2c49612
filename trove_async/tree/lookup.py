"""Finding the file of a key, and the path for a new one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from trove_async.errors import BackendError, BucketNotFoundError
from trove_async.tree.filesystem import FileSystem, Stat, is_dir, is_file
from trove_async.tree.layout import Layout
from trove_async.tree.names import CONTINUED, DIRECTORY, FILE, MAX_NAME_BYTES, may_be_placed_by_hand, path_of, routes_of

__all__ = ["Lookup"]

R = TypeVar("R")


class Lookup:
    """Finds files. Every directory on the way is checked, so no symbolic link leads out of the root."""

    def __init__(self, fs: FileSystem, layout: Layout) -> None:
        self._fs = fs
        self._layout = layout

    def open(self, bucket: str, key: str) -> Coroutine[Any, Any, tuple[str, tuple[int, Stat]] | None]:
        """Open an object; return its path, handle and status, or None if there is no object."""
        return self._find(bucket, key, self._fs.open)

    def find(self, bucket: str, key: str) -> Coroutine[Any, Any, tuple[str, Stat] | None]:
        """Return the path of an object and its status; None if there is no object."""
        return self._find(bucket, key, self._file_status)

    async def _file_status(self, path: str) -> Stat | None:
        status = await self._fs.lstat(path)
        return status if is_file(status) else None

    async def _find(self, bucket: str, key: str, probe: Callable[[str], Awaitable[R | None]]) -> tuple[str, R] | None:
        base = self._layout.bucket(bucket)
        if not await self._fs.is_directory(base):
            return None
        names = path_of(key)
        if len(names) > 1:
            return await self._find_below(base, key, names, probe)
        path = f"{base}/{names[0]}"
        found = await probe(path)
        return await self._marked(path, probe) if found is None else (path, found)

    async def _find_below(
        self, base: str, key: str, names: list[str], probe: Callable[[str], Awaitable[R | None]]
    ) -> tuple[str, R] | None:
        if self._fs.confined:
            # Most objects have the first path that the walk would come to.
            first = "/".join((base, *names))
            direct = await probe(first)
            if direct is not None:
                return first, direct

            async def others(path: str) -> R | None:
                return None if path == first else await probe(path)

            found = await self._walk(base, names, 0, others)
        else:
            found = await self._walk(base, names, 0, probe)
        if found is None and may_be_placed_by_hand(names):
            found = await self._walk_routes(base, routes_of(key), probe)
        return found

    async def _walk_routes(
        self,
        parent: str,
        routes: list[tuple[tuple[str, ...], ...]],
        probe: Callable[[str], Awaitable[R | None]],
    ) -> tuple[str, R] | None:
        """Search every path that a key may have, with names that were placed by hand."""
        first, *others = routes
        for chain in first:
            if not others:
                found = await self._walk(parent, list(chain), 0, probe)
                if found is not None:
                    return found
                continue
            for directory in await self.directories(parent, chain):
                found = await self._walk_routes(directory, others, probe)
                if found is not None:
                    return found
        return None

    async def directories(self, parent: str, names: tuple[str, ...]) -> list[str]:
        """Return the directories below another one that the names of a component lead to."""
        found = [parent]
        for name in names:
            candidates = [f"{path}/{variant}" for path in found for variant in _variants(name)]
            found = [path for path in candidates if is_dir(await self._fs.lstat(path))]
        return found

    async def _marked(self, path: str, probe: Callable[[str], Awaitable[R | None]]) -> tuple[str, R] | None:
        if _has_no_mark(path):
            return None
        path += FILE
        found = await probe(path) if await self._fs.exists(path) else None
        return None if found is None else (path, found)

    async def _walk(
        self, parent: str, names: list[str], at: int, probe: Callable[[str], Awaitable[R | None]]
    ) -> tuple[str, R] | None:
        path = f"{parent}/{names[at]}"
        if at == len(names) - 1:
            found = await probe(path)
            return await self._marked(path, probe) if found is None else (path, found)
        for variant in _variants(names[at]):
            path = f"{parent}/{variant}"
            # The handle of a directory with the plain name is needed below it; one with a mark is rare.
            plain = self._fs.confined and variant == names[at]
            if await self._fs.is_directory(path) if plain else is_dir(await self._fs.lstat(path)):
                below = await self._walk(path, names, at + 1, probe)
                if below is not None:
                    return below
        return None

    async def locate(self, bucket: str, key: str) -> tuple[str, Stat | None]:
        """Return the path for a write, and the status of the file at this path, None if there is no file.

        The directories on the way may be missing.

        Raises:
            BucketNotFoundError: the bucket does not exist.
            BackendError: a reserved name was used by hand: ``a%D`` for a file, or ``a%F`` for a directory.
        """
        base = self._layout.bucket(bucket)
        if not await self._fs.is_directory(base):
            raise BucketNotFoundError(f"the bucket {bucket!r} does not exist", bucket=bucket)
        names = path_of(key)
        if len(names) > 1:
            found = await self._find_below(base, key, names, self._file_status)
            return found or (await self._new_path(base, names, key), None)
        # Most keys of busy buckets have one component: for them this makes as few calls as possible.
        path = f"{base}/{names[0]}"
        plain = await self._fs.lstat(path)
        if is_file(plain):
            return path, plain
        marked = await self._fs.lstat(path + FILE) if await self._fs.exists(path + FILE) else None
        if is_file(marked):
            return path + FILE, marked
        if is_dir(plain):
            if is_dir(marked):
                raise _in_the_way(path + FILE, key)
            return path + FILE, None
        return path, None

    async def _new_path(self, base: str, names: list[str], key: str) -> str:
        """Return the path for a new object."""
        path = base
        missing = False
        plain = "/".join((base, *names[:-1]))
        if self._fs.confined and await self._fs.is_directory(plain):
            path, names = plain, names[-1:]
        for name in names[:-1]:
            path = f"{path}/{name}"
            if missing:
                continue
            status = await self._fs.lstat(path)
            if status is None:
                missing = True
            elif not is_dir(status):
                path += DIRECTORY
                status = await self._fs.lstat(path)
                missing = status is None
                if not missing and not is_dir(status):
                    raise _in_the_way(path, key)
        path = f"{path}/{names[-1]}"
        if not missing and is_dir(await self._fs.lstat(path)):
            path += FILE
            if is_dir(await self._fs.lstat(path)):
                raise _in_the_way(path, key)
        return path


def _has_no_mark(path: str) -> bool:
    """Return whether a name was placed by hand, and is longer than the library writes it."""
    name = path[path.rfind("/") + 1 :]
    return len(name) * 4 > MAX_NAME_BYTES and len(name.encode()) > MAX_NAME_BYTES


def _variants(name: str) -> tuple[str, ...]:
    """Return the names that a directory may have."""
    return (name,) if name.endswith(CONTINUED) or _has_no_mark(name) else (name, name + DIRECTORY)


def _in_the_way(path: str, key: str) -> BackendError:
    return BackendError(
        f"{path!r} is in the way of the object, and was not made by this library; move it away", key=key
    )
