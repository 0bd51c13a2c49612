"""`ManagedStorage`: content under names of buckets, of users, and of all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from trove_async.body import BodyLike
from trove_async.managed.catalogue import ResourceCatalog
from trove_async.managed.names import for_all, for_bucket, for_user
from trove_async.managed.operations import Operations
from trove_async.managed.resources import ManagedInfo, PutResponse, RequestResponse
from trove_async.managed.storage import ResourceStorage
from trove_async.opening import Opening
from trove_async.ranges import RangeLike
from trove_async.reader import ObjectReader

__all__ = ["ManagedStorage"]


class ManagedStorage:
    """Content under names. Equal content is stored once, however many names it has.

    A name is a path that belongs to a bucket, to a user, or to neither. Buckets and users need not be created; their
    names are 1 to 255 bytes of UTF-8 without slash and NUL. A path is 1 to 1,024 bytes of UTF-8 without NUL and opaque,
    as the key of an object is: ``..`` and ``//`` have no meaning.

    Any number of tasks may use it, and any number of processes may share its catalogue and storage.

    Args:
        catalogue: which contents there are, and their names; it stays open.
        storage: where their bytes are.

    Attributes:
        catalogue, storage: as given.
    """

    def __init__(self, catalogue: ResourceCatalog, storage: ResourceStorage) -> None:
        self.catalogue = catalogue
        self.storage = storage
        self._operations = Operations(catalogue, storage)
        self._resources = AsyncExitStack()

    def get_for_bucket(self, bucket: str, path: str, *, range: RangeLike | None = None) -> Opening[ObjectReader]:
        """Open the content at a path of a bucket, with ``async with`` or ``await``.

        ``reader.info`` has the path as its key, and the SHA-384 as its ETag.

        Args:
            bucket, path: which.
            range: as for `Trove.get`.

        Raises (when awaited or entered):
            ObjectNotFoundError: there is nothing.
            ResourceDeletedError: the bytes are missing in the store.
            RangeNotSatisfiableError: the range starts at or past the end.
            InvalidBucketNameError: at once; the name of the bucket is malformed.
        """
        return self._operations.get(for_bucket(bucket, path), range)

    async def put_for_bucket(
        self,
        bucket: str,
        path: str,
        data: BodyLike,
        length: int | None = None,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> ManagedInfo:
        """Store content at a path of a bucket. It replaces what the path had.

        The data are always read. Before anything is replaced they are in the storage; if the same content is stored
        already, they are deleted again.

        Args:
            bucket, path: where.
            data: as for `Trove.put`.
            length: bytes; None or negative if unknown.
            content_type: default: what the path's extension stands for, else ``application/octet-stream``.
            metadata: as for `Trove.put`; of the path, and not of the content.

        Raises:
            BodySizeError: the data have another length; nothing changed.
            InvalidBucketNameError, InvalidKeyError, InvalidMetadataError: an argument is malformed.
            Exception: an exception of the data's source passes unchanged.

        Whatever is raised, the path has what it had, unless the error has ``ambiguous=True``.
        """
        return await self._operations.put(for_bucket(bucket, path), data, length, None, content_type, metadata)

    async def put_for_bucket_and_check_hash(
        self,
        bucket: str,
        path: str,
        data: BodyLike,
        length: int | None,
        sha384: str,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> ManagedInfo:
        """Store content at a path of a bucket, if it has a SHA-384.

        Args:
            bucket, path, data, length, content_type, metadata: see `put_for_bucket`.
            sha384: 96 hex digits; empty for no check.

        Raises:
            ChecksumError: the data have another SHA-384; nothing changed.
            Exception: see `put_for_bucket`.
        """
        return await self._operations.put(for_bucket(bucket, path), data, length, sha384, content_type, metadata)

    async def remove_for_bucket(self, bucket: str, path: str) -> None:
        """Remove a path of a bucket.

        Content that has no name any more is condemned: the sweep deletes its bytes after the grace.

        Raises:
            ObjectNotFoundError: there is nothing.
        """
        await self._operations.remove(for_bucket(bucket, path))

    async def stat_for_bucket(self, bucket: str, path: str) -> ManagedInfo:
        """Describe the content at a path of a bucket.

        Raises:
            ObjectNotFoundError: there is nothing.
        """
        return await self._operations.stat(for_bucket(bucket, path))

    def list_for_bucket(
        self, bucket: str, prefix: str = "", *, start_after: str = "", page_size: int = 1000
    ) -> AsyncIterator[ManagedInfo]:
        """List the paths of a bucket, in the order of their UTF-8 bytes: ``async for info in m.list_for_bucket(…)``.

        Args:
            bucket: whose.
            prefix: only paths that begin with it.
            start_after: only paths that sort after it.
            page_size: how many are read at a time, 1 to 1,000.
        """
        return self._operations.list(for_bucket(bucket), prefix, start_after, page_size)

    async def put_for_bucket_request(
        self,
        bucket: str,
        path: str,
        sha384: str,
        *,
        caller: str = "",
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> RequestResponse:
        """Ask for content that is stored already to get a path of a bucket, without sending it.

        The caller proves that it has the content by `new_put_response`, and sends the result to
        `proof_of_access_response`. A caller can make 10 requests a minute for the same content.

        Args:
            bucket, path: where.
            sha384: of the content, 96 hex digits.
            caller: who asks, as the application has authenticated it; nobody else can answer. At most 1,024 bytes of
                UTF-8.
            content_type, metadata: see `put_for_bucket`.

        Raises:
            NotFoundError: the content is not stored.
            UploadPendingError: it is not stored completely yet.
            ThrottledError: the caller has made too many requests.
        """
        return await self._operations.request(for_bucket(bucket, path), sha384, caller, content_type, metadata)

    def get_for_user(self, user: str, path: str, *, range: RangeLike | None = None) -> Opening[ObjectReader]:
        """Open the content at a path of a user, with ``async with`` or ``await``.

        Arguments and errors are those of `get_for_bucket`.
        """
        return self._operations.get(for_user(user, path), range)

    async def put_for_user(
        self,
        user: str,
        path: str,
        data: BodyLike,
        length: int | None = None,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> ManagedInfo:
        """Store content at a path of a user.

        Arguments and errors are those of `put_for_bucket`.
        """
        return await self._operations.put(for_user(user, path), data, length, None, content_type, metadata)

    async def put_for_user_and_check_hash(
        self,
        user: str,
        path: str,
        data: BodyLike,
        length: int | None,
        sha384: str,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> ManagedInfo:
        """Store content at a path of a user, if it has a SHA-384.

        Arguments and errors are those of `put_for_bucket_and_check_hash`.
        """
        return await self._operations.put(for_user(user, path), data, length, sha384, content_type, metadata)

    async def remove_for_user(self, user: str, path: str) -> None:
        """Remove a path of a user.

        Raises:
            ObjectNotFoundError: there is nothing.
        """
        await self._operations.remove(for_user(user, path))

    async def stat_for_user(self, user: str, path: str) -> ManagedInfo:
        """Describe the content at a path of a user.

        Raises:
            ObjectNotFoundError: there is nothing.
        """
        return await self._operations.stat(for_user(user, path))

    def list_for_user(
        self, user: str, prefix: str = "", *, start_after: str = "", page_size: int = 1000
    ) -> AsyncIterator[ManagedInfo]:
        """List the paths of a user, in the order of their UTF-8 bytes: ``async for info in m.list_for_user(…)``.

        Arguments are those of `list_for_bucket`.
        """
        return self._operations.list(for_user(user), prefix, start_after, page_size)

    async def put_for_user_request(
        self,
        user: str,
        path: str,
        sha384: str,
        *,
        caller: str = "",
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> RequestResponse:
        """Ask for content that is stored already to get a path of a user, without sending it.

        Arguments and errors are those of `put_for_bucket_request`.
        """
        return await self._operations.request(for_user(user, path), sha384, caller, content_type, metadata)

    def get_for_all(self, path: str, *, range: RangeLike | None = None) -> Opening[ObjectReader]:
        """Open the content at a path that belongs to all, with ``async with`` or ``await``.

        Arguments and errors are those of `get_for_bucket`.
        """
        return self._operations.get(for_all(path), range)

    async def put_for_all(
        self,
        path: str,
        data: BodyLike,
        length: int | None = None,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> ManagedInfo:
        """Store content at a path that belongs to all.

        Arguments and errors are those of `put_for_bucket`.
        """
        return await self._operations.put(for_all(path), data, length, None, content_type, metadata)

    async def put_for_all_and_check_hash(
        self,
        path: str,
        data: BodyLike,
        length: int | None,
        sha384: str,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> ManagedInfo:
        """Store content at a path that belongs to all, if it has a SHA-384.

        Arguments and errors are those of `put_for_bucket_and_check_hash`.
        """
        return await self._operations.put(for_all(path), data, length, sha384, content_type, metadata)

    async def remove_for_all(self, path: str) -> None:
        """Remove a path that belongs to all.

        Raises:
            ObjectNotFoundError: there is nothing.
        """
        await self._operations.remove(for_all(path))

    async def stat_for_all(self, path: str) -> ManagedInfo:
        """Describe the content at a path that belongs to all.

        Raises:
            ObjectNotFoundError: there is nothing.
        """
        return await self._operations.stat(for_all(path))

    def list_for_all(
        self, prefix: str = "", *, start_after: str = "", page_size: int = 1000
    ) -> AsyncIterator[ManagedInfo]:
        """List the paths that belong to all, in the order of their UTF-8 bytes: ``async for info in m.list_for_all()``.

        Arguments are those of `list_for_bucket`.
        """
        return self._operations.list(for_all(), prefix, start_after, page_size)

    async def put_for_all_request(
        self,
        path: str,
        sha384: str,
        *,
        caller: str = "",
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> RequestResponse:
        """Ask for content that is stored already to get a path that belongs to all, without sending it.

        Arguments and errors are those of `put_for_bucket_request`.
        """
        return await self._operations.request(for_all(path), sha384, caller, content_type, metadata)

    async def proof_of_access_response(self, response: PutResponse, *, caller: str = "") -> None:
        """Give the path of a request its content, if the proof is right.

        Args:
            response: what `new_put_response` has returned.
            caller: as for the request.

        Raises:
            RequestExpiredError: the request is older than a minute, was answered, had 3 wrong answers, or never was.
            ResponseMismatchError: the proof is wrong, or the caller another one, which costs the request nothing.
            ResourceDeletedError: the content was removed meanwhile; store it.
            UploadPendingError: it was removed, and another writer is storing it again; try again.
        """
        await self._operations.respond(response, caller)

    def _close_later(self, close: Callable[[], Awaitable[None]]) -> None:
        """Let `aclose` close something that was opened for this object."""
        self._resources.push_async_callback(close)

    async def aclose(self) -> None:
        """Close what `trove_async.managed.open` has opened, and nothing that was given; idempotent."""
        await self._resources.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
