"""Watching through a queue that a bucket's changes are sent to: what all such services have in common.

One queue serves one process: a service gives each message to one receiver, so two processes on one queue get a part
of the events each. Within a driver all watches of a queue share one receiver, and each gets every event that it
asked for.

**Delivery is at least once.** A message is deleted when every watch that wanted its events has asked for the next one;
until then it is kept invisible for as long as the process lives, however slow the consumer is, if the service lets it.
What was not taken when a watch ends is visible again at once, and after a crash when its time has passed; that is
also so for messages that were on their way when a watch was cancelled. Repetitions are dropped where they can be told.

**Whose messages.** Only messages of watched buckets are deleted, whether or not a watch wants them. Messages of other
buckets are left alone: they come back in their time, to whoever receives then, which costs time and requests; give
each bucket its own queue. So are messages that cannot be read. Both are named in the log.

A driver brings a `MessageQueue`, which knows the service's requests, and something that reads and judges its messages.
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
from trove_async.errors import BackendError, ClosedError, TroveError, WatchOverflowError
from trove_async.types import EventType, ObjectEvent

__all__ = [
    "MEMORY",
    "Judge",
    "LastChanges",
    "Message",
    "MessageQueue",
    "Notice",
    "QueueWatches",
    "Received",
    "Sequenced",
]

MEMORY: Final = 65_536
"""Of how many keys the last change is remembered; those that changed longest ago are forgotten first."""

_FIRST_DELAY: Final = 1.0
_LONGEST_DELAY: Final = 60.0
_NAMED: Final = 10_000
"""Of how many messages and buckets it is remembered that the log has named them."""

_log = logging.getLogger("trove_async")

Sleep = Callable[[float], Awaitable[object]]


class Notice(Protocol):
    """One change, as a service tells it."""

    @property
    def bucket(self) -> str:
        """Where it was."""

    @property
    def key(self) -> str:
        """What it was about."""

    def event(self, kind: EventType) -> ObjectEvent:
        """Return the event of that kind for a consumer."""


class Judge(Protocol):
    """Tells news from repetitions, for one watch."""

    def judge(self, notice: Any) -> EventType | None:
        """Return what has happened; None if it is no news."""


class Sequenced(Notice, Protocol):
    """A change that says where it stands among those of its key, where the service tells."""

    @property
    def change(self) -> EventType | None:
        """`EventType.CREATED` for whatever wrote the object, `EventType.DELETED`, or None for what is no news of it."""

    @property
    def sequencer(self) -> Any:
        """What orders the changes of one key; None where the service has nothing."""

    @property
    def state(self) -> tuple[str | None, ...]:
        """What tells one write from another, beside the order."""


class LastChanges:
    """The last change of each key that one watch has been told of; it tells news from repetitions.

    Queues deliver at least once and in any order. With sequencers, a change that is not later than the last one
    of its key is no news. Without them, one that says what the last one said is none: so a put of the same bytes
    is not seen there, nor is a second deletion.
    """

    def __init__(self, capacity: int = MEMORY) -> None:
        self._capacity = capacity
        self._last: OrderedDict[str, tuple[Any, EventType, tuple[str | None, ...]]] = OrderedDict()

    def judge(self, notice: Sequenced) -> EventType | None:
        """Return what has happened; None if it is no news.

        A write is ``object.updated`` if the last change of the key was one too. The first change of a key
        since the watch began, or since it was forgotten, is ``object.created``: the service does not tell whether there
        was an object before.
        """
        if notice.change is None:
            return None
        deleted = notice.change is EventType.DELETED
        state = (notice.change, () if deleted else notice.state)
        sequencer = notice.sequencer
        before = self._last.get(notice.key)
        if before is not None:
            if sequencer is not None and before[0] is not None:
                if sequencer <= before[0]:
                    return None
            elif before[1:] == state:
                return None
            else:
                sequencer = before[0] if sequencer is None else sequencer
        self._last[notice.key] = (sequencer, *state)
        self._last.move_to_end(notice.key)
        if len(self._last) > self._capacity:
            self._last.popitem(last=False)
        if deleted:
            return EventType.DELETED
        return EventType.UPDATED if before is not None and before[1] is EventType.CREATED else EventType.CREATED


@dataclass(slots=True, eq=False)
class Message:
    """A message that was received and is not settled.

    Attributes:
        message_id: names it.
        receipt: the newest handle for it, with which it is deleted or hidden.
        visible_at: when it becomes visible by itself, in the loop's time.
        pending: how many of its events are with consumers that have not asked for the next one.
        fate: what becomes of it when there are none: ``release`` makes it visible at once, ``leave`` in its time.
    """

    message_id: str
    receipt: str
    visible_at: float
    pending: int = 0
    fate: Literal["delete", "release", "leave"] = "delete"


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it comes: as of `Message`, and what `MessageQueue.read` reads."""

    message_id: str
    receipt: str
    visible_at: float
    content: Any


