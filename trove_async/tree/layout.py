"""Where a tree keeps what: the buckets for people to look at, and all of ours in ``.trove``."""

from __future__ import annotations

from hashlib import sha256
from typing import Final
from zlib import crc32

__all__ = ["OURS", "STRIPES", "Layout"]

OURS: Final = ".trove"
STRIPES: Final = 256


class Layout:
    """The paths of a tree.

    ::

        ROOT/BUCKET/…                        the objects
        ROOT/.trove/buckets/BUCKET           the bucket's settings, in JSON
        ROOT/.trove/locks/NNN                one file for each stripe of keys
        ROOT/.trove/tmp/PROCESS/…            what a living process is writing
        ROOT/.trove/meta/BUCKET/HH/HASH…     metadata that no attribute holds
        ROOT/.trove/versions/BUCKET/HH/HASH/ the versions of a key that are not the latest
        ROOT/.trove/uploads/BUCKET/ID/       an upload's manifest and parts
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/") or "/"
        base = "" if self.root == "/" else self.root
        self._base = base
        self.ours = f"{base}/{OURS}"
        self.locks = f"{self.ours}/locks"
        self.tmp = f"{self.ours}/tmp"

    def bucket(self, bucket: str) -> str:
        """Return the directory of a bucket."""
        return f"{self._base}/{bucket}"

    def settings(self, bucket: str) -> str:
        """Return the file of a bucket's settings."""
        return f"{self.ours}/buckets/{bucket}"

    def metadata(self, bucket: str) -> str:
        """Return the directory of a bucket's sidecars."""
        return f"{self.ours}/meta/{bucket}"

    def sidecar(self, bucket: str, key: str, size: int, mtime_ns: int) -> str:
        """Return the sidecar of one generation of a key: only the file of that size and time selects it."""
        digest = _hash(key)
        return f"{self.metadata(bucket)}/{digest[:2]}/{digest}.{size:x}-{mtime_ns:x}"

    def all_versions(self, bucket: str) -> str:
        """Return the directory of the versions of all keys of a bucket."""
        return f"{self.ours}/versions/{bucket}"

    def versions(self, bucket: str, key: str) -> str:
        """Return the directory of a key's versions."""
        digest = _hash(key)
        return f"{self.all_versions(bucket)}/{digest[:2]}/{digest}"

    def uploads(self, bucket: str) -> str:
        """Return the directory of a bucket's uploads."""
        return f"{self.ours}/uploads/{bucket}"

    def upload(self, bucket: str, upload_id: str) -> str:
        """Return the directory of an upload."""
        return f"{self.uploads(bucket)}/{upload_id}"

    @staticmethod
    def stripe(bucket: str, key: str) -> int:
        """Return the number of the lock that a key shares with some others."""
        return crc32(f"{bucket}/{key}".encode()) % STRIPES


def _hash(key: str) -> str:
    return sha256(key.encode()).hexdigest()[:40]
