"""`HTTPDriver`: the lifetime of a driver over HTTP, and the part of it that carries out each operation.

A driver's package has one module for each part, and the parts have the same names and duties in each package: who knows
one driver knows the others. A closed store is refused by the transport.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, aclosing, nullcontext
from dataclasses import replace
from typing import Any, Protocol

from trove_async.body import Body, Chunk
from trove_async.driver import (
    BucketOptions,
    CompleteOptions,
    CopyOptions,
    DeleteOptions,
    Driver,
    Features,
    GetOptions,
    HeadOptions,
    ListOptions,
    PresignByMethod,
    PresignMethod,
    PresignOptions,
    PresignPostOptions,
    PutOptions,
    RangeByGet,
    ServerCopyByCopy,
    VersionListOptions,
    VersionPage,
    VersionsByOptions,
    WatchOptions,
)
from trove_async.driver.polling import poll
from trove_async.driver.retry import Retries, RetryPolicy, many_requests
from trove_async.errors import InvalidPartError
from trove_async.listing import ListPage
from trove_async.reader import ObjectReader
from trove_async.types import (
    BucketInfo,
    DeleteResult,
    LifecycleRule,
    ObjectEvent,
    ObjectInfo,
    ObjectRef,
    PartInfo,
    PresignedPost,
    UploadInfo,
    VersionInfo,
    VersioningStatus,
)
from trove_async.wire.network import Network
from trove_async.wire.parts import PartSource
from trove_async.wire.transport import Transport

__all__ = ["HTTPDriver", "PartCopyByHTTP"]


class Objects(Protocol):
    """Requests about one object, or a few."""

    async def require_bucket(self, bucket: str) -> None:
        """Raise `BucketNotFoundError` if the bucket does not exist."""

    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        """Open an object."""

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        """Describe an object."""

    async def put(self, bucket: str, key: str, chunks: Sequence[Chunk], options: PutOptions, body: Body) -> ObjectInfo:
        """Store an object, whose bytes are all in memory, in one request."""

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Delete an object or a version."""

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> Sequence[DeleteResult]:
        """Delete objects; a result for each, in their order."""


class Listing(Protocol):
    """Pages of objects."""

    async def list_page(self, bucket: str, options: ListOptions) -> ListPage:
        """Return a page of a listing."""


class VersionListing(Protocol):
    """Pages of versions."""

    async def page(self, bucket: str, options: VersionListOptions) -> VersionPage:
        """Return a page of the versions of a bucket."""


class Uploads(Protocol):
    """Whole bodies of any length."""

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        """Store an object in bounded memory: in one request, or in parts if it is larger than one."""


class Multipart(Protocol):
    """Uploads in parts, step by step."""

    async def initiate(self, bucket: str, key: str, options: PutOptions) -> str:
        """Begin an upload and return its id."""

    async def send_part(self, bucket: str, key: str, upload_id: str, number: int, chunks: Sequence[Chunk]) -> PartInfo:
        """Store a part."""

    async def complete(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartInfo], options: CompleteOptions
    ) -> ObjectInfo:
        """Make the object of the parts."""

    async def abort(self, bucket: str, key: str, upload_id: str) -> None:
        """Give an upload up."""

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> Sequence[PartInfo]:
        """Return the parts of an upload."""

    async def list_uploads(self, bucket: str, prefix: str) -> Sequence[UploadInfo]:
        """Return the open uploads."""


class Copies(Protocol):
    """Copies within the service."""

    async def copy(
        self, src_bucket: str, src_key: str, dst_bucket: str, dst_key: str, options: CopyOptions
    ) -> ObjectInfo:
        """Copy an object."""


class PartCopies(Protocol):
    """Copies of ranges of objects within the service, to parts of uploads; not every service has them."""

    async def copy_part(
        self, bucket: str, key: str, upload_id: str, number: int, src: ObjectRef, offset: int, length: int
    ) -> PartInfo:
        """Make a part of a range of an object."""


