"""Moving a finished file to its key's path, whatever directories other writers make or remove meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from trove_async.errors import BackendError, ConflictError, TroveError
from trove_async.tree.buckets import Buckets
from trove_async.tree.filesystem import FileSystem
from trove_async.tree.layout import Layout
from trove_async.tree.lookup import Lookup

__all__ = ["AppearedError", "Placement"]

_TRIES: Final = 100


class AppearedError(ConflictError):
    """There is an object, though there was none when it was decided what to do.

    Handles are shared, so a directory that was removed and made again is noticed only when a file is moved into it.
    """


class Placement:
    """Gives files their paths, and makes the directories on the way."""

    def __init__(self, fs: FileSystem, layout: Layout, buckets: Buckets, lookup: Lookup) -> None:
        self._fs = fs
        self._layout = layout
        self._buckets = buckets
        self._lookup = lookup

    async def place(
        self, bucket: str, key: str, publish: Callable[..., Awaitable[None]], path: str, *, replace: bool
    ) -> str:
        """Move a file to the key's path and return that path. The caller syncs its directory.

        Args:
            bucket, key: the object.
            publish: moves the file to a path, as `FileSystem.publish` does.
            path: where the key's file is, or will be; see `Lookup.locate`.
            replace: whether there is a file.

        Raises:
            AppearedError: ``replace`` is False, and there is a file by now; decide again.
        """
        made: list[str] = []
        taken = ""
        try:
            for _ in range(_TRIES):
                try:
                    await publish(path, replace=replace)
                except FileNotFoundError:
                    await self._buckets.require(bucket)
                    await self._make_parents(bucket, path, made)
                except FileExistsError:
                    if (await self._lookup.locate(bucket, key))[1] is not None:
                        raise AppearedError("the object was made at the same time; try again", key=key) from None
                    replace = True  # what exists is no object, but for example a link that somebody made by hand
                    continue
                except (IsADirectoryError, NotADirectoryError):
                    pass  # another key has taken the name meanwhile; look for the new path
                else:
                    taken = path
                    return path
                path, current = await self._lookup.locate(bucket, key)
                if current is not None and not replace:
                    raise AppearedError("the object was made at the same time; try again", key=key)
                replace = current is not None
            raise BackendError(
                "the path of the object keeps changing; another process may be removing directories", key=key
            )
        finally:
            # Directories that were made for another path are removed. The file is in place whether this works or not.
            with suppress(OSError, TroveError):
                for directory in reversed(made):
                    if not taken.startswith(f"{directory}/"):
                        await self._fs.rmdir(directory)

    async def _make_parents(self, bucket: str, path: str, made: list[str]) -> None:
        base = self._layout.bucket(bucket)
        at = base
        for name in path[len(base) + 1 :].split("/")[:-1]:
            at = f"{at}/{name}"
            try:
                await self._fs.mkdir(at)
            except FileExistsError:
                continue  # another writer made it, or it is a file: the next rename shows which
            except (FileNotFoundError, NotADirectoryError):
                return  # another writer removed a parent; start again
            made.append(at)
