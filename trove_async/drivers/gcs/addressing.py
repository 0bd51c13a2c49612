"""The paths of buckets and objects in the two APIs."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote

from trove_async.wire.sigv4 import encode_path

__all__ = ["bucket_path", "encode_bucket", "object_path", "resource_path"]


@lru_cache(1024)
def encode_bucket(bucket: str) -> str:
    """Return a bucket's name as it stands in a path; valid names stay as they are."""
    return quote(bucket, safe="")


def bucket_path(bucket: str) -> str:
    """Return the path of a bucket in the JSON API, behind ``/storage/v1``."""
    return f"/b/{encode_bucket(bucket)}"


def object_path(bucket: str, key: str) -> str:
    """Return the path of an object in the XML API.

    A key with a component that is ``.`` or ``..`` has its slashes escaped too: proxies may resolve such components.
    """
    if "." in key and any(part in (".", "..") for part in key.split("/")):
        return f"/{encode_bucket(bucket)}/{quote(key, safe='')}"
    return f"/{encode_bucket(bucket)}/{encode_path(key)}"


def resource_path(bucket: str, key: str) -> str:
    """Return the path of an object in the JSON API, behind ``/storage/v1``."""
    return f"{bucket_path(bucket)}/o/{quote(key, safe='')}"
