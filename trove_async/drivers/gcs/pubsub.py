"""Watching a bucket through a Pub/Sub subscription to the topic that receives its notifications.

See `trove_async.driver.queues`: a message is deleted by acknowledging it, and kept invisible by extending its
deadline. Give each bucket its own subscription, or filter it by ``attributes.bucketId``.

**Cost**: one long poll while nothing happens, and about two requests for each hundred messages.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from trove_async.cancellation import CLEANUP_TIMEOUT
from trove_async.driver import WatchOptions
from trove_async.driver.queues import Message, MessageQueue, QueueWatches, Received, Sleep
from trove_async.drivers.gcs.notifications import GCSNotification, LastGenerations, read_notification
from trove_async.dsn import redact
from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    InvalidArgumentError,
    NotFoundError,
    OperationTimeoutError,
    ThrottledError,
    TransientError,
    TroveError,
    UnauthenticatedError,
    UnavailableError,
)
from trove_async.types import ObjectEvent

__all__ = ["SubscriptionWatcher", "subscription_of"]

_BATCH: Final = 100
"""Messages that one request asks for."""
_SETTLED: Final = 500
"""Messages that one request settles; Pub/Sub takes 512 KiB."""
_DEADLINE: Final = 60
"""Seconds for which a message that is being handled is kept from other receivers."""
_FIRST_DEADLINE: Final = 10.0
"""Seconds for which a received message is kept from other receivers, unless its subscription says otherwise."""
_WAIT: Final = 60

_log = logging.getLogger("trove_async")

Connect = Callable[[], Awaitable[Any]]
"""Returns a `gcloud.aio.pubsub.SubscriberClient`."""

Renew = Callable[[], Awaitable[bool]]
"""Asks for a new token in place of one that was refused; tells whether there is one."""


def subscription_of(subscription: str, bucket: str, project: str) -> str:
    """Return the full name of a bucket's subscription: ``{bucket}`` in ``subscription`` stands for the bucket."""
    name = subscription.replace("{bucket}", bucket)
    return name if "/" in name else f"projects/{project}/subscriptions/{name}"


class SubscriptionWatcher(QueueWatches):
    """The watches of a driver.

    Args:
        connect: returns the SDK's client.
        renew: asks for a new token.
        cleanup_timeout: seconds that returning messages may take when a watch ends.
        deadline: seconds for which a message that is being handled is kept from other receivers; it is extended.
        wait: seconds that a request for messages waits for one.
        sleep: waits between attempts while Pub/Sub has transient errors.
    """

    def __init__(
        self,
        connect: Connect,
        renew: Renew,
        *,
        cleanup_timeout: float = CLEANUP_TIMEOUT,
        deadline: int = _DEADLINE,
        wait: int = _WAIT,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        super().__init__(cleanup_timeout=cleanup_timeout, sleep=sleep)
        self._connect = connect
        self._renew = renew
        self._deadline = deadline
        self._wait = max(1, min(wait, deadline // 3 if deadline < _WAIT else wait))

    def watch(
        self, bucket: str, subscription: str, options: WatchOptions, *, versioned: bool
    ) -> AsyncGenerator[ObjectEvent, None]:
        """Yield the changes of a bucket; see `QueueWatches.subscribed`.

        Args:
            bucket: to watch.
            subscription: its full name.
            options: as there.
            versioned: as in `LastGenerations`.
        """

        def make() -> _Subscription:
            return _Subscription(self._connect, self._renew, subscription, deadline=self._deadline, wait=self._wait)

        return self.subscribed(subscription, make, bucket, options, LastGenerations(versioned))


class _Subscription(MessageQueue):
    """The requests about one subscription."""

    batch = _BATCH
    settled = _SETTLED
    proves = False  # it is looked up by its name instead

    def __init__(self, connect: Connect, renew: Renew, subscription: str, *, deadline: int, wait: int) -> None:
        self.name = f"the subscription {subscription!r}"
        self.visibility = deadline
        self._connect = connect
        self._renew = renew
        self._subscription = subscription
        self._wait = wait
        self._client: Any = None
        self._first_deadline = _FIRST_DEADLINE

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        self._client = await self._connect()
        await self._find()
        yield

    async def _find(self) -> None:
        """Check that the subscription exists, and read the deadline of its messages."""
        try:
            found = await self._ask("get_subscription")
        except UnauthenticatedError:
            raise
        except AccessDeniedError as error:
            _log.info("watch: the credentials may not look the subscription up: %s", error)  # receiving will show
            return
        if found.get("topic") == "_deleted-topic_":
            raise NotFoundError(f"the topic of {self.name} was deleted")
        self._first_deadline = float(found.get("ackDeadlineSeconds") or _FIRST_DEADLINE)

    async def receive(self, count: int, *, wait: bool, holding: bool) -> list[Received]:
        seconds = max(1, min(self._wait, self.visibility // 3)) if holding else self._wait
        # The deadline counts from when the message was sent, which may be as early as now.
        ends_at = asyncio.get_running_loop().time() + self._first_deadline
        try:
            found = await self._ask("pull", count, timeout=seconds)
        except OperationTimeoutError:
            return []  # there are no messages
        return [
            Received(message.message_id, message.ack_id, ends_at, (message.attributes or {}, message.data))
            for message in found
        ]

    async def delete(self, messages: Sequence[Message]) -> None:
        await self._ask("acknowledge", [message.receipt for message in messages])

    async def hide(self, messages: Sequence[Message], seconds: int) -> None:
        await self._ask("modify_ack_deadline", [message.receipt for message in messages], seconds)

    def read(self, content: Any) -> list[GCSNotification]:
        return [read_notification(*content)]

    def error_of(self, error: Exception) -> TroveError:
        return _error_of(error, self._subscription)

    async def _ask(self, operation: str, *arguments: Any, **more: Any) -> Any:
        renewed = False
        while True:
            try:
                return await getattr(self._client, operation)(self._subscription, *arguments, **more)
            except TroveError:
                raise
            except Exception as error:
                failure = self.error_of(error)
                if isinstance(failure, UnauthenticatedError) and not renewed and await self._renew():
                    renewed = True
                    continue
                raise failure from error


def _error_of(error: Exception, subscription: str) -> TroveError:
    """Return the error for one that gcloud-aio-pubsub or aiohttp raised."""
    import aiohttp

    words = redact(str(error))[:300]
    if isinstance(error, aiohttp.ClientResponseError) and error.status >= 300:
        return _error_of_status(error.status, words, subscription)
    if isinstance(error, TimeoutError):
        return OperationTimeoutError(words or "Pub/Sub did not answer in time")
    if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
        return UnavailableError(words)
    if isinstance(error, aiohttp.ClientError | ValueError):
        return BackendError(f"the endpoint does not speak Pub/Sub: {words}")
    return BackendError(f"{type(error).__name__}: {words}")


def _error_of_status(status: int, words: str, subscription: str) -> TroveError:
    if status == 404:
        return NotFoundError(f"the subscription {subscription!r} does not exist: {words}", status=status)
    kind: type[TroveError] = {
        400: InvalidArgumentError,
        401: UnauthenticatedError,
        403: AccessDeniedError,
        429: ThrottledError,
        503: UnavailableError,
        504: UnavailableError,
    }.get(status, TransientError if status >= 500 else BackendError)
    return kind(words, status=status)
