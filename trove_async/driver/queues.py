"""Watching through a message queue that receives a bucket's notifications: the part that all services share.

One queue serves one process: a service gives each message to one receiver, so that two processes on one queue would
each get a part of the events. Within a driver all watches of a queue share one receiver, and each gets every event that
it asked for.

**Delivery is at least once.** A message is deleted when every watch that wanted its events has asked for the next one.
Until then it is kept invisible while the process lives, however slow the consumer is, if the service allows it.
Messages that were not consumed when a watch ends become visible again at once; after a crash, or if they were in
flight when a watch was cancelled, they become visible when their time has passed. Duplicates are dropped where they
can be recognised.

**Which messages are deleted.** Only messages of watched buckets are deleted, whether or not a watch wants them.
Messages of other buckets, and malformed messages, stay in the queue and are logged: they come back later, to
any receiver, which costs time and requests. Give each bucket its own queue.

A driver provides a `MessageQueue`, which makes the service's requests and parses its messages, and a `Deduplicator`.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from copy import copy
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from trove_async.cancellation import CLEANUP_TIMEOUT, finish
from trove_async.driver.options import WatchOptions
from trove_async.driver.retry import WATCHING
from trove_async.errors import BackendError, ClosedError, TroveError, WatchOverflowError
from trove_async.types import EventType, ObjectEvent

__all__ = [
    "MEMORY",
    "Deduplicator",
    "LastChanges",
    "Message",
    "MessageQueue",
    "Notification",
    "QueueWatches",
    "Received",
    "Sequenced",
]

MEMORY: Final = 65_536
"""The number of keys whose last change is remembered; the keys that changed longest ago are forgotten first."""

_NAMED: Final = 10_000
"""The number of messages and buckets that are remembered as logged."""

_log = logging.getLogger("trove_async")

Sleep = Callable[[float], Awaitable[object]]


class Notification(Protocol):
    """A notification of one change, as a service sends it."""

    @property
    def bucket(self) -> str:
        """The bucket of the object that changed."""

    @property
    def key(self) -> str:
        """The key of the object that changed."""

    def event(self, kind: EventType) -> ObjectEvent:
        """Return the event of this type for a consumer."""


class Deduplicator(Protocol):
    """Recognises duplicate notifications, for one watch."""

    def classify(self, notification: Any) -> EventType | None:
        """Return the type of the change; None if the notification is a duplicate or reports no change."""


class Sequenced(Notification, Protocol):
    """A notification that can be ordered among those of its key, if the service provides a sequencer."""

    @property
    def change(self) -> EventType | None:
        """`EventType.CREATED` for any write of the object, `EventType.DELETED`, or None if it did not change."""

    @property
    def sequencer(self) -> Any:
        """A value that orders the changes of one key; None if the service provides none."""

    @property
    def state(self) -> tuple[str | None, ...]:
        """Values that distinguish one write from another, such as the ETag."""


class LastChanges:
    """A `Deduplicator` that remembers the last change of each key.

    Queues deliver at least once and in any order. With sequencers, a change that is not later than the last one
    of its key is a duplicate. Without them, a change with the same values as the last one is a duplicate, so that a
    second put of the same bytes is not seen, and neither is a second deletion.
    """

    def __init__(self, capacity: int = MEMORY) -> None:
        self._capacity = capacity
        self._last: OrderedDict[str, tuple[Any, EventType, tuple[str | None, ...]]] = OrderedDict()

    def classify(self, notification: Sequenced) -> EventType | None:
        """Return the type of the change; None if the notification is a duplicate or reports no change.

        A write is ``object.updated`` if the last change of the key was a write too. The first write of a key
        since the watch began, or since the key was forgotten, is ``object.created``: the service does not say whether
        the object existed before.
        """
        if notification.change is None:
            return None
        deleted = notification.change is EventType.DELETED
        state = (notification.change, () if deleted else notification.state)
        sequencer = notification.sequencer
        before = self._last.get(notification.key)
        if before is not None:
            if sequencer is not None and before[0] is not None:
                if sequencer <= before[0]:
                    return None
            elif before[1:] == state:
                return None
            else:
                sequencer = before[0] if sequencer is None else sequencer
        self._last[notification.key] = (sequencer, *state)
        self._last.move_to_end(notification.key)
        if len(self._last) > self._capacity:
            self._last.popitem(last=False)
        if deleted:
            return EventType.DELETED
        return EventType.UPDATED if before is not None and before[1] is EventType.CREATED else EventType.CREATED


@dataclass(slots=True, eq=False)
class Message:
    """A message that was received and is neither deleted nor released.

    Attributes:
        message_id: identifies the message.
        receipt: the newest handle, with which the message is deleted or hidden.
        visible_at: when the message becomes visible by itself, in the loop's time.
        pending: the number of its events whose consumers have not asked for the next event yet.
        fate: what happens when none is pending: ``delete``; ``release`` makes it visible at once; ``leave`` lets its
            invisibility expire.
    """

    message_id: str
    receipt: str
    visible_at: float
    pending: int = 0
    fate: Literal["delete", "release", "leave"] = "delete"


@dataclass(frozen=True, slots=True)
class Received:
    """A message as the service delivers it: the fields of `Message`, and the content for `MessageQueue.read`."""

    message_id: str
    receipt: str
    visible_at: float
    content: Any


class MessageQueue(ABC):
    """The requests to one queue of a service.

    Attributes:
        name: for the log and errors, such as ``the queue 'events'``.
        visibility: seconds for which a received message is invisible; extended before they end.
        batch: the maximum number of messages that one request receives.
        settled: the maximum number of messages that one request deletes or hides.
        holds_requests: whether a request for messages waits until there is one (long polling); otherwise the queue is
            asked every ``poll_interval``.
        proves: whether the first request for messages proves that the queue exists.
    """

    name: str
    visibility: int
    batch: int
    settled: int
    holds_requests = True
    proves = True

    @abstractmethod
    def connected(self) -> AbstractAsyncContextManager[None]:
        """Connect within the block, and check that the queue exists.

        Raises:
            NotFoundError: it does not exist.
        """

    @abstractmethod
    async def receive(self, count: int, *, wait: bool, holding: bool) -> Sequence[Received]:
        """Return messages.

        Args:
            count: the maximum number; no more than `batch`.
            wait: False for an immediate answer.
            holding: whether messages are held whose invisibility has to be extended meanwhile.
        """

    @abstractmethod
    async def delete(self, messages: Sequence[Message]) -> None:
        """Delete messages; success for those that no longer exist."""

    @abstractmethod
    async def hide(self, messages: Sequence[Message], seconds: int) -> None:
        """Hide messages for some seconds from now on; 0 makes them visible."""

    @abstractmethod
    def read(self, content: Any) -> Sequence[Notification]:
        """Parse a message.

        Raises:
            ValueError: the content is malformed.
        """

    def error_of(self, error: Exception) -> TroveError:
        """Return the `TroveError` for an exception of the service's library."""
        return BackendError(f"{type(error).__name__}: {error}")


