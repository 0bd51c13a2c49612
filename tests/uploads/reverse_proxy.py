"""nginx in front of a server of uploads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.servers import nginx
from tests.uploads.processes import ServerProcess

__all__ = ["PLACEHOLDER", "nginx_process"]

PLACEHOLDER: Final = "127.0.0.1:8000"
"""It stands for the server in the location blocks of the documentation."""


def nginx_process(upstream: int, folder: Path, locations: str) -> ServerProcess:
    """Return nginx as a reverse proxy, to be started by ``async with``; clients connect to its ``port``.

    Args:
        upstream: the port of the server on 127.0.0.1.
        folder: a folder for its files, with its log.
        locations: location blocks, as those of docs/uploads-proxies.md; `PLACEHOLDER` in them is the server.
    """

    def command(port: int) -> Sequence[str]:
        nginx.write_configuration(folder, port, locations.replace(PLACEHOLDER, f"127.0.0.1:{upstream}"))
        return nginx.command(folder)

    return ServerProcess(command, folder / "log")
