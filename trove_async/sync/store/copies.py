"""The methods that copy and move objects.

Written by ``python -m tests.sync_surface --write``; not to be edited.
"""

from __future__ import annotations

from typing import Unpack

from trove_async.store.arguments import CopyArguments
from trove_async.sync.store.deletes import DeleteVerbs
from trove_async.types import ObjectInfo

__all__ = ["CopyVerbs"]


class CopyVerbs(DeleteVerbs):
    """Copy and move within the store."""

    def copy(
        self,
        src_bucket: str,
        src_key: str,
        dst_bucket: str,
        dst_key: str,
        **arguments: Unpack[CopyArguments],
    ) -> ObjectInfo:
        """Copy an object within the store, as atomically as a put; also onto itself.

        What the backend cannot copy by itself is read and written, in bounded memory.

        Args:
            src_bucket, src_key: the source.
            dst_bucket, dst_key: the destination.
            replace: False copies content type, metadata, tags and everything else that describes the source.
                True takes all of it from the arguments, as `put` does.
            content_type, metadata, tags, storage_class, cache_control, content_disposition, content_encoding,
            content_language: as for `put`; only with ``replace=True``.
            source_version_id: copy this version.
            source_if_match: copy only the source that has this ETag.
            if_match, if_none_match: conditions on the destination, as for `put`.

        Raises:
            ObjectNotFoundError: the source does not exist; it is named.
            PreconditionFailedError, ObjectAlreadyExistsError: a condition does not hold.
            ObjectChangedError: the source was replaced meanwhile.
            CopyError: what no other class describes; ``copy_phase`` of each error says which end failed.
        """
        return self._portal.call(lambda: self._async.copy(src_bucket, src_key, dst_bucket, dst_key, **arguments))

    def move(self, src_bucket: str, src_key: str, dst_bucket: str, dst_key: str) -> ObjectInfo:
        """Copy an object and delete the source; a move onto itself changes nothing.

        The destination is written atomically; only then is the source deleted, and only if it is
        still the object that was copied. If anything fails, the source is still there.

        Raises:
            ObjectNotFoundError: the source does not exist.
            PreconditionFailedError: the source was replaced meanwhile; both objects exist.
            TroveError: as for `copy`; ``copy_phase`` is None if only the deletion failed.
        """
        return self._portal.call(lambda: self._async.move(src_bucket, src_key, dst_bucket, dst_key))
