"""What a server can do, found out by trying it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from trove_async.drivers.sftp.errors import RefusedError
from trove_async.drivers.sftp.lease import ClientLease
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
from trove_async.drivers.sftp.remote_files import RemoteFiles
from trove_async.drivers.sftp.statuses import path_bytes
from trove_async.errors import StorageFullError
from trove_async.tree import WriteClock

__all__ = ["Abilities", "probe"]


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a server was seen to support.

    Attributes:
        carries_times: an access time in the future is kept, also when the file is read.
        replaces: a file can be renamed over another.
        links: a file can be given a second name that does not exist yet.
        copies: the server copies files by itself; this is what it says, and is not tried.
    """

    carries_times: bool
    replaces: bool
    links: bool
    copies: bool


async def probe(files: RemoteFiles, lease: ClientLease, clock: WriteClock) -> Abilities:
    """Find out what the server supports, with files in this client's directory of temporaries.

    What a server says about itself is not enough.
    """
    one, two, three = lease.temporary(), lease.temporary(), lease.temporary()
    try:
        await asyncio.gather(*(files.write_new(path, b"?", clock()) for path in (one, two)))
        carries_times, links = await asyncio.gather(_carries_times(files, one), _links(files, one, three))
        return Abilities(
            carries_times=carries_times,
            links=links,
            replaces=await _replaces(files, one, two),
            copies=await files.has(COPY_DATA),
        )
    except RefusedError as error:
        better = await files.why_refused(error, lease.folder)
        if better is not error:
            raise StorageFullError("the server's file system is full") from error
        raise
    finally:
        await asyncio.gather(*map(files.unlink, (one, two, three)))


async def _carries_times(files: RemoteFiles, path: str) -> bool:
    before = await files.lstat(path)
    channel = await files.channel()
    raw = await channel.request(Kind.OPEN, path_bytes(path), pack_u32(OpenFlag.READ), pack_u32(0))
    reading = channel.request(Kind.READ, pack_string(raw), pack_u64(0), pack_u32(1))
    closing = channel.close_handle(raw)
    await reading
    await closing
    after = await files.lstat(path)
    return before is not None and before.marked is False and before == after


async def _links(files: RemoteFiles, path: str, other: str) -> bool:
    if not await files.has(HARDLINK):
        return False
    try:
        await files.link(path, other)
        await files.link(path, other)
    except FileExistsError:
        return True
    except OSError:
        return False  # the server knows the request, but its file system has no links
    return False


async def _replaces(files: RemoteFiles, path: str, other: str) -> bool:
    if await files.has(POSIX_RENAME):
        return True
    try:
        await files.ask(Kind.RENAME, path_bytes(path), path_bytes(other))
    except OSError:
        return False
    return True
