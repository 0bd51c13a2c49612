"""The memory driver in the conformance suite: ``pytest --trove-driver=tests.drivers.memory_harness:harness``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx

import trove_async
from trove_async.driver import Driver, OpenOptions
from trove_async.drivers.memory import MemoryDriver
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


class MemoryHarness(Harness):
    name = "memory"
    part_size = _PART_SIZE
    outlives_process = False
    stores_in_process = True

    def __init__(self) -> None:
        self._dsn = f"memory://conformance-{uuid4().hex}?min_part_size={_PART_SIZE}&presign_url={_BASE_URL}"

    async def driver(self) -> Driver:
        driver = MemoryDriver()
        await driver.open(parse_dsn(self._dsn), OpenOptions())
        return driver

    def dsn(self) -> str:
        return self._dsn

    @asynccontextmanager
    async def http(self, driver: Driver) -> AsyncIterator[HTTPClient]:
        async with trove_async.open(_Borrowed(driver)) as store:
            transport = httpx.ASGITransport(app=signed_urls(store))
            async with httpx.AsyncClient(transport=transport) as client:
                yield client


harness = MemoryHarness()
