"""The servers by name. A new one needs a module, a line here and an overload of `tests.servers.running`.

Software that is not a server has names too, for `install`.
"""

from tests.servers import (
    asyncssh_server,
    azurite,
    ceph,
    gcs,
    gcs_emulator,
    moto,
    nginx,
    postgres,
    rclone,
    sshd,
    tus,
    tus_node,
    tus_peers,
)
from tests.servers.errors import ServerError
from tests.servers.server import Server, Software

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
        tus_node.SERVER,
    )
}

SOFTWARE: dict[str, Software] = {
    **SERVERS,
    **{software.name: software for software in (tus.CLIENTS, tus_peers.SOFTWARE)},
}


def find(name: str) -> Server:
    """Return the server with this name. Raises `ServerError` with the known names if there is none."""
    try:
        return SERVERS[name]
    except KeyError:
        raise ServerError(f"There is no server {name!r}; there are {', '.join(SERVERS)}.") from None


def find_software(name: str) -> Software:
    """Return the server or other software with this name. Raises `ServerError` if there is none."""
    return SOFTWARE[name] if name in SOFTWARE else find(name)
