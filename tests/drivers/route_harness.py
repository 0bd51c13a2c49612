"""A `Route` in the conformance suite: over memory and local files, with rules that split the keys of the suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import cast
from uuid import uuid4
from zlib import crc32

import httpx

import trove_async
from tests.drivers.local_harness import LocalHarness
from trove_async import Route, unwrap
from trove_async.driver import Driver, OpenOptions
from trove_async.layers import LayerDriver
from trove_async.layers.route.driver import RouteDriver
from trove_async.layers.route.rules import RouteRuleLike
from trove_async.testing.conformance import Harness, HTTPClient
from trove_async.testing.conformance.stacks import PLAIN
from trove_async.web import signed_urls

_PART_SIZE = 16 * 1024
_ONE_MEMBER = [(f"**/{key}", "memory") for key in ("copy", "empty", "key", "missing", "origin")]
"""The keys of the checks of what only a copy within one member can do."""


def by_hash(_bucket: str, key: str) -> str | None:
    """Send half of the keys to one member: neighbours in a listing are often in different ones."""
    return "files" if crc32(key.encode()) & 1 else None


class _Borrowed(LayerDriver):
    """A driver that is closed by the code that opened it."""

    async def close(self) -> None:
        pass


class RouteHarness(Harness):
    name = "route"
    part_size = _PART_SIZE
    outlives_process = False
    stores_in_process = True
    bulk_objects = 2_000
    await_point_step = 5
    stacks = (PLAIN,)

    def __init__(self) -> None:
        self._local = LocalHarness()
        self._memory = f"memory://route-{uuid4().hex}?min_part_size={_PART_SIZE}&presign_url=http://memory.test/signed"

    async def stop(self) -> None:
        await self._local.stop()

    async def driver(self) -> Driver:
        files = f"local://{self._local.root}?fsync=0&min_part_size={_PART_SIZE}&presign_url=http://files.test/signed"
        rules: list[RouteRuleLike] = [*_ONE_MEMBER, ("**/source", "files"), by_hash]
        return await Route({"memory": self._memory, "files": files}, rules, default="memory").open(OpenOptions())

    @asynccontextmanager
    async def http(self, driver: Driver) -> AsyncIterator[HTTPClient]:
        # Each member signs its own URLs, and an app for each serves them.
        route = unwrap(driver, RouteDriver)
        async with AsyncExitStack() as stack:
            transports: dict[str, httpx.AsyncBaseTransport | None] = {}
            for name, member in route.members.items():
                store = await stack.enter_async_context(trove_async.open(_Borrowed(member)))
                transports[f"http://{name}.test"] = httpx.ASGITransport(app=signed_urls(store))
            yield cast(HTTPClient, await stack.enter_async_context(httpx.AsyncClient(mounts=transports)))

    async def residue(self) -> Sequence[str]:
        return await self._local.residue()


harness = RouteHarness()
