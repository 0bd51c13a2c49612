"""Cloud Storage in the conformance suite: ``--trove-driver=tests.gcs.harness:gcs``."""

from __future__ import annotations

import asyncio
import json
import os
import weakref
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Final

import httpx

from tests.servers import running
from tests.servers.server import SMALLEST_PART
from trove_async.driver import Driver, OpenOptions
from trove_async.drivers.gcs.driver import GCSDriver
from trove_async.drivers.gcs.settings import CHUNK
from trove_async.dsn import parse_dsn
from trove_async.testing.conformance import Harness, HTTPClient
from trove_async.testing.conformance.stacks import PLAIN

__all__ = ["GCSHarness", "gcs"]

_NO_MARKERS: Final = "Cloud Storage has no delete markers: a deleted object has only noncurrent generations"

_XFAILS: Final[Mapping[str, str]] = {
    "test_z01_versioning_is_set_for_each_bucket": "without versioning, replaced objects are deleted permanently",
    "test_z01_versions_are_deleted_for_good": "a noncurrent generation never becomes the live one by itself",
    "test_z02_delete_leaves_a_marker": _NO_MARKERS,
    "test_z02_bulk_delete_leaves_markers": _NO_MARKERS,
    "test_z04_put_gives_a_version_id": "every object has a generation, also without versioning, and none is null",
}


class GCSHarness(Harness):
    name = "gcs"
    part_size = CHUNK
    settle_seconds = 2.0
    bulk_objects = 1_000
    transfer_memory = 16 * 1024 * 1024
    storage_class = "NEARLINE"
    stacks = (PLAIN,)
    await_point_step = 5
    xfails = _XFAILS

    def __init__(self) -> None:
        self._drivers: weakref.WeakSet[GCSDriver] = weakref.WeakSet()
        self._loops: weakref.WeakKeyDictionary[GCSDriver, asyncio.AbstractEventLoop] = weakref.WeakKeyDictionary()

    async def driver(self) -> Driver:
        driver = GCSDriver()
        await driver.open(parse_dsn(self.dsn()), OpenOptions())
        self._drivers.add(driver)
        self._loops[driver] = asyncio.get_running_loop()
        return driver

    def dsn(self) -> str:
        return self._dsn(running("gcs").credentials)

    def _dsn(self, credentials: str) -> str:
        server = running("gcs")
        return (
            f"gcs://{server.project}/?endpoint={server.endpoint}&credentials={credentials}"
            f"&part_size={CHUNK}&min_part_size={SMALLEST_PART}"
        )

    def bad_dsns(self) -> Sequence[str]:
        return [
            self._dsn(_wrong_credentials()),
            f"gcs://project/?endpoint={running('gcs').endpoint}&access_token=wrong",
        ]

    def dead_dsns(self) -> Sequence[str]:
        return ["gcs://project/?endpoint=http://127.0.0.1:1&anonymous=1&attempts=1"]

    def bucket_name(self, number: int) -> str:
        return f"conformance-{os.getpid()}-{number}"

    @asynccontextmanager
    async def http(self, driver: Driver) -> AsyncIterator[HTTPClient]:
        async with httpx.AsyncClient() as client:
            yield client

    async def residue(self) -> Sequence[str]:
        found = [f"{busy} connections in use" for driver in self._drivers if (busy := driver.busy_connections)]
        async with self._any_driver() as driver:
            for bucket in await driver.list_buckets():
                if bucket.name.startswith(f"conformance-{os.getpid()}-"):
                    uploads = await driver.list_multipart_uploads(bucket.name)
                    found += [f"the upload {upload.upload_id} of {upload.key!r}" for upload in uploads]
        return found

    @asynccontextmanager
    async def _any_driver(self) -> AsyncIterator[GCSDriver]:
        """Yield a driver that a check has open, or else a new one: opening one takes longer than most checks."""
        loop = asyncio.get_running_loop()
        for driver in self._drivers:
            if not driver.closed and self._loops[driver] is loop:
                yield driver
                return
        driver = GCSDriver()
        await driver.open(parse_dsn(self.dsn()), OpenOptions())
        try:
            yield driver
        finally:
            await driver.close()


@cache
def _wrong_credentials() -> str:
    """Return the path of a key file whose account the service does not know; it goes when the server does."""
    server = running("gcs")
    data = json.loads((Path(__file__).parent / "vectors" / "account.json").read_text(encoding="utf-8"))
    path = Path(server.credentials).with_name(f"wrong-{os.getpid()}.json")
    path.write_text(json.dumps({**data, "token_uri": f"{server.endpoint}/token"}), encoding="utf-8")
    return str(path)


gcs = GCSHarness()
