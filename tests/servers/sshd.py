"""OpenSSH's server with only SFTP (Debian package), run by the user of the tests, with its own keys."""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from tests.servers.install import Debian
from tests.servers.launch import HOST, Launch, accepts
from tests.servers.server import Server

# sshd_config(5)
_CONFIGURATION = """\
{listen}
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
# Tests open a hundred connections, and as many sessions, at the same time.
MaxStartups 1000
MaxSessions 1000
LogLevel INFO
Subsystem sftp internal-sftp -d {folder}/data
ForceCommand internal-sftp -d {folder}/data
"""

# sftp-server(8): -P denies requests, and does not announce them; -R denies all writes
_VARIANTS = {
    "without_posix_rename": "internal-sftp -d {folder}/data -P posix-rename",
    "without_hardlink": "internal-sftp -d {folder}/data -P hardlink",
    "without_copy_data": "internal-sftp -d {folder}/data -P copy-data",
    "without_fsync": "internal-sftp -d {folder}/data -P fsync",
    "without_limits": "internal-sftp -d {folder}/data -P limits",
    "without_any": "internal-sftp -d {folder}/data -P posix-rename,hardlink,copy-data,fsync,limits,statvfs,lsetstat",
    "read_only": "internal-sftp -d {folder}/data -R",
    "without_sftp": "/bin/true",
}
"""What each of the other ports does not support."""


@dataclass(frozen=True)
class Sshd:
    """The handle of the SFTP server: by public key, as the user who started it. A session starts in `folder`.

    `client_key` and `known_hosts` are files, `host_key` is the server's public key as one line of text. On the other
    ports the same server lacks features.
    """

    host: str
    port: int
    user: str
    client_key: str
    known_hosts: str
    host_key: str
    folder: str
    without_posix_rename: int
    without_hardlink: int
    without_copy_data: int
    without_fsync: int
    without_limits: int
    without_any: int
    read_only: int
    without_sftp: int


def _start(launch: Launch) -> Sshd:
    port = launch.port()
    others = {name: launch.port() for name in _VARIANTS}
    folder = launch.folder
    data = folder / "data"
    data.mkdir()
    for key in ("host_key", "client_key"):
        launch.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key)
    host_key = (folder / "host_key.pub").read_text(encoding="ascii").strip()
    ports = [port, *others.values()]
    known_hosts = launch.write("known_hosts", "".join(f"[{HOST}]:{number} {host_key}\n" for number in ports))
    listen = "\n".join(f"ListenAddress {HOST}:{number}" for number in ports)
    # The first value that applies is used: sshd_config(5).
    matches = "".join(
        f"Match LocalPort {others[name]}\nForceCommand {command.format(folder=folder)}\n"
        for name, command in _VARIANTS.items()
    )
    configuration = _CONFIGURATION.format(listen=listen, folder=folder)
    general, _, forced = configuration.rpartition("ForceCommand")
    launch.write("sshd_config", f"{general}{matches}Match all\nForceCommand{forced}")
    if os.geteuid() == 0:
        # The folder in which Debian's sshd confines its unprivileged part.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    server = launch.spawn("sshd", ["sshd", "-D", "-e", "-f", str(folder / "sshd_config")])
    launch.wait(server, lambda: all(map(accepts, ports)), "its ports")
    return Sshd(
        host=HOST,
        port=port,
        user=pwd.getpwuid(os.geteuid()).pw_name,
        client_key=str(folder / "client_key"),
        known_hosts=str(known_hosts),
        host_key=host_key,
        folder=str(data),
        **others,
    )


SERVER = Server(
    name="sshd",
    handle=Sshd,
    needs=(Debian({"sshd": "openssh-server", "ssh-keygen": "openssh-client"}),),
    start=_start,
    # Sessions last until their clients disconnect, and lost clients of tests never do.
    grace=0.5,
)
