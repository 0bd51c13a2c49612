"""The parameters of a DSN of Cloud Storage: ``gcs://project/bucket?…``, or ``gs://bucket?…``."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from trove_async.driver import OpenOptions
from trove_async.drivers.gcs.names import check_bucket
from trove_async.dsn import DSN, SettingsParser, bucket_and_prefix
from trove_async.errors import InvalidBucketNameError, InvalidDSNError
from trove_async.wire.network import Network, choice, endpoint_of

__all__ = ["API", "CHUNK", "MIN_PART_SIZE", "GCSSettings", "Hold", "Uploading", "Watching"]

Watching = Literal["poll", "pubsub"]
"""Where events come from: comparing listings, or a Pub/Sub subscription to the bucket's notifications."""

Uploading = Literal["parts", "resumable"]
"""How bodies larger than a part are stored: as parts in parallel, or as chunks in one session."""

API = Literal["xml", "json"]
"""The API through which objects are read and stored."""

Hold = Literal["temporary", "event_based"]
"""What keeps an object from being deleted or replaced: https://cloud.google.com/storage/docs/object-holds."""

CHUNK: Final = 256 * 1024
"""Bytes: each chunk of a resumable upload but the last is a multiple of it.

https://cloud.google.com/storage/docs/performing-resumable-uploads#chunked-upload
"""

MIN_PART_SIZE: Final = 5 * 1024 * 1024
"""Bytes of the smallest part but the last: https://cloud.google.com/storage/quotas#requests."""

PART_SIZE: Final = 8 * 1024 * 1024
MAX_PART_SIZE: Final = 5 * 1024**3
_ENDPOINT: Final = "https://storage.googleapis.com"
_CREDENTIALS: Final = "a file, whose path is the parameter credentials"


