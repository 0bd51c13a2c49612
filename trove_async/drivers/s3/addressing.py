"""The addresses of buckets: the origin, the path before the key, and the region to sign for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from trove_async.drivers.s3.names import dns_compatible
from trove_async.drivers.s3.profiles import Profile
from trove_async.drivers.s3.settings import S3Settings
from trove_async.errors import InvalidBucketNameError
from trove_async.wire.origin import Origin
from trove_async.wire.sigv4 import encode_path

__all__ = ["AWS_SUFFIX", "BucketAddress", "Endpoint", "known_suffix"]

AWS_SUFFIX: Final = "amazonaws.com"

# Of the partitions aws and aws-us-gov, as in botocore's partitions.json; the other partitions are looked up there.
_USUAL_REGION = re.compile(r"(?:us|eu|ap|sa|ca|me|af|il|mx|us-gov)-(?!gov|iso)\w+-\d+")


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """The address of a bucket.

    Attributes:
        origin: the server.
        prefix: encoded; the target of a request is ``prefix``, a slash and the encoded key. For the bucket itself it
            is ``prefix``, or a slash if that is empty.
        region: the region to sign for.
    """

    origin: Origin
    prefix: str
    region: str


def known_suffix(region: str) -> str | None:
    """Return the DNS suffix of Amazon's endpoints in a region; None if only botocore knows it."""
    return AWS_SUFFIX if _USUAL_REGION.fullmatch(region) else None


class Endpoint:
    """The addresses of one service.

    Args:
        settings, profile: of the store.
        region: the region to sign for if a bucket's own region is not known.
        suffix: the DNS suffix of Amazon's partition; not used with an endpoint of the settings.
    """

    def __init__(self, settings: S3Settings, profile: Profile, region: str, suffix: str = AWS_SUFFIX) -> None:
        self.region = region
        self._settings = settings
        self._suffix = suffix
        self._origin: Origin | None = None
        self._base = ""
        self._path_style = profile.path_style if settings.addressing == "auto" else settings.addressing == "path"
        if settings.endpoint is not None:
            self._origin, self._base = _split(settings.endpoint)
            self._path_style |= settings.addressing == "auto" and _is_address(self._origin.host)

    def address(self, bucket: str, region: str | None = None, *, accelerate: bool = True) -> BucketAddress:
        """Return the address of a bucket.

        Args:
            bucket: its name; empty for requests without a bucket.
            region: the bucket's own region, if it is known to be another one.
            accelerate: whether the accelerated endpoint may be used, if the settings select it.

        Raises:
            InvalidBucketNameError: acceleration needs a bucket name that is valid in a host name.
        """
        region = region or self.region
        origin = self._origin or Origin("https", self._host(bucket, region, accelerate), 443)
        if not bucket:
            return BucketAddress(origin, self._base, region)
        if self._path_style or (self._settings.addressing == "auto" and not dns_compatible(bucket)):
            return BucketAddress(origin, f"{self._base}/{encode_path(bucket)}", region)
        return BucketAddress(Origin(origin.scheme, f"{bucket}.{origin.host}", origin.port), self._base, region)

    def _host(self, bucket: str, region: str, accelerate: bool) -> str:
        """Return Amazon's host; https://docs.aws.amazon.com/general/latest/gr/s3.html lists them."""
        settings = self._settings
        dualstack = "dualstack." if settings.dualstack else ""
        if settings.accelerate and accelerate and bucket:
            if not dns_compatible(bucket):
                raise InvalidBucketNameError(
                    f"{bucket!r} cannot be reached with accelerate: its name is not valid in a host name", bucket=bucket
                )
            return f"s3-accelerate.{dualstack}{self._suffix}"
        return f"{'s3-fips' if settings.fips else 's3'}.{dualstack}{region}.{self._suffix}"


def _split(endpoint: str) -> tuple[Origin, str]:
    url = urlsplit(endpoint)
    host = url.hostname or ""
    return Origin(url.scheme, host, url.port or (443 if url.scheme == "https" else 80)), url.path.rstrip("/")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
