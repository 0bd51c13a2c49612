"""Azurite, the Azure Storage emulator (npm): blobs and queues, in memory."""

from dataclasses import dataclass
from pathlib import Path

from tests.servers.install import Debian, Node
from tests.servers.launch import HOST, Launch, accepts
from tests.servers.server import Server

_PACKAGES = Node("azurite")
# The emulator's published account: https://learn.microsoft.com/azure/storage/common/storage-use-azurite
_ACCOUNT = "devstoreaccount1"
_ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

_PRELOAD = Path(__file__).parent / "azurite_preload.cjs"


@dataclass(frozen=True)
class Azurite:
    """The handle of Azurite. The endpoints end in the account's name, as the emulator requires."""

    blob_endpoint: str
    queue_endpoint: str
    account: str
    account_key: str
    connection_string: str


def _start(launch: Launch) -> Azurite:
    ports = {service: launch.port() for service in ("blob", "queue", "table")}
    command = ["node", "--require", str(_PRELOAD), _PACKAGES.module("azurite/dist/src/azurite.js")]
    command += ["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--inMemoryPersistence"]
    for service, port in ports.items():
        command += [f"--{service}Host", HOST, f"--{service}Port", str(port)]
    server = launch.spawn("azurite", command)
    launch.wait(server, lambda: accepts(ports["blob"]) and accepts(ports["queue"]), "its ports")
    blob, queue = (f"http://{HOST}:{ports[service]}/{_ACCOUNT}" for service in ("blob", "queue"))
    parts = {
        "DefaultEndpointsProtocol": "http",
        "AccountName": _ACCOUNT,
        "AccountKey": _ACCOUNT_KEY,
        "BlobEndpoint": blob,
        "QueueEndpoint": queue,
    }
    return Azurite(
        blob_endpoint=blob,
        queue_endpoint=queue,
        account=_ACCOUNT,
        account_key=_ACCOUNT_KEY,
        connection_string=";".join(f"{name}={value}" for name, value in parts.items()),
    )


SERVER = Server(
    name="azurite", handle=Azurite, needs=(Debian({"node": "nodejs", "npm": "npm"}), _PACKAGES), start=_start
)
