"""OpenSSH's server with SFTP alone (Debian package), run by whoever runs the tests, with keys of its own."""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from tests.servers.install import Debian
from tests.servers.launch import HOST, Launch, accepts
from tests.servers.server import Server

# sshd_config(5)
_CONFIGURATION = """\
ListenAddress {host}
Port {port}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/client_key.pub
AuthenticationMethods publickey
PermitRootLogin prohibit-password
UsePAM no
# The folder may be below one that others can write to, like /tmp.
StrictModes no
DisableForwarding yes
PermitTTY no
PrintMotd no
UseDNS no
# Tests open a hundred connections, and as many sessions, at once.
MaxStartups 1000
MaxSessions 1000
LogLevel INFO
Subsystem sftp internal-sftp -d {folder}/data
ForceCommand internal-sftp -d {folder}/data
"""


@dataclass(frozen=True)
class Sshd:
    """How to reach the SFTP server: by public key, as the user who started it. A session starts in `folder`.

    `client_key` and `known_hosts` are files, `host_key` is the server's public key as one line of text.
    """

    host: str
    port: int
    user: str
    client_key: str
    known_hosts: str
    host_key: str
    folder: str


def _start(launch: Launch) -> Sshd:
    port = launch.port()
    folder = launch.folder
    data = folder / "data"
    data.mkdir()
    for key in ("host_key", "client_key"):
        launch.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key)
    host_key = (folder / "host_key.pub").read_text(encoding="ascii").strip()
    known_hosts = launch.write("known_hosts", f"[{HOST}]:{port} {host_key}\n")
    launch.write("sshd_config", _CONFIGURATION.format(host=HOST, port=port, folder=folder))
    if os.geteuid() == 0:
        # Where Debian's sshd locks up the part of it that is not root.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    server = launch.spawn("sshd", ["sshd", "-D", "-e", "-f", str(folder / "sshd_config")])
    launch.wait(server, lambda: accepts(port), "its port")
    return Sshd(
        host=HOST,
        port=port,
        user=pwd.getpwuid(os.geteuid()).pw_name,
        client_key=str(folder / "client_key"),
        known_hosts=str(known_hosts),
        host_key=host_key,
        folder=str(data),
    )


SERVER = Server(
    name="sshd",
    handle=Sshd,
    needs=(Debian({"sshd": "openssh-server", "ssh-keygen": "openssh-client"}),),
    start=_start,
    # Sessions last until their clients go, and clients that tests lost never do.
    grace=0.5,
)
