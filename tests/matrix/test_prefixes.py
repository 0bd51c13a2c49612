"""Stores whose DSN names a prefix of the keys, on the services whose DSNs may."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest

import trove_async as trove
from tests.azure.harness import azurite
from tests.gcs.harness import gcs
from tests.s3.harness import ceph
from trove_async.dsn import parse_dsn
from trove_async.testing.conformance import Harness

pytestmark = pytest.mark.asyncio

SERVICES: dict[str, Harness] = {"s3": ceph, "gcs": gcs, "azure": azurite}
PREFIX = "teams/ä b/"


@asynccontextmanager
async def stores(name: str, prefix: str) -> AsyncIterator[tuple[trove.Trove, trove.Trove, str]]:
    """Open the store of a service, and the store of a DSN with a bucket and a prefix in it."""
    text, bucket = SERVICES[name].dsn(), f"prefix-{uuid.uuid4().hex[:12]}"
    assert text is not None
    dsn = parse_dsn(text)
    if name == "azure":
        named = replace(dsn, host=bucket, path=f"/{prefix}")
    else:
        named = replace(dsn, path=f"/{bucket}/{prefix}")
    async with trove.open(text) as whole, trove.open(named.reveal()) as below:
        await whole.create_bucket(bucket)
        try:
            yield whole, below, bucket
        finally:
            await whole.empty_bucket(bucket, versions=True)
            await whole.delete_bucket(bucket)


@pytest.mark.parametrize("written", [PREFIX, PREFIX.removesuffix("/")])
@pytest.mark.parametrize("name", SERVICES)
async def test_a_dsn_with_a_prefix_is_a_store_of_the_keys_below_it(name: str, written: str) -> None:
    async with stores(name, written) as (whole, below, bucket):
        await whole.put(bucket, "teams/ä b.txt", b"not below the prefix")
        b = below.bucket()
        info = await b.put("in/k", b"data", metadata={"a": "b"})
        assert info.key == "in/k"
        await b.copy("in/k", "copy")
        assert [item.key async for item in b.list(delimiter="/")] == ["copy", "in/"]
        listed = [found.key async for found in whole.list(bucket)]
        assert listed == ["teams/ä b.txt", f"{PREFIX}copy", f"{PREFIX}in/k"]
        upload = await b.initiate_multipart("parts")
        part = await b.upload_part("parts", upload, 1, b"part")
        assert [(found.key, found.upload_id) for found in await b.list_multipart_uploads()] == [("parts", upload)]
        await b.complete_multipart("parts", upload, [part])
        async with httpx.AsyncClient() as client:
            assert (await client.get(await b.presign_get("parts"))).content == b"part"
        assert await b.delete_many(["copy", "in/k", "parts", "missing"]) == 4
        assert [found.key async for found in whole.list(bucket)] == ["teams/ä b.txt"]


@pytest.mark.parametrize("name", SERVICES)
async def test_errors_of_a_service_do_not_name_the_prefix(name: str) -> None:
    async with stores(name, PREFIX) as (whole, below, bucket):
        b = below.bucket()
        for work in (
            b.read("missing"),
            b.head("missing"),
            b.copy("missing", "k"),
            b.get_tags("missing"),
            b.list_parts("missing", "no-upload"),
            b.put("missing", b"", if_match="123"),
        ):
            with pytest.raises(trove.TroveError) as raised:
                await work
            assert raised.value.key == "missing"
            assert "teams" not in str(raised.value)
        await whole.put(bucket, "other", b"")
        with pytest.raises(trove.BucketNotEmptyError, match="keys do not begin with the prefix"):
            await below.delete_bucket(bucket)
