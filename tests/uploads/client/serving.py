"""The project's own server of uploads behind a proxy that counts and answers requests, and clients of it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Unpack

from tests.uploads.memory_store import MemoryStore
from tests.uploads.web.apps import served
from trove_async.driver.retry import Backoff, Budget, RetryPolicy
from trove_async.testing.answers import AnsweringProxy, SeenRequest
from trove_async.uploads import Client
from trove_async.uploads.server import TusOptions

__all__ = ["AT_ONCE", "Peer", "client_of", "peer_serving"]

HOST: Final = "127.0.0.1"

AT_ONCE: Final = RetryPolicy(attempts=4, transport=Backoff(0, 0), throttled=Backoff(0, 0), budget=Budget(math.inf))
"""Tries again without a delay."""


@dataclass
class Peer:
    """A server of uploads.

    Attributes:
        store: what it has.
        proxy: before it.
        url: where uploads are created.
    """

    store: MemoryStore
    proxy: AnsweringProxy
    url: str

    def sent(self, method: str) -> list[SeenRequest]:
        """Return the requests of a method."""
        return [request for request in self.proxy.requests if request.method == method]

    @property
    def methods(self) -> list[str]:
        """The methods of all requests, in order."""
        return [request.method for request in self.proxy.requests]

    @property
    def only(self) -> bytes:
        """The bytes of the only upload, which is finished."""
        assert len(self.store.uploads) == 1
        [(upload_id, upload)] = self.store.uploads.items()
        assert upload.info.is_finished
        return self.store.data(upload_id)

    def data(self, url: str) -> bytes:
        """Return the bytes of the upload at a URL."""
        return self.store.data(url.rpartition("/")[2])


@asynccontextmanager
async def peer_serving(store: MemoryStore | None = None, **options: Unpack[TusOptions]) -> AsyncIterator[Peer]:
    """Serve uploads; ``options`` are those of the app."""
    store = store or MemoryStore()
    async with served("aiohttp", store, **options) as port, AnsweringProxy(HOST, port) as proxy:
        yield Peer(store, proxy, f"{proxy.url()}/files/")


def client_of(peer: Peer, **options: Any) -> Client:
    """Return a client that keeps nothing and does not wait; ``options`` are those of the client."""
    options = {"url": peer.url, "fingerprints": None, "retries": AT_ONCE, "proxy": "none"} | options
    return Client(**options)