class QueueWatches:
    """The watches of a driver, by queue. Without a watch there is neither a task nor a connection.

    Args:
        cleanup_timeout: the time limit in seconds for releasing messages when a watch ends.
        sleep: waits for some seconds between attempts after transient errors.
    """

    def __init__(self, *, cleanup_timeout: float = CLEANUP_TIMEOUT, sleep: Sleep = asyncio.sleep) -> None:
        self._cleanup_timeout = cleanup_timeout
        self._sleep = sleep
        self._receivers: dict[str, _Receiver] = {}
        self._closed = False

    async def subscribed(
        self,
        key: str,
        make: Callable[[], MessageQueue],
        bucket: str,
        options: WatchOptions,
        deduplicator: Deduplicator,
        *,
        prepare: Callable[[], Awaitable[object]] | None = None,
    ) -> AsyncGenerator[ObjectEvent, None]:
        """Yield the changes of a bucket; see `NotificationDriver.watch`.

        Older events in the queue come first. The watch is ready when the queue has answered.

        Args:
            key: identifies the queue.
            make: returns the queue; called for its first watch.
            bucket: the bucket to watch.
            options: ``prefix``, ``events``, ``buffer_size`` and ``on_ready`` are used, and ``poll_interval`` if the
                queue does not hold requests. The buffer is used only while other watches of the queue are faster.
            deduplicator: for this watch.
            prepare: awaited first; it raises if the bucket does not exist, and can set up the queue.

        Raises:
            BucketNotFoundError: raised by ``prepare``.
            NotFoundError: the queue does not exist.
            WatchOverflowError: other watches of the queue were ahead by more events than the buffer holds.
            ClosedError: the driver was closed.
        """
        if prepare is not None:
            await prepare()
        if self._closed:
            raise ClosedError("the store is closed")
        receiver = self._receivers.get(key)
        if receiver is None or receiver.ended:
            receiver = self._receivers[key] = _Receiver(make(), self._sleep)
        subscription = receiver.subscribe(bucket, options, deduplicator)
        try:
            await receiver.ready.wait()
            subscription.check()
            options.on_ready()
            while True:
                yield await subscription.next()
        finally:
            receiver.unsubscribe(subscription)
            if not receiver.subscriptions:
                if self._receivers.get(key) is receiver:
                    del self._receivers[key]
                await self._end(receiver)

    async def aclose(self) -> None:
        """End all watches with `ClosedError`; idempotent."""
        self._closed = True
        receivers, self._receivers = list(self._receivers.values()), {}
        for receiver in receivers:
            receiver.fail(ClosedError("the store is closed"))
            await self._end(receiver)

    async def _end(self, receiver: _Receiver) -> None:
        queue = receiver.queue
        leftover = f"messages of {queue.name}, which are delivered again after up to {queue.visibility} s"
        await finish(receiver.aclose(), timeout=self._cleanup_timeout, leftover=leftover)


