"""`Objects`: what the other parts of a tree need from the part that stores its objects."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from trove_async.tree.attributes import Attributes, listed
from trove_async.tree.filesystem import Checkpoint, Stat, Temporary
from trove_async.types import ObjectInfo

__all__ = ["Objects", "OpenObject"]


@dataclass(slots=True)
class OpenObject:
    """An object that is open for reading."""

    path: str
    handle: int
    status: Stat
    attributes: Attributes
    info: ObjectInfo


class Objects(ABC):
    """The objects of a tree: one file for each key.

    This is all that a tree without versions has. `trove_async.tree.versioned.VersionedObjects` adds versions.
    """

    @abstractmethod
    async def open(self, bucket: str, key: str) -> OpenObject:
        """Open an object; the caller closes its handle.

        Raises:
            ObjectNotFoundError, BucketNotFoundError: it does not exist.
        """

    @abstractmethod
    async def find(self, bucket: str, key: str) -> ObjectInfo | None:
        """Return what a listing shows for an object; None if there is none."""

    async def described(self, bucket: str, key: str, path: str, status: Stat) -> ObjectInfo | None:
        """Return what a listing shows for the object at this path; None if it was removed meanwhile."""
        return listed(key, status)

    async def inherit(self, bucket: str, key: str, handle: int, fresh: Stat) -> None:
        """Give a new file the permissions of an object; those of a new one if there is none.

        Args:
            bucket, key: the object.
            handle, fresh: of the file.
        """

    @abstractmethod
    async def commit(
        self,
        bucket: str,
        key: str,
        temporary: Temporary,
        attributes: Attributes,
        checkpoint: Checkpoint,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
        before: Callable[[], Awaitable[object]] | None = None,
        after: Callable[[], Awaitable[object]] | None = None,
    ) -> ObjectInfo:
        """Make an object from a temporary. When this returns the object is durable and in place; else nothing changed.

        The rename is the only commit. Everything else that the object consists of is written before it.

        Args:
            bucket, key: the object.
            temporary: complete; the caller discards it afterwards.
            attributes: of the object, without a version.
            checkpoint: called right before the rename; raises to stop it.
            if_match, if_none_match: decided together with the rename.
            before: awaited under the key's lock before the rename; may raise to stop it.
            after: awaited under the key's lock after the rename.
        """

    @abstractmethod
    async def take(
        self,
        bucket: str,
        key: str,
        claim: Callable[[], Awaitable[Temporary]],
        attributes: Attributes,
        checkpoint: Checkpoint,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
        after: Callable[[], Awaitable[object]],
    ) -> ObjectInfo:
        """Make an object from a file that others may use until then; otherwise as `commit`.

        Args:
            claim: awaited under the key's lock; opens the file, whose time and attributes are changed even if this
                fails. It is discarded in any case.
        """

    @abstractmethod
    async def delete(self, bucket: str, key: str, checkpoint: Checkpoint, *, if_match: str | None = None) -> None:
        """Delete an object; a missing one is success, a missing bucket is not."""

    @abstractmethod
    async def change_attributes(
        self,
        bucket: str,
        key: str,
        change: Callable[[Attributes], Attributes],
        checkpoint: Checkpoint,
        *,
        if_match: str | None = None,
    ) -> None:
        """Replace an object's attributes atomically; its bytes, ETag and time stay."""

    @abstractmethod
    async def uses_sidecar(self, bucket: str, key: str, sidecar: str) -> bool:
        """Return whether a file of the key reads its attributes from the sidecar; call it under the key's lock."""
