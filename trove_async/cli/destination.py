"""Where copies go: how the target's name and the sources' names become the names of copies."""

from __future__ import annotations

import os
from dataclasses import dataclass

from trove_async.cli.errors import UsageError
from trove_async.cli.names import FilePath, Name
from trove_async.paths import is_below
from trove_async.store import Trove
from trove_async.transfers import End, LocalFile, StoredObject

__all__ = ["Destination", "MarkerError", "UnsafeNameError"]


class UnsafeNameError(OSError):
    """A key cannot become a path below the target's directory."""


class MarkerError(Exception):
    """The key stands for a folder, which is not copied."""


@dataclass(frozen=True)
class Destination:
    """The target of a copy.

    A name that ends in a slash is a folder, in which sources keep their names; so is a bucket, and an existing
    directory unless the source is a tree. Any other name is the new name of the only source; the members of a
    tree are then placed directly below it, whether it exists or not.

    Attributes:
        store: that of an object; None for a file of this machine.
        bucket: empty for a file.
        path: the key or path, without the slash at its end.
        folder: it was given with a slash at its end.
        container: it is a folder, or a bucket, or a directory that exists.
    """

    store: Trove | None
    bucket: str
    path: str
    folder: bool
    container: bool

    @classmethod
    def of(cls, name: Name, store: Trove | None) -> Destination:
        """Return the destination for a name; ``store`` is the open store of a name in a store."""
        if isinstance(name, FilePath):
            path = name.path.rstrip("/") or "/"
            return cls(None, "", path, name.folder, name.folder or os.path.isdir(path))
        if not name.bucket:
            raise UsageError("the target does not name a bucket; write bucket/key")
        return cls(store, name.bucket, name.key.removesuffix("/"), name.folder, name.folder or not name.key)

    def single(self, base_name: str) -> End:
        """Return the target of a single object or file with the last component ``base_name``."""
        return self._end(base_name) if self.container else self._end("")

    def member(self, tree: str, name: str) -> End:
        """Return the target of the member ``name`` of the tree ``tree``.

        Raises:
            MarkerError: it stands for the folder itself, or for a directory.
            UnsafeNameError: the path would be outside of the directory, or is not a valid file name.
        """
        if not name or (self.store is None and name.endswith("/")):
            raise MarkerError
        return self._end(f"{tree}/{name}" if self.folder and tree else name)

    def holds(self, end: StoredObject, tree: str) -> bool:
        """Return whether copies of a tree would be made within that tree, so that copying would never end."""
        if self.store is not end.store or self.bucket != end.bucket:
            return False
        below = self._key(tree) if self.folder and tree else self.path
        return f"{below}/".startswith(end.key) if below else not end.key

    def _end(self, name: str) -> End:
        if self.store is not None:
            return StoredObject(self.store, self.bucket, self._key(name))
        if not name:
            return LocalFile(self.path)
        if not is_below(name):
            raise UnsafeNameError(f"{name!r} is not the name of a file below {self.path!r}; copy it by its own name")
        return LocalFile(os.path.join(self.path, name), tree=self.path)

    def _key(self, name: str) -> str:
        return "/".join(part for part in (self.path, name) if part)
