"""The rules for the names of managed storage."""

from __future__ import annotations

from typing import Final

from trove_async.errors import InvalidArgumentError, InvalidBucketNameError, TroveError
from trove_async.keys import check_key
from trove_async.managed.resources import ManagedResource
from trove_async.values import check_text

__all__ = ["check_caller", "check_path", "check_space", "for_all", "for_bucket", "for_user", "locate", "owner_of"]

_LONGEST: Final = 255
# A space with a bucket and a path, or with a caller and a digest, must fit into an entry of an index, which PostgreSQL
# limits to 2,704 bytes.
_LONGEST_SPACE: Final = 1024
_LONGEST_CALLER: Final = 1024


def for_bucket(bucket: str, path: str = "") -> ManagedResource:
    """Return the name for a path in a bucket; without a path that of the bucket itself. `check_path` checks the path.

    Raises:
        InvalidBucketNameError: the bucket is not 1 to 255 bytes of UTF-8 without slash and NUL.
    """
    if (fault := _fault(bucket)) is not None:
        raise InvalidBucketNameError(f"a bucket of managed storage {fault}")
    return ManagedResource(bucket, "", path)


def for_user(user: str, path: str = "") -> ManagedResource:
    """Return the name for a path of a user; without a path that of the user itself. `check_path` checks the path.

    Raises:
        InvalidArgumentError: the user is not 1 to 255 bytes of UTF-8 without slash and NUL.
    """
    if (fault := _fault(user)) is not None:
        raise InvalidArgumentError(f"a user of managed storage {fault}")
    return ManagedResource("", user, path)


def for_all(path: str = "") -> ManagedResource:
    """Return the name for a path that belongs to no bucket and no user."""
    return ManagedResource("", "", path)


def check_path(resource: ManagedResource) -> None:
    """Check the path of a name.

    Raises:
        InvalidKeyError: it is not 1 to 1,024 bytes of UTF-8 without NUL.
    """
    check_key(resource.path)


def check_space(space: object) -> None:
    """Check the name of a space.

    Raises:
        InvalidArgumentError: it is not 1 to 1,024 bytes of UTF-8 without NUL.
    """
    check_text("a space", space, longest=_LONGEST_SPACE)


def check_caller(caller: object) -> None:
    """Check who asks for a proof of access; it may be empty.

    Raises:
        InvalidArgumentError: it is not up to 1,024 bytes of UTF-8 without NUL.
    """
    if caller != "":
        check_text("a caller", caller, longest=_LONGEST_CALLER)


def locate(error: TroveError, operation: str, resource: ManagedResource) -> None:
    """Say in an error which name it is about."""
    error.operation, error.bucket, error.key = operation, owner_of(resource), resource.path or None


def owner_of(resource: ManagedResource) -> str:
    """Return whose a name is, for people: a bucket, ``users/USER`` or ``all``."""
    return resource.bucket or (f"users/{resource.user}" if resource.user else "all")


def _fault(name: object) -> str | None:
    """Return what is wrong with a bucket or user; None if nothing is."""
    if not isinstance(name, str):
        return f"is a str, not {type(name).__name__}"
    if not name or "/" in name or "\0" in name:
        return f"is text that is not empty, without slash and NUL; not {name!r}"
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        return f"is valid Unicode; {name!a} has a lone surrogate at position {error.start}"
    return f"has at most {_LONGEST} bytes of UTF-8, not {size}" if size > _LONGEST else None
