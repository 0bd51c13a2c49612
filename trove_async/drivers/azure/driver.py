"""`AzureDriver`: a store in Azure Blob Storage."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar

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
    PresignMethod,
    PresignOptions,
    PresignPostOptions,
    PutOptions,
    VersioningDriver,
    WatchOptions,
    capabilities_of,
)
from trove_async.driver.polling import poll
from trove_async.drivers.azure.bulk import delete_many
from trove_async.drivers.azure.client import Client, Params
from trove_async.drivers.azure.control import Control
from trove_async.drivers.azure.copies import Copies
from trove_async.drivers.azure.headers import MAX_METADATA
from trove_async.drivers.azure.listing import Lister
from trove_async.drivers.azure.multipart import Multipart
from trove_async.drivers.azure.names import check_bucket, check_key, check_new_bucket
from trove_async.drivers.azure.objects import Objects
from trove_async.drivers.azure.presign import Presigner
from trove_async.drivers.azure.puts import Puts
from trove_async.drivers.azure.queue import QueueWatcher
from trove_async.drivers.azure.sas import MAX_SECONDS, Signatures
from trove_async.drivers.azure.sdk import open_client
from trove_async.drivers.azure.settings import MAX_PART_SIZE, AzureSettings
from trove_async.drivers.azure.snapshots import Snapshots
from trove_async.drivers.azure.staging import Staging
from trove_async.drivers.azure.tags import Tags
from trove_async.drivers.azure.tokens import Tokens
from trove_async.drivers.azure.uploads import MAX_BLOCKS, Uploads
from trove_async.drivers.azure.versions import AccountVersions, Versions
from trove_async.dsn import DSN
from trove_async.errors import (
    ClosedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    TransientError,
    UnsupportedError,
)
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
from trove_async.wire.transport import Transport

__all__ = ["AzureDriver"]

_CONDITIONS: Final[frozenset[Condition]] = frozenset(
    ("put_if_none_match", "put_if_match", "get", "delete", "copy", "complete")
)
_METHODS: Final[frozenset[PresignMethod]] = frozenset(("GET", "PUT", "HEAD", "DELETE"))
_NATIVE: Final = frozenset(("multipart", "presign", "versioning", "range", "server_copy", "tags")) | {
    f"conditional_{condition.partition('_if_')[0]}" for condition in _CONDITIONS
}
_LOOKS: Final = 5
"""How often a version is looked for whose object is replaced each time."""

T = TypeVar("T")
ReadOptions = TypeVar("ReadOptions", bound=HeadOptions)


class AzureDriver(Driver):
    """Objects in Azure Blob Storage. ``docs/azure.md`` tells the parameters of the DSN, and what the service lacks."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._closed = False
        self._features = Features()
        self._settings: AzureSettings
        self._client: Client
        self._objects: Objects
        self._lister: Lister
        self._control: Control
        self._uploads: Uploads
        self._puts: Puts
        self._tags: Tags
        self._copies: Copies
        self._multipart: Multipart
        self._presigner: Presigner
        self._versions: Versions
        self._transport: Transport
        self._tokens: Tokens
        self._queues: QueueWatcher | None = None
        self._sdk_client: Any = None

    @property
    def name(self) -> str:
        """``azure``."""
        return "azure"

    @property
    def features(self) -> Features:
        """What the service has, and what the credentials allow."""
        return self._features

    # Life

    async def open(self, dsn: DSN, options: OpenOptions) -> None:
        """Read the DSN and the environment; the first connection is made by the first request."""
        settings = self._settings = AzureSettings.of(dsn, options)
        account, timeout = settings.account, options.cleanup_timeout
        self.default_bucket = settings.bucket
        tokens = self._tokens = Tokens(account.credential, settings.network)
        self._stack.push_async_callback(tokens.close)
        transport = self._transport = await settings.network.transport()
        self._stack.push_async_callback(transport.aclose)
        client = self._client = Client(account, tokens, transport, settings.network.attempts, account.endpoint)
        signatures = Signatures(account, client)
        objects = self._objects = Objects(client, settings)
        lister = self._lister = Lister(client, metadata=settings.versions == "snapshots")
        self._control = Control(client, objects, lister)
        self._uploads = Uploads(client, objects, settings, timeout)
        self._tags = Tags(client)
        staging = Staging(objects, self._uploads, timeout)
        self._copies = Copies(client, objects, self._uploads, self._tags, staging, signatures, settings, timeout)
        self._puts = Puts(objects, self._uploads, self._copies, staging, settings)
        self._multipart = Multipart(client, objects, self._uploads, self._copies, lister, staging, timeout)
        self._presigner = Presigner(client, signatures)
        self._versions = self._open_versions()
        if settings.watch == "queue" and settings.queue is not None:
            service = Client(account, tokens, transport, settings.network.attempts, account.queue_endpoint)
            queues = self._queues = QueueWatcher(service, settings.queue, cleanup_timeout=timeout)
            self._stack.push_async_callback(queues.aclose)
        self._features = self._find_features(signs=signatures.possible)

    def _open_versions(self) -> Versions:
        if self._settings.versions == "none":
            return Versions(self._objects)
        if self._settings.versions == "native":
            return AccountVersions(self._client, self._objects, self._lister, self._copies)
        snapshots = Snapshots(self._client, self._objects, self._lister, self._control, self._copies)
        self._objects.gate = snapshots
        return snapshots

    def _find_features(self, *, signs: bool) -> Features:
        lacking: set[type] = set()
        if not signs:
            lacking.add(PresignDriver)
        if self._settings.versions == "none":
            lacking.add(VersioningDriver)
        return Features(
            protocols=capabilities_of(self) - lacking,
            conditions=_CONDITIONS,
            presign_methods=_METHODS if signs else frozenset(),
            native=_NATIVE | ({"watch"} if self._settings.watch == "queue" else set()),
            limits=Limits(
                max_part_size=MAX_PART_SIZE,
                max_parts=MAX_BLOCKS,
                max_put_size=5000 * 1024 * 1024,
                max_copy_size=self._settings.max_copy_size,
                max_metadata_size=MAX_METADATA,
                max_presign_seconds=MAX_SECONDS,
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
        """Return the SDK's ``BlobServiceClient`` for this account, for what the library has no verb for.

        It is made at the first call and closed with the store; it has the store's credentials.
        """
        self._check_open()
        if self._sdk_client is None:
            self._sdk_client = await open_client(self._settings, self._tokens)
            self._stack.push_async_callback(self._sdk_client.close)
        return self._sdk_client

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the store is closed")

    async def ping(self) -> None:
        """Ask for the default container; without one, list the containers."""
        self._check_open()
        if self.default_bucket is not None:
            await self._objects.require_bucket(self.default_bucket)
        else:
            await self._control.list_buckets()

    def check_key(self, key: str) -> None:
        """Refuse what the service cannot hold or list."""
        check_key(key)

    def check_bucket(self, bucket: str) -> None:
        """Refuse names that no container can have."""
        check_bucket(bucket)

    # Objects

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        """Store an object, in blocks if it is larger than one."""
        self._check_open()
        buffer = body.buffer
        if buffer is not None:
            await body.finish_buffer()
            if len(buffer) <= self._settings.part_size:
                return await self._objects.put(bucket, key, [buffer] if buffer else [], options, body)
        return await self._puts.put(bucket, key, body, options)

    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        """Open an object."""
        self._check_open()
        if options.version_id is None:
            return await self._objects.get(bucket, key, options)
        return await self._of_version(bucket, key, options.version_id, options, self._objects.get)

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        """Describe an object."""
        self._check_open()
        if options.version_id is None:
            return await self._objects.head(bucket, key, options)
        return await self._of_version(bucket, key, options.version_id, options, self._objects.head)

    async def _of_version(
        self,
        bucket: str,
        key: str,
        version_id: str,
        options: ReadOptions,
        read: Callable[[str, str, ReadOptions, Params], Awaitable[T]],
    ) -> T:
        """Read a version; one that is the object itself is held to its ETag, and looked for again if that is gone."""
        for _ in range(_LOOKS):
            found = await self._versions.find(bucket, key, version_id)
            if found.etag is None or options.if_match is not None:
                return await read(bucket, key, options, found.params)
            try:
                return await read(bucket, key, replace(options, if_match=found.etag), ())
            except (PreconditionFailedError, ObjectNotFoundError):
                continue
        raise TransientError("the object was replaced again and again while its version was looked for")

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Delete an object or a version."""
        self._check_open()
        await self._versions.delete(bucket, key, options)

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> Sequence[DeleteResult]:
        """Delete objects, some at a time: a request for each."""
        self._check_open()
        return await delete_many(self._versions, bucket, keys)

    async def copy(
        self, src_bucket: str, src_key: str, dst_bucket: str, dst_key: str, options: CopyOptions
    ) -> ObjectInfo:
        """Copy an object within the account."""
        self._check_open()
        params: Params = ()
        if options.source_version_id is not None:
            found = await self._versions.find(src_bucket, src_key, options.source_version_id)
            params = found.params
            if found.etag is not None and options.source_if_match is None:
                options = replace(options, source_if_match=found.etag)
        return await self._copies.copy(ObjectRef(src_bucket, src_key), ObjectRef(dst_bucket, dst_key), options, params)

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
        return await self._lister.list_page(bucket, options)

    # Buckets

    async def create_bucket(self, name: str, options: BucketOptions) -> None:
        """Make a container; it is where the account is."""
        self._check_open()
        check_new_bucket(name)
        await self._control.create_bucket(name)

    async def delete_bucket(self, name: str) -> None:
        """Delete an empty container."""
        self._check_open()
        await self._control.delete_bucket(name, self._versions.include)

    async def list_buckets(self) -> Sequence[BucketInfo]:
        """Return the containers of the account."""
        self._check_open()
        return await self._control.list_buckets()

    # Multipart

    async def initiate_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        """Begin an upload."""
        self._check_open()
        return await self._multipart.initiate(bucket, key, options)

    async def upload_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> PartInfo:
        """Store a part, which is held in memory until it is stored."""
        self._check_open()
        if body.buffer is not None:
            await body.finish_buffer()
        return await self._multipart.send_part(bucket, key, upload_id, number, body)

    async def complete_multipart(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartInfo], options: CompleteOptions
    ) -> ObjectInfo:
        """Make the object of the parts."""
        self._check_open()
        return await self._multipart.complete(bucket, key, upload_id, parts, options)

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Give an upload up."""
        self._check_open()
        await self._multipart.abort(bucket, key, upload_id)

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> Sequence[PartInfo]:
        """Return the parts of an upload."""
        self._check_open()
        return await self._multipart.parts(bucket, key, upload_id)

    async def list_multipart_uploads(self, bucket: str, prefix: str = "") -> Sequence[UploadInfo]:
        """Return the open uploads."""
        self._check_open()
        return await self._multipart.open_uploads(bucket, prefix)

    # Signed URLs

    async def presign_get(self, bucket: str, key: str, options: PresignOptions) -> str:
        """Sign a GET."""
        return await self._sign("GET", bucket, key, options)

    async def presign_put(self, bucket: str, key: str, options: PresignOptions) -> str:
        """Sign a PUT; whoever sends it says ``x-ms-blob-type: BlockBlob`` in a header."""
        return await self._sign("PUT", bucket, key, options)

    async def presign_head(self, bucket: str, key: str, options: PresignOptions) -> str:
        """Sign a HEAD."""
        return await self._sign("HEAD", bucket, key, options)

    async def presign_delete(self, bucket: str, key: str, options: PresignOptions) -> str:
        """Sign a DELETE."""
        return await self._sign("DELETE", bucket, key, options)

    async def presign_post(self, bucket: str, key: str, options: PresignPostOptions) -> PresignedPost:
        """Refuse: Azure has no such form."""
        raise UnsupportedError("Azure has no forms: presign a PUT", driver=self.name)

    async def _sign(self, method: PresignMethod, bucket: str, key: str, options: PresignOptions) -> str:
        self._check_open()
        params = () if options.version_id is None else await self._versions.pin(bucket, key, options.version_id)
        return await self._presigner.url(method, bucket, key, options, params)

    # Versions

    async def set_versioning(self, bucket: str, enabled: bool) -> None:
        """Keep versions from now on, or stop to."""
        self._check_open()
        await self._versions.set(bucket, enabled)

    async def get_versioning(self, bucket: str) -> VersioningStatus:
        """Tell what the container does."""
        self._check_open()
        return await self._versions.status(bucket)

    async def versioned_keys(self, bucket: str) -> Sequence[str]:
        """Return the keys that have versions or delete markers; not of a store without versions."""
        self._check_open()
        return await self._versions.keys(bucket)

    async def leftovers(self, bucket: str) -> Sequence[str]:
        """Return the names of the blobs of copies and uploads that did not end, as of processes that were killed.

        Those of uploads are not among them as long as the upload is open.
        """
        self._check_open()
        return [info.key for info in await self._multipart.leftovers(bucket)]

    async def sweep(self, bucket: str, older_than: timedelta = timedelta(days=1)) -> Sequence[str]:
        """Remove `leftovers` that nobody has written to for so long, and return their names."""
        self._check_open()
        return await self._multipart.sweep(bucket, older_than)

    async def list_versions(self, bucket: str, key: str) -> Sequence[VersionInfo]:
        """Return versions and markers."""
        self._check_open()
        return await self._versions.history(bucket, key)

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
        """Yield changes: from a storage queue that Event Grid feeds, or by comparing listings."""
        self._check_open()
        async with aclosing(self._events(bucket, options)) as events:
            async for event in events:
                yield event

    def _events(self, bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        if self._queues is None:
            return poll(self.list_page, bucket, options)
        return self._queues.watch(bucket, options, prepare=partial(self._objects.require_bucket, bucket))

    # Lifecycle

    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        """Store rules, which the sweeper carries out."""
        self._check_open()
        await self._control.change_settings(bucket, lifecycle=tuple(rules))

    async def get_lifecycle(self, bucket: str) -> Sequence[LifecycleRule]:
        """Return the rules."""
        self._check_open()
        return list((await self._control.settings(bucket)).lifecycle)

    async def delete_lifecycle(self, bucket: str) -> None:
        """Remove the rules."""
        await self.set_lifecycle(bucket, ())

    async def expire(self, bucket: str, key: str, if_match: str) -> None:
        """Delete an object, if it is that one."""
        await self.delete(bucket, key, DeleteOptions(if_match=if_match))

    async def transition(self, bucket: str, key: str, storage_class: str, if_match: str) -> None:
        """Move an object to another access tier."""
        self._check_open()
        await self._objects.head(bucket, key, HeadOptions(if_match=if_match))
        await self._control.set_tier(bucket, key, storage_class)

    async def list_noncurrent(self, bucket: str, prefix: str = "") -> Sequence[VersionInfo]:
        """Return the versions that are not the latest."""
        self._check_open()
        return await self._versions.list_noncurrent(bucket, prefix)

    # Tags

    async def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        """Return an object's tags."""
        self._check_open()
        return await self._tags.get(bucket, key)

    async def set_tags(self, bucket: str, key: str, tags: dict[str, str]) -> None:
        """Replace an object's tags."""
        self._check_open()
        await self._tags.set(bucket, key, tags)

    async def delete_tags(self, bucket: str, key: str) -> None:
        """Remove an object's tags."""
        await self.set_tags(bucket, key, {})

    @classmethod
    async def split(cls, dsn: DSN) -> tuple[str, str | None, str]:
        """Take the host as the bucket: the account stands before it."""
        return replace(dsn, host="", path="").reveal(), dsn.host or None, dsn.path.removeprefix("/")
