"""`S3Driver`: a store in Amazon S3, or in a service that speaks its protocol."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from typing import Any

from trove_async.body import Body
from trove_async.driver import (
    BucketOptions,
    BulkDeleteDriver,
    CompleteOptions,
    CopyOptions,
    DeleteOptions,
    Driver,
    Features,
    GetOptions,
    HeadOptions,
    LifecycleDriver,
    Limits,
    ListOptions,
    OpenOptions,
    PresignDriver,
    PresignOptions,
    PresignPostOptions,
    PutOptions,
    TaggingDriver,
    VersioningDriver,
    WatchOptions,
    capabilities_of,
)
from trove_async.driver.polling import poll
from trove_async.driver.probing import ProbeReport
from trove_async.drivers.s3.client import Client
from trove_async.drivers.s3.control import Control
from trove_async.drivers.s3.copies import Copies
from trove_async.drivers.s3.names import check_bucket, check_key
from trove_async.drivers.s3.objects import Objects
from trove_async.drivers.s3.presign import Presigner
from trove_async.drivers.s3.probing import Prober
from trove_async.drivers.s3.profiles import Profile
from trove_async.drivers.s3.queue_setup import setup_queue
from trove_async.drivers.s3.session import Session
from trove_async.drivers.s3.settings import S3Settings
from trove_async.drivers.s3.sqs import QueueWatcher, queue_of
from trove_async.drivers.s3.uploads import Uploads
from trove_async.dsn import DSN
from trove_async.errors import ClosedError, InvalidPartError, UnsupportedError
from trove_async.listing import ListPage
from trove_async.ranges import ByteRange
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
from trove_async.wire.parts import PartSource
from trove_async.wire.transport import Transport

__all__ = ["S3Driver"]


class S3Driver(Driver):
    """Objects in S3. ``docs/s3.md`` tells the parameters of the DSN, and what each service lacks."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._closed = False
        self._features = Features()
        self._settings: S3Settings
        self._profile: Profile
        self._session: Session
        self._client: Client
        self._control: Control
        self._objects: Objects
        self._uploads: Uploads
        self._copies: Copies
        self._presigner: Presigner
        self._transport: Transport
        self._queues: QueueWatcher | None = None

    @property
    def name(self) -> str:
        """``s3``."""
        return "s3"

    @property
    def features(self) -> Features:
        """What the service has, as its profile says."""
        return self._features

    # Life

    async def open(self, dsn: DSN, options: OpenOptions) -> None:
        """Read the DSN and find the credentials; the first connection is made by the first request."""
        settings = self._settings = S3Settings.of(dsn, options)
        profile = self._profile = settings.dialect()
        self.default_bucket = settings.bucket
        session = self._session = Session(settings, profile)
        self._stack.push_async_callback(session.close)
        await session.open()
        transport = await settings.network.transport()
        self._stack.push_async_callback(transport.aclose)
        self._transport = transport
        client = self._client = Client(settings, session, transport)
        self._control = Control(session, profile, requester_pays=settings.requester_pays)
        self._objects = Objects(client, settings, profile)
        self._uploads = Uploads(client, self._objects, settings, profile, options.cleanup_timeout)
        self._copies = Copies(client, self._objects, self._uploads, self._control, settings, profile)
        self._presigner = Presigner(client, settings)
        if settings.watch == "sqs" and settings.queue is not None:
            queues = self._queues = QueueWatcher(self._sqs, settings.queue, cleanup_timeout=options.cleanup_timeout)
            self._stack.push_async_callback(queues.aclose)
        self._features = self._find_features()

    def _find_features(self) -> Features:
        profile, settings = self._profile, self._settings
        lacking = {
            BulkDeleteDriver: not profile.bulk_delete,
            LifecycleDriver: not profile.lifecycle,
            PresignDriver: settings.anonymous,
            TaggingDriver: not profile.tags,
            VersioningDriver: not profile.versioning,
        }
        native = {"multipart", "presign", "versioning", "lifecycle", "range", "server_copy", "tags", "bulk_delete"}
        if settings.watch == "sqs":
            native.add("watch")
        native |= {f"conditional_{condition.partition('_if_')[0]}" for condition in profile.conditions}
        return Features(
            protocols=capabilities_of(self) - {protocol for protocol, lacks in lacking.items() if lacks},
            conditions=profile.conditions,
            presign_methods=frozenset() if settings.anonymous else frozenset(("GET", "PUT", "HEAD", "DELETE", "POST")),
            native=frozenset(native),
            limits=Limits(
                min_part_size=profile.min_part_size,
                max_part_size=profile.max_part_size,
                max_parts=profile.max_parts,
                max_put_size=profile.max_put_size,
                max_copy_size=profile.max_copy_size,
                max_metadata_size=2048,
            ),
        )

    async def close(self) -> None:
        """Drop all connections."""
        if not self._closed:
            self._closed = True
            await self._stack.aclose()

    @property
    def closed(self) -> bool:
        """Tell whether the driver was closed."""
        return self._closed

    @property
    def busy_connections(self) -> int:
        """How many connections carry a request or an answer now."""
        return self._transport.open_connections - self._transport.idle_connections

    async def sdk_client(self, service: str = "s3") -> Any:
        """Return the aiobotocore client of this store, for what the library has no verb for; it is closed with it.

        Args:
            service: ``s3``, or another one of Amazon's, such as ``sqs``.
        """
        return await self._session.client(service)

    @property
    def endpoint(self) -> str | None:
        """The URL of the service; None for Amazon's."""
        return self._settings.endpoint

    def prober(self, bucket: str, prefix: str) -> Prober:
        """Return what asks the service what it honours; see `trove_async.drivers.s3.probe`."""
        return Prober(self._client, self._control, self._settings, self._profile, bucket, prefix)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the store is closed")

    async def ping(self) -> None:
        """Ask for the default bucket; without one, list the buckets."""
        self._check_open()
        if self.default_bucket is not None:
            await self._objects.require_bucket(self.default_bucket)
        else:
            await self._control.list_buckets()

    def check_key(self, key: str) -> None:
        """Refuse what the service cannot hold or list."""
        check_key(key, self._profile)

    def check_bucket(self, bucket: str) -> None:
        """Refuse names that no bucket can have."""
        check_bucket(bucket, self._profile)

    # Objects

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        """Store an object, in parts if it is larger than one."""
        self._check_open()
        buffer = body.buffer
        if buffer is not None:
            await body.finish_buffer()
        if buffer is not None and len(buffer) <= self._settings.part_size:
            return await self._objects.put(bucket, key, [buffer] if buffer else [], options, body)
        conditional = "complete" in self._profile.conditions
        return await self._uploads.put(bucket, key, body, options, conditional=conditional)

    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        """Open an object."""
        self._check_open()
        return await self._objects.get(bucket, key, options)

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        """Describe an object."""
        self._check_open()
        return await self._objects.head(bucket, key, options)

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Delete an object or a version."""
        self._check_open()
        await self._objects.delete(bucket, key, options)

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> Sequence[DeleteResult]:
        """Delete up to a thousand objects in one request."""
        self._check_open()
        return await self._objects.delete_many(bucket, keys)

    async def copy(
        self, src_bucket: str, src_key: str, dst_bucket: str, dst_key: str, options: CopyOptions
    ) -> ObjectInfo:
        """Copy an object within the service."""
        self._check_open()
        return await self._copies.copy(src_bucket, src_key, dst_bucket, dst_key, options)

    async def server_copy(self, src: ObjectRef, dst: ObjectRef, options: CopyOptions | None = None) -> ObjectInfo:
        """Copy an object; as `copy`."""
        chosen = options or CopyOptions(source_version_id=src.version_id)
        return await self.copy(src.bucket, src.key, dst.bucket, dst.key, chosen)

    async def get_range(self, bucket: str, key: str, offset: int, length: int) -> ObjectReader:
        """Open a range."""
        return await self.get(bucket, key, GetOptions(range=ByteRange(offset, None if length < 0 else length)))

    async def list_page(self, bucket: str, options: ListOptions) -> ListPage:
        """Return a page of a listing."""
        self._check_open()
        return await self._objects.list_page(bucket, options)

    # Buckets

    async def create_bucket(self, name: str, options: BucketOptions) -> None:
        """Make a bucket; services that answer success to a second one are asked first."""
        self._check_open()
        await self._control.create_bucket(name, options.region)

    async def delete_bucket(self, name: str) -> None:
        """Delete an empty bucket."""
        self._check_open()
        await self._control.delete_bucket(name)

    async def list_buckets(self) -> Sequence[BucketInfo]:
        """Return the buckets of the account."""
        self._check_open()
        return await self._control.list_buckets()

    # Multipart

    async def initiate_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        """Begin an upload."""
        self._check_open()
        if options.attributes.tags and not self._profile.tagging_header:
            raise UnsupportedError(
                f"services of profile {self._profile.name!r} drop the tags of an upload: set them when it is complete"
            )
        return await self._uploads.initiate(bucket, key, options.attributes, options.checksum)

    async def upload_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> PartInfo:
        """Store a part, which is held in memory until it is stored."""
        self._check_open()
        if body.buffer is not None:
            await body.finish_buffer()
        source = PartSource(body)
        chunks = await source.take(self._profile.max_part_size)
        if not source.ended:
            raise InvalidPartError(f"the part has more than {self._profile.max_part_size} bytes")
        return await self._uploads.send_part(bucket, key, upload_id, number, chunks)

    async def complete_multipart(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartInfo], options: CompleteOptions
    ) -> ObjectInfo:
        """Make the object of the parts."""
        self._check_open()
        return await self._uploads.complete(bucket, key, upload_id, parts, options)

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Give an upload up."""
        self._check_open()
        await self._uploads.abort(bucket, key, upload_id)

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> Sequence[PartInfo]:
        """Return the parts of an upload."""
        self._check_open()
        return await self._control.list_parts(bucket, key, upload_id)

    async def list_multipart_uploads(self, bucket: str, prefix: str = "") -> Sequence[UploadInfo]:
        """Return the open uploads."""
        self._check_open()
        return await self._control.list_multipart_uploads(bucket, prefix)

    # Signed URLs

    async def presign_get(self, bucket: str, key: str, options: PresignOptions) -> str:
        """Sign a GET."""
        return await self._presigner.url("GET", bucket, key, options)

    async def presign_put(self, bucket: str, key: str, options: PresignOptions) -> str:
        """Sign a PUT."""
        return await self._presigner.url("PUT", bucket, key, options)

    async def presign_head(self, bucket: str, key: str, options: PresignOptions) -> str:
        """Sign a HEAD."""
        return await self._presigner.url("HEAD", bucket, key, options)

    async def presign_delete(self, bucket: str, key: str, options: PresignOptions) -> str:
        """Sign a DELETE."""
        return await self._presigner.url("DELETE", bucket, key, options)

    async def presign_post(self, bucket: str, key: str, options: PresignPostOptions) -> PresignedPost:
        """Sign a form."""
        return await self._presigner.post(bucket, key, options)

    # Versions

    async def set_versioning(self, bucket: str, enabled: bool) -> None:
        """Keep versions from now on, or stop to."""
        self._check_open()
        await self._control.set_versioning(bucket, enabled)

    async def get_versioning(self, bucket: str) -> VersioningStatus:
        """Tell what the bucket does."""
        self._check_open()
        return await self._control.get_versioning(bucket)

    async def list_versions(self, bucket: str, key: str) -> Sequence[VersionInfo]:
        """Return versions and markers."""
        self._check_open()
        return await self._control.list_versions(bucket, key)

    async def get_version(self, bucket: str, key: str, version_id: str) -> ObjectReader:
        """Open a version."""
        return await self.get(bucket, key, GetOptions(version_id=version_id))

    async def delete_version(self, bucket: str, key: str, version_id: str) -> None:
        """Delete a version for good."""
        await self.delete(bucket, key, DeleteOptions(version_id=version_id))

    async def restore_version(self, bucket: str, key: str, version_id: str) -> ObjectInfo:
        """Make a copy of a version the latest."""
        return await self.copy(bucket, key, bucket, key, CopyOptions(source_version_id=version_id))

    # News

    async def watch(self, bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        """Yield changes: from a queue that the bucket sends them to, or by comparing listings."""
        self._check_open()
        async with aclosing(self._events(bucket, options)) as events:
            async for event in events:
                yield event

    def _events(self, bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        if self._queues is None:
            return poll(self.list_page, bucket, options)
        return self._queues.watch(bucket, options, prepare=partial(self._prepare_queue, bucket))

    async def _prepare_queue(self, bucket: str) -> None:
        settings = self._settings
        if not settings.watch_setup or settings.queue is None:
            await self._objects.require_bucket(bucket)
            return
        queues = await self._session.client("sqs", settings.queue_endpoint)
        await setup_queue(await self._session.client(), queues, bucket, queue_of(settings.queue, bucket))

    @asynccontextmanager
    async def _sqs(self) -> AsyncGenerator[Any, None]:
        yield await self._session.client("sqs", self._settings.queue_endpoint)

    # Lifecycle

    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        """Store rules, which the service carries out."""
        self._check_open()
        await self._control.set_lifecycle(bucket, rules)

    async def get_lifecycle(self, bucket: str) -> Sequence[LifecycleRule]:
        """Return the rules."""
        self._check_open()
        return await self._control.get_lifecycle(bucket)

    async def delete_lifecycle(self, bucket: str) -> None:
        """Remove the rules."""
        self._check_open()
        await self._control.delete_lifecycle(bucket)

    # Tags

    async def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        """Return an object's tags."""
        self._check_open()
        return await self._control.get_tags(bucket, key)

    async def set_tags(self, bucket: str, key: str, tags: dict[str, str]) -> None:
        """Replace an object's tags."""
        self._check_open()
        await self._control.set_tags(bucket, key, tags)

    async def delete_tags(self, bucket: str, key: str) -> None:
        """Remove an object's tags."""
        self._check_open()
        await self._control.delete_tags(bucket, key)

    # Probing

    async def probe(self, bucket: str | None = None) -> ProbeReport:
        """Find out what the service supports; see `trove_async.drivers.s3.probe.probe`."""
        from trove_async.drivers.s3.probe import probe

        return await probe(self, bucket)
