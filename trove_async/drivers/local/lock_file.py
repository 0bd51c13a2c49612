"""The file whose bytes are a store's locks, and what locks where it has none."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
from collections.abc import Callable
from typing import Final, Protocol

from trove_async.lock_files import NO_LOCKS
from trove_async.tree.layout import STRIPES

__all__ = ["ByteRanges", "LockFile", "Locking", "WholeFile"]

_SET_LOCK: Final[int | None] = getattr(fcntl, "F_OFD_SETLK", None)
_TAKEN: Final = frozenset({errno.EAGAIN, errno.EACCES})


def _packed(kind: int, start: int, length: int) -> bytes:
    """Return a ``struct flock`` (fcntl_locking(2)): type, whence, start, length and a process id, which must be 0."""
    return struct.pack("hhqqi0q", kind, os.SEEK_SET, start, length, 0)


_LOCK: Final = [_packed(fcntl.F_WRLCK, stripe, 1) for stripe in range(STRIPES)]
_SHARE: Final = [_packed(fcntl.F_RDLCK, stripe, 1) for stripe in range(STRIPES)]
_UNLOCK: Final = [_packed(fcntl.F_UNLCK, stripe, 1) for stripe in range(STRIPES)]


class Locking(Protocol):
    """A way of locking."""

    def try_lock(self, start: int, length: int) -> bool:
        """Lock stripes; return whether no other process and no other store holds one of them."""

    def unlock(self, start: int, length: int) -> None:
        """Release stripes."""

    def close(self) -> None:
        """Release everything."""


class LockFile:
    """What locks the stripes of a store: nothing until `open_with` was called.

    Attributes:
        try_lock, unlock: those of the `Locking`, without another call between.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._locking: Locking | None = None
        self.try_lock: Callable[[int, int], bool] = _nothing_to_lock
        self.unlock: Callable[[int, int], object] = _nothing_to_lock

    def open_with(self, opener: Callable[[], Locking | None]) -> None:
        """Set what is called for the first lock: a file that is open for writing keeps its disk from being unmounted.

        It returns what to lock with; None if nothing can be locked, as in a root that can only be read.
        """

        def try_first(start: int, length: int) -> bool:
            with self._mutex:
                if self.try_lock is try_first:
                    locking = self._locking = opener()
                    if locking is not None:
                        self.unlock = locking.unlock
                    self.try_lock = _nothing_to_lock if locking is None else locking.try_lock
            return self.try_lock(start, length)

        self.try_lock = try_first

    def close(self) -> None:
        """Release everything."""
        self.try_lock = self.unlock = _nothing_to_lock
        locking, self._locking = self._locking, None
        if locking is not None:
            locking.close()


def _nothing_to_lock(start: int, length: int) -> bool:
    return True


class ByteRanges:
    """Byte ranges of an open file, locked for its open file description.

    Args:
        descriptor: of the file, which this object closes.
        shared: whether the file is open for reading only; then readers exclude only writers.
    """

    def __init__(self, descriptor: int, *, shared: bool) -> None:
        self._descriptor = descriptor
        self._kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
        self._lock = _SHARE if shared else _LOCK

    @staticmethod
    def supported(descriptor: int, *, shared: bool) -> bool:
        """Return whether the system and the file system have such locks."""
        if _SET_LOCK is None:
            return False
        try:
            # The byte after the stripes, which nobody locks.
            fcntl.fcntl(descriptor, _SET_LOCK, _packed(fcntl.F_RDLCK if shared else fcntl.F_WRLCK, STRIPES, 1))
            fcntl.fcntl(descriptor, _SET_LOCK, _packed(fcntl.F_UNLCK, STRIPES, 1))
        except OSError as error:
            if error.errno in _TAKEN:
                return True
            if error.errno in NO_LOCKS:
                return False
            raise
        return True

    def try_lock(self, start: int, length: int) -> bool:
        """Lock stripes; return whether nobody else holds one of them."""
        wanted = self._lock[start] if length == 1 else _packed(self._kind, start, length)
        try:
            fcntl.fcntl(self._descriptor, _SET_LOCK or 0, wanted)
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            raise
        return True

    def unlock(self, start: int, length: int) -> None:
        """Release stripes."""
        released = _UNLOCK[start] if length == 1 else _packed(fcntl.F_UNLCK, start, length)
        fcntl.fcntl(self._descriptor, _SET_LOCK or 0, released)

    def close(self) -> None:
        """Close the file, which releases everything."""
        os.close(self._descriptor)


class WholeFile:
    """An open file or directory that is locked as a whole by flock(2), as long as this store holds any stripe.

    For systems without the locks of `ByteRanges`: other processes wait for every key then.

    Args:
        descriptor: which this object closes.
        shared: whether stores with this kind of lock exclude only others.
    """

    def __init__(self, descriptor: int, *, shared: bool = False) -> None:
        self._descriptor = descriptor
        self._kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._mutex = threading.Lock()
        self._held = 0

    def try_lock(self, start: int, length: int) -> bool:
        """Lock the file, if this store does not hold it already; return whether that succeeded."""
        with self._mutex:
            if not self._held:
                try:
                    fcntl.flock(self._descriptor, self._kind | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
            self._held += length
        return True

    def unlock(self, start: int, length: int) -> None:
        """Release the file, once no stripe is held."""
        with self._mutex:
            self._held -= length
            if not self._held:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file, which releases it."""
        os.close(self._descriptor)
