"""The status of files, also from servers that leave out what kind of file it is, its size or its time."""

from __future__ import annotations

import errno
import stat
from collections.abc import Awaitable, Iterable
from typing import Any

from trove_async.drivers.sftp.channel import Channel
from trove_async.drivers.sftp.errors import DisconnectedError, EndOfFileError, RefusedError
from trove_async.drivers.sftp.protocol import FileStatus, Kind, encoded, pack_string

__all__ = ["completed", "path_bytes", "statuses_of"]


def path_bytes(path: str) -> bytes:
    """Return a path as it stands in a packet."""
    return pack_string(encoded(path))


async def statuses_of(channel: Channel, asked: Iterable[tuple[str, Awaitable[Any]]]) -> list[FileStatus | None]:
    """Wait for the status of several files; None for those that are missing.

    Args:
        channel: on which the server was asked.
        asked: the paths, and the pending answers about them.
    """
    found: list[FileStatus | None] = []
    for path, answer in asked:
        try:
            status = await answer
        except FileNotFoundError:
            found.append(None)
        else:
            found.append(status if status.is_complete else await completed(channel, path, status))
    return found


async def completed(channel: Channel, path: str, status: FileStatus) -> FileStatus | None:
    """Find what a status lacks; None if there is no file any more.

    Raises:
        OSError: the server does not tell.
    """
    packed = path_bytes(path)
    linking, asking = channel.request(Kind.READLINK, packed), channel.request(Kind.STAT, packed)
    if not status.st_mode and await _succeeds(linking):
        return FileStatus(stat.S_IFLNK, 0, 0)
    try:
        status = _merged(status, await asking)
    except FileNotFoundError:
        return None
    except DisconnectedError:
        raise
    except OSError:
        pass  # it has no STAT
    if not status.st_mode:
        kind = stat.S_IFDIR if await _is_directory(channel, path) else stat.S_IFREG
        status = status._replace(st_mode=kind)
    if not status.is_complete:
        lacking = "size" if status.st_size < 0 else "modification time"
        raise OSError(errno.EIO, f"the server does not return the {lacking} of {path!r}, which a store needs")
    return status


def _merged(one: FileStatus, other: FileStatus) -> FileStatus:
    return FileStatus(
        one.st_mode or other.st_mode,
        other.st_size if one.st_size < 0 else one.st_size,
        other.st_mtime_ns if one.st_mtime_ns < 0 else one.st_mtime_ns,
        other.marked if one.st_mtime_ns < 0 else one.marked,
    )


async def _succeeds(answer: Awaitable[Any]) -> bool:
    try:
        await answer
    except DisconnectedError:
        raise
    except OSError:
        return False
    return True


async def _is_directory(channel: Channel, path: str) -> bool:
    """Return whether a path can be read as a directory."""
    try:
        handle = await channel.handle_of(channel.request(Kind.OPENDIR, path_bytes(path)))
        # asyncssh's server finds out only when the names are asked for.
        reading = channel.request(Kind.READDIR, pack_string(handle))
        await channel.close_handle(handle)
        await reading
    except EndOfFileError:
        return True
    except (FileNotFoundError, RefusedError):
        return False
    return True
