"""Saving an object as a file, or writing it into a device, pipe or open descriptor."""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import Final

import anyio.to_thread

from trove_async.body import Progress
from trove_async.cancellation import finish
from trove_async.reader import ObjectReader
from trove_async.store.targets import FileTarget, StreamTarget, Target

__all__ = ["save"]

_DESCRIPTOR: Final = re.compile(r"/proc/(\d+)(?:/task/\d+)?/fd/(\d+)", re.ASCII)


async def save(reader: ObjectReader, path: str, cleanup_timeout: float, on_progress: Progress | None = None) -> None:
    """Write all that a reader reads to a path; see `Trove.download`."""
    target = await anyio.to_thread.run_sync(_target_of, path, cleanup_timeout)
    try:
        await target.open()
        async for chunk in reader:
            await target.write(chunk)
            if on_progress is not None:
                on_progress(reader.tell(), reader.size)
        await target.publish()
    finally:
        await finish(target.discard(), timeout=cleanup_timeout, leftover=f"the file {target.path!r}")


def _target_of(path: str, cleanup_timeout: float) -> Target:
    """Return what to write for a path. Links are followed: the file at the end of them is the target."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        if not path or path.endswith(os.sep):
            raise
        return FileTarget(os.path.realpath(path), None, cleanup_timeout)
    if stat.S_ISDIR(status.st_mode):
        where = os.path.join(path, "NAME")
        raise IsADirectoryError(errno.EISDIR, f"Is a directory; give the path of a file, such as {where!r}", path)
    descriptor = _own_descriptor(path)
    if descriptor is not None:
        _require_writable(descriptor, path)
        if stat.S_ISREG(status.st_mode) or stat.S_ISSOCK(status.st_mode):
            # The file was opened for this process, as by a shell's "> file", and others may write to it too.
            return StreamTarget(path, status, cleanup_timeout, descriptor=descriptor)
    if stat.S_ISREG(status.st_mode):
        return FileTarget(os.path.realpath(path), status, cleanup_timeout)
    return StreamTarget(path, status, cleanup_timeout)


def _own_descriptor(path: str) -> int | None:
    """Return the descriptor of this process for which a path such as ``/dev/stdout`` stands; None if it is none."""
    while os.path.islink(path):
        directory, name = os.path.split(path)
        path = os.path.join(os.path.realpath(directory), name)
        found = _DESCRIPTOR.fullmatch(path)
        if found is not None and int(found[1]) == os.getpid():
            return int(found[2])
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    return None


def _require_writable(descriptor: int, path: str) -> None:
    """Refuse a descriptor for reading, behind which another one could be opened for writing, such as closed output."""
    import fcntl  # only Linux has paths of descriptors

    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "it is open for reading only, or closed", path)
