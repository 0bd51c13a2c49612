"""What a file system does with the times and names that are given to a file, found out by doing it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final, NamedTuple

__all__ = ["EXACT_NS", "FileTimes", "probe_links", "probe_times"]

EXACT_NS: Final = 1000
"""A grain up to which every write of a process can have its own time without running ahead of the clock."""

_SAMPLE: Final = 1_000_000_001_123_456_789
"""A time that every grain changes: its seconds and its nanoseconds are odd."""
_GRAINS: Final = (
    1,
    100,  # NTFS and SMB
    1_000,
    1_000_000,
    10_000_000,  # exFAT
    1_000_000_000,  # ext4 with inodes of 128 bytes, ext3, many network file systems
    2_000_000_000,  # FAT
)


class FileTimes(NamedTuple):
    """How a file system stores the time that is set for a file.

    Attributes:
        grain_ns: the steps in nanoseconds in which it stores times.
        settable: False if it refuses to set them, or ignores it.
    """

    grain_ns: int = 1
    settable: bool = True


def probe_times(path: str, directory: str) -> FileTimes:
    """Find out how times are stored, with a file that is created at ``path`` and removed.

    Where no file can be created, for example on a full disk, the time of the directory is all that can be seen.
    """
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError:
        return FileTimes(max(grain for grain in _GRAINS if os.stat(directory).st_mtime_ns % grain == 0))
    try:
        os.utime(descriptor, ns=(_SAMPLE, _SAMPLE))
        return _times(os.fstat(descriptor).st_mtime_ns)
    except OSError:
        return FileTimes(_GRAINS[-1], settable=False)
    finally:
        os.close(descriptor)
        os.unlink(path)


def _times(stored: int) -> FileTimes:
    for grain in _GRAINS:
        if stored == _SAMPLE // grain * grain:
            return FileTimes(grain)
    return FileTimes(_GRAINS[-1], settable=abs(stored - _SAMPLE) <= _GRAINS[-1])


def probe_links(path: str) -> bool:
    """Return whether a file can have two names, with a file that is created at ``path`` and removed."""
    other = f"{path}.link"
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError:
        return True  # on a full disk this cannot be seen
    try:
        os.link(path, other)
    except OSError:
        return False
    finally:
        for name in (path, other):
            with suppress(FileNotFoundError):
                os.unlink(name)
    return True
