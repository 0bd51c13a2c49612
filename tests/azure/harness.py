"""Azure in the conformance suite, on Azurite: ``--trove-driver=tests.azure.harness:azurite``."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from urllib.parse import quote

import httpx

from tests.servers import running
from trove_async.driver import Driver, Features, OpenOptions, PartCopyDriver
from trove_async.drivers.azure.driver import AzureDriver
from trove_async.dsn import parse_dsn
from trove_async.errors import InvalidKeyError
from trove_async.testing.conformance import Harness, HTTPClient, HTTPResponse
from trove_async.testing.conformance.stacks import PLAIN

__all__ = ["AzureHarness", "azurite"]

_PART_SIZE = 64 * 1024


_ONE_CHARACTER = "Azurite 3.35 uses only the first character of a delimiter"
_XFAILS: Mapping[str, str] = {
    # Features that Azure itself does not have.
    "test_m17_storage_class": "Azure returns the access tier in a head and in a listing, and not in a get",
    "test_m18_tags": "Azure accepts tags of ASCII letters, digits and a few signs; others are refused",
    "test_w03_bound_content_is_enforced": "Azure's signatures bind neither type nor length, so both are refused",
    # Where Azurite differs from Azure's documentation.
    "test_k03_unicode": "Azurite 3.35 cannot list U+FFFF, which Azure percent-encodes (List Blobs, 2021-02-12)",
    # "The delimiter can be a single character or a string" (List Blobs).
    "test_t09_other_delimiters[abc]": _ONE_CHARACTER,
    "test_t09_other_delimiters[//]": _ONE_CHARACTER,
    "test_t09_other_delimiters[%2F]": _ONE_CHARACTER,
    "test_w03_changed_url_is_refused": "Azurite 3.35 answers 500 to a URL whose signature ends in a broken escape",
}


class _BlockBlobClient:
    """A plain client that adds the header that every put to Azure needs: the type of the blob."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> HTTPResponse:
        more = {"x-ms-blob-type": "BlockBlob"} if method == "PUT" else {}
        return await self._client.request(method, url, headers={**(headers or {}), **more}, content=content)


class _AzuriteDriver(AzureDriver):
    """The driver, for a server that copies no blocks, and can neither list nor empty a container with some names."""

    @property
    def features(self) -> Features:
        return super().features.without({PartCopyDriver: "Azurite 3.35 has no Put Block From URL"})

    def check_key(self, key: str) -> None:
        super().check_key(key)
        if "\ufffe" in key or "\uffff" in key:
            raise InvalidKeyError("Azurite cannot list U+FFFE and U+FFFF", key=key)


class AzureHarness(Harness):
    name = "azure (azurite)"
    part_size = _PART_SIZE
    settle_seconds = 2.0
    bulk_objects = 1_000
    transfer_memory = 16 * 1024 * 1024
    stacks = (PLAIN,)
    await_point_step = 5
    storage_class = "COOL"
    xfails = _XFAILS

    def __init__(self) -> None:
        self._drivers: weakref.WeakSet[AzureDriver] = weakref.WeakSet()
        self._loops: weakref.WeakKeyDictionary[AzureDriver, asyncio.AbstractEventLoop] = weakref.WeakKeyDictionary()

    async def driver(self) -> Driver:
        driver = await self._open()
        self._drivers.add(driver)
        self._loops[driver] = asyncio.get_running_loop()
        return driver

    async def _open(self) -> AzureDriver:
        driver = _AzuriteDriver()
        await driver.open(parse_dsn(self.dsn()), OpenOptions())
        return driver

    def dsn(self) -> str:
        server = running("azurite")
        return self._dsn(server.account, server.account_key)

    def _dsn(self, account: str, key: str) -> str:
        server = running("azurite")
        return (
            f"azure://{account}:{quote(key, safe='')}@?endpoint={server.blob_endpoint}"
            f"&part_size={_PART_SIZE}&max_copy_size={4 * _PART_SIZE}&versions=snapshots"
        )

    def bad_dsns(self) -> Sequence[str]:
        server = running("azurite")
        return [self._dsn(server.account, "d3Jvbmc="), self._dsn("nobody", server.account_key)]

    def dead_dsns(self) -> Sequence[str]:
        return ["azure://account:a2V5@?endpoint=http://127.0.0.1:1/account&attempts=1"]

    def bucket_name(self, number: int) -> str:
        return f"conformance-{os.getpid()}-{number}"

    @asynccontextmanager
    async def http(self, driver: Driver) -> AsyncIterator[HTTPClient]:
        async with httpx.AsyncClient() as client:
            yield _BlockBlobClient(client)

    async def residue(self) -> Sequence[str]:
        found = [f"{busy} connections in use" for driver in self._drivers if (busy := driver.busy_connections)]
        async with self._any_driver() as driver:
            for bucket in await driver.list_buckets():
                if bucket.name.startswith(f"conformance-{os.getpid()}-"):
                    found += [f"the blob {name!r}" for name in await driver.leftovers(bucket.name)]
        return found

    @asynccontextmanager
    async def _any_driver(self) -> AsyncIterator[AzureDriver]:
        """Yield a driver that a check has open, or else a new one."""
        loop = asyncio.get_running_loop()
        for driver in self._drivers:
            if not driver.closed and self._loops[driver] is loop:
                yield driver
                return
        driver = await self._open()
        try:
            yield driver
        finally:
            await driver.close()


azurite = AzureHarness()
