"""Claims: names that one process of a machine has, and no other."""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from pathlib import Path

from trove_async.errors import AccessDeniedError, InvalidArgumentError
from trove_async.lock_files import make_lock_folder, open_lock_file, try_lock
from trove_async.values import check_text

__all__ = ["Claims"]


class Claims:
    """Names that this object alone has claimed, among all processes of a user on a machine.

    Each is a file in the folder ``trove-async-UID`` of the temporary folder, locked by flock(2): the kernel releases it
    when the process ends, however it ends. systemd-tmpfiles leaves locked files alone (tmpfiles.d(5)).
    """

    def __init__(self) -> None:
        self._descriptors: dict[str, int] = {}

    def add(self, name: str) -> None:
        """Claim a name.

        Raises:
            InvalidArgumentError: somebody else has claimed it.
        """
        check_text("the name of a claim", name)
        if name in self._descriptors:
            return
        descriptor = open_lock_file(_folder() / hashlib.sha256(name.encode()).hexdigest()[:32])
        if not try_lock(descriptor):
            os.close(descriptor)
            raise InvalidArgumentError(
                "another process, or another MemoryLocker of this one, serves the same uploads, and a MemoryLocker "
                "cannot see its locks: use one worker, with one locker for all its apps; FileLocker for several "
                "processes of one machine; or PostgresLocker for several machines"
            )
        self._descriptors[name] = descriptor

    def forget(self) -> None:
        """Drop all claims; in a forked child it leaves those of the parent."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def __del__(self) -> None:
        if self._descriptors:
            self.forget()
            warnings.warn(
                "unclosed MemoryLocker, which has claimed uploads; call aclose()", ResourceWarning, stacklevel=2
            )


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"trove-async-{os.getuid()}"
    make_lock_folder(folder, mode=0o700)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise AccessDeniedError(f"the folder {folder} belongs to somebody else: remove it, or set TMPDIR")
    return folder
