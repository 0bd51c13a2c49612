"""`AzureDriver`: a store in Azure Blob Storage."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Final

from trove_async.driver import (
    Condition,
    ExpireByDelete,
    Features,
    Limits,
    OpenOptions,
    PresignDriver,
    PresignMethod,
    VersioningDriver,
    VersionListingDriver,
    WatchOptions,
    capabilities_of,
)
from trove_async.drivers.azure.blocks import Blocks
from trove_async.drivers.azure.client import Client
from trove_async.drivers.azure.configuration import Configurations
from trove_async.drivers.azure.control import Control
from trove_async.drivers.azure.copies import Copies
from trove_async.drivers.azure.headers import MAX_METADATA
from trove_async.drivers.azure.listing import Listing
from trove_async.drivers.azure.multipart import Multipart
from trove_async.drivers.azure.names import check_bucket, check_key
from trove_async.drivers.azure.objects import Objects
from trove_async.drivers.azure.presign import Presigner
from trove_async.drivers.azure.queue import QueueWatcher
from trove_async.drivers.azure.sas import MAX_SECONDS, Signatures
from trove_async.drivers.azure.session import Session
from trove_async.drivers.azure.settings import MAX_BLOCKS, MAX_PART_SIZE, AzureSettings
from trove_async.drivers.azure.snapshots import Snapshots
from trove_async.drivers.azure.tokens import Tokens
from trove_async.drivers.azure.uploads import Uploads
from trove_async.drivers.azure.versions import AccountVersions, Versions
from trove_async.dsn import DSN
from trove_async.types import ObjectEvent, VersionInfo
from trove_async.wire.driver import HTTPDriver, PartCopyByHTTP
from trove_async.wire.multipart import MIB

__all__ = ["AzureDriver"]

_CONDITIONS: Final[frozenset[Condition]] = frozenset(
    ("put_if_none_match", "put_if_match", "get", "delete", "copy", "complete")
)
_METHODS: Final[frozenset[PresignMethod]] = frozenset(("GET", "PUT", "HEAD", "DELETE"))
_NATIVE: Final = frozenset(
    ("multipart", "part_copy", "presign", "versioning", "version_listing", "range", "server_copy", "tags")
) | {f"conditional_{condition.partition('_if_')[0]}" for condition in _CONDITIONS}


class AzureDriver(ExpireByDelete, PartCopyByHTTP, HTTPDriver):
    """Objects in Azure Blob Storage. ``docs/azure.md`` lists the parameters of the DSN, and what the service lacks."""

    _settings: AzureSettings
    _session: Session
    _client: Client
    _control: Control
    _multipart: Multipart
    _versions: Versions
    _queues: QueueWatcher | None = None

    @property
    def name(self) -> str:
        """``azure``."""
        return "azure"

    @classmethod
    def check_dsn(cls, dsn: DSN, options: OpenOptions) -> None:
        """Read it."""
        AzureSettings.of(dsn, options)

    async def open(self, dsn: DSN, options: OpenOptions) -> None:
        """Read the DSN and the environment; the first connection is made by the first request."""
        settings = self._settings = AzureSettings.of(dsn, options)
        account, timeout = settings.account, options.cleanup_timeout
        self.default_bucket, self.default_prefix = settings.bucket, settings.prefix
        self._part_size = settings.part_size
        tokens = Tokens(account.credential, settings.network)
        self._stack.push_async_callback(tokens.close)
        session = self._session = Session(settings, tokens)
        self._stack.push_async_callback(session.close)
        transport, retries = await self._open_transport(settings.network)
        client = self._client = Client(account, tokens, transport, retries, account.endpoint)
        signatures = Signatures(account, client)
        configurations = Configurations(client)
        listing = self._listing = Listing(client, delete_markers=settings.versions == "snapshots")
        versions = self._versions = self._version_listing = _versions_of(
            settings, client, listing, signatures, configurations
        )
        objects = self._objects = Objects(client, settings, versions)
        control = self._control = Control(client, objects, listing, versions, configurations)
        objects.read_tags = control.get_tags
        blocks = Blocks(client, settings, timeout)
        copies = self._copies = Copies(client, objects, blocks, control, versions, signatures, settings, timeout)
        self._uploads = Uploads(objects, blocks, copies, versions, settings, timeout, retries)
        self._multipart = self._part_copies = Multipart(client, objects, blocks, copies, listing, timeout)
        self._presigner = Presigner(client, signatures, versions)
        if settings.watch == "queue" and settings.queue is not None:
            service = Client(account, tokens, transport, retries, account.queue_endpoint)
            queues = self._queues = QueueWatcher(service, settings.queue, cleanup_timeout=timeout)
            self._stack.push_async_callback(queues.aclose)
        self._features = self._find_features(signs=signatures.possible)

    def _find_features(self, *, signs: bool) -> Features:
        settings = self._settings
        reasons: dict[type | str, str] = {}
        if not signs:
            reasons[PresignDriver] = "the credentials cannot sign URLs"
        if settings.versions == "none":
            reasons[VersioningDriver] = reasons[VersionListingDriver] = "open it with versions=native or =snapshots"
        features = Features(
            protocols=capabilities_of(self),
            conditions=_CONDITIONS,
            presign_methods=_METHODS if signs else frozenset(),
            native=_NATIVE | ({"watch"} if settings.watch == "queue" else set()),
            limits=Limits(
                max_part_size=MAX_PART_SIZE,
                max_parts=MAX_BLOCKS,
                max_put_size=5000 * MIB,
                max_copy_size=settings.max_copy_size,
                max_metadata_size=MAX_METADATA,
                max_presign_seconds=MAX_SECONDS,
            ),
        )
        return features.without(reasons)

    async def sdk_client(self) -> Any:
        """Return the SDK's ``BlobServiceClient`` for this account, for what the library has no verb for.

        It is made by the first call and closed with the store; it has the store's credentials.
        """
        return await self._session.client()

    def check_key(self, key: str) -> None:
        """Refuse what the service cannot hold or list."""
        check_key(key)

    def check_bucket(self, bucket: str) -> None:
        """Refuse names that no container can have."""
        check_bucket(bucket)

    # Hidden blobs

    async def leftovers(self, bucket: str) -> Sequence[str]:
        """Return the names of the hidden blobs that copies and uploads have left that did not end.

        A process that was killed leaves such blobs. Those of open uploads are not among them.
        """
        return [info.key for info in await self._multipart.leftovers(bucket)]

    async def sweep(self, bucket: str, older_than: timedelta = timedelta(days=1)) -> Sequence[str]:
        """Remove `leftovers` that were last written to longer ago than that, and return their names."""
        return await self._multipart.sweep(bucket, older_than)

    # Versions and lifecycle

    async def list_noncurrent(self, bucket: str, prefix: str = "") -> Sequence[VersionInfo]:
        """Return the versions that are not the latest."""
        return await self._versions.list_noncurrent(bucket, prefix)

    async def transition(self, bucket: str, key: str, storage_class: str, if_match: str) -> None:
        """Move an object to another access tier."""
        await self._control.transition(bucket, key, storage_class, if_match)

    # Events

    def _events(self, bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        """Return the changes from a storage queue that Event Grid feeds, or from comparing listings."""
        if self._queues is None:
            return super()._events(bucket, options)
        return self._queues.watch(bucket, options, prepare=partial(self._client.require_bucket, bucket))

    @classmethod
    async def split(cls, dsn: DSN) -> tuple[str, str | None, str]:
        """Take the host as the bucket: the account stands before it."""
        return replace(dsn, host="", path="").reveal(), dsn.host or None, dsn.path.removeprefix("/")


def _versions_of(
    settings: AzureSettings,
    client: Client,
    listing: Listing,
    signatures: Signatures,
    configurations: Configurations,
) -> Versions:
    """Return what keeps the versions of a store."""
    if settings.versions == "none":
        return Versions(client)
    if settings.versions == "native":
        return AccountVersions(client, listing, signatures)
    return Snapshots(client, listing, signatures, configurations)
