"""Watching a bucket through an SQS queue that its events are sent to.

One queue serves one process: SQS gives each message to one receiver, so two processes on one queue get a part of the
events each. Within a driver all watches of a queue share one receiver, and each gets every event that it asked for.
The queue knows nothing of the bucket: a watch whose bucket is deleted goes on, and hears of nothing any more.

**Delivery is at least once.** A message is deleted when every watch that wanted its events has asked for the next one;
until then it is kept invisible for as long as the process lives, however slow the consumer is (SQS
allows 12 hours). What was not taken when a watch ends is visible again at once, and after a crash when the visibility
timeout has passed (60 seconds); that is also so for messages that were on their way when a watch was cancelled.
Repetitions are dropped where they can be told; see `Seen`.

**Whose messages.** Only messages of watched buckets are deleted, whether or not a watch wants them, and S3's test
message. Messages of other buckets are left alone: they come back when the visibility timeout has passed, to
whoever receives then, which costs time and requests; give each bucket its own queue. So are messages that
cannot be read: each is named in the log, and a dead-letter queue takes it away if the queue has one.

**What it costs**: one request for each 20 seconds in which nothing happens, and two for each ten messages.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from copy import copy
from typing import Any, Final, Literal

from trove_async.cancellation import CLEANUP_TIMEOUT, finish
from trove_async.driver import WatchOptions
from trove_async.drivers.s3.errors import sdk_error
from trove_async.drivers.s3.notices import Notice, Seen, read_notices
from trove_async.drivers.s3.queue_setup import MISSING_QUEUE
from trove_async.errors import ClosedError, NotFoundError, TroveError, WatchOverflowError
from trove_async.types import ObjectEvent

__all__ = ["QueueWatcher", "queue_of"]

_BATCH: Final = 10
"""Messages in one request; SQS's limit."""

_VISIBILITY: Final = 60
_LONGEST_WAIT: Final = 20
_FIRST_DELAY: Final = 1.0
_LONGEST_DELAY: Final = 60.0

_log = logging.getLogger("trove_async")

Connect = Callable[[], AbstractAsyncContextManager[Any]]
"""Returns a context manager that gives a client of aiobotocore for SQS, and closes it."""

_Sleep = Callable[[float], Awaitable[object]]


def queue_of(queue: str, bucket: str) -> str:
    """Return the name or URL of a bucket's queue: ``{bucket}`` in ``queue`` stands for the bucket.

    Names of queues have no dots, so that each becomes a ``-``.
    """
    return queue.replace("{bucket}", bucket.replace(".", "-"))