class MessageQueue(ABC):
    """The requests about one queue of a service.

    Attributes:
        name: what the log and errors say, such as ``the queue 'events'``.
        visibility: seconds for which a message that is being worked on is invisible; it is extended in time.
        batch: how many messages one request receives at most.
        settled: how many messages one request deletes or hides at most.
        holds_requests: whether a request for messages waits until there is one; else the queue is asked again
            each ``poll_interval``.
        proves: whether the queue is asked for messages once before it counts as there.
    """

    name: str
    visibility: int
    batch: int
    settled: int
    holds_requests = True
    proves = True

    @abstractmethod
    def connected(self) -> AbstractAsyncContextManager[None]:
        """Connect within the block, and see that the queue is there.

        Raises:
            NotFoundError: it is not.
        """

    @abstractmethod
    async def receive(self, count: int, *, wait: bool, holding: bool) -> Sequence[Received]:
        """Return messages.

        Args:
            count: how many at most; no more than `batch`.
            wait: False to have the answer at once.
            holding: whether messages are held, which have to be kept invisible meanwhile.
        """

    @abstractmethod
    async def delete(self, messages: Sequence[Message]) -> None:
        """Delete messages; those that are gone are fine."""

    @abstractmethod
    async def hide(self, messages: Sequence[Message], seconds: int) -> None:
        """Set for how long messages stay invisible from now on; 0 makes them visible."""

    @abstractmethod
    def read(self, content: Any) -> Sequence[Notice]:
        """Return what a message says.

        Raises:
            ValueError: it cannot be read.
        """

    def error_of(self, error: Exception) -> TroveError:
        """Return the error of ours for one of the service's library."""
        return BackendError(f"{type(error).__name__}: {error}")


