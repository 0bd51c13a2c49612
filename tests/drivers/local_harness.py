"""The local driver in the conformance suite: ``pytest --trove-driver=tests.drivers.local_harness:harness``."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

import trove_async
from tests.drivers.local_residue import residue_of
from trove_async.driver import Driver, OpenOptions
from trove_async.drivers.local import LocalDriver
from trove_async.dsn import parse_dsn
from trove_async.layers import LayerDriver
from trove_async.testing.conformance import Harness, HTTPClient
from trove_async.web import signed_urls

_BASE_URL = "http://objects.test/signed"
_PART_SIZE = 16 * 1024


class _Borrowed(LayerDriver):
    """A driver that is closed by the code that opened it."""

    async def close(self) -> None:
        pass


class LocalHarness(Harness):
    name = "local"
    part_size = _PART_SIZE
    bulk_objects = 10_000

    def __init__(self) -> None:
        self._root: Path | None = None

    @property
    def root(self) -> Path:
        if self._root is None:
            self._root = Path(tempfile.mkdtemp(prefix="trove-local-"))
            atexit.register(shutil.rmtree, self._root, ignore_errors=True)  # for users that do not call `stop`
        return self._root

    async def stop(self) -> None:
        if self._root is not None:
            shutil.rmtree(self._root)
            self._root = None

    async def driver(self) -> Driver:
        driver = LocalDriver()
        await driver.open(parse_dsn(self.dsn()), OpenOptions())
        return driver

    def dsn(self) -> str:
        return f"local://{self.root}?fsync=0&min_part_size={_PART_SIZE}&presign_url={_BASE_URL}"

    def dead_dsns(self) -> Sequence[str]:
        return [f"local://{self.root}-missing"]

    @asynccontextmanager
    async def http(self, driver: Driver) -> AsyncIterator[HTTPClient]:
        async with trove_async.open(_Borrowed(driver)) as store:
            transport = httpx.ASGITransport(app=signed_urls(store))
            async with httpx.AsyncClient(transport=transport) as client:
                yield client

    async def residue(self) -> Sequence[str]:
        return residue_of(self.root)


harness = LocalHarness()
