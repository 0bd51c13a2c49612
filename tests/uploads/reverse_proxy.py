"""nginx in front of a server of uploads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.servers import nginx
from tests.uploads.processes import ServerProcess

__all__ = ["PLACEHOLDER", "location", "nginx_process"]

PLACEHOLDER: Final = "127.0.0.1:8000"
"""It stands for the server in a location block, as in the documentation."""

_LOCATION: Final = """
location / {{
    proxy_pass http://{server};
    proxy_http_version 1.1;
    proxy_request_buffering {buffering};
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
}}
"""


def location(*, buffering: bool) -> str:
    """Return a location block that passes every request on.

    Args:
        buffering: whether nginx keeps the body of a request until all of it has arrived (``proxy_request_buffering``),
            as it does by default.
    """
    return _LOCATION.format(server=PLACEHOLDER, buffering="on" if buffering else "off")


def nginx_process(upstream: int, folder: Path, locations: str) -> ServerProcess:
    """Return nginx as a reverse proxy, to be started by ``async with``; clients connect to its ``port``.

    Args:
        upstream: the port of the server on 127.0.0.1.
        folder: a folder for its files, with its log.
        locations: location blocks, such as those of `location`; `PLACEHOLDER` in them is replaced by the server.
    """

    def command(port: int) -> Sequence[str]:
        nginx.write_configuration(folder, port, locations.replace(PLACEHOLDER, f"127.0.0.1:{upstream}"))
        return nginx.command(folder)

    return ServerProcess(command, folder / "log")
