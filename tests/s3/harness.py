"""S3 in the conformance suite, on the available servers: ``--trove-driver=tests.s3.harness:ceph``."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Literal
from urllib.parse import quote

import httpx

from tests.servers import running
from tests.servers.server import SMALLEST_PART
from trove_async.driver import Driver, OpenOptions
from trove_async.drivers.s3.driver import S3Driver
from trove_async.dsn import parse_dsn
from trove_async.testing.conformance import Harness, HTTPClient
from trove_async.testing.conformance.stacks import PLAIN

__all__ = ["S3Harness", "ceph", "moto"]

_PART_SIZE = SMALLEST_PART

_XFAILS: Mapping[str, Mapping[str, str]] = {
    "ceph": {
        "test_u05_bad_parts_are_refused": "Ceph 16 completes an upload only if all uploaded parts are listed",
        "test_u12_unknown_upload_is_not_found": "Ceph 16 answers a second completion with the result of the first",
        "test_m05_user_metadata": "Ceph 16 changes underscores in names of metadata to hyphens, so they are refused",
    },
    "moto": {
        "test_z01_versioning_is_set_for_each_bucket": "moto 5.2 lists no older versions after versioning was suspended",
        "test_m18_tags": "moto 5.2 accepts only ASCII tags",
        "test_m18_tags_of_missing_object": "moto 5.2 answers 500",
        "test_u12_unknown_upload_is_not_found": "moto 5.2 answers 500 to a part of an aborted upload",
        "test_u20_unknown_upload_is_not_found": "moto 5.2 answers 500 to a part of an aborted upload",
        "test_w02_url_expires": "moto checks neither signatures nor their expiry",
        "test_w03_url_is_for_one_method": "moto checks no signatures",
        "test_w03_changed_url_is_refused": "moto checks no signatures",
        "test_w03_bound_content_is_enforced": "moto checks no signatures",
    },
}


class S3Harness(Harness):
    part_size = _PART_SIZE
    settle_seconds = 2.0
    bulk_objects = 1_000
    transfer_memory = 16 * 1024 * 1024
    stacks = (PLAIN,)
    await_point_step = 5

    def __init__(self, server: Literal["ceph", "moto"]) -> None:
        self.name = f"s3 ({server})"
        self._server = server
        self.xfails = _XFAILS[server]
        self._drivers: weakref.WeakSet[S3Driver] = weakref.WeakSet()
        self._loops: weakref.WeakKeyDictionary[S3Driver, asyncio.AbstractEventLoop] = weakref.WeakKeyDictionary()

    async def driver(self) -> Driver:
        driver = S3Driver()
        await driver.open(parse_dsn(self.dsn()), OpenOptions())
        self._drivers.add(driver)
        self._loops[driver] = asyncio.get_running_loop()
        return driver

    def dsn(self) -> str:
        server = running(self._server)
        return self._dsn(server.access_key, server.secret_key)

    def _dsn(self, access_key: str, secret_key: str, bucket: str = "") -> str:
        server = running(self._server)
        return (
            f"s3://{quote(access_key)}:{quote(secret_key)}@{server.region}/{bucket}"
            f"?endpoint={server.endpoint}&profile={self._server}&part_size={_PART_SIZE}&min_part_size={_PART_SIZE}"
            # moto answers 500 to many invalid requests, every time, and to reads during a write.
            f"&attempts={4 if self._server == 'moto' else 5}"
        )

    def bad_dsns(self) -> Sequence[str]:
        if self._server == "moto":
            return ()  # it accepts any key
        server = running("ceph")
        return [self._dsn(server.access_key, "wrong"), self._dsn("nobody", server.secret_key)]

    def dead_dsns(self) -> Sequence[str]:
        return [f"s3://key:secret@us-east-1/?endpoint=http://127.0.0.1:1&profile={self._server}&attempts=1"]

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
    async def _any_driver(self) -> AsyncIterator[S3Driver]:
        """Yield a driver that a check has open, or else a new one: opening one takes longer than most checks."""
        loop = asyncio.get_running_loop()
        for driver in self._drivers:
            if not driver.closed and self._loops[driver] is loop:
                yield driver
                return
        driver = S3Driver()
        await driver.open(parse_dsn(self.dsn()), OpenOptions())
        try:
            yield driver
        finally:
            await driver.close()


ceph = S3Harness("ceph")
moto = S3Harness("moto")
