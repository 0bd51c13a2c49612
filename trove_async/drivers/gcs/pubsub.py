"""Watching a bucket through a Pub/Sub subscription to the topic that its notifications are sent to.

One subscription serves one process: Pub/Sub gives each message to one receiver, so two processes on one subscription
get a part of the events each. Within a driver all watches of a subscription share one receiver, and each gets every
event that it asked for.

**Delivery is at least once.** A message is acknowledged when every watch that wanted its events has asked for the next
one; until then its deadline is extended for as long as the process lives, however slow the consumer is. What was not
taken when a watch ends is given back at once, and after a crash when its deadline has passed. Repetitions are dropped
where they can be told; see `Seen`.

**Whose messages.** Only messages of watched buckets are acknowledged, whether or not a watch wants them. Messages of
other buckets are left alone, and come back when their deadline has passed; give each bucket its own subscription, or
filter it by ``attributes.bucketId``. So are messages that cannot be read: each is named in the log.

**What it costs**: one request that waits while nothing happens, and about two for each hundred messages.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import suppress
from copy import copy
from typing import Any, Final, Literal

from trove_async.cancellation import CLEANUP_TIMEOUT, finish
from trove_async.driver import WatchOptions
from trove_async.drivers.gcs.notices import Notice, Seen, read_notice
from trove_async.dsn import redact
from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    ClosedError,
    InvalidArgumentError,
    NotFoundError,
    OperationTimeoutError,
    ThrottledError,
    TransientError,
    TroveError,
    UnauthenticatedError,
    UnavailableError,
    WatchOverflowError,
)
from trove_async.types import ObjectEvent

__all__ = ["SubscriptionWatcher", "subscription_of"]

_BATCH: Final = 100
"""Messages that one request asks for."""
_SETTLED: Final = 500
"""Messages that one request settles; Pub/Sub takes 512 KiB."""
_DEADLINE: Final = 60
"""Seconds for which a message that is being worked on is ours."""
_FIRST_DEADLINE: Final = 10.0
"""Seconds for which a message is ours at first, unless its subscription says otherwise."""
_WAIT: Final = 60
_FIRST_DELAY: Final = 1.0
_LONGEST_DELAY: Final = 60.0

_log = logging.getLogger("trove_async")

Connect = Callable[[], Awaitable[Any]]
"""Returns a `gcloud.aio.pubsub.SubscriberClient`."""

Renew = Callable[[], Awaitable[bool]]
"""Gets another token in place of one that was refused; tells whether there is one."""

_Sleep = Callable[[float], Awaitable[object]]


def subscription_of(subscription: str, bucket: str, project: str) -> str:
    """Return the full name of a bucket's subscription: ``{bucket}`` in ``subscription`` stands for the bucket."""
    name = subscription.replace("{bucket}", bucket)
    return name if "/" in name else f"projects/{project}/subscriptions/{name}"