class Control(Protocol):
    """Requests about buckets, and about what objects have beside their content."""

    async def create_bucket(self, name: str, region: str | None) -> None:
        """Make a bucket."""

    async def delete_bucket(self, name: str) -> None:
        """Delete an empty bucket."""

    async def list_buckets(self) -> Sequence[BucketInfo]:
        """Return the buckets, in the order of their names."""

    async def set_versioning(self, bucket: str, enabled: bool) -> None:
        """Keep versions from now on, or stop."""

    async def get_versioning(self, bucket: str) -> VersioningStatus:
        """Tell whether the bucket keeps versions."""

    async def list_versions(self, bucket: str, key: str) -> Sequence[VersionInfo]:
        """Return the versions and delete markers of a key, newest first."""

    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        """Replace the lifecycle rules."""

    async def get_lifecycle(self, bucket: str) -> Sequence[LifecycleRule]:
        """Return the lifecycle rules."""

    async def delete_lifecycle(self, bucket: str) -> None:
        """Remove the lifecycle rules."""

    async def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        """Return an object's tags."""

    async def set_tags(self, bucket: str, key: str, tags: dict[str, str]) -> None:
        """Replace an object's tags."""

    async def delete_tags(self, bucket: str, key: str) -> None:
        """Remove an object's tags."""


class Presigner(Protocol):
    """Signed URLs and forms."""

    async def url(self, method: PresignMethod, bucket: str, key: str, options: PresignOptions) -> str:
        """Return a signed URL."""

    async def post(self, bucket: str, key: str, options: PresignPostOptions) -> PresignedPost:
        """Return a signed form."""


