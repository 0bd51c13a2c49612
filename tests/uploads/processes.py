"""Servers in processes of their own, which tests stop, kill and start again on the same port."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.servers.folder import REPOSITORY
from tests.servers.launch import HOST, tail, tied
from tests.servers.process import ProcessId, descendants, end, wait_until_gone
from trove_async.testing import sockets

__all__ = ["ServerProcess"]

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 0.01


class ServerProcess:
    """A server that listens on a port of 127.0.0.1, the same one whenever it is started.

    Use it in ``async with``, which starts it and at the end stops it::

        async with ServerProcess(lambda port: [sys.executable, "-m", "server", str(port)], tmp_path / "log") as server:
            ...  # connect to server.port
            await server.kill()
            await server.start()

    Between a stop and the next start, connections to the port are refused, and no other process gets it. The process
    ends with this one, and runs in the folder of the repository.

    Args:
        command: returns the command for a port.
        log: the file to which its output is appended.
        environment: variables to add.

    Attributes:
        port: the port.
        log: the file with its output.
    """

    def __init__(
        self, command: Callable[[int], Sequence[str]], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        # It only reserves the port, as in `tests.servers.launch`: bound, but not listening.
        self._reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind((HOST, 0))
        self.port: int = self._reserved.getsockname()[1]
        self._command = command(self.port)
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of the server's root, without a slash at the end."""
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """The process that was started; its workers are its children."""
        assert self._process is not None, "the server is not started"
        return self._process.pid

    async def start(self) -> None:
        """Start the server and wait until it accepts connections.

        Raises:
            RuntimeError: it ended before, or accepts none within a minute; the message has the end of its log.
        """
        assert self._process is None, "the server is already started"
        self._process = self._spawn()
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._ready(self._process)
        except TimeoutError:
            await self.kill()
            raise RuntimeError(f"the server accepted no connection:\n{tail(self.log)}") from None
        except BaseException:
            await self.kill()
            raise

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                tied(self._command),
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._environment},
                start_new_session=True,
            )

    async def _ready(self, process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None:
            with suppress(ConnectionRefusedError):
                (await sockets.connect(HOST, self.port)).close()
                return
            await asyncio.sleep(_POLL_SECONDS)
        raise RuntimeError(f"the server ended with exit code {process.returncode}:\n{tail(self.log)}")

    async def stop(self) -> int:
        """Ask the server to end (SIGTERM), wait until it has, and return the exit code.

        Most servers wait for requests that are not answered; after 15 seconds the server is killed.
        """
        return await self._finish(lambda root: end([root], _STOP_SECONDS))

    async def kill(self) -> None:
        """Kill the server and its workers (SIGKILL), and wait until they are gone."""

        def kill(root: ProcessId) -> None:
            doomed = [root, *descendants(root.pid)]
            os.killpg(root.pid, signal.SIGKILL)
            wait_until_gone(doomed, _STOP_SECONDS)

        await self._finish(kill)

    async def _finish(self, finish: Callable[[ProcessId], None]) -> int:
        assert self._process is not None, "the server is not started"
        process = self._process
        if process.poll() is None:
            await asyncio.shield(asyncio.to_thread(finish, ProcessId.of(process.pid)))
        self._process = None
        return process.wait()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            self._reserved.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._process is not None:
                await self.stop()
        finally:
            self._reserved.close()
