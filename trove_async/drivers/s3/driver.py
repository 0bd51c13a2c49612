"""`S3Driver`: a store in Amazon S3, or in a service with the same protocol."""

from __future__ import annotations

import math
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from trove_async.driver import (
    BulkDeleteDriver,
    Condition,
    Features,
    LifecycleDriver,
    Limits,
    OpenOptions,
    PartCopyDriver,
    PresignDriver,
    TaggingDriver,
    VersioningDriver,
    VersionListingDriver,
    WatchOptions,
    capabilities_of,
)
from trove_async.driver.retry import Budget, Retries
from trove_async.drivers.s3.aws_files import configured_endpoints, read_configured_endpoints
from trove_async.drivers.s3.client import Client
from trove_async.drivers.s3.control import Control
from trove_async.drivers.s3.copies import Copies
from trove_async.drivers.s3.listing import Listing
from trove_async.drivers.s3.multipart import Multipart
from trove_async.drivers.s3.names import check_bucket, check_key
from trove_async.drivers.s3.objects import Objects
from trove_async.drivers.s3.presign import Presigner
from trove_async.drivers.s3.profiles import Profile
from trove_async.drivers.s3.session import Session
from trove_async.drivers.s3.settings import S3Settings
from trove_async.drivers.s3.uploads import Uploads
from trove_async.drivers.s3.versions import VersionListing
from trove_async.dsn import DSN, SettingsParser
from trove_async.errors import InvalidArgumentError
from trove_async.types import ObjectEvent
from trove_async.wire.driver import HTTPDriver, PartCopyByHTTP

if TYPE_CHECKING:
    from trove_async.drivers.s3.probe import Probe
    from trove_async.drivers.s3.probing import Prober
    from trove_async.drivers.s3.sqs import QueueWatcher

__all__ = ["S3Driver"]


