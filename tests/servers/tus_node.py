"""@tus/server, the reference server of the tus protocol in Node (npm), with files in a folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.servers.launch import HOST, Launch, answers
from tests.servers.server import Server
from tests.servers.tus import NODE, PACKAGES

_SCRIPT = Path(__file__).with_name("tus_node.mjs")


@dataclass(frozen=True)
class TusNode:
    """The handle of @tus/server: uploads are created with a POST to `endpoint`."""

    endpoint: str


def command(port: int, folder: Path) -> Sequence[str]:
    """Return the command of a server on this port that keeps its uploads in this folder."""
    return ["node", str(_SCRIPT), str(PACKAGES.folder), HOST, str(port), str(folder)]


def _start(launch: Launch) -> TusNode:
    port = launch.port()
    server = launch.spawn("tus_node", command(port, launch.folder))
    launch.wait(server, lambda: answers(port), "an answer")
    return TusNode(endpoint=f"http://{HOST}:{port}/files")


SERVER = Server(name="tus_node", handle=TusNode, needs=(NODE, PACKAGES), start=_start)