class HTTPDriver(RangeByGet, ServerCopyByCopy, VersionsByOptions, PresignByMethod, Driver):
    """A driver that is made of parts, which `Driver.open` of the subclass assigns."""

    _settings: Any
    """The parameters of the DSN, a frozen dataclass with the field ``bucket``."""
    _objects: Objects
    _listing: Listing
    _version_listing: VersionListing
    _uploads: Uploads
    _multipart: Multipart
    _copies: Copies
    _control: Control
    _presigner: Presigner
    _transport: Transport
    _retries: Retries
    _part_size: int
    """Bytes up to which a body in memory is stored in one request."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._closed = False
        self._features = Features()

    # Lifetime

    @property
    def features(self) -> Features:
        """What the service has, and what the credentials allow."""
        return self._features

    async def _open_transport(self, network: Network) -> tuple[Transport, Retries]:
        """Return the transport of the store, which is closed with it, and how the store tries again."""
        transport = self._transport = await network.transport()
        self._stack.push_async_callback(transport.aclose)
        self._retries = network.retries()
        return transport, self._retries

    def use_retry_policy(self, policy: RetryPolicy) -> bool:
        """Try the requests of operations of many requests again by this policy, and no others."""
        self._retries.use(policy)
        return True

    async def close(self) -> None:
        """Drop all connections."""
        if not self._closed:
            self._closed = True
            await self._stack.aclose()

    def shares_backend(self, other: Driver) -> bool:
        """Tell whether another driver was opened with the same settings and credentials, for any bucket."""
        if other is self:
            return True
        return isinstance(other, type(self)) and replace(self._settings, bucket=None) == replace(
            other._settings, bucket=None
        )

    @property
    def closed(self) -> bool:
        """Tell whether the driver was closed."""
        return self._closed

    @property
    def busy_connections(self) -> int:
        """How many connections carry a request or an answer now."""
        return self._transport.open_connections - self._transport.idle_connections

    async def ping(self) -> None:
        """Ask for the default bucket; without one, list the buckets."""
        if self.default_bucket is not None:
            await self._objects.require_bucket(self.default_bucket)
        else:
            await self._control.list_buckets()

    # Objects

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        """Store an object, in parts if it is larger than one."""
        buffer = body.buffer
        if buffer is not None:
            await body.finish_buffer()
            if len(buffer) <= self._part_size:
                return await self._objects.put(bucket, key, [buffer] if buffer else [], options, body)
        with _tried_again_here(body):
            return await self._uploads.put(bucket, key, body, options)

    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        """Open an object."""
        return await self._objects.get(bucket, key, options)

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        """Describe an object."""
        return await self._objects.head(bucket, key, options)

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Delete an object or a version."""
        await self._objects.delete(bucket, key, options)

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> Sequence[DeleteResult]:
        """Delete objects."""
        with many_requests():
            return await self._objects.delete_many(bucket, keys)

    async def copy(
        self, src_bucket: str, src_key: str, dst_bucket: str, dst_key: str, options: CopyOptions
    ) -> ObjectInfo:
        """Copy an object within the service."""
        with many_requests():
            return await self._copies.copy(src_bucket, src_key, dst_bucket, dst_key, options)

    async def list_page(self, bucket: str, options: ListOptions) -> ListPage:
        """Return a page of a listing."""
        return await self._listing.list_page(bucket, options)

    # Buckets

    async def create_bucket(self, name: str, options: BucketOptions) -> None:
        """Make a bucket."""
        await self._control.create_bucket(name, options.region)

    async def delete_bucket(self, name: str) -> None:
        """Delete an empty bucket."""
        await self._control.delete_bucket(name)

    async def list_buckets(self) -> Sequence[BucketInfo]:
        """Return the buckets."""
        with many_requests():
            return await self._control.list_buckets()

    # Multipart

    async def initiate_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        """Begin an upload."""
        return await self._multipart.initiate(bucket, key, options)

    async def upload_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> PartInfo:
        """Store a part, which is held in memory until it is stored."""
        if body.buffer is not None:
            await body.finish_buffer()
        source = PartSource(body)
        limit = self._features.limits.max_part_size or 0
        chunks = await source.take(limit)
        if not source.ended:
            raise InvalidPartError(f"the part has more than {limit} bytes")
        with _tried_again_here(body):
            return await self._multipart.send_part(bucket, key, upload_id, number, chunks)

    async def complete_multipart(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartInfo], options: CompleteOptions
    ) -> ObjectInfo:
        """Make the object of the parts."""
        return await self._multipart.complete(bucket, key, upload_id, parts, options)

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Give an upload up."""
        await self._multipart.abort(bucket, key, upload_id)

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> Sequence[PartInfo]:
        """Return the parts of an upload."""
        with many_requests():
            return await self._multipart.list_parts(bucket, key, upload_id)

    async def list_multipart_uploads(self, bucket: str, prefix: str = "") -> Sequence[UploadInfo]:
        """Return the open uploads."""
        with many_requests():
            return await self._multipart.list_uploads(bucket, prefix)

    # Signed URLs

    async def presign(self, method: PresignMethod, bucket: str, key: str, options: PresignOptions) -> str:
        """Return a signed URL for a method."""
        return await self._presigner.url(method, bucket, key, options)

    async def presign_post(self, bucket: str, key: str, options: PresignPostOptions) -> PresignedPost:
        """Return a signed form."""
        return await self._presigner.post(bucket, key, options)

    # Versions

    async def set_versioning(self, bucket: str, enabled: bool) -> None:
        """Keep versions from now on, or stop."""
        await self._control.set_versioning(bucket, enabled)

    async def get_versioning(self, bucket: str) -> VersioningStatus:
        """Tell whether the bucket keeps versions."""
        return await self._control.get_versioning(bucket)

    async def list_versions(self, bucket: str, key: str) -> Sequence[VersionInfo]:
        """Return versions and delete markers."""
        with many_requests():
            return await self._control.list_versions(bucket, key)

    async def list_versions_page(self, bucket: str, options: VersionListOptions) -> VersionPage:
        """Return a page of the versions of a bucket."""
        with many_requests():
            return await self._version_listing.page(bucket, options)

    # Events

    async def watch(self, bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        """Yield changes: from the service's notifications, or by comparing listings."""
        async with aclosing(self._events(bucket, options)) as events:
            async for event in events:
                yield event

    def _events(self, bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        """Return the changes; the default compares listings."""
        return poll(self.list_page, bucket, options)

    # Lifecycle

    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        """Replace the lifecycle rules."""
        await self._control.set_lifecycle(bucket, rules)

    async def get_lifecycle(self, bucket: str) -> Sequence[LifecycleRule]:
        """Return the lifecycle rules."""
        return await self._control.get_lifecycle(bucket)

    async def delete_lifecycle(self, bucket: str) -> None:
        """Remove the lifecycle rules."""
        await self._control.delete_lifecycle(bucket)

    # Tags

    async def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        """Return an object's tags."""
        return await self._control.get_tags(bucket, key)

    async def set_tags(self, bucket: str, key: str, tags: dict[str, str]) -> None:
        """Replace an object's tags."""
        await self._control.set_tags(bucket, key, tags)

    async def delete_tags(self, bucket: str, key: str) -> None:
        """Remove an object's tags."""
        await self._control.delete_tags(bucket, key)


class PartCopyByHTTP:
    """`PartCopyDriver`, for the drivers of services that copy parts."""

    _part_copies: PartCopies

    async def copy_part(
        self, bucket: str, key: str, upload_id: str, number: int, src: ObjectRef, offset: int, length: int
    ) -> PartInfo:
        """Make a part of a range of an object within the service."""
        with many_requests():
            return await self._part_copies.copy_part(bucket, key, upload_id, number, src, offset, length)


def _tried_again_here(body: Body) -> AbstractContextManager[None]:
    """Return a context in which a body that can be read once is sent again from memory, where no layer can reach it."""
    return nullcontext() if body.replayable else many_requests()
