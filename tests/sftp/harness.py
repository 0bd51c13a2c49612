"""SFTP in the conformance suite: ``--trove-driver=tests.sftp.harness:openssh``, or ``:asyncssh``."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import weakref
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import httpx

import trove_async
from tests.sftp.residue import residue_of
from tests.sftp.stores import ServerName, handle_of
from trove_async.driver import Driver, OpenOptions
from trove_async.drivers.sftp import SFTPDriver
from trove_async.dsn import parse_dsn
from trove_async.layers import LayerDriver
from trove_async.testing.conformance import Harness, HTTPClient
from trove_async.testing.conformance.stacks import PLAIN
from trove_async.web import signed_urls

__all__ = ["SFTPHarness", "asyncssh", "openssh"]

_BASE_URL = "http://objects.test/signed"
_PART_SIZE = 16 * 1024


class _Borrowed(LayerDriver):
    """A driver that is closed by the code that opened it."""

    async def close(self) -> None:
        pass


class SFTPHarness(Harness):
    part_size = _PART_SIZE
    bulk_objects = 1_000
    transfer_memory = 16 * 1024 * 1024
    stacks = (PLAIN,)
    await_point_step = 5

    def __init__(self, server: ServerName) -> None:
        self.name = f"sftp ({server})"
        self._server: ServerName = server
        self._root: Path | None = None
        self._drivers: weakref.WeakSet[SFTPDriver] = weakref.WeakSet()

    @property
    def root(self) -> Path:
        if self._root is None:
            self._root = Path(tempfile.mkdtemp(prefix="conformance-", dir=handle_of(self._server).folder))
        return self._root

    async def stop(self) -> None:
        if self._root is not None:
            shutil.rmtree(self._root)
            self._root = None

    async def driver(self) -> Driver:
        driver = SFTPDriver()
        await driver.open(parse_dsn(self.dsn()), OpenOptions())
        self._drivers.add(driver)
        return driver

    def dsn(self) -> str:
        return self._dsn(str(self.root), handle_of(self._server).client_key)

    def _dsn(self, root: str, key: str) -> str:
        server = handle_of(self._server)
        return (
            f"sftp://{quote(server.user)}@{server.host}:{server.port}{root}?key={quote(key)}&fsync=0"
            f"&known_hosts={quote(server.known_hosts)}&min_part_size={_PART_SIZE}&presign_url={_BASE_URL}"
        )

    def bad_dsns(self) -> Sequence[str]:
        # Any other private key will do, such as that of the server.
        server = handle_of(self._server)
        return [self._dsn(str(self.root), str(Path(server.known_hosts).with_name("host_key")))]

    def dead_dsns(self) -> Sequence[str]:
        missing = self._dsn(f"{self.root}/missing", handle_of(self._server).client_key)
        return [missing, "sftp://nobody@127.0.0.1:1/root?verify=0&attempts=1"]

    @asynccontextmanager
    async def http(self, driver: Driver) -> AsyncIterator[HTTPClient]:
        async with trove_async.open(_Borrowed(driver)) as store:
            transport = httpx.ASGITransport(app=signed_urls(store))
            async with httpx.AsyncClient(transport=transport) as client:
                yield client

    async def residue(self) -> Sequence[str]:
        found: list[str] = []
        for driver in self._drivers:
            if driver.closed:
                continue
            if driver.held_handles:
                found.append(f"{driver.held_handles} handles are in use")
            for _ in range(100):
                # A collected reader tells the server, and does not wait for its answer.
                if not driver.connection.open_handles:
                    break
                await asyncio.sleep(0.01)
            else:
                found.append(f"{driver.connection.open_handles} handles are open")
        return [*found, *residue_of(self.root)]


openssh = SFTPHarness("sshd")
asyncssh = SFTPHarness("asyncssh")
