"""The harness of the conformance suite for the store of a DSN; pytest loads it for ``trove conformance``."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import uuid4

from trove_async.driver import Driver, OpenOptions, open_stack
from trove_async.dsn import parse_dsn
from trove_async.testing.conformance import Harness, HTTPClient

__all__ = ["DSN_VARIABLE", "PREFIX_VARIABLE", "DSNHarness"]

DSN_VARIABLE: Final = "TROVE_CONFORMANCE_DSN"
"""The environment variable with the DSN, which may contain secrets: arguments are visible to all users."""

PREFIX_VARIABLE: Final = "TROVE_CONFORMANCE_PREFIX"
"""The environment variable with the prefix of the names of all buckets of this run."""

_LIBRARY_SCHEMES: Final = ("memory", "local", "file")
_PART_SIZE: Final = 64 * 1024


class DSNHarness(Harness):
    """A store of which only the DSN is known, from the environment.

    So checks that need to know the server are left out: of what it stores beside objects, and of how it refuses wrong
    credentials.
    """

    bulk_objects = 5_000

    def __init__(self) -> None:
        self._dsn = os.environ[DSN_VARIABLE]
        self._prefix = os.environ[PREFIX_VARIABLE]
        if self._dsn.partition("?")[0] == "memory://":  # all drivers must see the same store
            self._dsn = self._dsn.replace("memory://", f"memory://{uuid4().hex}", 1)
        self._parsed = parse_dsn(self._dsn)
        if self._parsed.scheme in _LIBRARY_SCHEMES and "min_part_size" not in self._parsed.params:
            # Here the minimum size of a part is a setting, and small parts save time.
            self._dsn += f"{'&' if self._parsed.params else '?'}min_part_size={_PART_SIZE}"
            self._parsed = parse_dsn(self._dsn)
        self.name = self._parsed.scheme
        self.stores_in_process = self.name == "memory"
        self.outlives_process = not self.stores_in_process

    async def start(self) -> None:
        """Find out the minimum size of a part."""
        driver = await self.driver()
        try:
            self.part_size = max(_PART_SIZE, driver.features.limits.min_part_size)
        finally:
            await driver.close()

    async def driver(self) -> Driver:
        """Return a new driver."""
        return await open_stack(self._dsn, (), OpenOptions())

    def dsn(self) -> str:
        """Return the DSN."""
        return self._dsn

    def bucket_name(self, number: int) -> str:
        """Return the name of a bucket of this run."""
        return f"{self._prefix}{number}"

    @asynccontextmanager
    async def http(self, driver: Driver) -> AsyncIterator[HTTPClient]:
        """Yield a client for the signed URLs of the store, which must be served somewhere."""
        import httpx

        async with httpx.AsyncClient() as client:
            yield client
