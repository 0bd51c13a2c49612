"""Servers of the tus protocol that benchmarks compare with: tuspyserver, aiohttp-tus (PyPI) and @tus/server (npm).

They are installed only; benchmarks start them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from tests.servers import tus_node
from tests.servers.install import Environment
from tests.servers.server import Software
from tests.servers.tus import NODE, PACKAGES

__all__ = ["SOFTWARE", "Peer", "command"]

Peer = Literal["tuspyserver", "aiohttp-tus", "@tus/server"]

_SCRIPT: Final = Path(__file__).with_name("tus_peer.py")
# With the versions of uvicorn and aiohttp that the tests use.
_ENVIRONMENT: Final = Environment("tus-peers")

SOFTWARE: Final = Software(name="tus_peers", needs=(NODE, PACKAGES, _ENVIRONMENT))


def command(peer: Peer, port: int, folder: Path, *, loop: str = "auto") -> Sequence[str]:
    """Return the command of a peer that keeps its uploads in a folder, which exists.

    Uploads are created at ``/files/`` on this port of 127.0.0.1; by @tus/server at ``/files`` too. ``loop`` is
    uvicorn's, for tuspyserver.
    """
    if peer == "@tus/server":
        return tus_node.command(port, folder)
    # -P: the modules next to the script are not for import.
    return [_ENVIRONMENT.program("python"), "-P", str(_SCRIPT), peer, str(port), str(folder), loop]
