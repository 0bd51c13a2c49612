"""The names that Azure can hold; no I/O.

https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata
"""

from __future__ import annotations

import re
from typing import Final

from trove_async.errors import InvalidBucketNameError, InvalidKeyError

__all__ = ["OWN", "check_bucket", "check_key", "check_new_bucket"]

OWN: Final = "\u2e2d"
"""The first character of the names of blobs that are the library's own; no user's key begins with it.

It is one character so that whatever delimiter a listing groups by, a group with such blobs has no others.
"""

_CONTAINER = re.compile(r"[a-z0-9](?:-?[a-z0-9]){2,62}")
_SPECIAL: Final = frozenset({"$root", "$web", "$logs", "$blobchangefeed"})
_UNHOLDABLE = re.compile("[\x00-\x1f\x7f-\x9f\ue000-\uf8ff]")
_MOST_SEGMENTS: Final = 254


def check_bucket(name: str) -> None:
    """Check that a container can have a name.

    Raises:
        InvalidBucketNameError: it cannot.
    """
    if name in _SPECIAL or (len(name) <= 63 and _CONTAINER.fullmatch(name)):
        return
    raise InvalidBucketNameError(
        f"{name!r} cannot be a container's name: it has 3 to 63 lower-case letters, digits and hyphens, "
        "each hyphen between two of the others",
        bucket=name,
    )


def check_new_bucket(name: str) -> None:
    """Check that a container can be created under a name: the service makes some itself.

    Raises:
        InvalidBucketNameError: it cannot.
    """
    check_bucket(name)
    if name in _SPECIAL - {"$root", "$web"}:
        raise InvalidBucketNameError(f"the container {name!r} is made by the service", bucket=name)


def check_key(key: str) -> None:
    """Check that a blob can have a name, and be listed under it.

    Raises:
        InvalidKeyError: it cannot; says why.
    """
    # ASCII without the characters below is nearly every key.
    if found := _UNHOLDABLE.search(key):
        raise InvalidKeyError(f"the key contains U+{ord(found[0]):04X}, which Azure does not take in names", key=key)
    if key[0] == OWN:
        raise InvalidKeyError(f"keys that begin with {OWN!r} are reserved for the library's hidden blobs", key=key)
    if "\\" in key:
        raise InvalidKeyError("Azure turns backslashes in names into slashes", key=key)
    if "/" in key or key[0] == ".":
        segments = key.split("/")
        if len(segments) > _MOST_SEGMENTS:
            raise InvalidKeyError(
                f"the key has {len(segments)} components; Azure takes {_MOST_SEGMENTS} at most", key=key
            )
        if "." in segments or ".." in segments:
            raise InvalidKeyError("Azure removes '.' and '..' between slashes", key=key)
