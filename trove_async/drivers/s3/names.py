"""The names that S3 can hold; no I/O.

Buckets: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html.
Keys: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html.
"""

from __future__ import annotations

import re
from typing import Final

from trove_async.drivers.s3.profiles import Profile
from trove_async.errors import InvalidBucketNameError, InvalidKeyError

__all__ = ["check_bucket", "check_key", "check_new_bucket", "dns_compatible"]

_STRICT = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# The rules of Ceph with rgw_relaxed_s3_bucket_names, and of Amazon in us-east-1 until 2018.
_RELAXED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_CONTROL_NAMES: Final = {"\n": "a newline", "\r": "a carriage return", "\t": "a tab"}
_CONTROL = re.compile(r"[\x00-\x1f]")

_STRICT_RULE: Final = "use 3 to 63 lower-case letters, digits, '-' and '.', with a letter or digit at both ends"
_ARN: Final = re.compile(r"arn:[a-z-]+:(?P<service>s3[a-z-]*):(?P<region>[a-z0-9-]*):\d*:(?P<resource>.*)", re.DOTALL)
_OTHER_SUFFIXES: Final = {
    "--x-s3": "a directory bucket",
    ".mrap": "a multi-region access point",
    "--table-s3": "a table bucket",
}
_OTHER_SERVICES: Final = {
    "s3-object-lambda": "the ARN of an Object Lambda access point",
    "s3-outposts": "the ARN of a bucket or access point on Outposts",
    "s3express": "the ARN of a directory bucket",
    "s3tables": "the ARN of a table bucket",
}
_RESERVED_PREFIXES: Final = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_SUFFIXES: Final = ("-s3alias", "--ol-s3")


def check_bucket(name: str, profile: Profile) -> None:
    """Check that a name is valid for a bucket, or for an access point that is addressed like a bucket.

    Raises:
        InvalidBucketNameError: it is not; the message says why.
    """
    if (form := _other_form(name)) is not None:
        _refuse(name, f"this is {form}, which is not addressed like a bucket")
    if not profile.dns_bucket_names or profile.name == "aws":
        # Buckets created in us-east-1 until 2018 keep their names.
        if not _RELAXED.fullmatch(name):
            _refuse(name, "use 3 to 255 letters, digits, '-', '_' and '.', with a letter or digit at both ends")
    elif not _STRICT.fullmatch(name):
        _refuse(name, _STRICT_RULE)
    elif ".." in name:
        _refuse(name, "it must not have two dots in a row")
    if _ADDRESS.fullmatch(name):
        _refuse(name, "it must not be an IP address")


def _other_form(name: str) -> str | None:
    """Return what a name refers to if it is not a bucket.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-points-naming.html
    """
    arn = _ARN.fullmatch(name)
    if arn is None:
        return next((kind for suffix, kind in _OTHER_SUFFIXES.items() if name.endswith(suffix)), None)
    if arn["service"] in _OTHER_SERVICES:
        return _OTHER_SERVICES[arn["service"]]
    if not arn["resource"].startswith("accesspoint"):
        return "the ARN of a bucket: give the bucket's name"
    return "the ARN of an access point: its alias works" if arn["region"] else "the ARN of a multi-region access point"


def check_new_bucket(name: str, profile: Profile) -> None:
    """Check that a bucket can be created with a name: Amazon reserves some.

    Raises:
        InvalidBucketNameError: it cannot; the message says why.
    """
    check_bucket(name, profile)
    if profile.name != "aws":
        return
    if not _STRICT.fullmatch(name) or ".." in name:
        _refuse(name, _STRICT_RULE)
    if name.startswith(_RESERVED_PREFIXES):
        _refuse(name, f"names that begin with {', '.join(_RESERVED_PREFIXES)} are Amazon's own")
    if name.endswith(_RESERVED_SUFFIXES):
        _refuse(name, f"names that end in {', '.join(_RESERVED_SUFFIXES)} are those of access points")


def check_key(key: str, profile: Profile) -> None:
    """Check that a service can store, list and delete a key.

    Raises:
        InvalidKeyError: it cannot; the message says why.
    """
    if not profile.control_characters and (found := _CONTROL.search(key)):
        raise InvalidKeyError(
            f"the key contains {_CONTROL_NAMES.get(found[0], 'the control character')} (U+{ord(found[0]):04X}), "
            f"which services of profile {profile.name!r} cannot list",
            key=key,
        )
    if not profile.dot_components and any(part in (".", "..") for part in key.split("/")):
        raise InvalidKeyError(f"services of profile {profile.name!r} accept no '.' or '..' between slashes", key=key)
    if not profile.empty_components and ("//" in key or key.startswith("/")):
        raise InvalidKeyError(
            f"services of profile {profile.name!r} accept no '//' and no leading '/' in a key", key=key
        )


def dns_compatible(name: str) -> bool:
    """Whether a bucket's name can precede the endpoint's host under TLS: wildcards do not cover dots."""
    return _LABEL.fullmatch(name) is not None


def _refuse(name: str, reason: str) -> None:
    raise InvalidBucketNameError(f"{name!r} cannot name a bucket: {reason}", bucket=name)
