"""The interface of the compared clients, and the targets on which they work."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["CONNECTIONS", "PART_CONCURRENCY", "PART_SIZE", "Account", "Bucket", "Client", "Target"]

CONNECTIONS = 100
"""The maximum number of connections of each client."""

PART_SIZE = 8 * 1024 * 1024
"""The size of a part of a stream in S3, in bytes."""

PART_CONCURRENCY = 8
"""The maximum number of concurrent parts of a stream."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of an S3 server.

    Attributes:
        server: its name in `tests.servers`.
        endpoint, region, access_key, secret_key: how to reach it, path-style and over http.
        name: of the bucket.
    """

    server: str
    endpoint: str
    region: str
    access_key: str
    secret_key: str
    name: str


@dataclass(frozen=True, slots=True)
class Account:
    """A bucket, container or directory of another server.

    Attributes:
        dsn: with which this library opens the store.
        bucket: its name.
        server: the handle of the server from `tests.servers`.
    """

    dsn: str
    bucket: str
    server: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a measurement.

    Attributes:
        backend: its name, such as ``memory``, ``local`` or ``s3-ceph``.
        root: the directory for local files.
        fsync: whether each put is synced to the disk.
        bucket: in S3; None elsewhere.
        account: of another server; None elsewhere.
    """

    backend: str
    root: Path = Path()
    fsync: bool = False
    bucket: Bucket | None = None
    account: Account | None = None

    @property
    def remote(self) -> bool:
        """Whether there is a network between client and store."""
        return self.bucket is not None or self.account is not None

    def dump(self) -> str:
        """Return the target as JSON."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def load(cls, text: str) -> Target:
        """Parse the result of `dump`."""
        fields = json.loads(text)
        bucket = fields["bucket"] and Bucket(**fields["bucket"])
        account = fields["account"] and Account(**fields["account"])
        return cls(fields["backend"], Path(fields["root"]), fields["fsync"], bucket, account)


class Client(ABC):
    """One library on one backend."""

    def __init__(self, target: Target) -> None:
        self.target = target

    async def open(self) -> None:
        """Open the client."""

    async def close(self) -> None:
        """Close the client."""

    @abstractmethod
    async def put(self, key: str, data: bytes) -> None:
        """Store an object, atomically."""

    @abstractmethod
    async def get(self, key: str) -> bytes:
        """Read an object."""

    @abstractmethod
    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        """Store an object from chunks."""

    @abstractmethod
    async def get_stream(self, key: str) -> int:
        """Read an object in chunks; return its number of bytes."""

    @abstractmethod
    async def list(self) -> int:
        """List all objects, with sizes; return their number."""
