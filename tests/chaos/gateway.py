"""A gateway of its own on the cluster of the test server Ceph, which a test may kill and start again."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from types import TracebackType
from typing import Self

from tests.servers import ServerError, running
from tests.servers.folder import ServerFolder
from tests.servers.launch import HOST, answers, tied

_START_SECONDS = 60

_ALONE = (
    # A change of a bucket waits up to 30 s for the answers of all gateways that watch the same objects of the cluster,
    # killed ones too. With 0 this one watches another object, and without a cache it needs no notification.
    "--rgw-num-control-oids=0",
    "--rgw-cache-enabled=false",
    # A killed gateway would keep the locks of these threads.
    "--rgw-enable-gc-threads=false",
    "--rgw-enable-lc-threads=false",
)


class Gateway:
    """A process of radosgw with the buckets, users and keys of `running("ceph")`, and a port of its own.

    Attributes:
        port: of 127.0.0.1; the same after each start.
    """

    def __init__(self) -> None:
        running("ceph")
        # A bound socket that does not listen keeps the port for the gateway while it is dead.
        self._reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind((HOST, 0))
        self.port: int = self._reserved.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            ServerError: it ended, or does not answer.
        """
        folder = ServerFolder("ceph")
        endpoint = f"beast tcp_nodelay=1 endpoint={HOST}:{self.port}"
        name = f"client.chaos-{os.getpid()}"
        command = ["radosgw", "-c", "ceph.conf", "-f", "-n", name, "--rgw-frontends", endpoint, *_ALONE]
        log = folder.log / f"radosgw-{self.port}.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                tied(command), cwd=folder.run, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + _START_SECONDS
        while not answers(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServerError(f"the gateway does not answer; its log is {log}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill it with SIGKILL, and wait until it is gone; do nothing if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        self._reserved.close()
