"""What the root must be, and what the server can do there."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress

from trove_async.drivers.sftp.errors import RefusedError
from trove_async.drivers.sftp.filesystem import SFTPFileSystem
from trove_async.drivers.sftp.protocol import (
    COPY_DATA,
    HARDLINK,
    POSIX_RENAME,
    Kind,
    OpenFlag,
    pack_string,
    pack_u32,
    pack_u64,
)
from trove_async.drivers.sftp.requests import path_bytes
from trove_async.drivers.sftp.settings import SFTPSettings
from trove_async.errors import AccessDeniedError, RootNotFoundError, StorageFullError
from trove_async.tree.filesystem import is_dir
from trove_async.tree.layout import Layout

__all__ = ["Abilities", "check_root", "presign_key", "probe"]


class Abilities:
    """What was seen to work.

    Attributes:
        carries_times: an access time that lies ahead stays, also when the file is read.
        replaces: a file can be renamed over another.
        links: a file can be given a second name, and none that is taken.
        copies: the server copies files by itself; what it says is taken for granted.
    """

    def __init__(self) -> None:
        self.carries_times = False
        self.replaces = False
        self.links = False
        self.copies = False


async def check_root(
    fs: SFTPFileSystem, layout: Layout, settings: SFTPSettings, begin: Callable[[], Awaitable[None]]
) -> None:
    """Check that the root is a directory that can be written to, and make our own in it.

    ``begin`` makes our folder of temporaries.

    Raises:
        RootNotFoundError: it is missing or not a directory.
        AccessDeniedError: it is read-only.
    """
    root = layout.root
    ours = (layout.ours, layout.locks, layout.tmp)
    status, *found = await asyncio.gather(fs.stat(root), *map(fs.lstat, ours))
    if status is None and settings.create:
        with suppress(FileExistsError):
            await fs.make_directories(root)
        status = await fs.stat(root)
    if status is None:
        raise RootNotFoundError(
            f"the root {root!r} does not exist on {settings.address}; make the directory, or add ?create=1 to the DSN"
        )
    if not is_dir(status):
        raise RootNotFoundError(f"the root {root!r} on {settings.address} is not a directory")
    try:
        for path, there in zip(ours, found, strict=True):
            if there is None:
                with suppress(FileExistsError):
                    await fs.mkdir(path)
        await begin()
    except (PermissionError, RefusedError, FileNotFoundError) as error:
        raise AccessDeniedError(
            f"the root {root!r} on {settings.address} cannot be written to; check its owner, mode and mount: {error}"
        ) from error


async def probe(fs: SFTPFileSystem) -> Abilities:
    """Find out by trying, with files in our folder of temporaries: what a server says of itself is not enough."""
    found = Abilities()
    one, two, three = fs.temporary(), fs.temporary(), fs.temporary()
    try:
        await asyncio.gather(*(fs.write_new(path, b"?", fs.now()) for path in (one, two)))
        found.carries_times, found.links = await asyncio.gather(_keeps_times(fs, one), _links(fs, one, three))
        found.replaces = await _replaces(fs, one, two)
        found.copies = await fs.has(COPY_DATA)
    except RefusedError as error:
        better = await fs.why_refused(error, fs.scratch)
        if better is not error:
            raise StorageFullError("the server's file system is full") from error
        raise
    finally:
        await asyncio.gather(*map(fs.unlink, (one, two, three)))
    return found


async def _keeps_times(fs: SFTPFileSystem, path: str) -> bool:
    before = await fs.lstat(path)
    channel = await fs.channel()
    raw = await channel.request(Kind.OPEN, path_bytes(path), pack_u32(OpenFlag.READ), pack_u32(0))
    reading = channel.request(Kind.READ, pack_string(raw), pack_u64(0), pack_u32(1))
    closing = channel.close_handle(raw)
    await reading
    await closing
    after = await fs.lstat(path)
    return before is not None and before.marked is False and before == after


async def _links(fs: SFTPFileSystem, path: str, other: str) -> bool:
    if not await fs.has(HARDLINK):
        return False
    try:
        await fs.link(path, other)
        await fs.link(path, other)
    except FileExistsError:
        return True
    except OSError:
        return False  # the server knows the request, and its file system has no links
    return False


async def _replaces(fs: SFTPFileSystem, path: str, other: str) -> bool:
    if await fs.has(POSIX_RENAME):
        return True
    try:
        await fs.ask(Kind.RENAME, path_bytes(path), path_bytes(other))
    except OSError:
        return False
    return True


async def presign_key(fs: SFTPFileSystem, layout: Layout, settings: SFTPSettings) -> bytes:
    """Return the key that signs URLs: the one given, or the root's own, made when it is first needed."""
    if settings.presign_key is not None:
        return settings.presign_key.encode()
    path = f"{layout.ours}/presign.key"
    key = await fs.read_file(path)
    while not key:
        handle = await fs.create_private(f"{path}.{secrets.token_hex(4)}")
        draft = fs.file(handle).path
        try:
            await fs.write(handle, (secrets.token_bytes(32),))
            await fs.close(handle)
            # A plain rename replaces nothing: whoever is first makes the key, and the others use it.
            with suppress(RefusedError):
                await fs.ask(Kind.RENAME, path_bytes(draft), path_bytes(path))
        finally:
            await fs.close(handle)
            await fs.unlink(draft)
        key = await fs.read_file(path)
    return key
