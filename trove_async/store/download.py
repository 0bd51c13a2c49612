"""Saving an object as a file, or writing it into a device, pipe or open descriptor."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Awaitable, Callable
from threading import Event
from typing import Final, Protocol, TypeVar

import anyio.to_thread

from trove_async.body import Progress
from trove_async.cancellation import finish, to_the_end
from trove_async.reader import ObjectReader
from trove_async.store.targets import FileTarget, StreamTarget, Target
from trove_async.types import ObjectInfo

__all__ = ["Checkpoint", "FileSteps", "Hop", "save"]

R = TypeVar("R")

Checkpoint = Callable[[], object]
"""What an operation in a thread calls before it changes something; it raises if the caller was cancelled."""

_WHOLE: Final = 256 * 1024
"""Bytes up to which an object is written in one thread hop, which takes longer than its bytes do."""

_DESCRIPTOR: Final = re.compile(r"/proc/(\d+)(?:/task/\d+)?/fd/(\d+)", re.ASCII)


class Hop(Protocol):
    """Runs an operation in a thread.

    A caller that is cancelled waits until the operation ends, which then raises at its checkpoint. One that has not
    begun never begins.
    """

    def __call__(self, operation: Callable[[Checkpoint], R], /) -> Awaitable[R]:
        """Return what the operation returns."""
        ...


class FileSteps:
    """What happens before and after a file is written, in the same thread; nothing, unless a method is overridden."""

    def before(self) -> None:
        """Make what the file needs, such as its directory."""

    def complete(self, draft: str, info: ObjectInfo) -> None:
        """Complete a draft before it gets the name of the file. Devices and pipes have none.

        Args:
            draft: its path.
            info: of the object.
        """


async def save(
    reader: ObjectReader,
    path: str,
    cleanup_timeout: float,
    on_progress: Progress | None = None,
    steps: FileSteps = FileSteps(),  # noqa: B008 - it has no state
    hop: Hop | None = None,
) -> None:
    """Write all that a reader reads to a path; see `Trove.download`.

    Args:
        reader, path, on_progress: as for `Trove.download`.
        cleanup_timeout: seconds that a cancelled call waits for a thread.
        steps: what is done besides.
        hop: runs an operation in a thread; None for a thread of its own.
    """
    whole = await reader.read() if reader.size <= _WHOLE else None
    if whole:
        _report(reader, on_progress)

    def begin(checkpoint: Checkpoint) -> Target | None:
        """Return what is to be written; None if that is done."""
        steps.before()
        target = _target_of(path, cleanup_timeout, lambda draft: steps.complete(draft, reader.info))
        is_done = whole is not None and target.write_whole(whole, checkpoint)
        return None if is_done else target

    target = await (_in_own_hop(begin, path, cleanup_timeout) if hop is None else hop(begin))
    if target is not None:
        await _stream(reader, whole, target, cleanup_timeout, on_progress)


class _CancelledError(Exception):
    """The caller was cancelled before the file changed."""


async def _in_own_hop(operation: Callable[[Checkpoint], R], path: str, cleanup_timeout: float) -> R:
    stopped = Event()

    def checkpoint() -> None:
        if stopped.is_set():
            raise _CancelledError

    def run() -> R:
        checkpoint()  # cancelled while all threads were busy
        return operation(checkpoint)

    work = anyio.to_thread.run_sync(run)
    return await to_the_end(work, timeout=cleanup_timeout, leftover=f"the file {path!r}", on_cancel=stopped.set)


async def _stream(
    reader: ObjectReader, whole: bytes | None, target: Target, cleanup_timeout: float, on_progress: Progress | None
) -> None:
    try:
        await target.open()
        if whole:
            await target.write(whole)
        async for chunk in reader:
            await target.write(chunk)
            _report(reader, on_progress)
        await target.publish()
    finally:
        await finish(target.discard(), timeout=cleanup_timeout, leftover=f"the file {target.path!r}")


def _report(reader: ObjectReader, on_progress: Progress | None) -> None:
    if on_progress is not None:
        on_progress(reader.tell(), reader.size)


def _target_of(path: str, cleanup_timeout: float, complete: Callable[[str], object]) -> Target:
    """Return what to write for a path. Links are followed: the file at the end of them is the target."""
    file = path if os.path.isabs(path) else os.path.realpath(path)
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            file = os.path.realpath(path)
            status = os.stat(path)
    except FileNotFoundError:
        if not path or path.endswith(os.sep):
            raise
        return FileTarget(file, None, cleanup_timeout, complete)
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
        return FileTarget(file, status, cleanup_timeout, complete)
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
