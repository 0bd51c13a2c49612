"""The settings of an S3 store: ``s3://[key:secret@]region/bucket?endpoint=…``."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, get_args

from trove_async.driver import Condition, OpenOptions
from trove_async.drivers.s3.names import check_bucket
from trove_async.drivers.s3.profiles import CHECKSUMS, REGION, Profile, adapt, parse_conditions, profile_for
from trove_async.dsn import DSN, SettingsParser, bucket_and_prefix, trimmed_secret
from trove_async.errors import InvalidBucketNameError, InvalidDSNError
from trove_async.types import EMPTY
from trove_async.wire.network import Network, choice, endpoint_of

__all__ = ["Addressing", "Encryption", "S3Settings", "Watching"]

Addressing = Literal["auto", "path", "virtual"]
"""The place of the bucket in URLs: in the path, in the host name, or chosen by service and name."""

Encryption = Literal["AES256", "aws:kms", "aws:kms:dsse"]
"""The kinds of encryption at rest, with the values of the header ``x-amz-server-side-encryption``."""

Watching = Literal["poll", "sqs"]
"""The sources of events: comparing listings, or a queue that receives the bucket's notifications."""

Headers = list[tuple[str, str]]

PART_SIZE: Final = 8 * 1024 * 1024
_CREDENTIALS: Final = "access_key and secret_key, or in the DSN before '@'"

# What services call their regions, where it has another form than Amazon's names. A bucket could have the same name.
_OTHER_REGIONS: Final = frozenset(
    (
        "auto", "default", "garage",  # R2, Google; Ceph, MinIO and others; Garage
        "wnam", "enam", "weur", "eeur", "apac", "oc",  # https://developers.cloudflare.com/r2/reference/data-location/
        # https://docs.digitalocean.com/products/spaces/details/availability/
        "nyc3", "sfo2", "sfo3", "ams3", "fra1", "lon1", "sgp1", "blr1", "syd1", "tor1", "atl1", "ric1",
        "fr-par", "nl-ams", "pl-waw", "it-mil",  # https://www.scaleway.com/en/docs/object-storage/
        "gra", "rbx", "sbg", "bhs", "de", "uk", "waw",  # OVHcloud
        "fsn1", "nbg1", "hel1",  # https://docs.hetzner.com/storage/object-storage/
        "us-east", "us-south", "us-geo", "eu-gb", "eu-de", "eu-geo", "ap-geo", "jp-tok", "au-syd",  # IBM
    )
)  # fmt: skip

