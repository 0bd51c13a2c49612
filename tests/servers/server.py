"""What a module of one server has to say."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.servers.install import Need, require_linux
from tests.servers.launch import Launch

SMALLEST_PART = 64 * 1024
"""Bytes of a part that S3 servers take, where they can be told; S3 itself takes 5 MiB."""


@dataclass(frozen=True)
class Server:
    """A server that can be started.

    `start` gets it going in the folder of the launch and returns a `handle` once it answers. A handle is a frozen
    dataclass whose fields are texts and numbers. `grace` is how many seconds it has to end by itself.
    """

    name: str
    handle: type[Any]
    needs: tuple[Need, ...]
    start: Callable[[Launch], Any]
    grace: float = 5.0

    def missing(self) -> list[str]:
        """Name what has to be installed first."""
        require_linux()
        return [name for need in self.needs for name in need.missing()]

    def install(self) -> None:
        """Install what is missing."""
        require_linux()
        for need in self.needs:
            need.install()

    def launch(self, launch: Launch) -> None:
        """Start the server and publish how to reach it."""
        launch.ready(dataclasses.asdict(self.start(launch)))
