"""The uploads in parts of a `Bucket`.

Written by ``python -m tests.sync_surface --write``; not to be edited.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from trove_async.body import BodyLike, Progress
from trove_async.store.arguments import UploadArguments
from trove_async.sync.base import BucketBase
from trove_async.types import ObjectInfo, ObjectRef, PartInfo, UploadInfo

__all__ = ["BucketUploads"]


class BucketUploads(BucketBase):
    """A bucket of a store, with the methods for uploads in parts."""

    __slots__ = ()

    def initiate_multipart(self, key: str, **arguments: Unpack[UploadArguments]) -> str:
        """Begin an upload in parts and return its id, with which any process can continue.

        Args:
            key: the object that the upload becomes when it is completed.
            content_type, metadata, tags, storage_class, cache_control, content_disposition, content_encoding,
            content_language, checksum: as for `put`.
        """
        return self._portal.call(lambda: self._async.initiate_multipart(key, **arguments))

    def upload_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        data: BodyLike,
        *,
        size: int | None = None,
        on_progress: Progress | None = None,
    ) -> PartInfo:
        """Store a part; in any order and in parallel. The same number again replaces the part.

        Args:
            key, upload_id: the upload.
            number: from 1 to ``features.limits.max_parts``.
            data: as for ``put``; all parts except the last have ``features.limits.min_part_size`` bytes or more.
            size, on_progress: as for ``put``.

        Raises:
            UploadNotFoundError: the upload is not open.
        """
        return self._portal.call(
            lambda: self._async.upload_part(key, upload_id, number, data, size=size, on_progress=on_progress)
        )

    def append_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        offset: int,
        data: BodyLike,
        *,
        size: int | None = None,
        on_progress: Progress | None = None,
    ) -> PartInfo:
        """Append to a part, or begin it; its bytes from ``offset`` on are replaced.

        If it fails, what was written stays in the part, and `list_parts` shows its size: append there to go on. Only
        one call at a time may append to a part.

        Args:
            key, upload_id, number: as for `upload_part`.
            offset: at which ``data`` begins; at most the size of the part, and 0 if it does not exist.
            data, size, on_progress: as for ``put``.

        Returns:
            The part, with its whole size.

        Raises:
            UploadNotFoundError: the upload is not open.
            InvalidPartError: ``offset`` is larger than the part.
        """
        return self._portal.call(
            lambda: self._async.append_part(key, upload_id, number, offset, data, size=size, on_progress=on_progress)
        )

    def copy_part(self, key: str, upload_id: str, number: int, src: ObjectRef, offset: int, length: int) -> PartInfo:
        """Make a part of a range of an object, or of the version that ``src`` names; its bytes stay at the backend.

        Args:
            key, upload_id, number: as for `upload_part`.
            src: the object, in any bucket of the store.
            offset, length: the range, which is not empty.

        Raises:
            CopyNotSupportedError: the backend cannot copy this range; nothing was sent. Read it, and upload it.
            UploadNotFoundError: the upload is not open.
            ObjectNotFoundError, VersionNotFoundError: names the source.
            RangeNotSatisfiableError: the object ends before the range does.
        """
        return self._portal.call(lambda: self._async.copy_part(key, upload_id, number, src, offset, length))

    def complete_multipart(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[PartInfo],
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> ObjectInfo:
        """Make the object from the given parts, as atomically as a put; other parts are dropped.

        If it fails, the upload stays open, and can be completed again or aborted.

        Raises:
            InvalidPartError: there are no parts, they do not ascend, or one is missing, too small or was replaced.
            UploadNotFoundError: the upload is not open.
            PreconditionFailedError, ObjectAlreadyExistsError: a condition does not hold.
        """
        return self._portal.call(
            lambda: self._async.complete_multipart(
                key, upload_id, parts, if_match=if_match, if_none_match=if_none_match
            )
        )

    def abort_multipart(self, key: str, upload_id: str) -> None:
        """Give an upload up and free its parts; one that is not open is success."""
        self._portal.call(lambda: self._async.abort_multipart(key, upload_id))

    def list_parts(self, key: str, upload_id: str) -> list[PartInfo]:
        """Return the parts that are stored, in the order of their numbers.

        Raises:
            UploadNotFoundError: the upload is not open.
        """
        return self._portal.call(lambda: self._async.list_parts(key, upload_id))

    def list_multipart_uploads(self, prefix: str = "") -> list[UploadInfo]:
        """Return the open uploads, in the order of their keys, then of their start times."""
        return self._portal.call(lambda: self._async.list_multipart_uploads(prefix))