_SIGNING_REGION = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class S3Settings:
    """The parameters of ``s3://``.

    Attributes:
        region: the host of the DSN, or the parameter ``region``; None for the first of ``AWS_REGION``,
            ``AWS_DEFAULT_REGION``, the credentials profile's region, and us-east-1.
        bucket: the default bucket; may be None.
        prefix: the default prefix of keys; may be empty.
        endpoint: the URL of a service other than Amazon's, possibly with a path, from the DSN or the
            environment; None for Amazon's.
        access_key, secret_key, session_token: None for the credential chain of the AWS SDKs.
        anonymous: whether requests are sent without a signature.
        aws_profile: the section of ``~/.aws/config`` and ``~/.aws/credentials``; None for ``AWS_PROFILE``.
        profile: the name of the `Profile`; None to choose it by the endpoint.
        addressing: the place of the bucket in URLs.
        signed_payload: whether bodies are hashed and the hash is signed; None: only if the connection is
            not encrypted.
        checksum: the checksum sent with bodies; None for the profile's.
        conditions: the conditions that the server honours; None for the profile's.
        part_size: bytes of a part of an upload; a body that is no larger is put in one request.
        min_part_size: the server's minimum for the bytes of a part; None for the profile's.
        max_copy_size: the maximum size of an object to copy in one request, in bytes; None for the profile's.
        part_concurrency: how many parts of one upload are under way at once at most.
        network: the network settings.
        sse, sse_kms_key: encryption at rest with the service's keys, or with a KMS key.
        sse_customer_key: a key of 32 bytes in base64, to encrypt and decrypt objects.
        requester_pays: whether this account pays for reading other accounts' buckets.
        storage_class: the default storage class of new objects.
        accelerate, dualstack, fips: select one of Amazon's endpoints.
        watch: the source of events; None for polling.
        queue: name or URL of the SQS queue; ``{bucket}`` in it is replaced by the bucket's name.
        queue_endpoint: the URL of SQS; None for Amazon's.
        watch_setup: whether watching creates the queue, its policy and the bucket's notification.
    """

    region: str | None
    bucket: str | None
    prefix: str
    endpoint: str | None
    access_key: str | None
    secret_key: str | None = field(repr=False)
    session_token: str | None = field(repr=False)
    anonymous: bool
    aws_profile: str | None
    profile: str | None
    addressing: Addressing
    signed_payload: bool | None
    checksum: str | None
    conditions: frozenset[Condition] | None
    part_size: int
    min_part_size: int | None
    max_copy_size: int | None
    part_concurrency: int
    network: Network
    sse: Encryption | None
    sse_kms_key: str | None
    sse_customer_key: str | None = field(repr=False)
    requester_pays: bool
    storage_class: str | None
    accelerate: bool
    dualstack: bool
    fips: bool
    watch: Watching | None
    queue: str | None
    queue_endpoint: str | None
    watch_setup: bool

    @classmethod
    def of(cls, dsn: DSN, options: OpenOptions, configured: Mapping[str, str] = EMPTY) -> S3Settings:
        """Parse a DSN.

        Args:
            dsn, options: of the store.
            configured: the endpoints from the files of the AWS SDKs, by service.

        Raises:
            InvalidDSNError: a part or parameter is wrong or unknown, or two contradict each other.
        """
        settings = SettingsParser(dsn, options.settings)
        network = Network.of(settings, ca_variables=("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"))
        part_size = settings.integer("part_size", PART_SIZE, minimum=1)
        conditions = settings.text("conditions")
        access_key, secret_key = _keys(dsn, settings)
        watch = choice(settings, "watch", get_args(Watching))
        bucket, prefix = _bucket_and_prefix(dsn)
        result = cls(
            region=_region(dsn, settings),
            bucket=bucket,
            prefix=prefix,
            endpoint=_endpoint(settings, "endpoint", "s3", configured),
            access_key=access_key,
            secret_key=secret_key,
            session_token=settings.secret("session_token"),
            anonymous=settings.flag("anonymous", False),
            aws_profile=settings.text("aws_profile"),
            profile=settings.text("profile"),
            addressing=choice(settings, "addressing", get_args(Addressing), "auto"),
            signed_payload=_signed(settings),
            checksum=choice(settings, "checksum", CHECKSUMS),
            conditions=None if conditions is None else parse_conditions(conditions),
            part_size=part_size,
            min_part_size=_optional(settings, "min_part_size"),
            max_copy_size=_optional(settings, "max_copy_size"),
            part_concurrency=network.parts(settings),
            network=network,
            sse=choice(settings, "sse", get_args(Encryption)),
            sse_kms_key=settings.text("sse_kms_key"),
            sse_customer_key=_customer_key(settings.text("sse_customer_key")),
            requester_pays=settings.flag("requester_pays", False),
            storage_class=settings.text("storage_class"),
            accelerate=settings.flag("accelerate", False),
            dualstack=settings.flag("dualstack", False),
            fips=settings.flag("fips", False),
            watch=watch,
            queue=settings.text("queue"),
            queue_endpoint=_endpoint(settings, "queue_endpoint", "sqs" if watch == "sqs" else None, configured),
            watch_setup=settings.flag("watch_setup", False),
        )
        settings.finish()
        result._check(dsn)
        return result

    def dialect(self) -> Profile:
        """Return the profile, with the conditions and the checksum of the DSN if it has them."""
        return adapt(
            profile_for(self.endpoint, self.profile),
            conditions=self.conditions,
            checksum=self.checksum,
            min_part_size=self.min_part_size,
            max_copy_size=self.max_copy_size,
        )

    def signs_payload(self, scheme: str) -> bool:
        """Whether bodies are hashed for the signature; with TLS that is not necessary."""
        return scheme == "http" if self.signed_payload is None else self.signed_payload

    def encryption_headers(self) -> Headers:
        """Return the headers of a write for encryption at rest."""
        if self.sse is None:
            return self.customer_key_headers()
        headers = [("x-amz-server-side-encryption", str(self.sse))]
        if self.sse_kms_key is not None:
            headers.append(("x-amz-server-side-encryption-aws-kms-key-id", self.sse_kms_key))
        return headers

    def customer_key_headers(self, *, source: bool = False) -> Headers:
        """Return the headers with the customer's key for a read, or for the source of a copy; may be empty."""
        if self.sse_customer_key is None:
            return []
        digest = hashlib.md5(base64.b64decode(self.sse_customer_key), usedforsecurity=False).digest()
        prefix = "x-amz-copy-source-server-side" if source else "x-amz-server-side"
        return [
            (f"{prefix}-encryption-customer-algorithm", "AES256"),
            (f"{prefix}-encryption-customer-key", self.sse_customer_key),
            (f"{prefix}-encryption-customer-key-md5", base64.b64encode(digest).decode()),
        ]

    def _check(self, dsn: DSN) -> None:
        self.dialect()
        self._check_location(dsn)
        self._check_credentials()
        self._check_sizes()
        self._check_encryption()
        self._check_watch()
        self._check_bucket()

    def _check_location(self, dsn: DSN) -> None:
        region = self.region
        if region is not None and (dsn.port is not None or "." in region or region == "localhost"):
            host = region if dsn.port is None else f"{region}:{dsn.port}"
            raise InvalidDSNError(
                f"{host!r} is in the place of the region; write s3://us-east-1/bucket?endpoint=http://{host}"
            )
        if dsn.port is not None:
            raise InvalidDSNError("an s3 DSN has no port; give endpoint=http://host:port")
        if self.endpoint is None:
            self._check_amazon()
            return
        if region is not None and not _SIGNING_REGION.fullmatch(region):
            raise InvalidDSNError(f"{region!r} is not a region: use letters, digits, '-' and '_'")
        if dsn.host and not REGION.fullmatch(dsn.host) and dsn.host not in _OTHER_REGIONS:
            bucket = replace(dsn, host="", path=f"/{dsn.host}")
            path = dsn.path if dsn.path.strip("/") else "/bucket"
            store = replace(dsn, host="", path=path, params={"region": dsn.host, **dsn.params})
            raise InvalidDSNError(
                f"{dsn.host!r} is in the place of the region, and is the name of none: for a bucket of this name write "
                f"{bucket}; for a region of the service of this name write {store}"
            )
        for name in ("accelerate", "dualstack", "fips"):
            if getattr(self, name):
                _contradict(name, "endpoint", "it chooses one of Amazon's endpoints")

    def _check_amazon(self) -> None:
        if self.region is not None and not REGION.fullmatch(self.region):
            raise InvalidDSNError(
                f"{self.region!r} is not an Amazon region: an s3 DSN is s3://region/bucket, "
                f"and s3:///{self.region} names a bucket and takes the region from the environment"
            )
        if self.profile not in (None, "aws"):
            raise InvalidDSNError(f"profile={self.profile} needs the endpoint of the service; give endpoint=https://…")
        if self.accelerate and self.addressing == "path":
            _contradict("accelerate", "addressing=path", "accelerated buckets are named in the host")
        if self.accelerate and self.fips:
            _contradict("accelerate", "fips", "there is no such endpoint")

    def _check_credentials(self) -> None:
        given = [name for name in ("access_key", "secret_key", "session_token") if getattr(self, name) is not None]
        if self.aws_profile is not None:
            given.append("aws_profile")
        if self.anonymous and given:
            _contradict("anonymous", given[0], "there is nothing to sign with it")
        if self.aws_profile is not None and len(given) > 1:
            _contradict("aws_profile", given[0], "give the credentials once")
        if (self.access_key is None) != (self.secret_key is None):
            raise InvalidDSNError("access_key and secret_key belong together; give both")
        if self.session_token is not None and self.access_key is None:
            raise InvalidDSNError("session_token belongs to access_key and secret_key; give all three")

    def _check_bucket(self) -> None:
        if self.bucket is None:
            return
        try:
            check_bucket(self.bucket, self.dialect())
        except InvalidBucketNameError as error:
            raise InvalidDSNError(error.message) from None
        if self.accelerate and "." in self.bucket:
            _contradict("accelerate", f"bucket {self.bucket!r}", "accelerated buckets have no dots in their names")

    def _check_sizes(self) -> None:
        profile = self.dialect()
        if not profile.min_part_size <= self.part_size <= profile.max_part_size:
            raise InvalidDSNError(
                f"part_size is {self.part_size}; profile {profile.name!r} has parts of "
                f"{profile.min_part_size} to {profile.max_part_size} bytes"
            )

    def _check_encryption(self) -> None:
        if self.sse is not None and self.sse_customer_key is not None:
            _contradict("sse", "sse_customer_key", "an object is encrypted with one key")
        if self.sse_kms_key is not None and (self.sse is None or self.sse == "AES256"):
            given = "a missing sse" if self.sse is None else f"sse={self.sse}"
            _contradict("sse_kms_key", given, "it needs sse=aws:kms")

    def _check_watch(self) -> None:
        if self.watch == "sqs":
            if self.queue is None:
                raise InvalidDSNError("watch=sqs needs a queue; give its name or URL as queue=…")
            if not self.dialect().queues:
                raise InvalidDSNError(f"services of profile {self.dialect().name!r} send no events to SQS queues")
            return
        for name in ("queue", "queue_endpoint", "watch_setup"):
            if getattr(self, name):
                given = "a missing watch" if self.watch is None else f"watch={self.watch}"
                _contradict(name, given, "it needs watch=sqs")


