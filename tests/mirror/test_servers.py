"""A mirror over services of four kinds: what they hold in common is enough for copies, ETags, repairs and scrubs."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import trove_async
from tests.azure.harness import azurite
from tests.gcs.harness import gcs
from tests.mirror.stores import driver_of, repaired
from tests.s3.harness import ceph
from tests.sftp.harness import openssh
from trove_async import Mirror
from trove_async.driver import GetOptions
from trove_async.errors import ObjectAlreadyExistsError

pytestmark = pytest.mark.asyncio

HARNESSES = {"s3": ceph, "azure": azurite, "sftp": openssh, "gcs": gcs}


async def chunks() -> AsyncIterator[bytes]:
    for number in range(30):
        yield bytes([number]) * 300_000  # parts on S3, blocks on Azure


async def test_a_mirror_of_services_of_every_kind(tmp_path: Path) -> None:
    for harness in HARNESSES.values():
        await harness.start()
    drivers = {name: await harness.driver() for name, harness in HARNESSES.items()}
    bucket = f"mirror-{uuid.uuid4().hex[:12]}"
    try:
        async with trove_async.open(Mirror(drivers, queue=f"sqlite:///{tmp_path}/queue.db", repair_every=None)) as t:
            driver = driver_of(t)
            await t.create_bucket(bucket)
            small = await t.put(bucket, "small", b"content", metadata={"name": "välue"}, content_type="text/plain")
            large = await t.put(bucket, "large", chunks())
            listed = {item.key: (item.etag, item.size) async for item in t.list(bucket)}
            assert listed == {"small": (small.etag, 7), "large": (large.etag, 9_000_000)}
            for key in listed:  # one member loses it
                async with trove_async.open(HARNESSES["azure"].dsn() or "") as alone:
                    await alone.delete(bucket, key)
            assert await driver.backfill(bucket) == 2
            await repaired(t)
            report = await driver.scrub(bucket)
            assert (report.objects, report.bytes, report.queued, report.lost) == (2, 4 * 9_000_007, 0, ())
            for member in driver.members.values():
                reader = await member.get(bucket, "small", GetOptions())
                async with reader:
                    assert (reader.info.content_type, reader.info.metadata["name"]) == ("text/plain", "välue")
            with pytest.raises(ObjectAlreadyExistsError):
                await t.put(bucket, "small", b"x", if_none_match="*")
            for key in listed:
                await t.delete(bucket, key)
            await t.delete_bucket(bucket)
            assert await driver.status() == {}
    finally:
        for opened in drivers.values():
            await opened.close()
        for harness in HARNESSES.values():
            await harness.stop()