class _Subscription:
    """One watch: the events that wait for its consumer, and the message of the last event that it took.

    Attributes:
        bucket, options: of the watch.
        waiting: whether its consumer waits for the next event.
    """

    def __init__(
        self, bucket: str, options: WatchOptions, deduplicator: Deduplicator, wake: Callable[[], None]
    ) -> None:
        self.bucket = bucket
        self.options = options
        self.waiting = False
        self._deduplicator = deduplicator
        self._wake = wake
        self._events: deque[tuple[ObjectEvent, Message]] = deque()
        self._taken: Message | None = None
        self._failure: TroveError | None = None
        self._changed = asyncio.Event()

    def offer(self, notification: Notification, message: Message) -> None:
        """Queue the event of a notification, unless it is a duplicate; the message stays pending until it is taken."""
        if self._failure is not None or not notification.key.startswith(self.options.prefix):
            return
        kind = self._deduplicator.classify(notification)
        if kind is None or kind not in self.options.events:
            return
        if len(self._events) >= self.options.buffer_size:
            self._overflow()
            return
        message.pending += 1
        self._events.append((notification.event(kind), message))
        self.waiting = False
        self._changed.set()

    def _overflow(self) -> None:
        """Drop the waiting events: the consumer has to list the bucket, so they need not be delivered again."""
        for _, message in self._events:
            message.pending -= 1
        self._events.clear()
        size = self.options.buffer_size
        self.fail(WatchOverflowError(f"more than {size} events waited and some are lost; list the bucket again"))

    def release(self) -> None:
        """Release the messages of all events that were not acknowledged, so that they are delivered again."""
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
        """End the watch: the consumer gets the error, and none of the waiting events."""
        self._failure = self._failure or error
        self._changed.set()

    def check(self) -> None:
        """Raise the error that has ended the watch, if there is one."""
        if self._failure is not None:
            # A copy for each watch: the error records where it was raised.
            raise copy(self._failure) from self._failure.__cause__

    async def next(self) -> ObjectEvent:
        """Wait for the next event; this acknowledges the previous one."""
        if self._taken is not None:
            self._taken.pending -= 1
            self._taken = None
        self.check()
        while not self._events:
            self._changed.clear()
            self.waiting = True
            self._wake()
            try:
                await self._changed.wait()
            finally:
                self.waiting = False
            self.check()
        event, self._taken = self._events.popleft()
        return event


