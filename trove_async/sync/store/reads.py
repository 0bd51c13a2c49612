"""The verbs that read objects.

Written by ``python -m tests.sync_surface --write``; not to be edited.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime

from trove_async.body import Progress
from trove_async.ranges import RangeLike
from trove_async.sync.base import Lifetime
from trove_async.sync.reader import ObjectReader
from trove_async.types import ObjectInfo

__all__ = ["ReadVerbs"]


class ReadVerbs(Lifetime):
    """Get, read, head and exists."""

    def get(
        self,
        bucket: str,
        key: str,
        *,
        range: RangeLike | None = None,
        version_id: str | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        if_modified_since: datetime | None = None,
        if_unmodified_since: datetime | None = None,
    ) -> ObjectReader:
        """Open an object: ``with t.get(…) as reader``, or ``reader = t.get(…)``.

        Args:
            bucket, key: which object.
            range: ``(offset, length)``; length None reads to the end; offset ``-n`` with length None reads the last n
                bytes. A range that extends past the end is shortened.
            version_id: a version other than the latest.
            if_match: only the object that has this ETag.
            if_none_match: only if the object has another ETag.
            if_modified_since, if_unmodified_since: aware; compared in whole seconds.

        Raises:
            ObjectNotFoundError, BucketNotFoundError, VersionNotFoundError: it does not exist.
            RangeNotSatisfiableError: the range starts at or past the end.
            NotModifiedError, PreconditionFailedError: a condition does not hold.
        """
        return ObjectReader(
            self._portal,
            self._portal.call(
                lambda: self._async.get(
                    bucket,
                    key,
                    range=range,
                    version_id=version_id,
                    if_match=if_match,
                    if_none_match=if_none_match,
                    if_modified_since=if_modified_since,
                    if_unmodified_since=if_unmodified_since,
                )
            ),
        )

    def read(
        self,
        bucket: str,
        key: str,
        range: RangeLike | None = None,
        *,
        version_id: str | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> bytes:
        """Return an object's bytes, or those of a range; a range of length 0 is ``b""`` without a request.

        Arguments and errors are those of `get`.
        """
        return self._portal.call(
            lambda: self._async.read(
                bucket, key, range, version_id=version_id, if_match=if_match, if_none_match=if_none_match
            )
        )

    def read_ranges(
        self, bucket: str, key: str, ranges: Sequence[RangeLike], *, coalesce_gap: int = 1024 * 1024
    ) -> list[bytes]:
        """Return the bytes of several ranges of one object, in their order.

        Ranges that lie within ``coalesce_gap`` bytes of each other are fetched together, up to 8 MiB in a request, the
        others in parallel; all are of the same object, also when it is replaced meanwhile.

        Raises:
            RangeNotSatisfiableError: a range starts at or past the end.
            ObjectChangedError: the object was replaced between two fetches.
        """
        return self._portal.call(lambda: self._async.read_ranges(bucket, key, ranges, coalesce_gap=coalesce_gap))

    def download(
        self,
        bucket: str,
        key: str,
        path: str | os.PathLike[str],
        *,
        version_id: str | None = None,
        if_match: str | None = None,
        on_progress: Progress | None = None,
    ) -> ObjectInfo:
        """Save an object as a file, atomically: the file appears, or is replaced, when it is complete.

        Links are followed. A file that is replaced keeps its mode, and its owner and group where the process may set
        them. A device, a FIFO, and a descriptor of this process such as ``/dev/stdout`` are written as they stand: what
        was written before a failure stays written. A FIFO that nobody reads is waited for.

        Args:
            bucket, key: which object.
            path: the file; its directory exists.
            version_id, if_match: as for `get`.
            on_progress: called in the portal's thread with the number of bytes read so far and the size.

        Raises:
            OSError: the file cannot be written; `IsADirectoryError` for a directory.
            InvalidArgumentError: no file can have this path, or ``on_progress`` is no plain function.
            ObjectNotFoundError, BucketNotFoundError, VersionNotFoundError, PreconditionFailedError: as for `get`;
                an existing file is not touched.
        """
        return self._portal.call(
            lambda: self._async.download(
                bucket, key, path, version_id=version_id, if_match=if_match, on_progress=on_progress
            )
        )

    def head(
        self,
        bucket: str,
        key: str,
        *,
        version_id: str | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        if_modified_since: datetime | None = None,
        if_unmodified_since: datetime | None = None,
    ) -> ObjectInfo:
        """Describe an object; arguments and errors are those of `get`."""
        return self._portal.call(
            lambda: self._async.head(
                bucket,
                key,
                version_id=version_id,
                if_match=if_match,
                if_none_match=if_none_match,
                if_modified_since=if_modified_since,
                if_unmodified_since=if_unmodified_since,
            )
        )

    def exists(self, bucket: str, key: str) -> bool:
        """Tell whether an object exists; False where the bucket does not."""
        return self._portal.call(lambda: self._async.exists(bucket, key))
