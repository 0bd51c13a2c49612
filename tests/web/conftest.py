from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest_asyncio

import trove_async as trove
from tests.web.asgi import BASE
from trove_async.web import signed_urls


@pytest_asyncio.fixture
async def store() -> AsyncIterator[trove.Trove]:
    async with trove.open("memory://", presign_url=BASE) as t:
        await t.create_bucket("b")
        yield t


@pytest_asyncio.fixture
async def client(store: trove.Trove) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=signed_urls(store))) as found:
        yield found
