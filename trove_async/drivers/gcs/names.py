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
    """Check that a bucket can have a name.

    Raises:
        InvalidBucketNameError: it cannot; says why.
    """
    if not _NAME.fullmatch(name):
        _refuse(name, "it has 3 to 63 lower-case letters, digits, '-', '_' and '.', a letter or digit at both ends")
    if any(not part or len(part) > _LONGEST for part in name.split(".")):
        _refuse(name, f"it has 1 to {_LONGEST} characters between dots")
    if _ADDRESS.fullmatch(name):
        _refuse(name, "it is no IP address")


def check_new_bucket(name: str) -> None:
    """Check that a bucket can be created under a name: some are Google's own.

    Raises:
        InvalidBucketNameError: it cannot; says why.
    """
    check_bucket(name)
    if name.startswith("goog") or _GOOGLE.search(name):
        _refuse(name, "names that begin with 'goog', or contain 'google' or the like of it, are Google's own")


def check_key(key: str) -> None:
    """Check that an object can have a name.

    Raises:
        InvalidKeyError: it cannot; says why.
    """
    if _LINE_ENDS.search(key):
        raise InvalidKeyError("the key contains a carriage return or a line feed, which no object's name may", key=key)
    if key in (".", ".."):
        raise InvalidKeyError("no object can be named '.' or '..'", key=key)
    if key.startswith(_CHALLENGES):
        raise InvalidKeyError(f"no object's name may begin with {_CHALLENGES!r}", key=key)


def _refuse(name: str, reason: str) -> None:
    raise InvalidBucketNameError(f"{name!r} cannot be a bucket's name: {reason}", bucket=name)
