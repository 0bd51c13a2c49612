"""The methods that write and list objects.

Written by ``python -m tests.sync_surface --write``; not to be edited.
"""

from __future__ import annotations

from typing import Unpack, cast, overload

from trove_async import listing
from trove_async.body import BodyLike
from trove_async.listing import Item
from trove_async.store.arguments import PutArguments
from trove_async.sync.listing import ObjectIterator
from trove_async.sync.store.copies import CopyVerbs
from trove_async.sync.writer import ObjectWriter
from trove_async.types import ObjectInfo

__all__ = ["ObjectVerbs"]


class ObjectVerbs(CopyVerbs):
    """Put and list."""

    def put(
        self,
        bucket: str,
        key: str,
        data: BodyLike,
        **arguments: Unpack[PutArguments],
    ) -> ObjectInfo:
        """Store an object, atomically: readers see the old one or the new one, whole.

        Args:
            bucket: an existing bucket.
            key: 1 to 1,024 bytes of UTF-8 without NUL.
            data: bytes-like, a path, a binary file, an (async) iterable of bytes-like, or an object
                with an async ``read`` or ``read_chunk``, such as Starlette's ``UploadFile`` and aiohttp's
                ``BodyPartReader``. What is not in memory is read in chunks; sync sources are read in
                another thread. A file that you pass stays open.
            content_type: default: what the key's extension stands for, else ``application/octet-stream``.
            metadata: names are case-insensitive and become lower case.
            tags: at most 10.
            storage_class: one of the backend's; default: the store's, else the backend's.
            cache_control, content_disposition, content_encoding, content_language: stored as given.
            if_match: replace only the object that has this ETag.
            if_none_match: ``"*"`` creates an object and never replaces one; an ETag replaces any object but that one.
            checksum: ``"sha256"`` computes and stores one; ``"sha256:HEX"`` compares it too.
            size: the number of bytes; a body of another length is an error.
            on_progress: called in the portal's thread with the bytes taken so far and the size (None if unknown).

        Raises:
            BucketNotFoundError: the bucket does not exist.
            ObjectAlreadyExistsError: ``if_none_match="*"`` and the object exists.
            PreconditionFailedError: another condition does not hold.
            BodySizeError, ChecksumError: the body is not what was declared.
            UnsupportedError: the store cannot honour a condition; nothing was read or sent.
            Exception: an exception of the body's source passes unchanged.

        Whatever is raised, the old object stays, unless the error has ``ambiguous=True``.
        """
        return self._portal.call(lambda: self._async.put(bucket, key, data, **arguments))

    @overload
    def list(
        self,
        bucket: str,
        prefix: str = "",
        *,
        delimiter: None = None,
        max_keys: int | None = None,
        page_size: int = 1000,
        cursor: str | None = None,
        start_after: str | None = None,
    ) -> ObjectIterator[ObjectInfo]: ...

    @overload
    def list(
        self,
        bucket: str,
        prefix: str = "",
        *,
        delimiter: str,
        max_keys: int | None = None,
        page_size: int = 1000,
        cursor: str | None = None,
        start_after: str | None = None,
    ) -> ObjectIterator[Item]: ...

    def list(
        self,
        bucket: str,
        prefix: str = "",
        *,
        delimiter: str | None = None,
        max_keys: int | None = None,
        page_size: int = 1000,
        cursor: str | None = None,
        start_after: str | None = None,
    ) -> ObjectIterator[ObjectInfo] | ObjectIterator[Item]:
        """List a bucket: ``for item in t.list(…)``, in the order of the keys' UTF-8 bytes.

        Args:
            bucket: an existing bucket.
            prefix: only keys that begin with it; a string, not a path: ``foo`` matches ``foobar``.
            delimiter: group the keys that have it behind the prefix; the groups come as `Prefix` among the objects.
            max_keys: the maximum number of items to yield.
            page_size: the number of items per request, 1 to 1,000; a hint.
            cursor: continue at an `ObjectIterator.cursor`, for the same bucket, prefix and delimiter.
            start_after: only keys that sort after it.

        Raises:
            InvalidCursorError: at once; the cursor is malformed or of another listing.
            BucketNotFoundError: at the first step.
        """
        return ObjectIterator(
            self._portal,
            cast(
                "listing.ObjectIterator[Item]",
                self._portal.run(
                    lambda: self._async.list(
                        bucket,
                        prefix,
                        delimiter=delimiter,
                        max_keys=max_keys,
                        page_size=page_size,
                        cursor=cursor,
                        start_after=start_after,
                    )
                ),
            ),
        )

    def writer(self, bucket: str, key: str, **arguments: Unpack[PutArguments]) -> ObjectWriter:
        """Write an object bit by bit: ``with t.writer(…) as w: w.write(…)``.

        A clean exit commits, any other aborts and leaves the old object. Keyword arguments and errors
        are those of `put`.
        """
        return ObjectWriter(self._portal, self._portal.run(lambda: self._async.writer(bucket, key, **arguments)))
