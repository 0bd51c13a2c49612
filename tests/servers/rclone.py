"""`rclone serve s3` in memory (PyPI): fast, and too tolerant of invalid requests for anything but benchmarks."""

from dataclasses import dataclass

from tests.servers.install import Environment
from tests.servers.launch import HOST, Launch, accepts
from tests.servers.server import Server

_ENVIRONMENT = Environment("rclone")
_ACCESS_KEY = "trove-access"
_SECRET_KEY = "trove-secret"


@dataclass(frozen=True)
class Rclone:
    """The handle of rclone: path-style addressing, any region."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str


def _start(launch: Launch) -> Rclone:
    port = launch.port()
    where = ["--addr", f"{HOST}:{port}", "--cache-dir", str(launch.folder / "cache")]
    keys = ["--auth-key", f"{_ACCESS_KEY},{_SECRET_KEY}"]
    command = [_ENVIRONMENT.program("rclone"), "serve", "s3", *where, *keys, ":memory:"]
    server = launch.spawn("rclone", command, {"RCLONE_CONFIG": "/dev/null"})
    launch.wait(server, lambda: accepts(port), "its port")
    return Rclone(endpoint=f"http://{HOST}:{port}", access_key=_ACCESS_KEY, secret_key=_SECRET_KEY, region="us-east-1")


SERVER = Server(name="rclone", handle=Rclone, needs=(_ENVIRONMENT,), start=_start)
