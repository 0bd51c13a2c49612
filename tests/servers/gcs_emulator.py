"""gcp-storage-emulator (PyPI), in memory: a second implementation of the JSON API. It ignores conditions and tokens."""

from dataclasses import dataclass

from tests.servers.install import Environment
from tests.servers.launch import HOST, Launch, answers
from tests.servers.server import Server

_ENVIRONMENT = Environment("gcs-emulator")


@dataclass(frozen=True)
class GCSEmulator:
    """The handle of the emulator, which accepts requests without credentials."""

    endpoint: str
    project: str


def _start(launch: Launch) -> GCSEmulator:
    port = launch.port()
    command = [_ENVIRONMENT.program("gcp-storage-emulator"), "start", "--host", HOST, "--port", str(port)]
    server = launch.spawn("gcs-emulator", [*command, "--in-memory", "--quiet"])
    launch.wait(server, lambda: answers(port, "/storage/v1/b"), "an answer")
    return GCSEmulator(endpoint=f"http://{HOST}:{port}", project="trove-project")


SERVER = Server(name="gcs_emulator", handle=GCSEmulator, needs=(_ENVIRONMENT,), start=_start)
