"""Directories by handle, so that no path below the root leads through a symbolic link.

A path could be checked before it is used, but another process may replace a directory by a link in between. A handle
stays the directory that was opened. Operations that wait at the same time share handles: one that was opened after an
operation was requested is as good for it as one that it opens itself.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Final

from trove_async.errors import ClosedError

__all__ = ["DIRECTORY", "Directory", "Handles"]

DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""The flags that open a directory for reading, and no link to one."""
_WAY: Final = (getattr(os, "O_PATH", 0) or os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ALWAYS: Final = sys.maxsize
_BUSY: Final = 32
_IDLE: Final = 4
"""How many shared handles stay open while there are operations, and while there are none."""

# openat2(2): its number is the same on every architecture that Python runs on; see struct open_how.
_OPENAT2: Final = 437
_RESOLVE_NO_SYMLINKS: Final = 0x04
_RESOLVE_BENEATH: Final = 0x08


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_HOW: Final = {
    flags: ctypes.byref(_How(flags, 0, _RESOLVE_NO_SYMLINKS | _RESOLVE_BENEATH)) for flags in (_WAY, DIRECTORY)
}
_HOW_SIZE: Final = ctypes.sizeof(_How)
_NOT_THERE: Final = frozenset({errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EINVAL, errno.E2BIG, errno.EAGAIN})
"""What says that openat2 cannot be used, or not for this path; a filter of system calls may answer EPERM or EACCES."""


class Directory:
    """An open directory, which is closed when nobody uses it any longer.

    Attributes:
        descriptor: for the ``dir_fd`` of a system call.
        asked: the number of the last operation that was requested before it was opened.
    """

    __slots__ = ("asked", "descriptor")

    def __init__(self, descriptor: int, asked: int) -> None:
        self.descriptor = descriptor
        self.asked = asked

    def close(self) -> None:
        """Close it at once, although it may be in use."""
        descriptor, self.descriptor = self.descriptor, -1
        os.close(descriptor)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if self.descriptor >= 0:
            close(self.descriptor)


class _UnderWay(threading.local):
    """The number of the operation that a thread runs; outside of operations, a number for which no handle is valid."""

    number: int = _ALWAYS - 1


class Handles:
    """The open directories of a store.

    Args:
        base: the path of the root, without a slash at its end.
        lasting: the path of a directory whose directories no operation removes.
    """

    def __init__(self, base: str, lasting: str) -> None:
        self._base = base
        self._lasting = lasting
        self._skip = len(base) + 1
        self._numbers = count(1)
        self._asked = 0
        self._under_way = _UnderWay()
        self._mutex = threading.Lock()
        self._known: dict[str, Directory] = {}
        self._pinned: dict[str, Directory] = {}
        self._openat2 = _openat2()

    # The order of operations

    def ask(self) -> int:
        """Return the number of a new operation."""
        number = self._asked = next(self._numbers)
        return number

    @property
    def number(self) -> int:
        """The number of the operation that this thread runs."""
        return self._under_way.number

    def begin(self, number: int) -> None:
        """Set the operation that this thread runs from now on."""
        self._under_way.number = number

    def renew(self) -> None:
        """Make the operation of this thread trust only handles that are opened from now on."""
        self._under_way.number = self.ask()

    # Handles

    def pin(self, path: str, descriptor: int) -> None:
        """Use an open directory for its path as long as the store is open; this closes the descriptor in the end."""
        with self._mutex:
            self._pinned[path] = self._known[path] = Directory(descriptor, _ALWAYS)

    def directory(self, path: str) -> Directory:
        """Return the handle of a directory, for use with ``dir_fd``.

        Raises:
            FileNotFoundError: it does not exist.
            NotADirectoryError: it or a directory on the way is something else, such as a symbolic link.
            OSError: ELOOP, if it is a directory of the library, and something else has its name.
            ClosedError: the store is closed, or was opened in the process that forked this one.
        """
        known = self._known.get(path)
        if known is not None and known.asked >= self._under_way.number:
            return known
        return self._share(path, self.open(path, _WAY))

    def readable(self, path: str) -> Directory:
        """Open a directory for reading. The handle is shared with users of `directory`, who do not read from it.

        Raises:
            OSError, ClosedError: as for `directory`.
        """
        return self._share(path, self.open(path, DIRECTORY))

    def _share(self, path: str, descriptor: int) -> Directory:
        asked = _ALWAYS if path[: path.rindex("/")] == self._lasting else self._asked
        found = Directory(descriptor, asked)
        if path not in self._pinned:
            with self._mutex:
                self._known.pop(path, None)
                self._known[path] = found
                if len(self._known) > _BUSY:
                    self._close_all_but(_BUSY // 2)
        return found

    def parent(self, path: str) -> tuple[Directory, str]:
        """Return the handle of the directory that a path is in, and its name there."""
        above, _, name = path.rpartition("/")
        known = self._known.get(above)  # as in `directory`, which costs a call
        if known is not None and known.asked >= self._under_way.number:
            return known, name
        return self.directory(above), name

    def open(self, path: str, flags: int = DIRECTORY) -> int:
        """Open a directory; the caller closes the descriptor."""
        known = self._pinned.get(path)
        if known is not None:
            return os.open(".", flags, dir_fd=known.descriptor)
        above, _, name = path.rpartition("/")
        known = self._pinned.get(above)
        if known is not None:
            try:
                return os.open(name, flags, dir_fd=known.descriptor)
            except NotADirectoryError as error:
                if above != self._lasting:
                    raise
                # What is in .trove must not seem to be missing, such as the settings of a bucket.
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from error
        known = self._pinned.get(self._base)
        if known is None:
            raise ClosedError("the store is closed")
        root = known.descriptor
        relative = path[self._skip :]
        if self._openat2 is not None:
            descriptor = self._openat2(root, os.fsencode(relative), _HOW[flags], _HOW_SIZE)
            if descriptor >= 0:
                return descriptor
            code = ctypes.get_errno()
            if code == errno.ELOOP:
                code = errno.ENOTDIR
            if code not in _NOT_THERE:
                raise OSError(code, os.strerror(code), path)
        return _walk(root, relative, flags)

    def forget(self, path: str) -> None:
        """Open a directory anew when it is used next: it may have been removed."""
        with self._mutex:
            if path not in self._pinned:
                self._known.pop(path, None)

    def trim(self) -> None:
        """Close most handles; call it when no operation is running."""
        if len(self._known) > _IDLE + len(self._pinned):
            with self._mutex:
                self._close_all_but(_IDLE)

    def release(self) -> None:
        """Close all handles that no operation uses, since too many files are open."""
        with self._mutex:
            self._close_all_but(0)

    def _close_all_but(self, keep: int) -> None:
        shared = [path for path in self._known if path not in self._pinned]
        for path in shared[: len(shared) - keep]:
            del self._known[path]

    def close(self) -> None:
        """Close all handles, once the operations that use them have ended."""
        with self._mutex:
            self._known.clear()
            self._pinned.clear()

    def close_in_child(self) -> None:
        """Close all handles in a forked child, in which no operation runs, and the mutex may be held for ever."""
        known, self._known, self._pinned = self._known, {}, {}
        for directory in known.values():
            directory.close()


def _openat2() -> Callable[[int, bytes, object, int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    call.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
    return partial(call, _OPENAT2)


def _walk(root: int, relative: str, flags: int) -> int:
    """Open a directory with one handle for each step on the way."""
    *way, last = relative.split("/")
    at = root
    try:
        for name in way:
            below = os.open(name, _WAY, dir_fd=at)
            if at != root:
                os.close(at)
            at = below
        return os.open(last, flags, dir_fd=at)
    finally:
        if at != root:
            os.close(at)
