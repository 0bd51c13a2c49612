"""Stores on Azurite, as the tests of the driver open them: whatever they did, nothing may be left of it."""

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
    """Return where a proxy finds the server."""
    url = urlsplit(running("azurite").blob_endpoint)
    assert url.hostname is not None
    assert url.port is not None
    return url.hostname, url.port


def through(proxy: Any) -> str:
    """Return the endpoint of a store that talks to a proxy; emulators have the account in the path."""
    url: str = proxy.url()
    return f"{url.rstrip('/')}/{ACCOUNT}"


def driver_of(store: trove.Trove) -> AzureDriver:
    """Return the driver beneath a store."""
    return trove.unwrap(store.driver, AzureDriver)


def busy(store: trove.Trove) -> int:
    """Return how many connections carry a request or an answer."""
    return driver_of(store).busy_connections


@asynccontextmanager
async def opened(endpoint: str | None = None, **settings: Any) -> AsyncIterator[trove.Trove]:
    """Open a store, and see at its end that every connection was given back.

    Args:
        endpoint: the URL of a proxy before the server; None for the server's own.
        settings: parameters; None takes one of those below away.
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
    """Make a container, and see at its end that no upload is open in it, nor anything of the library's own left."""
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
    document = f"<Error><Code>{code}</Code><Message>told\nTime:now</Message></Error>"
    body = f'\ufeff<?xml version="1.0" encoding="utf-8"?>{document}'
    known = {"x-ms-error-code": code, "x-ms-request-id": request_id, "content-type": "application/xml"}
    return Answer(status, {**known, **(headers or {})}, body.encode())


async def leave_block(store: trove.Trove, bucket: str, key: str, block_id: str) -> None:
    """Store a block of a key that nobody commits."""
    params = [("comp", "block"), ("blockid", block_id)]
    await driver_of(store)._client.write("PUT", bucket, key, params=params, body=[b"left behind"])


async def tier_of(store: trove.Trove, bucket: str, key: str) -> str | None:
    """Return an object's tier; of a copy the server says that it is inferred, also if it was asked for."""
    response = await driver_of(store)._client.request("HEAD", bucket, key)
    return response.headers.get("x-ms-access-tier")
