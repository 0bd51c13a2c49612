"""`GCSDriver`: a store in Google Cloud Storage."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from typing import Any, Final

from trove_async.body import Body
from trove_async.driver import (
    BucketOptions,
    CompleteOptions,
    Condition,
    CopyOptions,
    DeleteOptions,
    Driver,
    Features,
    GetOptions,
    HeadOptions,
    Limits,
    ListOptions,
    OpenOptions,
    PresignDriver,
    PresignOptions,
    PresignPostOptions,
    PutOptions,
    WatchOptions,
    capabilities_of,
)
from trove_async.driver.polling import poll
from trove_async.drivers.gcs.client import Client
from trove_async.drivers.gcs.control import Control
from trove_async.drivers.gcs.copies import Copies
from trove_async.drivers.gcs.credentials import Credentials
from trove_async.drivers.gcs.names import check_bucket, check_key
from trove_async.drivers.gcs.objects import Objects
from trove_async.drivers.gcs.presign import Presigner
from trove_async.drivers.gcs.pubsub import SubscriptionWatcher, subscription_of
from trove_async.drivers.gcs.resources import MAX_METADATA
from trove_async.drivers.gcs.settings import MAX_PART_SIZE, GCSSettings
from trove_async.drivers.gcs.uploads import MAX_PARTS, Uploads
from trove_async.drivers.gcs.writes import Writes
from trove_async.dsn import DSN
from trove_async.errors import AccessDeniedError, ClosedError, InvalidPartError
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

__all__ = ["GCSDriver"]

_CONDITIONS: Final[frozenset[Condition]] = frozenset(("put_if_none_match", "put_if_match", "get", "delete", "copy"))
"""All but those of a completion, which the service does not take."""

_NATIVE: Final = frozenset(
    ("multipart", "presign", "versioning", "lifecycle", "range", "server_copy", "bulk_delete")
) | {f"conditional_{condition.partition('_if_')[0]}" for condition in _CONDITIONS}


class GCSDriver(Driver):
    """A store in Google Cloud Storage; ``docs/gcs.md`` tells what is particular to it."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._closed = False
        self._features = Features()
        self._settings: GCSSettings
        self._credentials: Credentials
        self._client: Client
        self._control: Control
        self._objects: Objects
        self._writes: Writes
        self._uploads: Uploads
        self._copies: Copies
        self._presigner: Presigner
        self._transport: Transport
        self._watcher: SubscriptionWatcher | None = None
        self._subscriber: Any = None

    @property
    def name(self) -> str:
        """``gcs``."""
        return "gcs"

    @property
    def features(self) -> Features:
        """What the service has, and the credentials allow."""
        return self._features

    # Life

    async def open(self, dsn: DSN, options: OpenOptions) -> None:
        """Read the DSN and the credentials; the first connection is made by the first request."""
        settings = self._settings = GCSSettings.of(dsn, options)
        self.default_bucket = settings.bucket
        credentials = self._credentials = Credentials(settings)
        self._stack.push_async_callback(credentials.close)
        await credentials.open()
        transport = self._transport = await settings.network.transport()
        self._stack.push_async_callback(transport.aclose)
        client = self._client = Client(settings, credentials, transport)
        self._control = Control(client, credentials, settings)
        self._objects = Objects(client, settings)
        self._writes = Writes(client, self._objects, settings)
        self._uploads = Uploads(client, self._objects, self._writes, settings, options.cleanup_timeout)
        self._copies = Copies(client, self._objects, self._writes, settings)
        self._presigner = Presigner(client, credentials, settings.user_project)
        if settings.watch == "pubsub":
            watcher = self._watcher = SubscriptionWatcher(
                self._connect_pubsub, self._renew, cleanup_timeout=options.cleanup_timeout
            )
            self._stack.push_async_callback(watcher.aclose)
        self._features = self._find_features()

    def _find_features(self) -> Features:
        signs = self._credentials.signer is not None
        protocols = capabilities_of(self)
        return Features(
            protocols=protocols if signs else protocols - {PresignDriver},
            conditions=_CONDITIONS,
            presign_methods=frozenset(("GET", "PUT", "HEAD", "DELETE", "POST")) if signs else frozenset(),
            native=_NATIVE | {"watch"} if self._watcher is not None else _NATIVE,
            limits=Limits(
                min_part_size=self._settings.min_part_size,
                max_part_size=MAX_PART_SIZE,
                max_parts=MAX_PARTS,
                max_metadata_size=MAX_METADATA,
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

    async def sdk_client(self) -> Any:
        """Return a ``gcloud.aio.storage.Storage`` with the store's credentials, for what the library has no verb for.

        Its session is the store's, and is closed with it.
        """
        self._check_open()
        from gcloud.aio.storage import Storage

        session: Any = await self._credentials.session()
        token: Any = self._credentials  # all that it asks of a Token is `get`
        endpoint = self._settings.endpoint
        return Storage(session=session, token=token, api_root=endpoint, api_is_dev=self._settings.tokenless)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the store is closed")

    async def ping(self) -> None:
        """Ask for the default bucket; without one, list the buckets."""
        self._check_open()
        if self.default_bucket is not None:
            await self._client.require_bucket(self.default_bucket)
        else:
            await self._control.list_buckets()

    def check_key(self, key: str) -> None:
        """Refuse what no object can be named."""
        check_key(key)

    def check_bucket(self, bucket: str) -> None:
        """Refuse names that no bucket can have."""
        check_bucket(bucket)

    # Objects

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        """Store an object, in parts if it is larger than one."""
        self._check_open()
        buffer = body.buffer
        if buffer is not None:
            await body.finish_buffer()
            if len(buffer) <= self._settings.part_size:
                return await self._writes.put(bucket, key, [buffer] if buffer else [], options, body)
        return await self._uploads.put(bucket, key, body, options)

    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        """Open an object."""
        self._check_open()
        return await self._objects.get(bucket, key, options)

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        """Describe an object."""
        self._check_open()
        return await self._objects.head(bucket, key, options)

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Delete an object or a generation of it."""
        self._check_open()
        await self._objects.delete(bucket, key, options)

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> Sequence[DeleteResult]:
        """Delete objects, a hundred in one request."""
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

    async def set_holds(
        self, bucket: str, key: str, *, temporary: bool | None = None, event_based: bool | None = None
    ) -> None:
        """Put holds on an object, or release them; None leaves one as it is.

        An object under a hold can be neither deleted nor replaced, which raises `AccessDeniedError`
        (https://cloud.google.com/storage/docs/object-holds).
        """
        self._check_open()
        wanted = {"temporaryHold": temporary, "eventBasedHold": event_based}
        await self._control.patch(bucket, key, {name: value for name, value in wanted.items() if value is not None})

    # Buckets

    async def create_bucket(self, name: str, options: BucketOptions) -> None:
        """Make a bucket in the project."""
        self._check_open()
        await self._control.create_bucket(name, options.region)

    async def delete_bucket(self, name: str) -> None:
        """Delete an empty bucket."""
        self._check_open()
        await self._control.delete_bucket(name)

    async def list_buckets(self) -> Sequence[BucketInfo]:
        """Return the buckets of the project."""
        self._check_open()
        return await self._control.list_buckets()

    # Multipart

    async def initiate_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        """Begin an upload."""
        self._check_open()
        return await self._uploads.initiate(bucket, key, options.attributes, options.checksum)

    async def upload_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> PartInfo:
        """Store a part, which is held in memory until it is stored."""
        self._check_open()
        if body.buffer is not None:
            await body.finish_buffer()
        source = PartSource(body)
        chunks = await source.take(MAX_PART_SIZE)
        if not source.ended:
            raise InvalidPartError(f"the part has more than {MAX_PART_SIZE} bytes")
        return await self._uploads.send_part(bucket, key, upload_id, number, chunks)

    async def complete_multipart(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartInfo], options: CompleteOptions
    ) -> ObjectInfo:
        """Make the object of the parts; conditions never come here, for they are not declared."""
        self._check_open()
        return await self._uploads.complete(bucket, key, upload_id, parts)

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Give an upload up."""
        self._check_open()
        await self._uploads.abort(bucket, key, upload_id)

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> Sequence[PartInfo]:
        """Return the parts of an upload."""
        self._check_open()
        return await self._uploads.list_parts(bucket, key, upload_id)

    async def list_multipart_uploads(self, bucket: str, prefix: str = "") -> Sequence[UploadInfo]:
        """Return the open uploads."""
        self._check_open()
        return await self._uploads.list_uploads(bucket, prefix)

    # Signed URLs

    async def presign_get(self, bucket: str, key: str, options: PresignOptions) -> str:
        """Sign a GET."""
        return self._presigner.url("GET", bucket, key, options)

    async def presign_put(self, bucket: str, key: str, options: PresignOptions) -> str:
        """Sign a PUT."""
        return self._presigner.url("PUT", bucket, key, options)

    async def presign_head(self, bucket: str, key: str, options: PresignOptions) -> str:
        """Sign a HEAD."""
        return self._presigner.url("HEAD", bucket, key, options)

    async def presign_delete(self, bucket: str, key: str, options: PresignOptions) -> str:
        """Sign a DELETE."""
        return self._presigner.url("DELETE", bucket, key, options)

    async def presign_post(self, bucket: str, key: str, options: PresignPostOptions) -> PresignedPost:
        """Sign a form."""
        return self._presigner.form(bucket, key, options)

    # Versions

    async def set_versioning(self, bucket: str, enabled: bool) -> None:
        """Keep generations from now on, or stop to."""
        self._check_open()
        await self._control.set_versioning(bucket, enabled)

    async def get_versioning(self, bucket: str) -> VersioningStatus:
        """Tell what the bucket does."""
        self._check_open()
        return await self._control.get_versioning(bucket)

    async def list_versions(self, bucket: str, key: str) -> Sequence[VersionInfo]:
        """Return the generations of an object."""
        self._check_open()
        return await self._control.list_versions(bucket, key)

    async def get_version(self, bucket: str, key: str, version_id: str) -> ObjectReader:
        """Open a generation."""
        return await self.get(bucket, key, GetOptions(version_id=version_id))

    async def delete_version(self, bucket: str, key: str, version_id: str) -> None:
        """Delete a generation for good."""
        await self.delete(bucket, key, DeleteOptions(version_id=version_id))

    async def restore_version(self, bucket: str, key: str, version_id: str) -> ObjectInfo:
        """Make a copy of a generation the live one."""
        return await self.copy(bucket, key, bucket, key, CopyOptions(source_version_id=version_id))

    # News

    async def watch(self, bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        """Yield changes: from a subscription to the bucket's notifications, or by comparing listings."""
        self._check_open()
        watcher, subscription = self._watcher, self._settings.subscription
        if watcher is None or subscription is None:
            events = poll(self.list_page, bucket, options)
        else:
            versioned = await self._may_have_versions(bucket)
            project = "" if "/" in subscription else await self._credentials.find_project()
            name = subscription_of(subscription, bucket, project)
            events = watcher.watch(bucket, name, options, versioned=versioned)
        async with aclosing(events):
            async for event in events:
                yield event

    async def _may_have_versions(self, bucket: str) -> bool:
        """Tell whether a bucket keeps, or kept, generations that are not live; one that we may not ask may."""
        try:
            return await self._control.get_versioning(bucket) is not VersioningStatus.UNVERSIONED
        except AccessDeniedError:
            return True

    async def _connect_pubsub(self) -> Any:
        from gcloud.aio.pubsub import SubscriberClient

        if self._subscriber is None:
            endpoint = self._settings.pubsub_endpoint
            session: Any = await self._credentials.session()
            token: Any = self._credentials  # all that it asks of a Token is `get`
            self._subscriber = SubscriberClient(
                session=session,
                token=token,
                api_root=None if endpoint is None else f"{endpoint}/v1",
                api_is_dev=self._settings.tokenless if endpoint is not None else None,
            )
        return self._subscriber

    async def _renew(self) -> bool:
        return await self._credentials.renew(f"Bearer {await self._credentials.get()}")

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
        await self.set_lifecycle(bucket, ())

    # Tags

    async def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        """Return an object's tags, which are hidden in its metadata."""
        self._check_open()
        return await self._control.get_tags(bucket, key)

    async def set_tags(self, bucket: str, key: str, tags: dict[str, str]) -> None:
        """Replace an object's tags."""
        self._check_open()
        await self._control.set_tags(bucket, key, tags)

    async def delete_tags(self, bucket: str, key: str) -> None:
        """Remove an object's tags."""
        self._check_open()
        await self._control.set_tags(bucket, key, {})

    @classmethod
    async def split(cls, dsn: DSN) -> tuple[str, str | None, str]:
        """Take the host of a ``gs`` DSN as the bucket; in a ``gcs`` DSN the host is the project."""
        if dsn.scheme != "gs":
            return await super().split(dsn)
        return replace(dsn, host="", path="").reveal(), dsn.host or None, dsn.path.removeprefix("/")
