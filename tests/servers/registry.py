"""The servers by name. A new one needs a module, a line here and an overload of `tests.servers.running`."""

from tests.servers import asyncssh_server, azurite, ceph, gcs, gcs_emulator, moto, nginx, postgres, rclone, sshd
from tests.servers.errors import ServerError
from tests.servers.server import Server

SERVERS: dict[str, Server] = {
    server.name: server
    for server in (
        asyncssh_server.SERVER,
        azurite.SERVER,
        ceph.SERVER,
        gcs.SERVER,
        gcs_emulator.SERVER,
        moto.SERVER,
        nginx.SERVER,
        postgres.SERVER,
        rclone.SERVER,
        sshd.SERVER,
    )
}


def find(name: str) -> Server:
    """Return the server with this name. Raises `ServerError` with the known names if there is none."""
    try:
        return SERVERS[name]
    except KeyError:
        raise ServerError(f"There is no server {name!r}; there are {', '.join(SERVERS)}.") from None