def _optional(settings: SettingsParser, name: str) -> int | None:
    value = settings.integer(name, 0)
    return value or None


def _endpoint(settings: SettingsParser, name: str, service: str | None, configured: Mapping[str, str]) -> str | None:
    """Return the endpoint of the DSN, or of the AWS SDKs' environment or files if a service is given."""
    given = settings.text(name)
    if (
        given is None
        and service is not None
        and os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() != "true"
    ):
        for variable in (f"AWS_ENDPOINT_URL_{service.upper()}", "AWS_ENDPOINT_URL"):
            if os.environ.get(variable):
                return endpoint_of(variable, os.environ[variable], _CREDENTIALS)
        return endpoint_of("endpoint_url of the AWS configuration", configured.get(service), _CREDENTIALS)
    return endpoint_of(name, given, _CREDENTIALS)


def _contradict(one: str, other: str, reason: str) -> None:
    raise InvalidDSNError(f"{one} and {other} contradict each other: {reason}")


def _region(dsn: DSN, settings: SettingsParser) -> str | None:
    region = settings.text("region")
    if region is not None and dsn.host:
        _contradict("region", f"the region {dsn.host!r} in the DSN", "give the region once")
    return region or dsn.host or None


def _bucket_and_prefix(dsn: DSN) -> tuple[str | None, str]:
    name = dsn.path.removeprefix("/")
    if name.startswith("arn:"):
        return name, ""  # it has a slash; the check of the name explains the error
    return bucket_and_prefix(dsn.path)


def _keys(dsn: DSN, settings: SettingsParser) -> tuple[str | None, str | None]:
    access_key, secret_key = settings.secret("access_key"), settings.secret("secret_key")
    if dsn.user is None:
        return access_key, secret_key
    for name, value in (("access_key", access_key), ("secret_key", secret_key)):
        if value is not None:
            _contradict(name, "the DSN's user", "give the credentials once")
    if not dsn.user or not dsn.password:
        raise InvalidDSNError("the DSN holds only one of access key and secret key; give both before '@'")
    return trimmed_secret("access_key", dsn.user), trimmed_secret("secret_key", dsn.password)


def _signed(settings: SettingsParser) -> bool | None:
    payload = choice(settings, "payload", ("signed", "unsigned"))
    return None if payload is None else payload == "signed"


def _customer_key(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        size = len(base64.b64decode(text, validate=True))
    except (Base64Error, ValueError):
        raise InvalidDSNError("sse_customer_key is not base64") from None
    if size != 32:
        raise InvalidDSNError(f"sse_customer_key is a key of 32 bytes in base64, not of {size}")
    return text
