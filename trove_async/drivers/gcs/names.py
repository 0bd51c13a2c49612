"""The names that Cloud Storage can hold; no I/O.

Buckets: https://cloud.google.com/storage/docs/buckets#naming.
Objects: https://cloud.google.com/storage/docs/objects#naming.
"""

from __future__ import annotations

import re
from typing import Final

from trove_async.errors import InvalidBucketNameError, InvalidKeyError

__all__ = ["check_bucket", "check_key", "check_new_bucket"]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
_LONGEST: Final = 63
_CHALLENGES: Final = ".well-known/acme-challenge/"
_LINE_ENDS = re.compile(r"[\r\n]")
_GOOGLE = re.compile(r"g[o0][o0]g[l1]e")


def check_bucket(name: str) -> None:
    """Check the name of a bucket.

    Raises:
        InvalidBucketNameError: no bucket can have the name.
    """
    if not _NAME.fullmatch(name):
        _refuse(
            name,
            "it has 3 to 63 lower-case letters, digits, '-', '_' and '.', with a letter or digit at both ends",
        )
    if any(not part or len(part) > _LONGEST for part in name.split(".")):
        _refuse(name, f"it must have 1 to {_LONGEST} characters between dots")
    if _ADDRESS.fullmatch(name):
        _refuse(name, "it must not be an IP address")


def check_new_bucket(name: str) -> None:
    """Check the name of a bucket that is to be created: some names are reserved for Google.

    Raises:
        InvalidBucketNameError: no bucket can have the name.
    """
    check_bucket(name)
    if name.startswith("goog") or _GOOGLE.search(name):
        _refuse(name, "names that begin with 'goog', or contain 'google' or a similar word, are reserved for Google")


def check_key(key: str) -> None:
    """Check the name of an object.

    Raises:
        InvalidKeyError: no object can have the name.
    """
    if _LINE_ENDS.search(key):
        raise InvalidKeyError("the key contains a carriage return or a line feed, which no key can have", key=key)
    if key in (".", ".."):
        raise InvalidKeyError("no object can be named '.' or '..'", key=key)
    if key.startswith(_CHALLENGES):
        raise InvalidKeyError(f"no object's name may begin with {_CHALLENGES!r}", key=key)


def _refuse(name: str, reason: str) -> None:
    raise InvalidBucketNameError(f"{name!r} cannot name a bucket: {reason}", bucket=name)
