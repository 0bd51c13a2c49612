"""Copying the content of one open file to the end of another."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from typing import Final

from trove_async.tree.filesystem import Reading

__all__ = ["append_file"]

_FICLONE: Final = 0x40049409
"""The ioctl that makes a file share another's blocks (Linux, ``FICLONE`` in ``linux/fs.h``)."""
_KERNEL_STEP: Final = 64 * 1024 * 1024
_STEP: Final = 1024 * 1024


def append_file(
    source: int,
    target: int,
    checkpoint: Callable[[], None],
    reading: Reading,
    offset: int = 0,
    length: int | None = None,
) -> None:
    """Append the source, or a range of it, to the target, whose position is at its end afterwards.

    The blocks are shared if the file system can do that; otherwise they are copied in the kernel, or read and written.

    Args:
        source, target: descriptors.
        checkpoint: called between steps; raises to stop the copy.
        reading, offset, length: as for `FileSystem.copy_data`.

    Raises:
        OSError: EIO if the target did not grow by the bytes of the range, or by the size that the source had at the
            beginning.
    """
    whole = os.fstat(source).st_size
    size = whole - offset if length is None else length
    start = os.fstat(target).st_size
    if start or size < whole or not _share_blocks(source, target, size):
        done = _copy_in_kernel(source, target, start, offset, size, checkpoint)
        _read_and_write(source, target, start, done, offset, size, checkpoint, reading)
    end = os.lseek(target, 0, os.SEEK_END)
    if end != start + size:
        raise OSError(errno.EIO, f"the copy of a file has {end - start} bytes, not {size}")


def _share_blocks(source: int, target: int, size: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False  # most file systems cannot
    return os.fstat(target).st_size == size


def _copy_in_kernel(
    source: int, target: int, start: int, offset: int, size: int, checkpoint: Callable[[], None]
) -> int:
    """Copy as much as the kernel copies; return how many bytes.

    copy_file_range(2) returns 0 or fails on some file systems and kernels, with EXDEV, EINVAL, EOPNOTSUPP, EPERM, EIO,
    EBADF, ETXTBSY, ENOENT or others, where reading and writing succeed (https://github.com/golang/go/issues/42334,
    https://github.com/libuv/libuv/pull/3354, https://github.com/rust-lang/rust/pull/75428). So no errno is final: if
    the cause is real, reading or writing fails too.
    """
    copy = getattr(os, "copy_file_range", None)
    done = 0
    while copy is not None and done < size:
        checkpoint()
        try:
            copied = copy(source, target, min(_KERNEL_STEP, size - done), offset + done, start + done)
        except OSError:
            break
        if not copied:
            break
        done += copied
    return done


def _read_and_write(
    source: int,
    target: int,
    start: int,
    done: int,
    offset: int,
    size: int,
    checkpoint: Callable[[], None],
    reading: Reading,
) -> None:
    while done < size:
        checkpoint()
        with reading():
            data = os.pread(source, min(_STEP, size - done), offset + done)
            if not data:
                raise OSError(errno.EIO, f"the file was cut to {done} of {size} bytes while it was copied")
        view = memoryview(data)
        while view:
            written = os.pwrite(target, view, start + done)
            done += written
            view = view[written:]
