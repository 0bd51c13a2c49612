"""A server of PostgreSQL for one module of tests, which may stop, kill and fill it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.servers import Postgres
from tests.servers.launch import HOST, accepts, tied
from tests.servers.postgres import create, handle, is_ready
from tests.servers.process import ProcessId, descendants, wait_until_gone

CONNECTIONS = 8
_CONFIGURATION = f"""\
max_connections = {CONNECTIONS}
superuser_reserved_connections = 0
max_wal_senders = 0
shared_buffers = 4MB
# What was acknowledged outlives the server's processes, and need not outlive the machine.
synchronous_commit = on
"""
_DISK = 12 * 1024 * 1024


class OwnPostgres:
    """A server; `start` begins it, and after `stop` or `kill` begins it again on the same data and port.

    Attributes:
        disk: a folder that only the server sees, a file system of 12 MiB; None where mounting is not permitted.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind((HOST, 0))
            self._port: int = free.getsockname()[1]
        self._command = create(folder, self._port, _run, _CONFIGURATION)
        # Not in the folder above: PostgreSQL checks with access(2), for which its capability does not count.
        self._mount_point = Path(tempfile.mkdtemp(prefix="trove-disk-", dir="/tmp"))
        self.disk = self._mount(self._mount_point)

    @property
    def handle(self) -> Postgres:
        """The address of the server."""
        return handle(self._port)

    def start(self) -> None:
        """Start the server, and wait until it accepts sessions."""
        (self._folder / "data" / "postmaster.pid").unlink(missing_ok=True)
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(tied(self._command), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not (accepts(self._port) and is_ready(self._folder)):
            assert self._server.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def stop(self) -> None:
        """Let the server end its sessions, and wait for its end."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            assert self._server.wait(30) == 0
            self._server = None

    def kill(self) -> None:
        """Kill all processes of the server at the same moment, as if the machine had failed."""
        assert self._server is not None
        processes = [ProcessId.of(self._server.pid), *descendants(self._server.pid)]
        for process in processes:
            process.send(signal.SIGKILL)
        self._server.wait(30)
        self._server = None
        assert wait_until_gone(processes, 30)

    def _mount(self, disk: Path) -> Path | None:
        """Let the server begin with a small disk, which is gone when the server is."""
        disk.chmod(0o755)
        mount = f'mount -t tmpfs -o size={_DISK},mode=0700,uid="$(id -u postgres)" disk "$0" && exec "$@"'
        in_own_space = ["unshare", "--mount", "sh", "-c", mount, str(disk)]
        if os.geteuid() != 0 or subprocess.run([*in_own_space, "true"], check=False, capture_output=True).returncode:
            return None
        self._command = [*in_own_space, *self._command]
        return disk

    def remove(self) -> None:
        """Stop the server, and remove its data."""
        self.stop()
        shutil.rmtree(self._folder)
        self._mount_point.rmdir()


def _run(*command: str) -> None:
    subprocess.run(tied(command), check=True, capture_output=True, timeout=60)
