"""`GCSDriver`: a store in Google Cloud Storage."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

from trove_async.driver import Condition, Features, Limits, OpenOptions, PresignDriver, WatchOptions, capabilities_of
from trove_async.drivers.gcs.client import Client
from trove_async.drivers.gcs.control import Control
from trove_async.drivers.gcs.copies import Copies
from trove_async.drivers.gcs.credentials import Credentials
from trove_async.drivers.gcs.listing import Listing
from trove_async.drivers.gcs.multipart import Multipart
from trove_async.drivers.gcs.names import check_bucket, check_key
from trove_async.drivers.gcs.objects import Objects
from trove_async.drivers.gcs.presign import Presigner
from trove_async.drivers.gcs.pubsub import SubscriptionWatcher, subscription_of
from trove_async.drivers.gcs.resources import MAX_METADATA
from trove_async.drivers.gcs.settings import MAX_PART_SIZE, GCSSettings
from trove_async.drivers.gcs.uploads import MAX_PARTS, Uploads
from trove_async.drivers.gcs.versions import VersionListing
from trove_async.dsn import DSN
from trove_async.errors import AccessDeniedError
from trove_async.types import ObjectEvent, VersioningStatus
from trove_async.wire.driver import HTTPDriver

__all__ = ["GCSDriver"]

_CONDITIONS: Final[frozenset[Condition]] = frozenset(("put_if_none_match", "put_if_match", "get", "delete", "copy"))
"""All but those of a completion, which the service does not take."""

_NATIVE: Final = frozenset(
    ("multipart", "presign", "versioning", "version_listing", "lifecycle", "range", "server_copy", "bulk_delete")
) | {f"conditional_{condition.partition('_if_')[0]}" for condition in _CONDITIONS}


class GCSDriver(HTTPDriver):
    """Objects in Google Cloud Storage; ``docs/gcs.md`` says what is particular to it."""

    _settings: GCSSettings
    _credentials: Credentials
    _control: Control
    _watcher: SubscriptionWatcher | None = None
    _subscriber: Any = None

    @property
    def name(self) -> str:
        """``gcs``."""
        return "gcs"

    @classmethod
    def check_dsn(cls, dsn: DSN, options: OpenOptions) -> None:
        """Read it."""
        GCSSettings.of(dsn, options)

    async def open(self, dsn: DSN, options: OpenOptions) -> None:
        """Read the DSN and the credentials; the first connection is made by the first request."""
        settings = self._settings = GCSSettings.of(dsn, options)
        timeout = options.cleanup_timeout
        self.default_bucket, self.default_prefix = settings.bucket, settings.prefix
        self._part_size = settings.part_size
        credentials = self._credentials = Credentials(settings)
        self._stack.push_async_callback(credentials.close)
        await credentials.open()
        client = Client(settings, credentials, *await self._open_transport(settings.network))
        objects = self._objects = Objects(client, settings)
        uploads = self._uploads = Uploads(client, objects, settings, timeout)
        control = self._control = Control(client, credentials, settings)
        objects.read_tags = control.get_tags
        self._listing = Listing(client)
        self._version_listing = VersionListing(client)
        self._multipart = Multipart(client, uploads, objects, timeout)
        self._copies = Copies(client, objects, settings)
        self._presigner = Presigner(client, credentials, settings.user_project)
        if settings.watch == "pubsub":
            watcher = self._watcher = SubscriptionWatcher(self._connect_pubsub, self._renew, cleanup_timeout=timeout)
            self._stack.push_async_callback(watcher.aclose)
        self._features = self._find_features()

    def _find_features(self) -> Features:
        signs = self._credentials.signer is not None
        features = Features(
            protocols=capabilities_of(self),
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
        return features if signs else features.without({PresignDriver: "the credentials cannot sign URLs"})

    @classmethod
    async def split(cls, dsn: DSN) -> tuple[str, str | None, str]:
        """Take the host of a ``gs`` DSN as the bucket; in a ``gcs`` DSN the host is the project."""
        if dsn.scheme != "gs":
            return await super().split(dsn)
        return replace(dsn, host="", path="").reveal(), dsn.host or None, dsn.path.removeprefix("/")

    async def sdk_client(self) -> Any:
        """Return a ``gcloud.aio.storage.Storage`` with the store's credentials, for what the library has no verb for.

        Its session is the store's, and is closed with it.
        """
        from gcloud.aio.storage import Storage

        session: Any = await self._credentials.session()
        token: Any = self._credentials  # the client calls only `get` of its token
        endpoint = self._settings.endpoint
        return Storage(session=session, token=token, api_root=endpoint, api_is_dev=self._settings.tokenless)

    def check_key(self, key: str) -> None:
        """Refuse names that no object can have."""
        check_key(key)

    def check_bucket(self, bucket: str) -> None:
        """Refuse names that no bucket can have."""
        check_bucket(bucket)

    async def set_holds(
        self, bucket: str, key: str, *, temporary: bool | None = None, event_based: bool | None = None
    ) -> None:
        """Put holds on an object, or release them; None leaves a hold as it is.

        An object under a hold can be neither deleted nor replaced, which raises `AccessDeniedError`
        (https://cloud.google.com/storage/docs/object-holds).
        """
        wanted = {"temporaryHold": temporary, "eventBasedHold": event_based}
        await self._control.patch(bucket, key, {name: value for name, value in wanted.items() if value is not None})

    # Events

    def _events(self, bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        """Return the changes from a subscription to the bucket's notifications, or from comparing listings."""
        watcher, subscription = self._watcher, self._settings.subscription
        if watcher is None or subscription is None:
            return super()._events(bucket, options)
        return self._subscribed(watcher, subscription, bucket, options)

    async def _subscribed(
        self, watcher: SubscriptionWatcher, subscription: str, bucket: str, options: WatchOptions
    ) -> AsyncGenerator[ObjectEvent, None]:
        versioned = await self._may_have_versions(bucket)
        project = "" if "/" in subscription else await self._credentials.find_project()
        name = subscription_of(subscription, bucket, project)
        async with aclosing(watcher.watch(bucket, name, options, versioned=versioned)) as events:
            async for event in events:
                yield event

    async def _may_have_versions(self, bucket: str) -> bool:
        """Tell whether a bucket has, or may have, generations that are not live."""
        try:
            return await self._control.get_versioning(bucket) is not VersioningStatus.UNVERSIONED
        except AccessDeniedError:
            return True  # the credentials may not ask

    async def _connect_pubsub(self) -> Any:
        from gcloud.aio.pubsub import SubscriberClient

        if self._subscriber is None:
            endpoint = self._settings.pubsub_endpoint
            session: Any = await self._credentials.session()
            token: Any = self._credentials  # the client calls only `get` of its token
            self._subscriber = SubscriberClient(
                session=session,
                token=token,
                api_root=None if endpoint is None else f"{endpoint}/v1",
                api_is_dev=self._settings.tokenless if endpoint is not None else None,
            )
        return self._subscriber

    async def _renew(self) -> bool:
        return await self._credentials.renew(f"Bearer {await self._credentials.get()}")
