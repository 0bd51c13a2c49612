"""Tools with which a recipe starts a server: ports, processes, and waits with a time limit that show the log."""

import http.client
import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.servers.errors import ServerError
from tests.servers.folder import ServerFolder, State
from tests.servers.install import which
from tests.servers.process import ProcessId, end

HOST = "127.0.0.1"

_TAIL_BYTES = 4000


@dataclass(frozen=True)
class Spawned:
    """A process of a server, which runs until the server stops."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    identity: ProcessId


class Launch:
    """One start of one server. `folder` belongs to it, is empty at first, and is removed when the server stops."""

    def __init__(self, folder: ServerFolder) -> None:
        self.folder = folder.run
        self._server_folder = folder
        self._state = State(ProcessId.of(os.getpid()))
        self._spawned: list[Spawned] = []
        self._reserved: list[socket.socket] = []
        folder.write(self._state)

    def port(self) -> int:
        """Choose a free port of 127.0.0.1.

        It stays reserved until the server is ready: a bound socket that does not listen prevents the kernel from giving
        the port to others, and permits a server that sets SO_REUSEADDR, as all of these do.
        """
        reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind((HOST, 0))
        self._reserved.append(reserved)
        port: int = reserved.getsockname()[1]
        return port

    def write(self, name: str, text: str) -> Path:
        """Write a file to the server's folder."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def run(self, *command: str, seconds: float = 30) -> str:
        """Run a command to its end and return its output. Raises `ServerError` if it fails or hangs."""
        try:
            result = subprocess.run(
                tied(command),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            output = (error.output or b"").decode(errors="replace")
            raise ServerError(f"{' '.join(command)} did not end within {seconds:.0f} s:\n{output}") from None
        output = result.stdout.decode(errors="replace")
        with (self._server_folder.log / "commands.log").open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(command)}\n{output}")
        if result.returncode:
            raise ServerError(f"{' '.join(command)} ended with exit code {result.returncode}:\n{output}")
        return output

    def spawn(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Spawned:
        """Start a process that runs until the server stops; its output is written to the log with this name."""
        path = self._server_folder.log / f"{name}.log"
        with path.open("ab") as log:
            popen = subprocess.Popen(
                tied(command),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        spawned = Spawned(name, popen, path, ProcessId.of(popen.pid))
        self._spawned.append(spawned)
        self._state = State(self._state.supervisor, tuple(one.identity for one in self._spawned))
        self._server_folder.write(self._state)
        return spawned

    def wait(self, spawned: Spawned, ready: Callable[[], bool], what: str, seconds: float = 30) -> None:
        """Wait until `ready()`. Raises `ServerError` with the end of the log if it is not ready in time."""
        deadline = time.monotonic() + seconds
        while not ready():
            if spawned.popen.poll() is not None:
                raise ServerError(f"{describe_end(spawned)} before {what}:\n{tail(spawned.log)}")
            if time.monotonic() > deadline:
                raise ServerError(f"{spawned.name}: {what} did not come within {seconds:.0f} s:\n{tail(spawned.log)}")
            time.sleep(0.02)

    def ready(self, handle: dict[str, str | int]) -> None:
        """Publish the handle of the server."""
        self._state = State(self._state.supervisor, self._state.processes, handle)
        self._server_folder.write(self._state)
        self._free_ports()

    def ended(self) -> Spawned | None:
        """Return a process that ended by itself, or None."""
        return next((spawned for spawned in self._spawned if spawned.popen.poll() is not None), None)

    def stop(self, grace: float) -> None:
        """End all started processes, the last one first, with their descendants."""
        self._free_ports()
        end([spawned.identity for spawned in reversed(self._spawned)], grace)
        for spawned in self._spawned:
            # Its threads may outlive it briefly, and until then waiting for it fails.
            with suppress(subprocess.TimeoutExpired):
                spawned.popen.wait(timeout=5)

    def _free_ports(self) -> None:
        for reserved in self._reserved:
            reserved.close()
        self._reserved.clear()


def tied(command: Sequence[str]) -> list[str]:
    """Return a command that the kernel kills when the thread that starts it ends (prctl(2), PR_SET_PDEATHSIG)."""
    program, *arguments = command
    return ["setpriv", "--pdeathsig", "KILL", "--", which(program) or program, *arguments]


def accepts(port: int) -> bool:
    """Whether something accepts connections on this port."""
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


def answers(port: int, path: str = "/") -> bool:
    """Whether an HTTP server answers here, with anything but a 5xx status."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def describe_end(spawned: Spawned) -> str:
    """Return how a process ended, for a message."""
    return f"{spawned.name} ended with exit code {spawned.popen.returncode}"


def tail(log: Path) -> str:
    """Return the end of a log."""
    return log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip() or f"({log} is empty)"
