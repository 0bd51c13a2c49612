"""Real servers for the tests and the benchmarks: started once, shared by all processes, and never left behind.

`running("ceph")` returns a handle with the server's address. A server that is up (`python -m tests.servers up ceph`)
is used; otherwise one is started, and stops when the last process that uses it has ended.
"""

from typing import Any, Literal, overload

from tests.servers.asyncssh_server import AsyncSSH
from tests.servers.azurite import Azurite
from tests.servers.ceph import Ceph
from tests.servers.control import use
from tests.servers.errors import ServerError
from tests.servers.gcs import GCS
from tests.servers.gcs_emulator import GCSEmulator
from tests.servers.moto import Moto
from tests.servers.nginx import Nginx
from tests.servers.postgres import Postgres
from tests.servers.rclone import Rclone
from tests.servers.sshd import Sshd
from tests.servers.tus_node import TusNode

__all__ = [
    "GCS",
    "AsyncSSH",
    "Azurite",
    "Ceph",
    "GCSEmulator",
    "Moto",
    "Nginx",
    "Postgres",
    "Rclone",
    "ServerError",
    "Sshd",
    "TusNode",
    "running",
]


@overload
def running(name: Literal["asyncssh"]) -> AsyncSSH: ...
@overload
def running(name: Literal["azurite"]) -> Azurite: ...
@overload
def running(name: Literal["ceph"]) -> Ceph: ...
@overload
def running(name: Literal["gcs"]) -> GCS: ...
@overload
def running(name: Literal["gcs_emulator"]) -> GCSEmulator: ...
@overload
def running(name: Literal["moto"]) -> Moto: ...
@overload
def running(name: Literal["nginx"]) -> Nginx: ...
@overload
def running(name: Literal["postgres"]) -> Postgres: ...
@overload
def running(name: Literal["rclone"]) -> Rclone: ...
@overload
def running(name: Literal["sshd"]) -> Sshd: ...
@overload
def running(name: Literal["tus_node"]) -> TusNode: ...
def running(name: str) -> Any:
    """Return the handle of a server, which runs at least until this process ends.

    Raises `ServerError`, which says what to do, if the server is not available.
    """
    return use(name)
