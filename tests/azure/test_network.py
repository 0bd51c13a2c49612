"""A proxy of the environment applies to the store's own requests and to those of the SDK."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable

import pytest

import trove_async as trove
from tests.azure.stores import driver_of
from trove_async.testing.answers import Answer, AnsweringProxy

pytestmark = pytest.mark.asyncio

KEY = base64.b64encode(b"key").decode()
ENDPOINT = "http://blobs.example.invalid"
"""A custom domain: the account's name is not in it."""


async def ask_directly(store: trove.Trove) -> None:
    """Make a request of the store itself."""
    assert not await store.exists("bucket", "key")


async def ask_by_sdk(store: trove.Trove) -> None:
    """Make a request with the SDK."""
    client = await driver_of(store).sdk_client()
    assert not await client.get_blob_client("bucket", "key").exists()


both_planes = pytest.mark.parametrize("ask", [ask_directly, ask_by_sdk])
Ask = Callable[[trove.Trove], Awaitable[None]]


@both_planes
async def test_requests_use_the_proxy_of_the_environment(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    async with AnsweringProxy("127.0.0.1", 9) as proxy:
        proxy.answer(Answer(404, {"x-ms-error-code": "BlobNotFound"}), times=10)
        monkeypatch.setenv("http_proxy", proxy.url())
        async with trove.open("azure://account@/", account_key=KEY, endpoint=ENDPOINT, user_agent="app/1") as store:
            await ask(store)
    (request,) = proxy.requests
    assert request.target.startswith(f"{ENDPOINT}/bucket/key")
    assert "app/1" in (request.header("user-agent") or "")


@both_planes
async def test_hosts_in_no_proxy_are_reached_directly(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    async with AnsweringProxy("127.0.0.1", 9) as proxy, AnsweringProxy("127.0.0.1", 9) as service:
        service.answer(Answer(404, {"x-ms-error-code": "BlobNotFound"}), times=10)
        monkeypatch.setenv("http_proxy", proxy.url())
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with trove.open("azure://account@/", account_key=KEY, endpoint=service.url().rstrip("/")) as store:
            await ask(store)
    assert (len(proxy.requests), [request.path for request in service.requests]) == (0, ["/bucket/key"])
