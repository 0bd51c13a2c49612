"""asyncssh's SFTP server, with a password and a key. On one of its ports it stores no access times.

As a program it serves: ``python -m tests.servers.asyncssh_server FOLDER PORT PORT``.
"""

import asyncio
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import asyncssh

from tests.servers.folder import REPOSITORY
from tests.servers.install import Debian
from tests.servers.launch import HOST, Launch, accepts
from tests.servers.server import Server

USER = "trove"
PASSWORD = "an open secret"


@dataclass(frozen=True)
class AsyncSSH:
    """The handle of the SFTP server, with a password and a public key. A session sees the machine's own paths.

    `client_key` and `known_hosts` are files, `folder` is for data. At `forgetful` the same server ignores access times,
    as the file systems of some SFTP servers do.
    """

    host: str
    port: int
    forgetful: int
    user: str
    password: str
    client_key: str
    known_hosts: str
    folder: str


class _Logins(asyncssh.SSHServer):
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        if username == USER and self._connection is not None:
            self._connection.set_authorized_keys(str(self._folder / "client_key.pub"))
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == (USER, PASSWORD)

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        return True  # it is also a jump host


class _Forgetful(asyncssh.SFTPServer):
    def setstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        super().setstat(path, _without_access_time(attrs))

    def fsetstat(self, file_obj: object, attrs: asyncssh.SFTPAttrs) -> None:
        super().fsetstat(file_obj, _without_access_time(attrs))


def _without_access_time(attrs: asyncssh.SFTPAttrs) -> asyncssh.SFTPAttrs:
    attrs.atime = attrs.mtime
    return attrs


async def _serve(folder: Path, port: int, forgetful: int) -> None:
    options = {
        "server_factory": partial(_Logins, folder),
        "server_host_keys": [str(folder / "host_key")],
        "allow_scp": False,
    }
    async with (
        await asyncssh.listen(HOST, port, reuse_address=True, sftp_factory=True, **options),
        await asyncssh.listen(HOST, forgetful, reuse_address=True, sftp_factory=_Forgetful, **options),
    ):
        await asyncio.get_running_loop().create_future()


def _start(launch: Launch) -> AsyncSSH:
    port, forgetful = launch.port(), launch.port()
    folder = launch.folder
    data = folder / "data"
    data.mkdir()
    for key in ("host_key", "client_key"):
        launch.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key)
    host_key = (folder / "host_key.pub").read_text(encoding="ascii").strip()
    known_hosts = launch.write(
        "known_hosts", "".join(f"[{HOST}]:{number} {host_key}\n" for number in (port, forgetful))
    )
    program = [sys.executable, "-m", __name__, str(folder), str(port), str(forgetful)]
    server = launch.spawn("asyncssh", program, {"PYTHONPATH": str(REPOSITORY)})
    launch.wait(server, lambda: accepts(port) and accepts(forgetful), "its ports")
    return AsyncSSH(
        host=HOST,
        port=port,
        forgetful=forgetful,
        user=USER,
        password=PASSWORD,
        client_key=str(folder / "client_key"),
        known_hosts=str(known_hosts),
        folder=str(data),
    )


SERVER = Server(
    name="asyncssh",
    handle=AsyncSSH,
    needs=(Debian({"ssh-keygen": "openssh-client"}),),
    start=_start,
    grace=0.5,
)


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
