"""The number of requests of each operation, as documented on the page about Azure."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest

from tests.azure.stores import PART, opened, pattern, through
from trove_async.testing.answers import AnsweringProxy

pytestmark = pytest.mark.asyncio


async def requests_of(service: AnsweringProxy, work: Awaitable[object]) -> int:
    before = len(service.requests)
    await work
    return len(service.requests) - before


async def test_requests(bucket: str, service: AnsweringProxy) -> None:
    async with opened(through(service)) as t:

        async def cost(work: Awaitable[object]) -> int:
            return await requests_of(service, work)

        assert await cost(t.ping()) == 1
        assert await cost(t.put(bucket, "key", b"data")) == 1
        assert await cost(t.put(bucket, "large", pattern(3 * PART))) == 4
        assert await cost(t.read(bucket, "key")) == 1
        assert await cost(t.read(bucket, "key", range=(0, 2))) == 1
        assert await cost(t.read(bucket, "key", range=(-2, None))) == 2
        assert await cost(t.head(bucket, "key")) == 1
        assert await cost(t.exists(bucket, "missing")) == 1
        assert await cost(t.list(bucket).all()) == 1
        assert await cost(t.copy(bucket, "key", bucket, "copy")) == 2
        assert await cost(t.copy(bucket, "key", bucket, "key")) == 1
        assert await cost(t.copy(bucket, "key", bucket, "copy", replace=True, metadata={"a": "1"})) == 7
        assert await cost(t.move(bucket, "copy", bucket, "moved")) == 4
        assert await cost(t.presign_get(bucket, "key")) == 0
        upload = await t.initiate_multipart(bucket, "upload")
        assert await cost(t.upload_part(bucket, "upload", upload, 1, b"x")) == 2
        parts = await t.list_parts(bucket, "upload", upload)
        assert await cost(t.complete_multipart(bucket, "upload", upload, parts)) == 8
        upload = await t.initiate_multipart(bucket, "upload")
        assert await cost(t.abort_multipart(bucket, "upload", upload)) == 4
        assert await cost(t.delete(bucket, "key")) == 1
        assert await cost(t.delete_many(bucket, ["large", "moved", "upload"])) == 3


async def test_requests_with_snapshots(bucket: str, service: AnsweringProxy) -> None:
    async with opened(through(service), versions="snapshots") as t:
        assert await requests_of(service, t.put(bucket, "key", b"1")) == 2
        await t.set_versioning(bucket, True)
        assert await requests_of(service, t.put(bucket, "key", b"2")) == 4
        *_, oldest = await t.list_versions(bucket, "key")
        assert await requests_of(service, t.read(bucket, "key", version_id=oldest.version_id)) == 2
