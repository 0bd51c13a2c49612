"""The store of a DSN under the conformance suite; ``trove conformance`` has pytest load it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import uuid4

from trove_async.driver import Driver, OpenOptions, lookup
from trove_async.dsn import parse_dsn
from trove_async.testing.conformance import Harness, HTTPClient

__all__ = ["DSN_VARIABLE", "PREFIX_VARIABLE", "DSNHarness"]

DSN_VARIABLE: Final = "TROVE_CONFORMANCE_DSN"
"""The environment variable with the DSN: arguments are seen by everyone on the machine, and it may hold secrets."""

PREFIX_VARIABLE: Final = "TROVE_CONFORMANCE_PREFIX"
"""The environment variable with what the names of all buckets of this run begin with."""

_OURS: Final = ("memory", "local", "file")
_PART_SIZE: Final = 64 * 1024


class DSNHarness(Harness):
    """A store at hand, of which nothing is known but its DSN, from the environment.

    So nothing is looked for that only someone who knows the server could find: what lies there beside objects, and
    how it refuses wrong credentials.
    """

    bulk_objects = 5_000

    def __init__(self) -> None:
        self._dsn = os.environ[DSN_VARIABLE]
        self._prefix = os.environ[PREFIX_VARIABLE]
        if self._dsn.partition("?")[0] == "memory://":  # every driver has to see the same store
            self._dsn = self._dsn.replace("memory://", f"memory://{uuid4().hex}", 1)
        self._parsed = parse_dsn(self._dsn)
        if self._parsed.scheme in _OURS and "min_part_size" not in self._parsed.params:
            # Where the size of a part is a setting of ours and no service's, small ones save time.
            self._dsn += f"{'&' if self._parsed.params else '?'}min_part_size={_PART_SIZE}"
            self._parsed = parse_dsn(self._dsn)
        self.name = self._parsed.scheme
        self.stores_in_process = self.name == "memory"
        self.outlives_process = not self.stores_in_process

    async def start(self) -> None:
        """Find out how large a part has to be."""
        driver = await self.driver()
        try:
            self.part_size = max(_PART_SIZE, driver.features.limits.min_part_size)
        finally:
            await driver.close()

    async def driver(self) -> Driver:
        """Return a new driver."""
        driver = lookup(self._parsed.scheme)()
        await driver.open(self._parsed, OpenOptions())
        return driver

    def dsn(self) -> str:
        """Return the DSN."""
        return self._dsn

    def bucket_name(self, number: int) -> str:
        """Return a name of this run."""
        return f"{self._prefix}{number}"

    @asynccontextmanager
    async def http(self, driver: Driver) -> AsyncIterator[HTTPClient]:
        """Yield a client for the URLs that the store signs, which have to be served."""
        import httpx

        async with httpx.AsyncClient() as client:
            yield client
