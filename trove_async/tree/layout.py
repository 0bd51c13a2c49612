"""The paths of a tree: buckets, for people to look at, and the library's own files in ``.trove``."""

from __future__ import annotations

from hashlib import sha256
from typing import Final
from zlib import crc32

__all__ = ["INTERNAL", "STRIPES", "Layout"]

INTERNAL: Final = ".trove"
"""The directory of the root that holds the library's own files."""
STRIPES: Final = 256
"""How many locks the keys of a tree share."""


class Layout:
    """The paths of a tree.

    ::

        ROOT/BUCKET/…                        the objects
        ROOT/.trove/buckets/BUCKET           the bucket's settings, in JSON
        ROOT/.trove/format                   the number of this layout, on a local disk
        ROOT/.trove/locks                    a byte for each stripe of keys, on a local disk
        ROOT/.trove/leases/NNN               the locks that are held over SFTP
        ROOT/.trove/tmp/PROCESS/…            what a running process is writing
        ROOT/.trove/meta/BUCKET/HH/HASH…     metadata that does not fit into an extended attribute
        ROOT/.trove/versions/BUCKET/HH/HASH/ the versions of a key that are not the latest
        ROOT/.trove/uploads/BUCKET/ID/       an upload's manifest and parts, and what says how they are named
        ROOT/.trove/deleted/BUCKET.ID        the directory of a bucket that is being deleted
        ROOT/.trove/presign.key              signs URLs
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/") or "/"
        self._base = "" if self.root == "/" else self.root
        self.internal = f"{self._base}/{INTERNAL}"
        self.all_settings = f"{self.internal}/buckets"
        self.all_deleted = f"{self.internal}/deleted"
        self.leases = f"{self.internal}/leases"
        self.tmp = f"{self.internal}/tmp"
        self.presign_key = f"{self.internal}/presign.key"

    def bucket(self, bucket: str) -> str:
        """Return the directory of a bucket."""
        return f"{self._base}/{bucket}"

    def settings(self, bucket: str) -> str:
        """Return the file of a bucket's settings."""
        return f"{self.all_settings}/{bucket}"

    def deleted(self, bucket: str, name: str) -> str:
        """Return where the directory of a bucket is moved when it is deleted.

        Args:
            bucket: which bucket.
            name: distinguishes buckets of the same name.
        """
        return f"{self.all_deleted}/{bucket}.{name}"

    def metadata(self, bucket: str) -> str:
        """Return the directory of a bucket's sidecars."""
        return f"{self.internal}/meta/{bucket}"

    def sidecar(self, bucket: str, key: str, size: int, mtime_ns: int) -> str:
        """Return the sidecar of one generation of a key: of the file with this size and time."""
        return self.token_sidecar(bucket, key, f"{size:x}-{mtime_ns:x}")

    def token_sidecar(self, bucket: str, key: str, token: str) -> str:
        """Return the sidecar of the generation of a key that has this token."""
        digest = _hash(key)
        return f"{self.metadata(bucket)}/{digest[:2]}/{digest}.{token}"

    def all_versions(self, bucket: str) -> str:
        """Return the directory of the versions of all keys of a bucket."""
        return f"{self.internal}/versions/{bucket}"

    def versions(self, bucket: str, key: str) -> str:
        """Return the directory of a key's versions."""
        digest = _hash(key)
        return f"{self.all_versions(bucket)}/{digest[:2]}/{digest}"

    def uploads(self, bucket: str) -> str:
        """Return the directory of a bucket's uploads."""
        return f"{self.internal}/uploads/{bucket}"

    def upload(self, bucket: str, upload_id: str) -> str:
        """Return the directory of an upload."""
        return f"{self.uploads(bucket)}/{upload_id}"

    @staticmethod
    def stripe(bucket: str, key: str) -> int:
        """Return the number of the lock that a key shares with others."""
        return crc32(f"{bucket}/{key}".encode()) % STRIPES


def _hash(key: str) -> str:
    return sha256(key.encode()).hexdigest()[:40]
