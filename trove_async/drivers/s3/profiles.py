"""How the services that speak S3 differ: one `Profile` for each, with the reason for every difference.

A profile declares a condition only where the service was seen to honour it, or its own documentation
promises it: a condition that is ignored is worse than one that is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, get_args
from urllib.parse import urlsplit

from trove_async.driver import Condition
from trove_async.errors import InvalidDSNError

__all__ = ["CHECKSUMS", "CONDITIONS", "PROFILES", "Profile", "adapt", "parse_conditions", "profile_for", "region_of"]

MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB

CONDITIONS: Final[frozenset[Condition]] = frozenset(get_args(Condition))
"""Every kind of condition."""

CHECKSUMS: Final = ("crc32c", "crc32", "sha256", "sha1", "md5", "none")
"""What can be sent with a body for the service to verify: ``md5`` is the header Content-MD5, ``none`` is nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a service that speaks S3 has, and where it differs from Amazon's.

    Attributes:
        name: as in the parameter ``profile``.
        conditions: the kinds of condition that it honours.
        checksum: one of `CHECKSUMS`, sent with every body; the service verifies it.
        path_style: whether the bucket goes into the path, where addressing is ``auto``.
        region: what to sign with where none is given, neither in the DSN nor in the environment.
        equal_parts: whether all parts of an upload but the last must be of one size.
        min_part_size, max_part_size: bytes; of every part of an upload, the minimum not of the last.
        max_parts: of an upload.
        max_put_size: bytes of an object that is put in one request.
        max_copy_size: bytes of an object that is copied in one request.
        versioned_conditions: whether the conditions of a put hold in buckets that keep versions.
        copy_version_ids: whether the answer to a copy names the version that it made.
        metadata_underscores: whether names of metadata keep their underscores.
        quotes_etags: whether ``If-Match`` at a put has the ETag in quotes, as HTTP wants it.
        bulk_delete: whether there is a request that deletes many objects.
        tags, lifecycle, versioning: whether there are such.
        tagging_header: whether uploads and copies are given tags by the header that puts are given them by.
        transitions: whether lifecycle rules can move objects to another storage class.
        queues: whether buckets send their events to SQS queues.
        object_attributes: whether GetObjectAttributes works.
        ordered_versions: whether versions and delete markers are listed in one order, the newest first.
        control_characters: whether keys with characters below U+0020 can be stored and listed.
        dot_components, empty_components: whether keys may have ``.`` or ``..``, or nothing, between slashes.
        dns_bucket_names: whether bucket names follow Amazon's rules, or may have underscores and upper case too.
    """

    name: str
    conditions: frozenset[Condition] = frozenset({"get"})
    checksum: str = "none"
    path_style: bool = True
    region: str = "us-east-1"
    equal_parts: bool = False
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
    min_part_size: int = 5 * MIB
    max_part_size: int = 5 * GIB
    max_parts: int = 10_000
    max_put_size: int = 5 * GIB
    max_copy_size: int = 5 * GIB
    versioned_conditions: bool = True
    copy_version_ids: bool = True
    metadata_underscores: bool = True
    quotes_etags: bool = True
    bulk_delete: bool = True
    tags: bool = True
    tagging_header: bool = True
    lifecycle: bool = True
    transitions: bool = True
    versioning: bool = True
    queues: bool = False
    object_attributes: bool = True
    ordered_versions: bool = True
    control_characters: bool = True
    dot_components: bool = True
    empty_components: bool = True
    dns_bucket_names: bool = True


_AWS = Profile(
    name="aws",
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html: writes, completions,
    # copies (on the destination too) and deletes.
    conditions=CONDITIONS,
    checksum="crc32c",
    path_style=False,
    queues=True,
)

_CEPH = Profile(
    name="ceph",
    # Seen on 16.2: If-Match of a delete and every condition of a copy or a completion are ignored.
    conditions=frozenset({"put_if_none_match", "put_if_match", "get"}),
    # Seen on 16.2: there If-None-Match is ignored, and If-Match never holds.
    versioned_conditions=False,
    # Seen on 16.2: the header is missing, and the version is there.
    copy_version_ids=False,
    # Seen on 16.2: they come back as hyphens.
    metadata_underscores=False,
    # Seen on 16.2: If-Match at a put is compared with the bare ETag; with quotes it never holds.
    quotes_etags=False,
    # Seen on 16.2: an upload, and a copy that replaces the description, drop them without a word.
    tagging_header=False,
    # Seen on 16.2: 500.
    object_attributes=False,
    # Seen on 16.2: the object is stored, and the listing that it is in answers 500.
    control_characters=False,
    dns_bucket_names=False,
)

_MINIO = Profile(
    name="minio",
    # PutObjectHandler of RELEASE.2025-06-13T11-33-47Z checks them; the oldest releases do not.
    conditions=frozenset({"put_if_none_match", "put_if_match", "get"}),
    checksum="crc32c",
    # Objects are files of MinIO's own drives: cmd/object-api-utils.go refuses these names.
    dot_components=False,
    empty_components=False,
    control_characters=False,
)

_R2 = Profile(
    name="r2",
    # https://developers.cloudflare.com/r2/api/s3/conditional-operations/: copies have headers of Cloudflare's own.
    conditions=frozenset({"put_if_none_match", "put_if_match", "get", "complete"}),
    region="auto",
    # https://developers.cloudflare.com/r2/objects/multipart-objects/
    equal_parts=True,
    # https://developers.cloudflare.com/r2/platform/limits/: "4.995 GiB"
    max_put_size=4995 * GIB // 1000,
    max_copy_size=4995 * GIB // 1000,
    # https://developers.cloudflare.com/r2/api/s3/api/
    tags=False,
    versioning=False,
    object_attributes=False,
    control_characters=False,
)

_B2 = Profile(
    name="b2",
    # https://www.backblaze.com/docs/cloud-storage-large-files: the sizes are decimal there.
    max_part_size=5_000_000_000,
    max_put_size=5_000_000_000,
    max_copy_size=5_000_000_000,
    # https://www.backblaze.com/docs/cloud-storage-s3-compatible-api
    tags=False,
    # Buckets always keep versions, which cannot be switched.
    versioning=False,
    # https://www.backblaze.com/apidocs/s3-put-lifecycle-configuration
    transitions=False,
    object_attributes=False,
    control_characters=False,
)

_GCS = Profile(
    name="gcs",
    # https://cloud.google.com/storage/docs/xml-api/reference-headers: writes have x-goog-if-generation-match only.
    region="auto",
    # https://cloud.google.com/storage/docs/interoperability
    bulk_delete=False,
    tags=False,
    # The XML API has both, in Google's own shape.
    lifecycle=False,
    versioning=False,
    object_attributes=False,
    # https://cloud.google.com/storage/docs/objects#naming: no line feed and no carriage return.
    control_characters=False,
)

_MOTO = Profile(
    name="moto",
    # Seen on 5.2: the conditions of a copy and If-Match of a completion are ignored.
    conditions=frozenset({"put_if_none_match", "put_if_match", "get", "delete"}),
    queues=True,
    # Seen on 5.2: the delete markers come behind all versions, and times are those of a second.
    ordered_versions=False,
    # Seen on 5.2: an object whose key has a line feed is not found again.
    control_characters=False,
)

_GENERIC = Profile(
    name="generic",
    # What the server lacks it will say; what it ignores it will not: so there is all of S3, but no condition on writes.
    control_characters=False,
    dns_bucket_names=False,
)

PROFILES: Final[dict[str, Profile]] = {
    profile.name: profile for profile in (_AWS, _CEPH, _MINIO, _R2, _B2, _GCS, _MOTO, _GENERIC)
}
"""All profiles by name."""

REGION: Final = re.compile(r"[a-z]{2,5}(?:-[a-z]+)+-\d+")
"""The shape of a region of Amazon's or Backblaze's."""

# The DNS suffixes of Amazon's partitions, as in botocore's partitions.json.
_AWS_SUFFIXES = (
    ".amazonaws.com",
    ".amazonaws.com.cn",
    ".amazonaws.eu",
    ".api.aws",
    ".api.amazonwebservices.com.cn",
    ".api.amazonwebservices.eu",
)
_SUFFIXES: Final = (
    *((suffix, _AWS) for suffix in _AWS_SUFFIXES),
    (".r2.cloudflarestorage.com", _R2),
    (".backblazeb2.com", _B2),
    (".storage.googleapis.com", _GCS),
)


def profile_for(endpoint: str | None, name: str | None) -> Profile:
    """Return the profile of that name; without one, that of the endpoint's host.

    Without an endpoint it is Amazon's. An endpoint that is not known is ``generic``: Ceph and MinIO, for
    example, run under names of their users.

    Raises:
        InvalidDSNError: there is no profile of that name; the message lists them.
    """
    if name is not None:
        try:
            return PROFILES[name]
        except KeyError:
            raise InvalidDSNError(f"there is no profile {name!r}; there are {', '.join(PROFILES)}") from None
    if endpoint is None:
        return _AWS
    host = "." + (urlsplit(endpoint).hostname or "")
    return next((profile for suffix, profile in _SUFFIXES if host.endswith(suffix)), _GENERIC)


def region_of(endpoint: str) -> str | None:
    """Return the region that an endpoint of Amazon or Backblaze names, such as ``https://s3.eu-west-1.amazonaws.com``."""
    if profile_for(endpoint, None) not in (_AWS, _B2):
        return None
    labels = (urlsplit(endpoint).hostname or "").split(".")
    return next((label for label in labels if REGION.fullmatch(label)), None)


def parse_conditions(text: str) -> frozenset[Condition]:
    """Read the parameter ``conditions``: names with commas between them, or ``all``, or ``none``.

    Raises:
        InvalidDSNError: there is no such condition; the message lists them.
    """
    if text in ("all", "none"):
        return CONDITIONS if text == "all" else frozenset()
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in CONDITIONS]
    if unknown:
        known = ", ".join(sorted(CONDITIONS))
        raise InvalidDSNError(f"conditions has no {unknown[0]!r}; it is 'all', 'none' or some of {known}")
    return frozenset(condition for condition in CONDITIONS if condition in names)


def adapt(
    profile: Profile,
    *,
    conditions: Iterable[Condition] | None = None,
    checksum: str | None = None,
    min_part_size: int | None = None,
    max_copy_size: int | None = None,
) -> Profile:
    """Return a profile with what the user knows better about the server; None keeps the profile's own."""
    return replace(
        profile,
        conditions=profile.conditions if conditions is None else frozenset(conditions),
        checksum=profile.checksum if checksum is None else checksum,
        min_part_size=min_part_size or profile.min_part_size,
        max_copy_size=max_copy_size or profile.max_copy_size,
    )