@dataclass(frozen=True, slots=True)
class GCSSettings:
    """The parameters of ``gcs://`` and ``gs://``.

    Attributes:
        project: in which buckets are created and listed; None for that of the environment or the credentials.
        bucket: the default bucket; None if there is none.
        prefix: the default prefix of keys; may be empty.
        endpoint: the URL of the service.
        emulated: whether it came from ``STORAGE_EMULATOR_HOST``, which takes requests without credentials.
        credentials: path of a file of credentials; None for those that the environment has.
        access_token: a token of OAuth 2.0 that is sent as it is, and not renewed.
        anonymous: whether requests are sent without a token.
        user_project: the project that pays for requests to requester-pays buckets.
        kms_key: the key of Cloud KMS that encrypts objects that are written.
        storage_class: of objects that are written without one.
        hold: that is put on objects that are written.
        location: where buckets are created without a region.
        part_size: bytes of a part or chunk of an upload; a body that is not larger is stored in one request.
        min_part_size: bytes of the smallest part that the service takes.
        part_concurrency: how many parts of one upload are under way at once at most.
        api: the API through which objects are read, and stored in one request. The JSON API needs two requests to read.
        uploads: how bodies larger than a part are stored.
        verify_reads: whether whole reads are compared with the service's checksum.
        network: how the service is reached.
        watch: where events come from; None for polling.
        subscription: its name, or ``projects/P/subscriptions/S``; ``{bucket}`` in it stands for the bucket's name.
        pubsub_endpoint: the URL of Pub/Sub; None for Google's, or that of ``PUBSUB_EMULATOR_HOST``.
    """

    project: str | None
    bucket: str | None
    prefix: str
    endpoint: str
    emulated: bool
    credentials: str | None
    access_token: str | None = field(repr=False)
    anonymous: bool
    user_project: str | None
    kms_key: str | None
    storage_class: str | None
    hold: Hold | None
    location: str | None
    part_size: int
    min_part_size: int
    part_concurrency: int
    api: API
    uploads: Uploading
    verify_reads: bool
    network: Network
    watch: Watching | None
    subscription: str | None
    pubsub_endpoint: str | None

    @classmethod
    def of(cls, dsn: DSN, options: OpenOptions) -> GCSSettings:
        """Read a DSN.

        Raises:
            InvalidDSNError: a part or parameter is wrong or unknown, or two contradict each other.
        """
        settings = SettingsParser(dsn, options.settings)
        network = Network.of(settings)
        project, bucket, prefix = _location(dsn, settings)
        given = endpoint_of("endpoint", settings.text("endpoint"), _CREDENTIALS)
        emulator = None if given else _emulator()
        result = cls(
            project=project,
            bucket=bucket,
            prefix=prefix,
            endpoint=given or emulator or _ENDPOINT,
            emulated=emulator is not None,
            credentials=settings.path("credentials"),
            access_token=settings.secret("access_token"),
            anonymous=settings.flag("anonymous", False),
            user_project=settings.text("user_project"),
            kms_key=settings.text("kms_key"),
            storage_class=settings.text("storage_class"),
            hold=choice(settings, "hold", get_args(Hold)),
            location=settings.text("location"),
            part_size=settings.integer("part_size", PART_SIZE, minimum=CHUNK, maximum=MAX_PART_SIZE),
            min_part_size=settings.integer("min_part_size", MIN_PART_SIZE, minimum=1, maximum=MIN_PART_SIZE),
            part_concurrency=network.parts(settings),
            api=choice(settings, "api", get_args(API), "xml"),
            uploads=choice(settings, "uploads", get_args(Uploading), "parts"),
            verify_reads=settings.flag("verify_reads", True),
            network=network,
            watch=choice(settings, "watch", get_args(Watching)),
            subscription=settings.text("subscription"),
            pubsub_endpoint=endpoint_of("pubsub_endpoint", settings.text("pubsub_endpoint"), _CREDENTIALS),
        )
        settings.finish()
        result._check(custom=given is not None or emulator is not None)
        return result

    @property
    def tokenless(self) -> bool:
        """Whether requests are sent without a token."""
        return self.anonymous or (self.emulated and self.credentials is None and self.access_token is None)

    def _check(self, *, custom: bool) -> None:
        self._check_credentials()
        self._check_sizes(custom=custom)
        self._check_watch()
        if self.bucket is not None:
            try:
                check_bucket(self.bucket)
            except InvalidBucketNameError as error:
                raise InvalidDSNError(error.message) from None

    def _check_credentials(self) -> None:
        given = [name for name in ("credentials", "access_token") if getattr(self, name) is not None]
        if self.anonymous:
            given.append("anonymous")
        if len(given) > 1:
            _contradict(given[0], given[1], "give the credentials once, or none")

    def _check_sizes(self, *, custom: bool) -> None:
        if self.min_part_size != MIN_PART_SIZE and not custom:
            raise InvalidDSNError("min_part_size is fixed by Google; give it only with another endpoint")
        if self.part_size % CHUNK:
            raise InvalidDSNError(f"part_size must be a multiple of {CHUNK}, not {self.part_size}")
        if self.part_size < self.min_part_size:
            raise InvalidDSNError(f"part_size must be at least {self.min_part_size}, not {self.part_size}")

    def _check_watch(self) -> None:
        if self.watch == "pubsub":
            if self.subscription is None:
                raise InvalidDSNError("watch=pubsub needs a subscription; give its name as subscription=…")
            return
        for name in ("subscription", "pubsub_endpoint"):
            if getattr(self, name) is not None:
                given = "a missing watch" if self.watch is None else f"watch={self.watch}"
                _contradict(name, given, "it needs watch=pubsub")


def _contradict(one: str, other: str, reason: str) -> None:
    raise InvalidDSNError(f"{one} and {other} contradict each other: {reason}")


def _location(dsn: DSN, settings: SettingsParser) -> tuple[str | None, str | None, str]:
    """Return the project, the bucket and the prefix."""
    if dsn.user is not None:
        raise InvalidDSNError(f"a {dsn.scheme} DSN has no user; credentials belong in {_CREDENTIALS}")
    if dsn.port is not None:
        raise InvalidDSNError(f"a {dsn.scheme} DSN has no port; give endpoint=http://host:port")
    if dsn.scheme == "gs":
        return settings.text("project"), *bucket_and_prefix(f"/{dsn.host}{dsn.path}")
    return dsn.host or None, *bucket_and_prefix(dsn.path)


def _emulator() -> str | None:
    """Return the URL in ``STORAGE_EMULATOR_HOST``, which may have no scheme, as in Google's libraries."""
    host = os.environ.get("STORAGE_EMULATOR_HOST")
    if not host:
        return None
    return endpoint_of("STORAGE_EMULATOR_HOST", host if "://" in host else f"http://{host}", _CREDENTIALS)
