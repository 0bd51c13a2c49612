"""The differences between S3 services: a `Profile` for each, with the reason for every difference.

A profile declares a condition only if the service was seen to honour it, or if its documentation promises it:
an ignored condition is worse than a refused one.
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
"""The checksums that can be sent with a body: ``md5`` is the header Content-MD5, ``none`` sends none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The properties of an S3 service.

    Attributes:
        name: the value of the parameter ``profile``.
        conditions: the kinds of condition that the service honours.
        checksum: one of `CHECKSUMS`, sent with every body; the service verifies it.
        path_style: whether the bucket is in the path of URLs if addressing is ``auto``.
        region: the region to sign for if neither the DSN nor the environment has one.
        equal_parts: whether all parts of an upload except the last must have the same size.
        min_part_size, max_part_size: bytes of a part of an upload; the last part may be smaller.
        max_parts: the maximum number of parts of an upload.
        max_put_size: bytes of an object that is put in one request.
        max_copy_size: bytes of an object that is copied in one request.
        part_copies: whether a part of an upload can be copied from an object.
        bounded_copies: whether such a copy is refused if its range extends past the end of the object. Other services
            may copy what there is: the size of each part is then looked up.
        percent_in_copies: whether the key of that object may have a percent sign. Other services may decode it twice,
            and copy another object: they are not asked.
        versioned_conditions: whether the conditions of a put hold in buckets that keep versions.
        copy_version_ids: whether the answer to a copy has the id of the new version.
        metadata_underscores: whether names of metadata keep their underscores.
        quotes_etags: whether ``If-Match`` of a put needs the ETag in quotes, as in HTTP.
        bulk_delete: whether there is a request that deletes many objects.
        tags, lifecycle, versioning: whether the service has them.
        tagging_header: whether uploads and copies honour the header ``x-amz-tagging``, as puts do.
        transitions: whether lifecycle rules can move objects to another storage class.
        queues: whether buckets send their events to SQS queues.
        object_attributes: whether GetObjectAttributes works.
        paged_buckets: whether buckets are listed in pages whose size the request names. Amazon refuses to list more
            than 10,000 buckets in another way.
        ordered_versions: whether versions and delete markers are listed together, newest first.
        control_characters: whether keys with characters below U+0020 can be stored and listed.
        dot_components, empty_components: whether components of keys between slashes may be ``.`` or ``..``, or empty.
        dns_bucket_names: whether bucket names follow Amazon's rules; if not, underscores and upper case are allowed.
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
    part_copies: bool = True
    bounded_copies: bool = False
    percent_in_copies: bool = False
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
    paged_buckets: bool = False
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
    # https://github.com/versity/versitygw/issues/610 has its answer: InvalidArgument.
    bounded_copies=True,
    percent_in_copies=True,
    queues=True,
    # https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListBuckets.html
    paged_buckets=True,
)

_CEPH = Profile(
    name="ceph",
    # Seen on 16.2: If-Match of a delete and every condition of a copy or a completion are ignored.
    conditions=frozenset({"put_if_none_match", "put_if_match", "get"}),
    # Seen on 16.2, unless the object is empty, which the ETag of the part shows.
    bounded_copies=True,
    # Seen on 16.2: in such buckets If-None-Match is ignored, and If-Match never holds.
    versioned_conditions=False,
    # Seen on 16.2: the header is missing, but the version exists.
    copy_version_ids=False,
    # Seen on 16.2: they are returned as hyphens.
    metadata_underscores=False,
    # Seen on 16.2: If-Match of a put is compared with the bare ETag; with quotes it never holds.
    quotes_etags=False,
    # Seen on 16.2: an upload, and a copy with new metadata, silently drop them.
    tagging_header=False,
    # Seen on 16.2: 500.
    object_attributes=False,
    # Seen on 16.2: the object is stored, but listings that contain it fail with 500.
    control_characters=False,
    dns_bucket_names=False,
)

_MINIO = Profile(
    name="minio",
    # PutObjectHandler of RELEASE.2025-06-13T11-33-47Z checks them; the oldest releases do not.
    conditions=frozenset({"put_if_none_match", "put_if_match", "get"}),
    checksum="crc32c",
    # checkCopyPartRangeWithSize in cmd/copy-part-range.go.
    bounded_copies=True,
    # CopyObjectPartHandler parses the header as a URL, once.
    percent_in_copies=True,
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
    # https://cloud.google.com/storage/docs/xml-api/put-object-multipart: a part has a body, and no source.
    part_copies=False,
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
    percent_in_copies=True,
    queues=True,
    # Seen on 5.2: the delete markers follow all versions, and times have a resolution of one second.
    ordered_versions=False,
    # Seen on 5.2: an object with a line feed in its key cannot be found again.
    control_characters=False,
)

_GENERIC = Profile(
    name="generic",
    # A server reports missing features, but not ignored conditions: so all features, but no conditions on writes.
    control_characters=False,
    dns_bucket_names=False,
)

PROFILES: Final[dict[str, Profile]] = {
    profile.name: profile for profile in (_AWS, _CEPH, _MINIO, _R2, _B2, _GCS, _MOTO, _GENERIC)
}
"""All profiles by name."""

REGION: Final = re.compile(r"[a-z]{2,5}(?:-[a-z]+)+-\d+")
"""The form of the names of Amazon's and Backblaze's regions."""

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
    """Return the profile with a name; without a name, the one for the host of the endpoint.

    Without an endpoint it is Amazon's. For an unknown endpoint it is ``generic``: Ceph and MinIO, for
    example, run under their users' host names.

    Raises:
        InvalidDSNError: no profile has this name; the message lists the names.
    """
    if name is not None:
        try:
            return PROFILES[name]
        except KeyError:
            raise InvalidDSNError(f"unknown profile {name!r}; use one of {', '.join(PROFILES)}") from None
    if endpoint is None:
        return _AWS
    host = "." + (urlsplit(endpoint).hostname or "")
    return next((profile for suffix, profile in _SUFFIXES if host.endswith(suffix)), _GENERIC)


def region_of(endpoint: str) -> str | None:
    """Return the region in the name of an Amazon or Backblaze endpoint, such as ``https://s3.eu-west-1.amazonaws.com``."""
    if profile_for(endpoint, None) not in (_AWS, _B2):
        return None
    labels = (urlsplit(endpoint).hostname or "").split(".")
    return next((label for label in labels if REGION.fullmatch(label)), None)


def parse_conditions(text: str) -> frozenset[Condition]:
    """Parse the parameter ``conditions``: names separated by commas, or ``all``, or ``none``.

    Raises:
        InvalidDSNError: a condition is unknown; the message lists the known ones.
    """
    if text in ("all", "none"):
        return CONDITIONS if text == "all" else frozenset()
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in CONDITIONS]
    if unknown:
        known = ", ".join(sorted(CONDITIONS))
        raise InvalidDSNError(f"unknown condition {unknown[0]!r}; conditions is 'all', 'none' or a list of {known}")
    return frozenset(condition for condition in CONDITIONS if condition in names)


def adapt(
    profile: Profile,
    *,
    conditions: Iterable[Condition] | None = None,
    checksum: str | None = None,
    min_part_size: int | None = None,
    max_copy_size: int | None = None,
) -> Profile:
    """Return a profile with some values replaced by the user's; None keeps the profile's value."""
    return replace(
        profile,
        conditions=profile.conditions if conditions is None else frozenset(conditions),
        checksum=profile.checksum if checksum is None else checksum,
        min_part_size=min_part_size or profile.min_part_size,
        max_copy_size=max_copy_size or profile.max_copy_size,
    )
