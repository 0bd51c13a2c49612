"""The store behind the fixture ``throwaway_store``; the plugin imports it when a test uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

import trove_async

__all__ = ["_trove_throwaway_store"]


@pytest_asyncio.fixture(loop_scope="function")
async def _trove_throwaway_store() -> AsyncIterator[trove_async.Trove]:
    """Return a store in memory for this test only, with an empty bucket named ``bucket``."""
    async with trove_async.open("memory://") as store:
        await store.create_bucket("bucket")
        yield store
