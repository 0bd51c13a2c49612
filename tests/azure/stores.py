"""Stores on Azurite, as the tests of the driver open them; nothing may be left over."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import trove_async as trove
from tests.payload import pattern
from tests.servers import running
from trove_async.drivers.azure.driver import AzureDriver
from trove_async.testing.answers import Answer

__all__ = [
    "ACCOUNT",
    "PART",
    "address",
    "azure_error",
    "busy",
    "driver_of",
    "leave_block",
    "opened",
    "pattern",
    "scratch",
    "through",
    "tier_of",
]

PART = 64 * 1024
ACCOUNT = "devstoreaccount1"


def address() -> tuple[str, int]:
    """Return the address of the server, for a proxy."""
    url = urlsplit(running("azurite").blob_endpoint)
    assert url.hostname is not None
    assert url.port is not None
    return url.hostname, url.port


def through(proxy: Any) -> str:
    """Return the endpoint of a store that uses a proxy; emulators have the account in the path."""
    url: str = proxy.url()
    return f"{url.rstrip('/')}/{ACCOUNT}"


def driver_of(store: trove.Trove) -> AzureDriver:
    """Return the driver below the layers of a store."""
    return trove.unwrap(store.driver, AzureDriver)


def busy(store: trove.Trove) -> int:
    """Return the number of connections that carry a request or an answer."""
    return driver_of(store).busy_connections


@asynccontextmanager
async def opened(endpoint: str | None = None, **settings: Any) -> AsyncIterator[trove.Trove]:
    """Open a store, and assert at its end that all connections were released.

    Args:
        endpoint: the URL of a proxy in front of the server; None for the server itself.
        settings: parameters; None removes one of the default parameters.
    """
    server = running("azurite")
    chosen: dict[str, Any] = {
        "endpoint": endpoint or server.blob_endpoint,
        "account": server.account,
        "account_key": server.account_key,
        "part_size": PART,
        **settings,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    async with trove.open("azure://", **given) as store:
        yield store
        assert busy(store) == 0


@asynccontextmanager
async def scratch() -> AsyncIterator[str]:
    """Create a container, and assert at the end that no upload and no blob of the library's own is left in it."""
    name = f"test-{uuid.uuid4().hex[:16]}"
    async with opened() as store:
        await store.create_bucket(name)
        try:
            yield name
            assert await store.list_multipart_uploads(name) == []
            assert await driver_of(store).leftovers(name) == []
        finally:
            async with opened(versions="snapshots") as versioned:
                await versioned.empty_bucket(name, versions=True)
            await store.delete_bucket(name)


def azure_error(status: int, code: str, *, headers: dict[str, str] | None = None, request_id: str = "id-1") -> Answer:
    """Return an error in the form of the service."""
    document = f"<Error><Code>{code}</Code><Message>reason\nTime:now</Message></Error>"
    body = f'\ufeff<?xml version="1.0" encoding="utf-8"?>{document}'
    known = {"x-ms-error-code": code, "x-ms-request-id": request_id, "content-type": "application/xml"}
    return Answer(status, {**known, **(headers or {})}, body.encode())


async def leave_block(store: trove.Trove, bucket: str, key: str, block_id: str) -> None:
    """Store an uncommitted block of a key."""
    params = [("comp", "block"), ("blockid", block_id)]
    await driver_of(store)._client.write("PUT", bucket, key, params=params, body=[b"left behind"])


async def tier_of(store: trove.Trove, bucket: str, key: str) -> str | None:
    """Return an object's tier; the server says that a copy's tier is inferred, even if it was requested."""
    response = await driver_of(store)._client.request("HEAD", bucket, key)
    return response.headers.get("x-ms-access-tier")