class _Receiver:
    """A task that receives the messages of one queue while it has watches, and deletes or releases them.

    It receives only when a watch has no events left, so that messages stay in the queue while consumers are busy.

    Attributes:
        queue: where the messages come from.
        subscriptions: the watches.
        ready: set when the queue has answered, or the task has failed.
        ended: whether the task has ended.
    """

    def __init__(self, queue: MessageQueue, sleep: Sleep) -> None:
        self.queue = queue
        self.subscriptions: set[_Subscription] = set()
        self.ready = asyncio.Event()
        self.ended = False
        self._sleep = sleep
        self._held: dict[str, Message] = {}
        self._named: set[str] = set()
        self._wanted = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run())

    def subscribe(self, bucket: str, options: WatchOptions, deduplicator: Deduplicator) -> _Subscription:
        """Add a watch; it gets the messages that are received from now on."""
        subscription = _Subscription(bucket, options, deduplicator, self._wanted.set)
        self.subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: _Subscription) -> None:
        """Remove a watch; the events that it has not taken are delivered again."""
        self.subscriptions.discard(subscription)
        subscription.release()
        self._wanted.set()

    def fail(self, error: TroveError) -> None:
        """End all watches."""
        for subscription in self.subscriptions:
            subscription.fail(error)
        self.ready.set()

    async def aclose(self) -> None:
        """Delete the messages that are done, release the others, and end; idempotent."""
        self._task.cancel()
        try:
            await asyncio.wait({self._task})
        except asyncio.CancelledError:
            self._task.cancel()
            raise

    async def _run(self) -> None:
        try:
            async with self.queue.connected():
                try:
                    if self.queue.proves:
                        await self._receive(wait=False)
                    self.ready.set()
                    await self._serve()
                finally:
                    await self._release_all()
        except Exception as error:  # noqa: BLE001 - it is raised to the consumers
            self.fail(error if isinstance(error, TroveError) else self.queue.error_of(error))
        finally:
            self.ended = True

    async def _serve(self) -> None:
        failures = 0
        while True:
            try:
                await self._turn()
                failures = 0
            except TroveError as error:
                if not error.retryable:
                    raise
                _log.warning("watch: %s failed, retrying: %s", self.queue.name, error)
                failures += 1
                await self._sleep(WATCHING.pause(failures, error.retry_after))

    async def _turn(self) -> None:
        self._wanted.clear()
        await self._settle()
        await self._extend()
        waiting = [subscription for subscription in self.subscriptions if subscription.waiting]
        if waiting and (await self._receive() or self.queue.holds_requests):
            return
        patience = self.queue.visibility / 3 if self._held else None
        if waiting:
            interval = min(subscription.options.poll_interval for subscription in waiting)
            patience = interval if patience is None else min(patience, interval)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._wanted.wait()

    async def _receive(self, *, wait: bool = True) -> bool:
        """Receive messages, no more than the smallest buffer holds; return whether there were any."""
        batch = self.queue.batch
        capacity = min((subscription.options.buffer_size for subscription in self.subscriptions), default=batch)
        received = await self.queue.receive(max(1, min(batch, capacity)), wait=wait, holding=bool(self._held))
        for found in received:
            self._take(found)
        return bool(received)

    def _take(self, found: Received) -> None:
        held = self._held.get(found.message_id)
        if held is not None:
            # It became visible too early; its events were already passed on.
            held.receipt, held.visible_at = found.receipt, found.visible_at
            return
        try:
            notifications = self.queue.read(found.content)
        except ValueError as error:
            self._report(found.message_id, f"message {found.message_id} is malformed and stays in the queue: {error}")
            return
        message = self._held[found.message_id] = Message(found.message_id, found.receipt, found.visible_at)
        watched = {subscription.bucket for subscription in self.subscriptions}
        for notification in notifications:
            if notification.bucket not in watched:
                message.fate = "leave"
                self._report(
                    notification.bucket,
                    f"messages of the bucket {notification.bucket!r}, which is not watched here, stay in the queue",
                )
            for subscription in self.subscriptions:
                if subscription.bucket == notification.bucket:
                    subscription.offer(notification, message)

    def _report(self, what: str, text: str) -> None:
        """Log a warning about a message or bucket, once."""
        if what not in self._named:
            if len(self._named) >= _NAMED:
                self._named.clear()
            self._named.add(what)
            _log.warning("watch: %s: %s", self.queue.name, text)

    async def _settle(self) -> None:
        """Delete the messages whose events were all acknowledged, and release those that have to come again."""
        over = [message for message in self._held.values() if not message.pending]
        self._forget(message for message in over if message.fate == "leave")
        for batch in self._batches(message for message in over if message.fate == "delete"):
            await self.queue.delete(batch)
            self._forget(batch)
        for batch in self._batches(message for message in over if message.fate == "release"):
            await self.queue.hide(batch, 0)
            self._forget(batch)

    def _forget(self, messages: Iterable[Message]) -> None:
        # If the service failed to delete one, it comes again as a duplicate.
        for message in messages:
            self._held.pop(message.message_id, None)

    async def _extend(self) -> None:
        """Extend the invisibility of held messages, well before it expires."""
        now, visibility = self._loop.time(), self.queue.visibility
        for batch in self._batches(m for m in self._held.values() if m.visible_at - now <= visibility * 2 / 3):
            await self.queue.hide(batch, visibility)
            for message in batch:
                message.visible_at = now + visibility

    def _batches(self, messages: Iterable[Message]) -> list[list[Message]]:
        found, size = list(messages), self.queue.settled
        return [found[start : start + size] for start in range(0, len(found), size)]

    async def _release_all(self) -> None:
        """Delete the messages that are done and release the others; if that fails, their invisibility expires."""
        try:
            for message in self._held.values():
                if message.pending:
                    message.pending, message.fate = 0, "release"
            await self._settle()
        except TroveError as error:
            _log.info("watch: messages of %s are delivered again later: %s", self.queue.name, error)
