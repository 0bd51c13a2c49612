"""The files that are open on the server."""

from __future__ import annotations

from itertools import count
from typing import Any

from trove_async.drivers.sftp.channel import Channel
from trove_async.drivers.sftp.errors import DisconnectedError
from trove_async.drivers.sftp.protocol import Kind, pack_string

__all__ = ["OpenFile", "OpenFiles"]


class OpenFile:
    """An open file.

    Attributes:
        channel: on which it was opened; the handle is valid there only.
        raw: the server's handle.
        path: when it was opened.
        size: in bytes; the offset of the next write.
        readable: whether it is open for reading.
    """

    __slots__ = ("channel", "path", "raw", "readable", "size")

    def __init__(self, channel: Channel, raw: bytes, path: str, size: int = 0) -> None:
        self.channel = channel
        self.raw: bytes | None = raw
        self.path = path
        self.size = size
        self.readable = True

    def request(self, kind: Kind, *parts: bytes | memoryview) -> Any:
        """Send a request about the file; return its pending answer."""
        if self.raw is None:
            raise DisconnectedError("the file is not open")
        return self.channel.request(kind, pack_string(self.raw), *parts)


class OpenFiles:
    """Open files by number."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._files: dict[int, OpenFile] = {}

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, handle: int) -> OpenFile:
        return self._files[handle]

    def add(self, file: OpenFile) -> int:
        """Add a file and return its number."""
        number = next(self._numbers)
        self._files[number] = file
        return number

    def pop(self, handle: int) -> OpenFile | None:
        """Remove and return a file; None if it was removed already."""
        return self._files.pop(handle, None)
