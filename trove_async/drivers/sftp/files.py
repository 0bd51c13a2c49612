"""The files that are open at the server."""

from __future__ import annotations

from itertools import count
from typing import Any

from trove_async.drivers.sftp.channel import Channel
from trove_async.drivers.sftp.errors import DisconnectedError
from trove_async.drivers.sftp.protocol import Kind, pack_string

__all__ = ["File", "Files"]


class File:
    """An open file.

    Attributes:
        channel: the one that it was opened on; no other knows the handle.
        raw: the server's handle.
        path: where it was when it was opened.
        size: in bytes; what is written goes there.
    """

    __slots__ = ("channel", "path", "raw", "size")

    def __init__(self, channel: Channel, raw: bytes, path: str, size: int = 0) -> None:
        self.channel = channel
        self.raw: bytes | None = raw
        self.path = path
        self.size = size

    def request(self, kind: Kind, *parts: bytes | memoryview) -> Any:
        """Send a request about the file; return its answer to come."""
        if self.raw is None:
            raise DisconnectedError("the file is not open")
        return self.channel.request(kind, pack_string(self.raw), *parts)


class Files:
    """Open files by number."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._files: dict[int, File] = {}

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, handle: int) -> File:
        return self._files[handle]

    def add(self, file: File) -> int:
        """Give a file a number."""
        number = next(self._numbers)
        self._files[number] = file
        return number

    def pop(self, handle: int) -> File | None:
        """Forget a file; None if it is forgotten already."""
        return self._files.pop(handle, None)
