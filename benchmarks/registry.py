"""The backends, and the clients of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from benchmarks import clients, s3_clients
from benchmarks.azure_clients import AZURE
from benchmarks.client import Client, Target
from benchmarks.gcs_clients import GCS
from benchmarks.remote import Remote
from benchmarks.sftp_clients import SFTP
from benchmarks.workloads import WORKLOADS, Workload

__all__ = ["BACKENDS", "PEERS", "REMOTES", "S3_SERVERS", "has_client", "make_client", "workloads_on"]

S3_SERVERS: Final[dict[str, Literal["ceph", "rclone", "nginx"]]] = {
    "s3-ceph": "ceph",
    "s3-rclone": "rclone",
    "s3-nginx": "nginx",
}
"""The S3 backends, and their servers in `tests.servers`."""

REMOTES: Final[dict[str, Remote]] = {"gcs": GCS, "azure": AZURE, "sftp": SFTP}
"""Backends on other servers."""

BACKENDS: Final = ("memory", "local", *S3_SERVERS, *REMOTES)

_CLIENTS: Final[dict[str, Callable[[Target], Client]]] = {
    "trove": clients.TroveClient,
    "obstore": clients.ObstoreClient,
    "opendal": clients.OpendalClient,
    "aiofiles": clients.AiofilesClient,
    "fsspec": clients.FsspecClient,
}

_S3_CLIENTS: Final[dict[str, Callable[[Target], Client]]] = {
    "trove": s3_clients.TroveS3Client,
    "obstore": s3_clients.ObstoreS3Client,
    "s3fs": s3_clients.S3fsClient,
    "aiobotocore": s3_clients.AiobotocoreClient,
    "aiohttp": s3_clients.AiohttpClient,
}

_RECURSIVE: Final = ("trove", "obstore", "opendal")
"""The clients that also list what is in the directories of a local directory."""

_FEW: Final = 1000
_S3_SHARE: Final = 0.4
"""The number of small objects on servers: the slowest client on the slowest server handles about 400 per second."""

_REMOTE_CLIENTS: Final = [name for remote in REMOTES.values() for name in remote.clients]

PEERS: Final = tuple(name for name in dict.fromkeys([*_CLIENTS, *_S3_CLIENTS, *_REMOTE_CLIENTS]) if name != "trove")


def has_client(name: str, backend: str, *, fsync: bool, streams: bool = True, deep: bool = False) -> bool:
    """Return whether a client supports the backend, and syncing to the disk if required.

    Args:
        name, backend, fsync: the client, the backend, and whether puts must be synced.
        streams: whether the workload is a stream.
        deep: whether it lists directories of directories.
    """
    if deep and name not in _RECURSIVE:
        return False
    if backend in REMOTES:
        return name in REMOTES[backend].clients and (streams or name not in REMOTES[backend].programs)
    if backend in S3_SERVERS:
        return name in _S3_CLIENTS
    if (name == "aiofiles" and backend == "memory") or (fsync and name not in ("trove", "aiofiles")):
        return False
    return name in _CLIENTS


def workloads_on(backend: str) -> dict[str, Workload]:
    """Return the workloads of a backend by name; on S3 there are fewer small objects, and only one listing."""
    portable = {name: w for name, w in WORKLOADS.items() if w.portable}
    if backend == "memory":
        return {name: w for name, w in portable.items() if not w.streams}  # they would measure the allocator
    if backend == "local":
        return dict(WORKLOADS)
    lacking = {"s3-nginx": ("put stream", "list"), "s3-rclone": ("list",)}.get(backend, ())
    return {
        name: w.scaled(_S3_SHARE) if w.operations > _FEW and not w.lists else w
        for name, w in portable.items()
        if w.kind not in lacking
    }


def make_client(name: str, target: Target) -> Client:
    """Return a client that is not opened yet."""
    if target.backend in REMOTES:
        return REMOTES[target.backend].clients[name](target)
    return (_S3_CLIENTS if target.bucket is not None else _CLIENTS)[name](target)
