"""The servers that are measured, each as a command."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote, urlencode

import trove_async
from benchmarks.uploads.rows import digest
from tests.servers import running
from tests.servers.tus_peers import Peer
from tests.servers.tus_peers import command as peer_command

__all__ = ["PATH", "SERVERS", "Place", "Server", "remove_bucket"]

PATH: Final = "/files/"
"""Where uploads are created."""

HttpServer = Literal["uvicorn", "aiohttp", "granian", "hypercorn", "node"]
Kind = Literal["trove", "peer", "floor"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the server of one measurement keeps its uploads.

    Attributes:
        folder: for files; it exists and is empty.
        bucket: for objects; of no other measurement.
        loop: of uvicorn.
    """

    folder: Path
    bucket: str
    loop: str


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is measured.

    Attributes:
        name: as it is printed.
        kind: this library, a peer, or an app that does the least.
        http: the HTTP server.
        command: returns its command for a port.
        stored: counts the files or objects of a size by their digests; None if nothing is stored.
        rows: kinds of the rows that it is measured on.
        needs: a server or software of `tests.servers`.
    """

    name: str
    kind: Kind
    http: HttpServer
    command: Callable[[Place, int], Sequence[str]]
    stored: Callable[[Place, int], Awaitable[Counter[str]]] | None
    rows: tuple[str, ...]
    needs: str | None = None


async def _files(place: Place, size: int) -> Counter[str]:
    paths = (path for path in place.folder.rglob("*") if path.is_file() and path.stat().st_size == size)
    return Counter(digest(path.read_bytes()) for path in paths)


async def _objects(place: Place, size: int) -> Counter[str]:
    async with trove_async.open(_ceph_dsn(place)) as store:
        keys = [found.key async for found in store.list(place.bucket) if found.size == size]
        return Counter([digest(await store.read(place.bucket, key)) for key in keys])


async def remove_bucket(place: Place) -> None:
    """Remove the bucket with its objects."""
    async with trove_async.open(_ceph_dsn(place)) as store:
        await store.empty_bucket(place.bucket)
        await store.delete_bucket(place.bucket)


def _files_dsn(place: Place) -> str:
    return f"local://{quote(str(place.folder))}?fsync=0"


def _synced_files_dsn(place: Place) -> str:
    return f"local://{quote(str(place.folder))}"


def _ceph_dsn(_: Place) -> str:
    ceph = running("ceph")
    keys = f"{quote(ceph.access_key, safe='')}:{quote(ceph.secret_key, safe='')}"
    return f"s3://{keys}@{ceph.region}/?{urlencode({'endpoint': ceph.endpoint, 'profile': 'ceph'})}"


def _no_locker(_: Place) -> None:
    return None


def _file_locker(place: Place) -> str:
    return str(place.folder / "locks")


def _postgres_locker(_: Place) -> str:
    return running("postgres").url


def _serve(http: HttpServer, loop: str, app: str, port: int, *arguments: str | None) -> Sequence[str]:
    module = ["benchmarks.uploads.apps", loop] if http == "uvicorn" else ["tests.uploads.serve", http]
    return [sys.executable, "-m", *module, f"benchmarks.uploads.apps:{app}", str(port), json.dumps(arguments)]


_BULK: Final = ("bulk", "slow")
_ALL: Final = (*_BULK, "take-over", "head")


def _trove(
    http: HttpServer,
    *,
    dsn: Callable[[Place], str] = _files_dsn,
    locker: Callable[[Place], str | None] = _no_locker,
    of: str = "",
    rows: tuple[str, ...] = _ALL,
    needs: str | None = None,
) -> Server:
    app = "trove_aiohttp_app" if http == "aiohttp" else "trove_app"
    return Server(
        name=f"trove, {http}{of}",
        kind="trove",
        http=http,
        command=lambda place, port: _serve(http, place.loop, app, port, dsn(place), place.bucket, locker(place)),
        stored=_objects if dsn is _ceph_dsn else _files,
        rows=rows,
        needs=needs,
    )


def _peer(name: Peer, http: HttpServer, rows: tuple[str, ...] = _ALL) -> Server:
    return Server(
        name=f"{name}, {http}",
        kind="peer",
        http=http,
        command=lambda place, port: peer_command(name, port, place.folder, loop=place.loop),
        stored=_files,
        rows=rows,
        needs="tus_peers",
    )


def _floor(http: HttpServer, *, writes: bool) -> Server:
    app = "aiohttp_floor" if http == "aiohttp" else "floor"

    def command(place: Place, port: int) -> Sequence[str]:
        return _serve(http, place.loop, app, port, str(place.folder) if writes else None)

    name = f"{'reads and writes' if writes else 'reads'}, {http}"
    return Server(name, "floor", http, command, _files if writes else None, _BULK)


SERVERS: Final = {
    server.name: server
    for server in (
        _trove("uvicorn"),
        _trove("aiohttp"),
        _trove("granian", rows=_BULK),
        _trove("hypercorn", rows=_BULK),
        _trove("uvicorn", of=", fsync", dsn=_synced_files_dsn),
        _trove("uvicorn", of=", S3", dsn=_ceph_dsn, needs="ceph"),
        _trove("uvicorn", of=", locks in files", locker=_file_locker, rows=("take-over",)),
        _trove("uvicorn", of=", locks in PostgreSQL", locker=_postgres_locker, rows=("take-over",), needs="postgres"),
        _peer("tuspyserver", "uvicorn"),
        _peer("aiohttp-tus", "aiohttp"),
        _peer("@tus/server", "node"),
        _floor("uvicorn", writes=False),
        _floor("uvicorn", writes=True),
        _floor("aiohttp", writes=False),
        _floor("aiohttp", writes=True),
    )
}