class QueueWatches:
    """The watches of a driver, by their queues. Nothing runs and nothing is connected while there is no watch.

    Args:
        cleanup_timeout: seconds in which messages are handed back when a watch ends.
        sleep: waits for some seconds between attempts while the service fails in passing.
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
        judge: Judge,
        *,
        prepare: Callable[[], Awaitable[object]] | None = None,
    ) -> AsyncGenerator[ObjectEvent, None]:
        """Yield the changes of a bucket; see `NotificationDriver.watch`.

        Events that wait in the queue from before come first. It is ready when the queue has answered.

        Args:
            key: tells one queue from another.
            make: returns the queue, where nobody watches it yet.
            bucket: what is watched.
            options: ``prefix``, ``events``, ``buffer_size`` and ``on_ready`` count, and ``poll_interval`` where a
                queue does not hold requests. The buffer is used only while other watches of the queue are faster.
            judge: for this watch.
            prepare: awaited first; it raises if there is no bucket, and may set the queue up.

        Raises:
            BucketNotFoundError: as ``prepare`` says.
            NotFoundError: there is no such queue.
            WatchOverflowError: other watches of the queue were faster by more events than the buffer holds.
            ClosedError: the driver was closed.
        """
        if prepare is not None:
            await prepare()
        if self._closed:
            raise ClosedError("the store is closed")
        receiver = self._receivers.get(key)
        if receiver is None or receiver.ended:
            receiver = self._receivers[key] = _Receiver(make(), self._sleep)
        subscription = receiver.subscribe(bucket, options, judge)
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
        leftover = f"messages of {queue.name}, which come again after up to {queue.visibility} s"
        await finish(receiver.aclose(), timeout=self._cleanup_timeout, leftover=leftover)


class _Subscription:
    """One watch: the events that wait for its consumer, and the message of the one that it has.

    Attributes:
        bucket, options: what was asked for.
        waiting: whether its consumer waits for an event that is not there.
    """

    def __init__(self, bucket: str, options: WatchOptions, judge: Judge, wake: Callable[[], None]) -> None:
        self.bucket = bucket
        self.options = options
        self.waiting = False
        self._judge = judge
        self._wake = wake
        self._events: deque[tuple[ObjectEvent, Message]] = deque()
        self._taken: Message | None = None
        self._failure: TroveError | None = None
        self._news = asyncio.Event()

    def offer(self, notice: Notice, message: Message) -> None:
        """Hand over what is news to this watch; it has to be taken before the message is settled."""
        if self._failure is not None or not notice.key.startswith(self.options.prefix):
            return
        kind = self._judge.judge(notice)
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
        queue: what it receives from.
        subscriptions: the watches.
        ready: set once the queue has answered, or the task has failed.
        ended: whether the task is over.
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

    def subscribe(self, bucket: str, options: WatchOptions, judge: Judge) -> _Subscription:
        """Add a watch; it gets what is received from now on."""
        subscription = _Subscription(bucket, options, judge, self._wanted.set)
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
            async with self.queue.connected():
                try:
                    if self.queue.proves:
                        await self._receive(wait=False)
                    self.ready.set()
                    await self._serve()
                finally:
                    await self._hand_back()
        except Exception as error:  # noqa: BLE001 - it is raised to the consumers
            self.fail(error if isinstance(error, TroveError) else self.queue.error_of(error))
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
                _log.warning("watch: %s failed and is asked again: %s", self.queue.name, error)
                await self._sleep(max(delay, error.retry_after or 0.0))
                delay = min(2 * delay, _LONGEST_DELAY)

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
        """Take in messages, no more than the smallest buffer takes; tell whether there were any."""
        batch = self.queue.batch
        room = min((subscription.options.buffer_size for subscription in self.subscriptions), default=batch)
        received = await self.queue.receive(max(1, min(batch, room)), wait=wait, holding=bool(self._held))
        for found in received:
            self._take(found)
        return bool(received)

    def _take(self, found: Received) -> None:
        held = self._held.get(found.message_id)
        if held is not None:
            # It became visible too early; its events are with their consumers already.
            held.receipt, held.visible_at = found.receipt, found.visible_at
            return
        try:
            notices = self.queue.read(found.content)
        except ValueError as error:
            self._report(found.message_id, f"message {found.message_id} is left there: {error}")
            return
        message = self._held[found.message_id] = Message(found.message_id, found.receipt, found.visible_at)
        watched = {subscription.bucket for subscription in self.subscriptions}
        for notice in notices:
            if notice.bucket not in watched:
                message.fate = "leave"
                self._report(
                    notice.bucket,
                    f"messages of the bucket {notice.bucket!r}, which nobody here watches, are left there",
                )
            for subscription in self.subscriptions:
                if subscription.bucket == notice.bucket:
                    subscription.offer(notice, message)

    def _report(self, what: str, text: str) -> None:
        """Name something in the log, and not each time that it comes back."""
        if what not in self._named:
            if len(self._named) >= _NAMED:
                self._named.clear()
            self._named.add(what)
            _log.warning("watch: %s: %s", self.queue.name, text)

    async def _settle(self) -> None:
        """Delete the messages whose events were all taken, and make those visible that have to come again."""
        over = [message for message in self._held.values() if not message.pending]
        self._forget(message for message in over if message.fate == "leave")
        for batch in self._batches(message for message in over if message.fate == "delete"):
            await self.queue.delete(batch)
            self._forget(batch)
        for batch in self._batches(message for message in over if message.fate == "release"):
            await self.queue.hide(batch, 0)
            self._forget(batch)

    def _forget(self, messages: Iterable[Message]) -> None:
        # One that the service could not settle comes again, as a repetition, and is settled then.
        for message in messages:
            self._held.pop(message.message_id, None)

    async def _extend(self) -> None:
        """Keep messages invisible that are being worked on, long before their time is over."""
        now, visibility = self._loop.time(), self.queue.visibility
        for batch in self._batches(m for m in self._held.values() if m.visible_at - now <= visibility * 2 / 3):
            await self.queue.hide(batch, visibility)
            for message in batch:
                message.visible_at = now + visibility

    def _batches(self, messages: Iterable[Message]) -> list[list[Message]]:
        found, size = list(messages), self.queue.settled
        return [found[start : start + size] for start in range(0, len(found), size)]

    async def _hand_back(self) -> None:
        """Settle what is over and make the rest visible; what fails here becomes visible in its time."""
        try:
            for message in self._held.values():
                if message.pending:
                    message.pending, message.fate = 0, "release"
            await self._settle()
        except TroveError as error:
            _log.info("watch: messages of %s come again in a while: %s", self.queue.name, error)
