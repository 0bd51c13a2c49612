"""What `collect` and `fsck` refuse to do, since it would be a mistake."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from trove_async.driver import unwrap
from trove_async.errors import CollectionRefusedError, InvalidArgumentError, UnsupportedError
from trove_async.managed.dedup.driver import DedupDriver
from trove_async.managed.storage import ResourceStorage, StoreResourceStorage

__all__ = ["MAX_SHARE", "check_layers", "check_share"]

MAX_SHARE: Final = 0.1
"""The largest fraction of all blobs that a collection deletes, or `fsck` marks as lost, unless it is forced."""


def check_share(count: int, total: int, share: float, done: str) -> None:
    """Refuse to change too many blobs.

    Args:
        count, total: how many would change, of how many.
        share: the largest fraction of ``total``.
        done: what would be done to them.

    Raises:
        CollectionRefusedError: ``count`` is more than that.
    """
    if count > share * total:
        raise CollectionRefusedError(
            f"{count} of {total} blobs would be {done}, more than {share:.0%}; nothing was {done}. "
            "Look whether these are the right database, bucket and layers, then allow it by force"
        )


def check_layers(storage: ResourceStorage, space: str) -> None:
    """Refuse to look for the blobs of a `Dedup` among its objects, where each of them would be missing.

    Raises:
        InvalidArgumentError: the storage is over a store with a `Dedup` of this space.
    """
    if not isinstance(storage, StoreResourceStorage):
        return
    with suppress(UnsupportedError):
        if unwrap(storage.store.driver, DedupDriver).space == space:
            raise InvalidArgumentError(
                "the objects of a store with the layer Dedup are not its blobs: "
                "name the store without this layer, and the bucket of the blobs"
            )
