"""PostgreSQL (Debian package), with a password, as fast as a database is that does not outlive its process."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.servers.install import Debian
from tests.servers.launch import HOST, Launch, accepts
from tests.servers.server import Server

_USER = "trove"
_PASSWORD = "trove-secret"
_DATABASE = "postgres"

# https://www.postgresql.org/docs/15/runtime-config.html
_CONFIGURATION = """\
listen_addresses = '{host}'
port = {port}
unix_socket_directories = ''
max_connections = 300
shared_buffers = 32MB
# Its data is thrown away when it stops.
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off
# A killed server leaves no shared memory behind.
dynamic_shared_memory_type = mmap
log_min_messages = warning
"""

# PostgreSQL refuses to run as root. The package's user may not be able to enter the folders above the server's, so it
# keeps the one capability of root that lets it.
_AS_POSTGRES = (
    *("setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"),
    *("--inh-caps", "-all,+dac_override", "--ambient-caps", "-all,+dac_override", "--pdeathsig", "KILL", "--"),
)


@dataclass(frozen=True)
class Postgres:
    """The handle of PostgreSQL: `url` names an empty database, whose user may create others."""

    url: str
    host: str
    port: int
    user: str
    password: str


def _start(launch: Launch) -> Postgres:
    port = launch.port()
    server = launch.spawn("postgres", create(launch.folder, port, launch.run))
    launch.wait(server, lambda: accepts(port) and is_ready(launch.folder), "an answer")
    return handle(port)


def create(folder: Path, port: int, run: Callable[..., object], configuration: str = "") -> list[str]:
    """Create the data of a server in a folder, with a function that runs a command; return the server's command."""
    data, password = folder / "data", folder / "password"
    data.mkdir(mode=0o700)
    password.write_text(_PASSWORD, encoding="utf-8")
    prefix: tuple[str, ...] = ()
    if os.geteuid() == 0:
        prefix = _AS_POSTGRES
        for path in (data, password):
            shutil.chown(path, "postgres", "postgres")
    settings = ["--locale=C.UTF-8", "--encoding=UTF8", "--auth=scram-sha-256", "--no-sync", "--no-instructions"]
    run(*prefix, "initdb", "-D", str(data), "-U", _USER, f"--pwfile={password}", *settings)
    with (data / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write(_CONFIGURATION.format(host=HOST, port=port) + configuration)
    return [*prefix, "postgres", "-D", str(data)]


def handle(port: int) -> Postgres:
    """Return the handle of a server on a port."""
    return Postgres(
        url=f"postgresql://{_USER}:{_PASSWORD}@{HOST}:{port}/{_DATABASE}",
        host=HOST,
        port=port,
        user=_USER,
        password=_PASSWORD,
    )


def is_ready(folder: Path) -> bool:
    """Whether the server accepts sessions: the eighth line of its pid file says so (miscadmin.h)."""
    lines = (folder / "data" / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    return len(lines) >= 8 and lines[7].strip() == "ready"


SERVER = Server(
    name="postgres",
    handle=Postgres,
    needs=(
        Debian(
            {
                "postgres": "postgresql",
                "initdb": "postgresql",
                "pg_dump": "postgresql-client",
                "pg_restore": "postgresql-client",
            }
        ),
    ),
    start=_start,
    # Its sessions last until their clients disconnect, and lost clients of tests never do.
    grace=2.0,
)
