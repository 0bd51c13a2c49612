"""The project's own server for Cloud Storage and Pub/Sub, as a process: `trove_async.testing.gcs`."""

import asyncio
import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.servers.launch import HOST, Launch
from tests.servers.server import SMALLEST_PART, Server


@dataclass(frozen=True)
class GCS:
    """The handle of the server: one endpoint for all; `credentials` is the path of its service account's key file.

    The server at `open_endpoint` is a second one, which accepts requests without credentials.
    """

    endpoint: str
    open_endpoint: str
    project: str
    credentials: str


def _start(launch: Launch) -> GCS:
    ready_file = launch.folder / "ready.json"
    credentials = launch.folder / "credentials.json"
    ports = [str(launch.port()), str(launch.port())]
    command = [sys.executable, "-m", "tests.servers.gcs", *ports, str(ready_file), str(credentials)]
    server = launch.spawn("gcs", command, {"PYTHONPATH": str(Path(__file__).resolve().parents[2])})
    launch.wait(server, ready_file.exists, "its answer")
    return GCS(**json.loads(ready_file.read_text(encoding="utf-8")), credentials=str(credentials))


async def _serve(port: int, open_port: int, ready_file: Path, credentials: Path) -> None:
    from trove_async.testing.gcs import GCSServer

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with (
        GCSServer(port, host=HOST, minimum_part=SMALLEST_PART) as server,
        GCSServer(open_port, host=HOST, anonymous=True) as unguarded,
    ):
        credentials.write_text(json.dumps(server.service_account_info), encoding="utf-8")
        draft = ready_file.with_suffix(".draft")
        ready = {"endpoint": server.url, "open_endpoint": unguarded.url, "project": server.project}
        draft.write_text(json.dumps(ready), encoding="utf-8")
        draft.rename(ready_file)
        await stop.wait()


SERVER = Server(name="gcs", handle=GCS, needs=(), start=_start)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])))
