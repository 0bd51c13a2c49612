"""Watching a container through a storage queue that Event Grid feeds; see `trove_async.driver.queues`.

Messages that are not deleted come back after the visibility timeout (60 seconds), until the service drops them when
they expire (after 7 days, unless they were sent with another time).

**What it costs**: a request per ``poll_interval`` while nothing happens, because the service does not hold a request
until there is a message; and two for each message.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from trove_async.cancellation import CLEANUP_TIMEOUT
from trove_async.driver import WatchOptions
from trove_async.driver.queues import LastChanges, Message, MessageQueue, QueueWatches, Received
from trove_async.drivers.azure.client import Client
from trove_async.drivers.azure.notifications import AzureNotification, read_notifications
from trove_async.errors import BucketNotFoundError, NotFoundError
from trove_async.types import ObjectEvent
from trove_async.wire.xml import parse

__all__ = ["QueueWatcher"]

_BATCH: Final = 32
"""Messages in one request: the limit of the service."""

_VISIBILITY: Final = 60


class QueueWatcher(QueueWatches):
    """The watches of a driver.

    Args:
        client: sends requests to the queue service.
        queue: the name of the queue; ``{bucket}`` in it stands for the container's.
        cleanup_timeout: seconds in which messages are handed back when a watch ends.
        visibility: seconds for which a message that was received is invisible; they are extended before they end.
    """

    def __init__(
        self,
        client: Client,
        queue: str,
        *,
        cleanup_timeout: float = CLEANUP_TIMEOUT,
        visibility: int = _VISIBILITY,
    ) -> None:
        super().__init__(cleanup_timeout=cleanup_timeout)
        self._client = client
        self._queue = queue
        self._visibility = visibility

    def watch(
        self, bucket: str, options: WatchOptions, *, prepare: Callable[[], Awaitable[object]]
    ) -> AsyncGenerator[ObjectEvent, None]:
        """Yield the changes of a container; see `QueueWatches.subscribed`."""
        queue = self._queue.replace("{bucket}", bucket)

        def make() -> _Queue:
            return _Queue(self._client, queue, self._visibility)

        return self.subscribed(queue, make, bucket, options, LastChanges(), prepare=prepare)


class _Queue(MessageQueue):
    """The requests about one queue."""

    batch = _BATCH
    settled = 1
    holds_requests = False

    def __init__(self, client: Client, queue: str, visibility: int) -> None:
        self.name = f"the queue {queue!r}"
        self.visibility = visibility
        self._client = client
        self._queue = queue

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        yield  # the client connects by itself

    async def receive(self, count: int, *, wait: bool, holding: bool) -> list[Received]:
        params = [("numofmessages", str(count)), ("visibilitytimeout", str(self.visibility))]
        try:
            _, content = await self._client.document("GET", f"{self._queue}/messages", params=params)
        except BucketNotFoundError as error:
            text = f"{self.name} does not exist"
            raise NotFoundError(text, status=error.status, request_id=error.request_id) from error
        visible_at = asyncio.get_running_loop().time() + self.visibility
        return [
            Received(
                item.findtext("MessageId") or "",
                item.findtext("PopReceipt") or "",
                visible_at,
                item.findtext("MessageText") or "",
            )
            for item in parse(content).iter("QueueMessage")
        ]

    async def delete(self, messages: Sequence[Message]) -> None:
        for message in messages:
            with suppress(NotFoundError):  # gone, or given to another receiver
                await self._client.write("DELETE", self._path(message), params=[("popreceipt", message.receipt)])

    async def hide(self, messages: Sequence[Message], seconds: int) -> None:
        for message in messages:
            params = [("popreceipt", message.receipt), ("visibilitytimeout", str(seconds))]
            with suppress(NotFoundError):
                response = await self._client.request("PUT", self._path(message), params=params)
                message.receipt = response.headers.get("x-ms-popreceipt", message.receipt)

    def read(self, content: Any) -> list[AzureNotification]:
        return read_notifications(content)

    def _path(self, message: Message) -> str:
        return f"{self._queue}/messages/{message.message_id}"
