"""Watching a container through a storage queue that Event Grid feeds.

One queue serves one process: the service gives each message to one receiver, so two processes on one queue get a part
of the events each. Within a driver all watches of a queue share one receiver, and each gets every event that it asked
for.

**Delivery is at least once.** A message is deleted when every watch that wanted its events has asked for the next one;
until then it is kept invisible for as long as the process lives. What was not taken when a watch ends is visible
again at once, and after a crash when the visibility timeout has passed (60 seconds). Repetitions are dropped; see
`Seen`.

**Whose messages.** Only messages of watched containers are deleted, whether or not a watch wants them. Messages of
other containers are left alone, and so are those that cannot be read, each of which is named in the log once: they come
back when the visibility timeout has passed, until the service drops them when they expire (7 days, unless they
were sent with another time).

**What it costs**: a request each ``poll_interval`` while nothing happens, for the service does not hold a request until
there is a message; and two for each message.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from typing import Final, Literal

from trove_async.cancellation import CLEANUP_TIMEOUT, finish
from trove_async.driver import WatchOptions
from trove_async.drivers.azure.client import Client
from trove_async.drivers.azure.notices import Notice, Seen, read_notices
from trove_async.errors import BucketNotFoundError, ClosedError, NotFoundError, TroveError, WatchOverflowError
from trove_async.types import ObjectEvent
from trove_async.wire.xml import parse

__all__ = ["QueueWatcher"]

_BATCH: Final = 32
"""Messages in one request; the service's limit."""

_VISIBILITY: Final = 60
_FIRST_DELAY: Final = 1.0
_LONGEST_DELAY: Final = 60.0

_log = logging.getLogger("trove_async")


@dataclass(slots=True, eq=False)
class _Message:
    """A message that was received and is not settled.

    Attributes:
        message_id, receipt: name it; the receipt changes with each change of its visibility.
        visible_at: when it becomes visible by itself, in the loop's time.
        pending: how many of its events are with consumers that have not asked for the next one.
        fate: what becomes of it when there are none: ``release`` makes it visible at once, ``leave`` in its time.
    """

    message_id: str
    receipt: str
    visible_at: float
    pending: int = 0
    fate: Literal["delete", "release", "leave"] = "delete"