class QueueWatcher:
    """The watches of a driver, by their queues. Nothing runs and nothing is connected while there is no watch."""

    def __init__(
        self,
        connect: Connect,
        queue: str,
        *,
        cleanup_timeout: float = CLEANUP_TIMEOUT,
        visibility: int = _VISIBILITY,
        wait: int = _LONGEST_WAIT,
        sleep: _Sleep = asyncio.sleep,
    ) -> None:
        """Make one.

        Args:
            connect: gives the client; entered once for each queue that is being watched.
            queue: name or URL; see `queue_of`.
            cleanup_timeout: seconds in which messages are handed back when a watch ends.
            visibility: seconds for which a message that is being worked on is invisible; it is extended in time.
            wait: seconds that a request for messages waits for one, up to 20 and to a third of ``visibility``; the
                client has to wait longer than that for an answer.
            sleep: waits for some seconds between attempts while SQS fails in passing.
        """
        self._connect = connect
        self._queue = queue
        self._cleanup_timeout = cleanup_timeout
        self._visibility = visibility
        self._wait = max(1, min(wait, _LONGEST_WAIT, visibility // 3))
        self._sleep = sleep
        self._receivers: dict[str, _Receiver] = {}
        self._closed = False

    async def watch(
        self, bucket: str, options: WatchOptions, *, prepare: Callable[[], Awaitable[object]]
    ) -> AsyncGenerator[ObjectEvent, None]:
        """Yield the changes of a bucket; see `NotificationDriver.watch`.

        Events that wait in the queue from before come first. It is ready when the queue has answered.

        Args:
            bucket: what is watched.
            options: ``prefix``, ``events``, ``buffer_size`` and ``on_ready`` count. The buffer is used only while other
                watches of the queue are faster.
            prepare: awaited first; it raises if there is no bucket, and may set the queue up.

        Raises:
            BucketNotFoundError: as ``prepare`` says.
            NotFoundError: there is no such queue.
            WatchOverflowError: other watches of the queue were faster by more events than the buffer holds.
            ClosedError: the driver was closed.
        """
        await prepare()
        if self._closed:
            raise ClosedError("the store is closed")
        queue = queue_of(self._queue, bucket)
        receiver = self._receivers.get(queue)
        if receiver is None or receiver.ended:
            receiver = self._receivers[queue] = self._receiver(queue)
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
                if self._receivers.get(queue) is receiver:
                    del self._receivers[queue]
                await self._end(receiver)

    def _receiver(self, queue: str) -> _Receiver:
        return _Receiver(self._connect, queue, visibility=self._visibility, wait=self._wait, sleep=self._sleep)

    async def aclose(self) -> None:
        """End all watches with `ClosedError`; idempotent."""
        self._closed = True
        receivers, self._receivers = list(self._receivers.values()), {}
        for receiver in receivers:
            receiver.fail(ClosedError("the store is closed"))
            await self._end(receiver)

    async def _end(self, receiver: _Receiver) -> None:
        leftover = f"messages of the queue {receiver.queue!r}, which are invisible for up to {self._visibility} s"
        await finish(receiver.aclose(), timeout=self._cleanup_timeout, leftover=leftover)


class _Message:
    """A message that was received and is not settled.

    Attributes:
        receipt: the newest handle for it.
        pending: how many of its events are with consumers that have not asked for the next one.
        fate: what becomes of it when there are none: ``release`` makes it visible at once, ``leave`` in its time.
        visible_at: when it becomes visible by itself, in the loop's time.
    """

    __slots__ = ("fate", "message_id", "pending", "receipt", "visible_at")

    def __init__(self, message_id: str, receipt: str, visible_at: float) -> None:
        self.message_id = message_id
        self.receipt = receipt
        self.pending = 0
        self.fate: Literal["delete", "release", "leave"] = "delete"
        self.visible_at = visible_at


class _Subscription:
    """One watch: the events that wait for its consumer, and the message of the one that it has.

    Attributes:
        bucket, buffer_size: what was asked for.
        waiting: whether its consumer waits for an event that is not there.
    """

    def __init__(self, bucket: str, options: WatchOptions, wake: Callable[[], None]) -> None:
        self.bucket = bucket
        self.buffer_size = options.buffer_size
        self.waiting = False
        self._prefix = options.prefix
        self._types = options.events
        self._wake = wake
        self._seen = Seen()
        self._events: deque[tuple[ObjectEvent, _Message]] = deque()
        self._taken: _Message | None = None
        self._failure: TroveError | None = None
        self._news = asyncio.Event()

    def offer(self, notice: Notice, message: _Message) -> None:
        """Hand over what is news to this watch; it has to be taken before the message is settled."""
        if self._failure is not None or not notice.key.startswith(self._prefix):
            return
        kind = self._seen.judge(notice)
        if kind is None or kind not in self._types:
            return
        if len(self._events) >= self.buffer_size:
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
        self.fail(WatchOverflowError(f"more than {self.buffer_size} events waited and some are lost; list again"))

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
        queue: its name or URL.
        subscriptions: the watches.
        ready: set once the queue has answered, or the task has failed.
        ended: whether the task is over.
    """

    def __init__(self, connect: Connect, queue: str, *, visibility: int, wait: int, sleep: _Sleep) -> None:
        self.queue = queue
        self.subscriptions: set[_Subscription] = set()
        self.ready = asyncio.Event()
        self.ended = False
        self._connect = connect
        self._visibility = visibility
        self._wait = wait
        self._sleep = sleep
        self._held: dict[str, _Message] = {}
        self._strangers: set[str] = set()
        self._wanted = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._client: Any = None
        self._url = ""
        self._task = asyncio.create_task(self._run())

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
            async with self._connect() as self._client:
                self._url = await self._find_queue()
                try:
                    await self._receive(wait=0)  # proves that the queue is there and may be read
                    self.ready.set()
                    await self._serve()
                finally:
                    await self._hand_back()
        except Exception as error:  # noqa: BLE001 - it is raised to the consumers
            self.ended = True
            self.fail(error if isinstance(error, TroveError) else sdk_error(error, about="service"))
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
                _log.warning("watch: the queue %r failed and is asked again: %s", self.queue, error)
                await self._sleep(max(delay, error.retry_after or 0.0))
                delay = min(2 * delay, _LONGEST_DELAY)

    async def _turn(self) -> None:
        self._wanted.clear()
        await self._settle()
        await self._extend()
        if any(subscription.waiting for subscription in self.subscriptions):
            await self._receive(wait=self._wait)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._visibility / 3 if self._held else None):
                await self._wanted.wait()

    async def _receive(self, *, wait: int) -> None:
        # No more than the smallest buffer takes.
        room = min((subscription.buffer_size for subscription in self.subscriptions), default=_BATCH)
        answer = await self._ask(
            "receive_message",
            MaxNumberOfMessages=max(1, min(_BATCH, room)),
            WaitTimeSeconds=wait,
            VisibilityTimeout=self._visibility,
        )
        visible_at = self._loop.time() + self._visibility
        for found in answer.get("Messages", ()):
            self._take(found["MessageId"], found["ReceiptHandle"], found.get("Body", ""), visible_at)

    def _take(self, message_id: str, receipt: str, body: str, visible_at: float) -> None:
        held = self._held.get(message_id)
        if held is not None:
            # It became visible too early; its events are with their consumers already.
            held.receipt, held.visible_at = receipt, visible_at
            return
        try:
            notices = read_notices(body)
        except ValueError as error:
            _log.warning("watch: message %s of the queue %r is left there: %s", message_id, self.queue, error)
            return
        message = self._held[message_id] = _Message(message_id, receipt, visible_at)
        watched = {subscription.bucket for subscription in self.subscriptions}
        for notice in notices:
            if notice.bucket not in watched:
                message.fate = "leave"
                self._report_stranger(notice.bucket)
            for subscription in self.subscriptions:
                if subscription.bucket == notice.bucket:
                    subscription.offer(notice, message)

    def _report_stranger(self, bucket: str) -> None:
        if bucket not in self._strangers:
            self._strangers.add(bucket)
            text = "watch: the queue %r has messages of the bucket %r, which nobody here watches; they are left there"
            _log.warning(text, self.queue, bucket)

    async def _settle(self) -> None:
        """Delete the messages whose events were all taken, and make those visible that have to come again."""
        over = [message for message in self._held.values() if not message.pending]
        for message in over:
            if message.fate == "leave":
                del self._held[message.message_id]
        for batch in _batches(message for message in over if message.fate == "delete"):
            await self._ask("delete_message_batch", Entries=_entries(batch))
            self._forget(batch)
        for batch in _batches(message for message in over if message.fate == "release"):
            await self._set_visibility(batch, 0)
            self._forget(batch)

    def _forget(self, messages: Iterable[_Message]) -> None:
        # One that the service could not settle comes again, as a repetition, and is settled then.
        for message in messages:
            self._held.pop(message.message_id, None)

    async def _extend(self) -> None:
        """Keep messages invisible that are being worked on, long before their time is over."""
        now = self._loop.time()
        due = [message for message in self._held.values() if message.visible_at - now <= self._visibility * 2 / 3]
        for batch in _batches(due):
            await self._set_visibility(batch, self._visibility)
            for message in batch:
                message.visible_at = now + self._visibility

    async def _set_visibility(self, messages: Sequence[_Message], seconds: int) -> None:
        entries = [{**entry, "VisibilityTimeout": seconds} for entry in _entries(messages)]
        await self._ask("change_message_visibility_batch", Entries=entries)

    async def _hand_back(self) -> None:
        """Settle what is over and make the rest visible; what fails here becomes visible in its time."""
        try:
            for message in self._held.values():
                if message.pending:
                    message.pending, message.fate = 0, "release"
            await self._settle()
        except TroveError as error:
            _log.info("watch: messages of the queue %r are invisible for a while: %s", self.queue, error)

    async def _find_queue(self) -> str:
        if "://" in self.queue:
            return self.queue
        answer = await self._call("get_queue_url", QueueName=self.queue)
        return str(answer["QueueUrl"])

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
                text = f"the queue {self.queue!r} does not exist; create it, or have it set up by watch_setup"
                raise NotFoundError(text) from error
            raise sdk_error(error, about="service") from error
        return answer


def _batches(messages: Iterable[_Message]) -> list[list[_Message]]:
    found = list(messages)
    return [found[start : start + _BATCH] for start in range(0, len(found), _BATCH)]


def _entries(messages: Sequence[_Message]) -> list[dict[str, Any]]:
    return [{"Id": str(number), "ReceiptHandle": message.receipt} for number, message in enumerate(messages)]
