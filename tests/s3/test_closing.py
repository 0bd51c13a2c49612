"""Closing a store with requests under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import trove_async as trove
from tests.wire.serving import Peer, serving

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("operation", ["list_buckets", "get_tags", "put"])
async def test_requests_under_way_end_when_the_store_is_closed(operation: str) -> None:
    """Including those of the SDK, which would otherwise repeat them for many seconds."""
    arrived = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        arrived.set()
        await peer.gone()

    async with serving(script) as server:
        store = await trove.open("s3://key:secret@us-east-1/", endpoint=f"http://127.0.0.1:{server.port}")
        calls: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
            "list_buckets": store.list_buckets,
            "get_tags": lambda: store.get_tags("bucket", "key"),
            "put": lambda: store.put("bucket", "key", b"data"),
        }
        task = asyncio.ensure_future(calls[operation]())
        await arrived.wait()
        await store.aclose()
        await asyncio.wait({task}, timeout=5)
        with pytest.raises(trove.ClosedError):
            await task
        assert server.accepted == 1
