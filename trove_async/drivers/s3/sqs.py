"""Watch a bucket through an SQS queue that receives its events; see `trove_async.driver.queues`.

The queue does not know the bucket: if the bucket is deleted, its watches continue and see no more events. A message
can stay invisible for 12 hours. S3's test message is deleted; a message that cannot be parsed goes to the
dead-letter queue, if the queue has one.

**Cost**: one request per 20 seconds without events, and two for each ten messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

from trove_async.cancellation import CLEANUP_TIMEOUT
from trove_async.driver import WatchOptions
from trove_async.driver.queues import LastChanges, Message, MessageQueue, QueueWatches, Received, Sleep
from trove_async.drivers.s3.errors import sdk_error
from trove_async.drivers.s3.notifications import S3Notification, read_notifications
from trove_async.drivers.s3.queue_setup import MISSING_QUEUE
from trove_async.errors import NotFoundError, TroveError
from trove_async.types import ObjectEvent

__all__ = ["QueueWatcher", "queue_of"]

_BATCH: Final = 10
"""The maximum number of messages in one request, a limit of SQS."""

_VISIBILITY: Final = 60
_LONGEST_WAIT: Final = 20

Connect = Callable[[], AbstractAsyncContextManager[Any]]
"""Returns a context manager that gives a client of aiobotocore for SQS, and closes it."""


def queue_of(queue: str, bucket: str) -> str:
    """Return the name or URL of a bucket's queue: ``{bucket}`` in ``queue`` is replaced by the bucket's name.

    Names of queues have no dots, so each dot becomes a ``-``.
    """
    return queue.replace("{bucket}", bucket.replace(".", "-"))


class QueueWatcher(QueueWatches):
    """The watches of a driver.

    Args:
        connect: returns the client; entered once for each watched queue.
        queue: name or URL; see `queue_of`.
        cleanup_timeout: the time limit in seconds to release messages when a watch ends.
        visibility: seconds for which a received message is invisible to others; it is extended in time.
        wait: seconds for which a request waits for a message, at most 20 and at most a third of ``visibility``; the
            client's read timeout must be longer.
        sleep: waits between attempts after temporary errors of SQS; takes seconds.
    """

    def __init__(
        self,
        connect: Connect,
        queue: str,
        *,
        cleanup_timeout: float = CLEANUP_TIMEOUT,
        visibility: int = _VISIBILITY,
        wait: int = _LONGEST_WAIT,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        super().__init__(cleanup_timeout=cleanup_timeout, sleep=sleep)
        self._connect = connect
        self._queue = queue
        self._visibility = visibility
        self._wait = max(1, min(wait, _LONGEST_WAIT, visibility // 3))

    def watch(
        self, bucket: str, options: WatchOptions, *, prepare: Callable[[], Awaitable[object]]
    ) -> AsyncGenerator[ObjectEvent, None]:
        """Yield the events of a bucket; see `QueueWatches.subscribed`."""
        queue = queue_of(self._queue, bucket)

        def make() -> _Queue:
            return _Queue(self._connect, queue, visibility=self._visibility, wait=self._wait)

        return self.subscribed(queue, make, bucket, options, LastChanges(), prepare=prepare)


class _Queue(MessageQueue):
    """The requests about one queue."""

    batch = _BATCH
    settled = _BATCH

    def __init__(self, connect: Connect, queue: str, *, visibility: int, wait: int) -> None:
        self.name = f"the queue {queue!r}"
        self.visibility = visibility
        self._connect = connect
        self._queue = queue
        self._wait = wait
        self._client: Any = None
        self._url = ""

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        async with self._connect() as self._client:
            self._url = await self._find()
            yield

    async def _find(self) -> str:
        if "://" in self._queue:
            return self._queue
        answer = await self._call("get_queue_url", QueueName=self._queue)
        return str(answer["QueueUrl"])

    async def receive(self, count: int, *, wait: bool, holding: bool) -> list[Received]:
        answer = await self._ask(
            "receive_message",
            MaxNumberOfMessages=count,
            WaitTimeSeconds=self._wait if wait else 0,
            VisibilityTimeout=self.visibility,
        )
        visible_at = asyncio.get_running_loop().time() + self.visibility
        return [
            Received(found["MessageId"], found["ReceiptHandle"], visible_at, found.get("Body", ""))
            for found in answer.get("Messages", ())
        ]

    async def delete(self, messages: Sequence[Message]) -> None:
        await self._ask("delete_message_batch", Entries=_entries(messages))

    async def hide(self, messages: Sequence[Message], seconds: int) -> None:
        entries = [{**entry, "VisibilityTimeout": seconds} for entry in _entries(messages)]
        await self._ask("change_message_visibility_batch", Entries=entries)

    def read(self, content: Any) -> list[S3Notification]:
        return read_notifications(content)

    def error_of(self, error: Exception) -> TroveError:
        return sdk_error(error, about="service")

    async def _ask(self, operation: str, **parameters: Any) -> dict[str, Any]:
        return await self._call(operation, QueueUrl=self._url, **parameters)

    async def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = await getattr(self._client, operation)(**parameters)
        except TroveError:
            raise
        except Exception as error:
            response = getattr(error, "response", None)
            if isinstance(response, dict) and response.get("Error", {}).get("Code") in MISSING_QUEUE:
                text = f"{self.name} does not exist; create it, or have it set up by watch_setup"
                raise NotFoundError(text) from error
            raise self.error_of(error) from error
        return answer


def _entries(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [{"Id": str(number), "ReceiptHandle": message.receipt} for number, message in enumerate(messages)]
