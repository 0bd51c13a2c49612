"""Opening a root: checking it, finding out what the server supports, and composing the store."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from trove_async.cancellation import CLEANUP_TIMEOUT, finish
from trove_async.drivers.sftp.abilities import ASSUMED
from trove_async.drivers.sftp.connection import Connection
from trove_async.drivers.sftp.errors import DisconnectedError, RefusedError, translated
from trove_async.drivers.sftp.filesystem import SFTPFileSystem
from trove_async.drivers.sftp.lease import ClientLease
from trove_async.drivers.sftp.leftovers import Leftovers
from trove_async.drivers.sftp.locks import Locks
from trove_async.drivers.sftp.objects import SFTPObjects
from trove_async.drivers.sftp.probe import probe
from trove_async.drivers.sftp.protocol import FileStatus, Kind, decoded
from trove_async.drivers.sftp.reading import Reading
from trove_async.drivers.sftp.remote_files import RemoteFiles
from trove_async.drivers.sftp.requests import Requests
from trove_async.drivers.sftp.settings import SFTPSettings
from trove_async.drivers.sftp.slots import Slots
from trove_async.drivers.sftp.statuses import path_bytes
from trove_async.errors import AccessDeniedError, BackendError, RootNotFoundError
from trove_async.signing import URLSigner
from trove_async.tree import Buckets, Layout, Tree, WriteClock, possible_roots
from trove_async.tree.filesystem import is_dir

__all__ = ["OpenStore", "find_roots", "open_store"]

_SPARE_HANDLES: Final = 4


@dataclass(frozen=True, slots=True)
class OpenStore:
    """A store whose root is open.

    Attributes:
        fs, tree, reading, locks, slots: its parts.
        url_signer: signs URLs; None without a ``presign_url``.
        swept: how many directories of temporaries were swept.
    """

    fs: SFTPFileSystem
    tree: Tree[SFTPObjects]
    reading: Reading
    locks: Locks
    slots: Slots
    url_signer: URLSigner | None
    swept: int


async def open_store(
    settings: SFTPSettings, connection: Connection, files: RemoteFiles, lease: ClientLease, leftovers: Leftovers
) -> OpenStore:
    """Open a root; can be repeated after the connection was lost.

    Raises:
        RootNotFoundError: it is missing or not a directory.
        AccessDeniedError: it is read-only.
        UnsupportedError: the server cannot do what a store needs.
    """
    files.abilities = ASSUMED
    layout, clock = Layout(await _absolute(files, settings)), WriteClock()
    await _check_root(files, layout, settings, lease)
    where = f"{layout.root!r} on {settings.address}"
    abilities = await probe(files, lease, clock(), where=where, merge_names=settings.merge_names)
    files.abilities = abilities
    locks = Locks(files, layout, lease, links=abilities.links)
    swept = await locks.sweep()
    fs = SFTPFileSystem(
        connection,
        durable=settings.fsync,
        recovery=files.recovery,
        abilities=abilities,
        clock=clock,
        lease=lease,
        locks=locks,
        leftovers=leftovers,
    )
    buckets = Buckets(fs, layout)
    objects = SFTPObjects(fs, layout, buckets, clock)
    return OpenStore(
        fs=fs,
        tree=Tree(fs, layout, buckets, objects, clock=clock, min_part_size=settings.min_part_size),
        reading=Reading(objects, layout),
        locks=locks,
        slots=Slots(_handles(settings, (await files.channel()).limits.handles), settings.idle_timeout),
        url_signer=await _signer(files, layout, settings),
        swept=swept,
    )


async def _absolute(requests: Requests, settings: SFTPSettings) -> str:
    """Return the root as an absolute path: one that begins with ``~`` is below the directory that a login begins in."""
    if not settings.root.startswith("~"):
        return settings.root
    home = decoded(await requests.ask(Kind.REALPATH, path_bytes(".")))
    if not home.startswith("/"):
        raise BackendError(
            f"{settings.address} returned {home!r} for the directory of the login; write an absolute root"
        )
    return home.rstrip("/") + settings.root[1:] or "/"


async def find_roots(settings: SFTPSettings, path: str) -> list[str]:
    """Log in, and return the directories on a path that contain ``.trove``.

    Args:
        settings: of the server.
        path: absolute, or ``/~`` and what follows in the directory that a login begins in.
    """
    connection = Connection(settings, cleanup_timeout=CLEANUP_TIMEOUT)
    candidates, home = possible_roots(path), ""
    try:
        channel = await connection.channel()
        if candidates[1:2] == ["/~"]:
            candidates = candidates[1:]
            home = await _absolute(Requests(connection), replace(settings, root="~"))
        layouts = [Layout(f"{home.rstrip('/')}{root[2:]}" if home else root) for root in candidates]
        answers = [channel.request(Kind.LSTAT, path_bytes(layout.internal)) for layout in layouts]
        found = [await _is_directory(answer) for answer in answers]
    except DisconnectedError as error:
        raise translated(error) from error
    finally:
        await finish(connection.close(), timeout=CLEANUP_TIMEOUT, leftover="a connection that does not close")
    return [root for root, is_root in zip(candidates, found, strict=True) if is_root]


async def _is_directory(answer: Awaitable[FileStatus]) -> bool:
    try:
        return is_dir(await answer)
    except DisconnectedError:
        raise
    except OSError:
        return False  # it does not exist, or a file or a directory without permission is on the way


def _handles(settings: SFTPSettings, limit: int) -> int:
    return max(1, min(settings.handles, limit - _SPARE_HANDLES)) if limit else settings.handles


async def _check_root(files: RemoteFiles, layout: Layout, settings: SFTPSettings, lease: ClientLease) -> None:
    """Check that the root is a writable directory, and create the library's own directories in it."""
    root = layout.root
    internal = (layout.internal, layout.leases, layout.tmp)
    status, *found = await asyncio.gather(files.stat(root), *map(files.lstat, internal))
    if status is None and settings.create:
        with suppress(FileExistsError):
            await files.make_directories(root)
        status = await files.stat(root)
    if status is None:
        raise RootNotFoundError(
            f"the root {root!r} does not exist on {settings.address}; make the directory, or add ?create=1 to the DSN"
        )
    if not is_dir(status):
        raise RootNotFoundError(f"the root {root!r} on {settings.address} is not a directory")
    try:
        for path, there in zip(internal, found, strict=True):
            if there is None:
                with suppress(FileExistsError):
                    await files.mkdir(path)
        await lease.begin(layout)
    except (PermissionError, RefusedError, FileNotFoundError) as error:
        raise AccessDeniedError(
            f"the root {root!r} on {settings.address} cannot be written to; check its owner, mode and mount: {error}"
        ) from error


async def _signer(files: RemoteFiles, layout: Layout, settings: SFTPSettings) -> URLSigner | None:
    signing = settings.signing
    needs_own_key = signing.base_url is not None and signing.key is None
    return signing.signer(await _own_presign_key(files, layout.presign_key) if needs_own_key else b"")


async def _own_presign_key(files: RemoteFiles, path: str) -> bytes:
    """Return the root's own key, which is made when it is first needed."""
    key = await files.read_file(path)
    while not key:
        handle = await files.create_private(f"{path}.{secrets.token_hex(4)}")
        draft = files.file(handle).path
        try:
            await files.write(handle, (secrets.token_bytes(32),))
            await files.close(handle)
            # A plain rename replaces nothing: the first client makes the key, and the others use it.
            with suppress(RefusedError):
                await files.ask(Kind.RENAME, path_bytes(draft), path_bytes(path))
        finally:
            await files.close(handle)
            await files.unlink(draft)
        key = await files.read_file(path)
    return key
