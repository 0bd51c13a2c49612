"""Moto, AWS services in one process (PyPI): S3 with its newer conditions, and SQS for events. It accepts any keys."""

from dataclasses import dataclass

from tests.servers.install import Environment
from tests.servers.launch import HOST, Launch, answers
from tests.servers.server import SMALLEST_PART, Server

_ENVIRONMENT = Environment("moto")


@dataclass(frozen=True)
class Moto:
    """The handle of moto: all services have one endpoint, and any keys are accepted."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str


def _start(launch: Launch) -> Moto:
    port = launch.port()
    program = _ENVIRONMENT.program("moto_server")
    size = f"S3_UPLOAD_PART_MIN_SIZE={SMALLEST_PART}"
    server = launch.spawn("moto", ["env", size, program, "-H", HOST, "-p", str(port)])
    launch.wait(server, lambda: answers(port, "/moto-api/"), "an answer")
    return Moto(
        endpoint=f"http://{HOST}:{port}", access_key="trove-access", secret_key="trove-secret", region="us-east-1"
    )


SERVER = Server(name="moto", handle=Moto, needs=(_ENVIRONMENT,), start=_start)
