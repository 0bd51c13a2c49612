"""The methods that delete objects and versions.

Written by ``python -m tests.sync_surface --write``; not to be edited.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import Literal, overload

from trove_async.store.bulk import Target
from trove_async.sync.bulk import BulkDelete, off_loop
from trove_async.sync.store.reads import ReadVerbs

__all__ = ["DeleteVerbs"]


class DeleteVerbs(ReadVerbs):
    """Delete objects and versions, one or many."""

    def delete(self, bucket: str, key: str, *, version_id: str | None = None, if_match: str | None = None) -> None:
        """Delete an object; success if it does not exist.

        In a bucket that keeps versions this leaves a delete marker; with ``version_id`` it deletes that
        version permanently.

        Raises:
            BucketNotFoundError: the bucket does not exist.
            PreconditionFailedError: the object has another ETag than ``if_match``, or does not exist.
        """
        self._portal.call(lambda: self._async.delete(bucket, key, version_id=version_id, if_match=if_match))

    @overload
    def delete_many(
        self, bucket: str, keys: Iterable[Target] | AsyncIterable[Target], *, raise_errors: Literal[True] = True
    ) -> int: ...

    @overload
    def delete_many(
        self, bucket: str, keys: Iterable[Target] | AsyncIterable[Target], *, raise_errors: Literal[False]
    ) -> BulkDelete: ...

    def delete_many(
        self, bucket: str, keys: Iterable[Target] | AsyncIterable[Target], *, raise_errors: bool = True
    ) -> int | BulkDelete:
        """Delete many objects, and return their number.

        Every key is tried; missing objects count as deleted.

        Args:
            bucket: an existing bucket.
            keys: any number, also from a generator, which runs in another thread. A `VersionInfo` among them is
                a version or delete marker, which is deleted permanently.
            raise_errors: raise at the end if a key failed; False to get an iterator over a `DeleteResult` for each
                key, which deletes as it goes.

        Raises (at the end):
            BulkError: with ``failed`` and ``deleted_count``.
        """
        deletion = self._portal.run(lambda: self._async.delete_many(bucket, off_loop(keys), raise_errors=raise_errors))
        return self._portal.call(lambda: deletion) if raise_errors else BulkDelete(self._portal, deletion)
