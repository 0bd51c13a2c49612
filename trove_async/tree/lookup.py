"""Finding the file of a key, and the path for a new one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from trove_async.errors import BackendError, BucketNotFoundError
from trove_async.tree.filesystem import FileSystem, Stat, is_dir, is_file
from trove_async.tree.layout import Layout
from trove_async.tree.names import CONTINUED, DIRECTORY, FILE, path_of

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
            return await self._find_below(base, names, probe)
        path = f"{base}/{names[0]}"
        found = await probe(path)
        return await self._marked(path, probe) if found is None else (path, found)

    async def _find_below(
        self, base: str, names: list[str], probe: Callable[[str], Awaitable[R | None]]
    ) -> tuple[str, R] | None:
        if self._fs.confined:
            # Most objects have the first path that the walk would come to.
            path = "/".join((base, *names))
            found = await probe(path)
            if found is not None:
                return path, found
        return await self._walk(base, names, 0, probe)

    async def _marked(self, path: str, probe: Callable[[str], Awaitable[R | None]]) -> tuple[str, R] | None:
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
        variants = (path,) if path.endswith(CONTINUED) else (path, path + DIRECTORY)
        for variant in variants:
            if is_dir(await self._fs.lstat(variant)):
                below = await self._walk(variant, names, at + 1, probe)
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
            found = await self._find_below(base, names, self._file_status)
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


def _in_the_way(path: str, key: str) -> BackendError:
    return BackendError(f"{path!r} is in the way of {key!r}, and was not made by this library; move it away")
