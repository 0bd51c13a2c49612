"""Stores on the real servers, as the tests of the driver open them; nothing may be left over."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal
from urllib.parse import urlsplit

import trove_async as trove
from tests.payload import pattern
from tests.servers import running
from tests.servers.server import SMALLEST_PART
from trove_async.drivers.s3.driver import S3Driver

__all__ = ["PART", "ServerName", "address", "busy", "opened", "pattern", "scratch"]

ServerName = Literal["ceph", "moto"]

PART = SMALLEST_PART


def address(server: ServerName) -> tuple[str, int]:
    """Return the address of the server, for a proxy."""
    url = urlsplit(running(server).endpoint)
    assert url.hostname is not None
    assert url.port is not None
    return url.hostname, url.port


def busy(store: trove.Trove) -> int:
    """Return the number of connections that carry a request or an answer."""
    return trove.unwrap(store.driver, S3Driver).busy_connections


@asynccontextmanager
async def opened(server: ServerName, endpoint: str | None = None, **settings: Any) -> AsyncIterator[trove.Trove]:
    """Open a store, and assert at its end that all connections were released.

    Args:
        server: the server.
        endpoint: the URL of a proxy in front of it; None for the server itself.
        settings: parameters; None removes one of the default parameters.
    """
    handle = running(server)
    chosen: dict[str, Any] = {
        "endpoint": endpoint or handle.endpoint,
        "profile": server,
        "access_key": handle.access_key,
        "secret_key": handle.secret_key,
        "part_size": PART,
        "min_part_size": PART,
        **settings,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    async with trove.open(f"s3://{handle.region}/", **given) as store:
        yield store
        assert busy(store) == 0


@asynccontextmanager
async def scratch(server: ServerName) -> AsyncIterator[str]:
    """Create a bucket, and assert at the end that no upload is open in it."""
    name = f"test-{uuid.uuid4().hex[:16]}"
    async with opened(server) as store:
        await store.create_bucket(name)
        try:
            yield name
            assert await store.list_multipart_uploads(name) == []
        finally:
            for upload in await store.list_multipart_uploads(name):
                await store.abort_multipart(name, upload.key, upload.upload_id)
            await store.delete_many(name, [found.key async for found in store.list(name)])
            await store.delete_bucket(name)
