"""Files that could not be removed while the connection was lost."""

from __future__ import annotations

from trove_async.drivers.sftp.errors import DisconnectedError
from trove_async.drivers.sftp.requests import Requests

__all__ = ["Leftovers"]


class Leftovers:
    """Remembers the paths of files to remove once there is a connection again.

    Args:
        requests: removes them.
    """

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._paths: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._paths)

    def add(self, path: str) -> None:
        """Have a file removed later."""
        self._paths.append(path)

    async def remove(self) -> None:
        """Remove the files, as far as the connection lasts."""
        while self._paths:
            path = self._paths.pop()
            try:
                await self._requests.unlink(path)
            except DisconnectedError:
                self._paths.append(path)
                return