class _Queue:
    """The requests about one queue."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self.name = name

    async def receive(self, count: int, visibility: int) -> list[tuple[str, str, str]]:
        """Return messages: the id, the receipt and the text of each."""
        params = [("numofmessages", str(count)), ("visibilitytimeout", str(visibility))]
        try:
            _, content = await self._client.document("GET", f"{self.name}/messages", params=params)
        except BucketNotFoundError as error:
            text = f"the queue {self.name!r} does not exist"
            raise NotFoundError(text, status=error.status, request_id=error.request_id) from error
        found = parse(content).iter("QueueMessage")
        return [tuple(item.findtext(tag) or "" for tag in ("MessageId", "PopReceipt", "MessageText")) for item in found]  # type: ignore[misc]

    async def delete(self, message: _Message) -> None:
        """Delete a message; one that is gone, or was given to another receiver, is fine."""
        with suppress(NotFoundError):
            await self._client.request("DELETE", self._path(message), params=[("popreceipt", message.receipt)])

    async def hide(self, message: _Message, seconds: int) -> None:
        """Set for how long a message stays invisible."""
        params = [("popreceipt", message.receipt), ("visibilitytimeout", str(seconds))]
        with suppress(NotFoundError):
            response = await self._client.request("PUT", self._path(message), params=params)
            message.receipt = response.headers.get("x-ms-popreceipt", message.receipt)

    def _path(self, message: _Message) -> str:
        return f"{self.name}/messages/{message.message_id}"


class QueueWatcher:
    """The watches of a driver, by their queues. Nothing runs while there is no watch.

    Args:
        client: sends requests to the queue service.
        queue: the name of the queue; ``{bucket}`` in it stands for the container's.
        cleanup_timeout: seconds in which messages are handed back when a watch ends.
        visibility: seconds for which a message that is being worked on is invisible; it is extended in time.
    """

    def __init__(
        self,
        client: Client,
        queue: str,
        *,
        cleanup_timeout: float = CLEANUP_TIMEOUT,
        visibility: int = _VISIBILITY,
    ) -> None:
        self._client = client
        self._queue = queue
        self._cleanup_timeout = cleanup_timeout
        self._visibility = visibility
        self._receivers: dict[str, _Receiver] = {}
        self._closed = False

    async def watch(
        self, bucket: str, options: WatchOptions, *, prepare: Callable[[], Awaitable[object]]
    ) -> AsyncGenerator[ObjectEvent, None]:
        """Yield the changes of a container; see `NotificationDriver.watch`.

        Events that wait in the queue from before come first. It is ready when the queue has answered.

        Args:
            bucket: what is watched.
            options: all of them but ``resume_token`` count; ``poll_interval`` is how often an empty queue is asked.
            prepare: awaited first; it raises if there is no container.

        Raises:
            BucketNotFoundError: as ``prepare`` says.
            NotFoundError: there is no such queue.
            WatchOverflowError: other watches of the queue were faster by more events than the buffer holds.
            ClosedError: the driver was closed.
        """
        await prepare()
        if self._closed:
            raise ClosedError("the store is closed")
        name = self._queue.replace("{bucket}", bucket)
        receiver = self._receivers.get(name)
        if receiver is None or receiver.ended:
            receiver = self._receivers[name] = _Receiver(_Queue(self._client, name), self._visibility)
        subscription = receiver.subscribe(bucket, options)
        try:
            await receiver.ready.wait()
            subscription.check()
            options.on_ready()
            while True:
                yield await subscription.next()
        finally:
            receiver.unsubscribe(subscription)
            if not receiver.subscriptions:
                if self._receivers.get(name) is receiver:
                    del self._receivers[name]
                await self._end(receiver)

    async def aclose(self) -> None:
        """End all watches with `ClosedError`; idempotent."""
        self._closed = True
        receivers, self._receivers = list(self._receivers.values()), {}
        for receiver in receivers:
            receiver.fail(ClosedError("the store is closed"))
            await self._end(receiver)

    async def _end(self, receiver: _Receiver) -> None:
        leftover = f"messages of the queue {receiver.name!r}, which are invisible for up to {self._visibility} s"
        await finish(receiver.aclose(), timeout=self._cleanup_timeout, leftover=leftover)


class _Subscription:
    """One watch: the events that wait for its consumer, and the message of the one that it has.

    Attributes:
        bucket, options: what was asked for.
        waiting: whether its consumer waits for an event that is not there.
    """

    def __init__(self, bucket: str, options: WatchOptions, wake: Callable[[], None]) -> None:
        self.bucket = bucket
        self.options = options
        self.waiting = False
        self._wake = wake
        self._seen = Seen()
        self._events: deque[tuple[ObjectEvent, _Message]] = deque()
        self._taken: _Message | None = None
        self._failure: TroveError | None = None
        self._news = asyncio.Event()

    def offer(self, notice: Notice, message: _Message) -> None:
        """Hand over what is news to this watch; it has to be taken before the message is settled."""
        if self._failure is not None or not notice.key.startswith(self.options.prefix):
            return
        kind = self._seen.judge(notice)
        if kind is None or kind not in self.options.events:
            return
        if len(self._events) >= self.options.buffer_size:
            self._lose()
            return
        message.pending += 1
        self._events.append((notice.event(kind), message))
        self.waiting = False
        self._news.set()

    def _lose(self) -> None:
        """Give up what waits: the consumer will find it by listing, so that it need not come again."""
        for _, message in self._events:
            message.pending -= 1
        self._events.clear()
        size = self.options.buffer_size
        self.fail(WatchOverflowError(f"more than {size} events waited and some are lost; list again"))

    def give_back(self) -> None:
        """Have everything delivered again that was not taken."""
        messages = [message for _, message in self._events]
        if self._taken is not None:
            messages.append(self._taken)
            self._taken = None
        self._events.clear()
        for message in messages:
            message.pending -= 1
            if message.fate == "delete":
                message.fate = "release"

    def fail(self, error: TroveError) -> None:
        """End the watch: the consumer gets the error, and nothing that still waits."""
        self._failure = self._failure or error
        self._news.set()

    def check(self) -> None:
        """Raise what has ended the watch, if anything has."""
        if self._failure is not None:
            # A copy for each: where it happened is written into it.
            raise copy(self._failure) from self._failure.__cause__

    async def next(self) -> ObjectEvent:
        """Return the next event, once there is one; this acknowledges the last."""
        if self._taken is not None:
            self._taken.pending -= 1
            self._taken = None
        self.check()
        while not self._events:
            self._news.clear()
            self.waiting = True
            self._wake()
            try:
                await self._news.wait()
            finally:
                self.waiting = False
            self.check()
        event, self._taken = self._events.popleft()
        return event


class _Receiver:
    """A task that receives from one queue while anybody wants events, and settles messages.

    It receives only when a watch has none left, so that what nobody has time for stays in the queue.

    Attributes:
        name: of the queue.
        subscriptions: the watches.
        ready: set once the queue has answered, or the task has failed.
        ended: whether the task is over.
    """

    def __init__(self, queue: _Queue, visibility: int) -> None:
        self.name = queue.name
        self.subscriptions: set[_Subscription] = set()
        self.ready = asyncio.Event()
        self.ended = False
        self._queue = queue
        self._visibility = visibility
        self._held: dict[str, _Message] = {}
        self._named: set[str] = set()
        self._wanted = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run(), name="trove-azure-queue")

    def subscribe(self, bucket: str, options: WatchOptions) -> _Subscription:
        """Add a watch; it gets what is received from now on."""
        subscription = _Subscription(bucket, options, self._wanted.set)
        self.subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: _Subscription) -> None:
        """Remove a watch; what it has not taken is delivered again."""
        self.subscriptions.discard(subscription)
        subscription.give_back()
        self._wanted.set()

    def fail(self, error: TroveError) -> None:
        """End all watches."""
        for subscription in self.subscriptions:
            subscription.fail(error)
        self.ready.set()

    async def aclose(self) -> None:
        """Settle what can be, make the rest visible, and end; idempotent."""
        self._task.cancel()
        try:
            await asyncio.wait({self._task})
        except asyncio.CancelledError:
            self._task.cancel()
            raise

    async def _run(self) -> None:
        try:
            try:
                await self._receive()  # proves that the queue is there and may be read
                self.ready.set()
                await self._serve()
            finally:
                await self._hand_back()
        except TroveError as error:
            self.ended = True
            self.fail(error)
        finally:
            self.ended = True

    async def _serve(self) -> None:
        delay = _FIRST_DELAY
        while True:
            try:
                await self._turn()
                delay = _FIRST_DELAY
            except TroveError as error:
                if not error.retryable:
                    raise
                _log.warning("watch: the queue %r failed and is asked again: %s", self.name, error)
                await asyncio.sleep(max(delay, error.retry_after or 0.0))
                delay = min(2 * delay, _LONGEST_DELAY)

    async def _turn(self) -> None:
        self._wanted.clear()
        await self._settle()
        await self._extend()
        waiting = [subscription for subscription in self.subscriptions if subscription.waiting]
        if waiting and await self._receive():
            return
        patience = self._visibility / 3 if self._held else None
        if waiting:
            interval = min(subscription.options.poll_interval for subscription in waiting)
            patience = interval if patience is None else min(patience, interval)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._wanted.wait()

    async def _receive(self) -> bool:
        """Take in messages, no more than the smallest buffer takes; tell whether there were any."""
        room = min((subscription.options.buffer_size for subscription in self.subscriptions), default=_BATCH)
        received = await self._queue.receive(max(1, min(_BATCH, room)), self._visibility)
        visible_at = self._loop.time() + self._visibility
        for message_id, receipt, text in received:
            self._take(message_id, receipt, text, visible_at)
        return bool(received)

    def _take(self, message_id: str, receipt: str, text: str, visible_at: float) -> None:
        held = self._held.get(message_id)
        if held is not None:
            # It became visible too early; its events are with their consumers already.
            held.receipt, held.visible_at = receipt, visible_at
            return
        try:
            notices = read_notices(text)
        except ValueError as error:
            self._name_once(message_id, f"message {message_id} is left there: {error}")
            return
        message = self._held[message_id] = _Message(message_id, receipt, visible_at)
        watched = {subscription.bucket for subscription in self.subscriptions}
        for notice in notices:
            if notice.bucket not in watched:
                message.fate = "leave"
                self._name_once(
                    notice.bucket, f"messages of the container {notice.bucket!r}, which nobody watches, are left there"
                )
            for subscription in self.subscriptions:
                if subscription.bucket == notice.bucket:
                    subscription.offer(notice, message)

    def _name_once(self, what: str, text: str) -> None:
        if what not in self._named:
            self._named.add(what)
            _log.warning("watch: the queue %r: %s", self.name, text)

    async def _settle(self) -> None:
        """Delete the messages whose events were all taken, and make those visible that have to come again."""
        for message in [message for message in self._held.values() if not message.pending]:
            if message.fate == "delete":
                await self._queue.delete(message)
            elif message.fate == "release":
                await self._queue.hide(message, 0)
            del self._held[message.message_id]

    async def _extend(self) -> None:
        """Keep messages invisible that are being worked on, long before their time is over."""
        now = self._loop.time()
        for message in self._due(now):
            await self._queue.hide(message, self._visibility)
            message.visible_at = now + self._visibility

    def _due(self, now: float) -> Iterable[_Message]:
        return [message for message in self._held.values() if message.visible_at - now <= self._visibility * 2 / 3]

    async def _hand_back(self) -> None:
        """Settle what is over and make the rest visible; what fails here becomes visible in its time."""
        try:
            for message in self._held.values():
                if message.pending:
                    message.pending, message.fate = 0, "release"
            await self._settle()
        except TroveError as error:
            _log.info("watch: messages of the queue %r are invisible for a while: %s", self.name, error)