class SubscriptionWatcher:
    """The watches of a driver, by their subscriptions. Nothing runs while there is no watch."""

    def __init__(
        self,
        connect: Connect,
        renew: Renew,
        *,
        cleanup_timeout: float = CLEANUP_TIMEOUT,
        deadline: int = _DEADLINE,
        wait: int = _WAIT,
        sleep: _Sleep = asyncio.sleep,
    ) -> None:
        """Make one.

        Args:
            connect: gives the SDK's client.
            renew: gets another token.
            cleanup_timeout: seconds in which messages are handed back when a watch ends.
            deadline: seconds for which a message that is being worked on is ours; it is extended in time.
            wait: seconds that a request for messages waits for one.
            sleep: waits for some seconds between attempts while Pub/Sub fails in passing.
        """
        self._connect = connect
        self._renew = renew
        self._cleanup_timeout = cleanup_timeout
        self._deadline = deadline
        self._wait = max(1, min(wait, deadline // 3 if deadline < _WAIT else wait))
        self._sleep = sleep
        self._receivers: dict[str, _Receiver] = {}
        self._closed = False

    async def watch(
        self, bucket: str, subscription: str, options: WatchOptions, *, versioned: bool
    ) -> AsyncGenerator[ObjectEvent, None]:
        """Yield the changes of a bucket; see `NotificationDriver.watch`.

        Events that wait in the subscription from before come first. It is ready when the subscription was found.

        Args:
            bucket: what is watched.
            subscription: its full name.
            options: ``prefix``, ``events``, ``buffer_size`` and ``on_ready`` count. The buffer is used only while other
                watches of the subscription are faster.
            versioned: as of `Seen`.

        Raises:
            NotFoundError: there is no such subscription.
            WatchOverflowError: other watches of it were faster by more events than the buffer holds.
            ClosedError: the driver was closed.
        """
        if self._closed:
            raise ClosedError("the store is closed")
        receiver = self._receivers.get(subscription)
        if receiver is None or receiver.ended:
            receiver = self._receivers[subscription] = self._receiver(subscription)
        watch = receiver.subscribe(bucket, options, versioned=versioned)
        try:
            await receiver.ready.wait()
            watch.check()
            options.on_ready()
            while True:
                yield await watch.next()
        finally:
            receiver.unsubscribe(watch)
            if not receiver.watches:
                if self._receivers.get(subscription) is receiver:
                    del self._receivers[subscription]
                await self._end(receiver)

    def _receiver(self, subscription: str) -> _Receiver:
        return _Receiver(
            self._connect, self._renew, subscription, deadline=self._deadline, wait=self._wait, sleep=self._sleep
        )

    async def aclose(self) -> None:
        """End all watches with `ClosedError`; idempotent."""
        self._closed = True
        receivers, self._receivers = list(self._receivers.values()), {}
        for receiver in receivers:
            receiver.fail(ClosedError("the store is closed"))
            await self._end(receiver)

    async def _end(self, receiver: _Receiver) -> None:
        leftover = f"messages of {receiver.subscription!r}, which come again after up to {self._deadline} s"
        await finish(receiver.aclose(), timeout=self._cleanup_timeout, leftover=leftover)


class _Message:
    """A message that was received and is not settled.

    Attributes:
        ack_id: the newest handle for it.
        pending: how many watches have its event and have not asked for the next one.
        fate: what becomes of it when there are none: ``release`` gives it back at once, ``leave`` in its time.
        ends_at: when its deadline passes, in the loop's time.
    """

    __slots__ = ("ack_id", "ends_at", "fate", "message_id", "pending")

    def __init__(self, message_id: str, ack_id: str, ends_at: float) -> None:
        self.message_id = message_id
        self.ack_id = ack_id
        self.pending = 0
        self.fate: Literal["acknowledge", "release", "leave"] = "acknowledge"
        self.ends_at = ends_at


class _Watch:
    """One watch: the events that wait for its consumer, and the message of the one that it has.

    Attributes:
        bucket, buffer_size: what was asked for.
        waiting: whether its consumer waits for an event that is not there.
    """

    def __init__(self, bucket: str, options: WatchOptions, wake: Callable[[], None], *, versioned: bool) -> None:
        self.bucket = bucket
        self.buffer_size = options.buffer_size
        self.waiting = False
        self._prefix = options.prefix
        self._types = options.events
        self._wake = wake
        self._seen = Seen(versioned)
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
            if message.fate == "acknowledge":
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
    """A task that receives from one subscription while anybody wants events, and settles messages.

    It receives only when a watch has none left, so that what nobody has time for stays in the subscription.

    Attributes:
        subscription: its full name.
        watches: those that there are.
        ready: set once the subscription was found, or the task has failed.
        ended: whether the task is over.
    """

    def __init__(
        self, connect: Connect, renew: Renew, subscription: str, *, deadline: int, wait: int, sleep: _Sleep
    ) -> None:
        self.subscription = subscription
        self.watches: set[_Watch] = set()
        self.ready = asyncio.Event()
        self.ended = False
        self._connect = connect
        self._renew = renew
        self._deadline = deadline
        self._wait = wait
        self._sleep = sleep
        self._held: dict[str, _Message] = {}
        self._strangers: set[str] = set()
        self._wanted = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._client: Any = None
        self._first_deadline = _FIRST_DEADLINE
        self._task = asyncio.create_task(self._run())

    def subscribe(self, bucket: str, options: WatchOptions, *, versioned: bool) -> _Watch:
        """Add a watch; it gets what is received from now on."""
        watch = _Watch(bucket, options, self._wanted.set, versioned=versioned)
        self.watches.add(watch)
        return watch

    def unsubscribe(self, watch: _Watch) -> None:
        """Remove a watch; what it has not taken is delivered again."""
        self.watches.discard(watch)
        watch.give_back()
        self._wanted.set()

    def fail(self, error: TroveError) -> None:
        """End all watches."""
        for watch in self.watches:
            watch.fail(error)
        self.ready.set()

    async def aclose(self) -> None:
        """Settle what can be, give the rest back, and end; idempotent."""
        self._task.cancel()
        try:
            await asyncio.wait({self._task})
        except asyncio.CancelledError:
            self._task.cancel()
            raise

    async def _run(self) -> None:
        try:
            self._client = await self._connect()
            await self._find()
            self.ready.set()
            try:
                await self._serve()
            finally:
                await self._hand_back()
        except Exception as error:  # noqa: BLE001 - it is raised to the consumers
            self.fail(error if isinstance(error, TroveError) else _error_of(error, self.subscription))
        finally:
            self.ended = True

    async def _find(self) -> None:
        """See that the subscription is there, and how long its messages are ours at first."""
        try:
            found = await self._ask("get_subscription")
        except UnauthenticatedError:
            raise
        except AccessDeniedError as error:
            _log.info("watch: the subscription may be read and not be asked for: %s", error)  # receiving will tell
            return
        if found.get("topic") == "_deleted-topic_":
            raise NotFoundError(f"the topic of the subscription {self.subscription!r} was deleted")
        self._first_deadline = float(found.get("ackDeadlineSeconds") or _FIRST_DEADLINE)

    async def _serve(self) -> None:
        delay = _FIRST_DELAY
        while True:
            try:
                await self._turn()
                delay = _FIRST_DELAY
            except TroveError as error:
                if not error.retryable:
                    raise
                _log.warning("watch: %r failed and is asked again: %s", self.subscription, error)
                await self._sleep(max(delay, error.retry_after or 0.0))
                delay = min(2 * delay, _LONGEST_DELAY)

    async def _turn(self) -> None:
        self._wanted.clear()
        await self._settle()
        await self._extend()
        if any(watch.waiting for watch in self.watches):
            await self._receive()
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._deadline / 3 if self._held else None):
                await self._wanted.wait()

    async def _receive(self) -> None:
        # No more than the smallest buffer takes.
        room = min((watch.buffer_size for watch in self.watches), default=_BATCH)
        # What is held has to be extended meanwhile.
        wait = self._wait if not self._held else max(1, min(self._wait, self._deadline // 3))
        ends_at = self._loop.time() + self._first_deadline
        try:
            found = await self._ask("pull", max(1, min(_BATCH, room)), timeout=wait)
        except OperationTimeoutError:
            return  # nothing came
        for message in found:
            self._take(message, ends_at)

    def _take(self, message: Any, ends_at: float) -> None:
        held = self._held.get(message.message_id)
        if held is not None:
            # It came again too early; its event is with its consumers already.
            held.ack_id, held.ends_at = message.ack_id, ends_at
            return
        try:
            notice = read_notice(message.attributes or {}, message.data)
        except ValueError as error:
            _log.warning("watch: message %s of %r is left there: %s", message.message_id, self.subscription, error)
            return
        taken = self._held[message.message_id] = _Message(message.message_id, message.ack_id, ends_at)
        watches = [watch for watch in self.watches if watch.bucket == notice.bucket]
        if not watches:
            taken.fate = "leave"
            self._report_stranger(notice.bucket)
        for watch in watches:
            watch.offer(notice, taken)

    def _report_stranger(self, bucket: str) -> None:
        if bucket not in self._strangers:
            self._strangers.add(bucket)
            text = "watch: %r has messages of the bucket %r, which nobody here watches; they are left there"
            _log.warning(text, self.subscription, bucket)

    async def _settle(self) -> None:
        """Acknowledge the messages whose events were all taken, and give those back that have to come again."""
        over = [message for message in self._held.values() if not message.pending]
        for message in over:
            if message.fate == "leave":
                del self._held[message.message_id]
        for batch in _batches(message for message in over if message.fate == "acknowledge"):
            await self._ask("acknowledge", [message.ack_id for message in batch])
            self._forget(batch)
        for batch in _batches(message for message in over if message.fate == "release"):
            await self._ask("modify_ack_deadline", [message.ack_id for message in batch], 0)
            self._forget(batch)

    def _forget(self, messages: Iterable[_Message]) -> None:
        for message in messages:
            self._held.pop(message.message_id, None)

    async def _extend(self) -> None:
        """Keep messages that are being worked on, long before their deadline."""
        now = self._loop.time()
        due = [message for message in self._held.values() if message.ends_at - now <= self._deadline * 2 / 3]
        for batch in _batches(due):
            await self._ask("modify_ack_deadline", [message.ack_id for message in batch], self._deadline)
            for message in batch:
                message.ends_at = now + self._deadline

    async def _hand_back(self) -> None:
        """Settle what is over and give the rest back; what fails here comes again in its time."""
        try:
            for message in self._held.values():
                if message.pending:
                    message.pending, message.fate = 0, "release"
            await self._settle()
        except TroveError as error:
            _log.info("watch: messages of %r come again in a while: %s", self.subscription, error)

    async def _ask(self, operation: str, *arguments: Any, **more: Any) -> Any:
        renewed = False
        while True:
            try:
                return await getattr(self._client, operation)(self.subscription, *arguments, **more)
            except TroveError:
                raise
            except Exception as error:
                failure = _error_of(error, self.subscription)
                if isinstance(failure, UnauthenticatedError) and not renewed and await self._renew():
                    renewed = True
                    continue
                raise failure from error


def _batches(messages: Iterable[_Message]) -> list[list[_Message]]:
    found = list(messages)
    return [found[start : start + _SETTLED] for start in range(0, len(found), _SETTLED)]


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
        return BackendError(f"the endpoint does not speak the protocol of Pub/Sub: {words}")
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
