from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import trove_async as trove
from tests.drivers.local_residue import residue_of

BASE_URL = "http://objects.test/"


@pytest_asyncio.fixture(params=["memory", "local"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[trove.Trove]:
    """Store ``kept`` in bucket ``b``; whatever a test does, the bucket has this object and no other at the end."""
    root = tmp_path / "root"
    root.mkdir()
    dsn = "memory://" if request.param == "memory" else f"local://{root}"
    async with trove.open(dsn, min_part_size=1, presign_url=BASE_URL) as store:
        await store.create_bucket("b")
        await store.put("b", "kept", b"kept", metadata={"a": "b"})
        yield store
        assert [info.key async for info in store.list("b")] == ["kept"]
        assert await store.read("b", "kept") == b"kept"
        assert (await store.head("b", "kept")).metadata == {"a": "b"}
        assert [bucket.name for bucket in await store.list_buckets()] == ["b"]
        assert await store.list_multipart_uploads("b") == []
        if request.param == "local":
            assert residue_of(root) == []
