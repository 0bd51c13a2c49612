"""The description of one server, which each module of a server defines, and of software that is only installed."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.servers.install import Need, require_linux
from tests.servers.launch import Launch

SMALLEST_PART = 64 * 1024
"""The minimum size of a part in bytes for the S3 servers that can be configured; S3 itself requires 5 MiB."""


@dataclass(frozen=True)
class Software:
    """Software that tests or benchmarks start by themselves: it is only installed."""

    name: str
    needs: tuple[Need, ...]

    def missing(self) -> list[str]:
        """Return what must be installed first."""
        require_linux()
        return [name for need in self.needs for name in need.missing()]

    def install(self) -> None:
        """Install missing software."""
        require_linux()
        for need in self.needs:
            need.install()


@dataclass(frozen=True)
class Server(Software):
    """A server that can be started.

    `start` starts it in the folder of the launch and returns a `handle` once it answers. A handle is a frozen
    dataclass whose fields are texts and numbers. `grace` is the time in seconds that it has to end by itself.
    """

    handle: type[Any]
    start: Callable[[Launch], Any]
    grace: float = 5.0

    def launch(self, launch: Launch) -> None:
        """Start the server and publish its handle."""
        launch.ready(dataclasses.asdict(self.start(launch)))