class S3Driver(PartCopyByHTTP, HTTPDriver):
    """Objects in S3. ``docs/s3.md`` lists the parameters of the DSN, and the missing features of each service."""

    _settings: S3Settings
    _profile: Profile
    _session: Session
    _client: Client
    _control: Control
    _listing: Listing
    _queues: QueueWatcher | None = None

    @property
    def name(self) -> str:
        """``s3``."""
        return "s3"

    @classmethod
    def check_dsn(cls, dsn: DSN, options: OpenOptions) -> None:
        """Read it, and the endpoints of the AWS SDKs' files."""
        aws_profile = SettingsParser(dsn, options.settings).text("aws_profile")
        S3Settings.of(dsn, options, read_configured_endpoints(aws_profile))

    async def open(self, dsn: DSN, options: OpenOptions) -> None:
        """Parse the DSN and find the credentials; the first request makes the first connection."""
        configured = await configured_endpoints(SettingsParser(dsn, options.settings).text("aws_profile"))
        settings = self._settings = S3Settings.of(dsn, options, configured)
        profile = self._profile = settings.dialect()
        timeout = options.cleanup_timeout
        self.default_bucket, self.default_prefix = settings.bucket, settings.prefix
        self._part_size = settings.part_size
        session = self._session = Session(settings, profile)
        self._stack.push_async_callback(session.close)
        await session.open()
        transport, retries = await self._open_transport(settings.network)
        client = self._client = Client(settings, session, transport, retries)
        objects = self._objects = Objects(client, settings, profile)
        regional = Client(settings, session, transport, retries, accelerate=False)
        control = self._control = Control(regional, session, profile, requester_pays=settings.requester_pays)
        objects.read_tags = control.get_tags if profile.tags else None
        uploads = self._uploads = Uploads(client, objects, settings, profile, timeout)
        self._listing = Listing(client)
        self._version_listing = VersionListing(client, profile)
        self._multipart = Multipart(uploads, objects, control, profile, timeout)
        copies = Copies(client, objects, uploads, control, settings, profile, timeout)
        self._copies = self._part_copies = copies
        self._presigner = Presigner(client, settings)
        if settings.watch == "sqs" and settings.queue is not None:
            from trove_async.drivers.s3.sqs import QueueWatcher

            queues = self._queues = QueueWatcher(self._sqs, settings.queue, cleanup_timeout=timeout)
            self._stack.push_async_callback(queues.aclose)
        self._features = self._find_features()

    def _find_features(self) -> Features:
        profile, settings = self._profile, self._settings
        service = f"the service has none, says the profile {profile.name!r}"
        lacking: dict[type | str, bool] = {
            BulkDeleteDriver: not profile.bulk_delete,
            LifecycleDriver: not profile.lifecycle,
            PartCopyDriver: not profile.part_copies,
            PresignDriver: settings.anonymous,
            TaggingDriver: not profile.tags,
            VersioningDriver: not profile.versioning,
            VersionListingDriver: not profile.versioning,
        }
        reasons: dict[type | str, str] = {protocol: service for protocol, lacks in lacking.items() if lacks}
        if settings.anonymous:
            reasons[PresignDriver] = "it was opened without credentials, which sign the URLs"
        undeclared = (
            f"the profile {profile.name!r} does not declare it; if the service has it, open the store with profile= or "
            "conditions=, which 'trove ping --probe' finds out"
        )
        reasons |= {condition: undeclared for condition in get_args(Condition) if condition not in profile.conditions}
        native = {
            "multipart",
            "part_copy",
            "presign",
            "versioning",
            "version_listing",
            "lifecycle",
            "range",
            "server_copy",
            "tags",
            "bulk_delete",
        }
        if settings.watch == "sqs":
            native.add("watch")
        native |= {f"conditional_{condition.partition('_if_')[0]}" for condition in profile.conditions}
        features = Features(
            protocols=capabilities_of(self),
            conditions=profile.conditions,
            presign_methods=frozenset() if settings.anonymous else frozenset(("GET", "PUT", "HEAD", "DELETE", "POST")),
            native=frozenset(native),
            limits=Limits(
                min_part_size=profile.min_part_size,
                max_part_size=profile.max_part_size,
                max_parts=profile.max_parts,
                equal_parts=profile.equal_parts,
                max_put_size=profile.max_put_size,
                max_copy_size=profile.max_copy_size,
                max_metadata_size=2048,
            ),
        )
        return features.without(reasons)

    async def sdk_client(self, service: str = "s3") -> Any:
        """Return the store's aiobotocore client, for features that the library does not have; closed with the store.

        Args:
            service: ``s3``, or another one of Amazon's, such as ``sqs``.
        """
        return await self._session.client(service)

    async def probe(self, bucket: str | None = None) -> Probe:
        """Determine by requests which conditions and features the service has.

        A condition counts as honoured only if a request whose condition holds succeeds, one whose condition does not
        hold is refused, the refused one has changed nothing, and one of ten concurrent writes of an object succeeds.

        In some hundreds of requests it stores small objects and one of 11 MiB, under the prefix of the DSN and a random
        prefix that begins with ``trove-probe-``, and removes them with their versions and uploads, also if it fails or
        is cancelled. For a moment there are keys with control characters: a service that cannot list these fails every
        listing of the bucket meanwhile.

        Args:
            bucket: the bucket to write to; None for the default bucket.

        Raises:
            InvalidArgumentError: there is no bucket to write to.
            TroveError: a request failed for a reason that is not a property of the service: the bucket does not
                exist, the credentials may not write to it, or a connection broke.
        """
        from trove_async.drivers.s3.probe import probe

        bucket = bucket or self.default_bucket
        if bucket is None:
            raise InvalidArgumentError("a probe needs a bucket to write to; name one in the DSN: s3://region/bucket")
        prefix = f"{self.default_prefix}trove-probe-{secrets.token_hex(8)}/"
        return await probe(self.prober(bucket, prefix), self._settings.endpoint)

    def prober(self, bucket: str, prefix: str) -> Prober:
        """Return the prober for a bucket."""
        from trove_async.drivers.s3.probing import Prober

        # Its races make a service fail on purpose, Ceph with status 500, for which the store's budget is too small.
        unlimited = Retries(replace(self._retries.policy, budget=Budget(math.inf)))
        client = Client(self._settings, self._session, self._transport, unlimited)
        return Prober(client, self._control, self._listing, self._settings, self._profile, bucket, prefix)

    def check_key(self, key: str) -> None:
        """Refuse keys that the service cannot store or list."""
        check_key(key, self._profile)

    def check_bucket(self, bucket: str) -> None:
        """Refuse names that no bucket can have."""
        check_bucket(bucket, self._profile)

    def _events(self, bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        """Return the events from the bucket's queue, or from comparing listings."""
        if self._queues is None:
            return super()._events(bucket, options)
        return self._queues.watch(bucket, options, prepare=partial(self._prepare_queue, bucket))

    async def _prepare_queue(self, bucket: str) -> None:
        settings = self._settings
        if not settings.watch_setup or settings.queue is None:
            await self._objects.require_bucket(bucket)
            return
        from trove_async.drivers.s3.queue_setup import setup_queue
        from trove_async.drivers.s3.sqs import queue_of

        queues = await self._session.client("sqs", settings.queue_endpoint)
        await setup_queue(await self._session.client(), queues, bucket, queue_of(settings.queue, bucket))

    @asynccontextmanager
    async def _sqs(self) -> AsyncGenerator[Any, None]:
        yield await self._session.client("sqs", self._settings.queue_endpoint)
