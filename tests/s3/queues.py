"""A bucket on moto whose events are sent to a queue, and clients that a test can disturb."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from aiobotocore.session import get_session

from tests.servers import running
from trove_async.driver import WatchOptions
from trove_async.drivers.s3.queue_setup import setup_queue
from trove_async.drivers.s3.sqs import QueueWatcher
from trove_async.types import EventType, ObjectEvent

BOUND = 30

_SESSION = get_session()  # one, since each session loads the SDK's models again


def client(service: str) -> Any:
    """Return a context manager that yields a client for moto."""
    server = running("moto")
    return _SESSION.create_client(
        service,
        region_name=server.region,
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    )


def name() -> str:
    return f"t{uuid.uuid4().hex[:16]}"


class Tap:
    """A client whose calls are recorded, and may be stalled or made to fail.

    Attributes:
        calls: each operation with its parameters.
        stall: the operation that waits forever, ``stalls`` times; ``stalled`` is set when it does.
        errors: the exceptions that operations raise, one after the other, instead of being carried out.
        receipts: the receipts of the received messages.
        open: the number of open clients.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.stall: str | None = None
        self.stalls = 1
        self.stalled = asyncio.Event()
        self.errors: dict[str, list[Exception]] = {}
        self.receipts: list[str] = []
        self.open = 0

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Any]:
        await self._stall("connect")
        async with client("sqs") as inner:
            self.open += 1
            try:
                yield _Tapped(self, inner)
            finally:
                self.open -= 1

    async def call(self, operation: str, inner: Any, parameters: dict[str, Any]) -> Any:
        self.calls.append((operation, parameters))
        await self._stall(operation)
        if self.errors.get(operation):
            raise self.errors[operation].pop(0)
        answer = await getattr(inner, operation)(**parameters)
        self.receipts += [message["ReceiptHandle"] for message in answer.get("Messages", ())]
        return answer

    async def _stall(self, operation: str) -> None:
        if self.stall == operation and self.stalls:
            self.stalls -= 1
            self.stalled.set()
            await asyncio.Event().wait()

    def count(self, operation: str) -> int:
        return sum(found == operation for found, _ in self.calls)


class _Tapped:
    def __init__(self, tap: Tap, inner: Any) -> None:
        self._tap = tap
        self._inner = inner

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        return lambda **parameters: self._tap.call(operation, self._inner, parameters)


class QueuedBucket:
    """A bucket, its queue, and the actions of a test on both.

    Attributes:
        s3, sqs: the test's own clients.
        bucket, queue, url: the names.
        tap: the clients of the watches.
    """

    def __init__(self, s3: Any, sqs: Any) -> None:
        self.s3 = s3
        self.sqs = sqs
        self.bucket = name()
        self.queue = name()
        self.url = ""
        self.tap = Tap()

    def watcher(self, queue: str | None = None, **options: Any) -> QueueWatcher:
        return QueueWatcher(self.tap.connect, queue or self.queue, **{"visibility": 6, **options})

    async def exists(self) -> None:
        await self.s3.head_bucket(Bucket=self.bucket)

    def watch(self, watcher: QueueWatcher | None = None, **options: Any) -> Watching:
        return Watching(self, watcher or self.watcher(), options)

    async def put(self, key: str, data: bytes = b"x") -> str:
        answer = await self.s3.put_object(Bucket=self.bucket, Key=key, Body=data)
        return str(answer["ETag"].strip('"'))

    async def delete(self, key: str) -> None:
        await self.s3.delete_object(Bucket=self.bucket, Key=key)

    async def send(self, body: object) -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        await self.sqs.send_message(QueueUrl=self.url, MessageBody=text)

    async def notify(
        self, key: str, change: str = "ObjectCreated:Put", *, bucket: str | None = None, **more: Any
    ) -> None:
        """Send a message as S3 does."""
        await self.send({"Records": [record(bucket or self.bucket, key, change, **more)]})

    async def depth(self) -> tuple[int, int]:
        """Return the numbers of visible and of invisible messages."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = await self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)
        visible, hidden = (int(answer["Attributes"][name]) for name in names)
        return visible, hidden

    async def until_depth(self, expected: tuple[int, int]) -> None:
        """Wait until the queue has these numbers of visible and invisible messages."""
        for _ in range(BOUND * 20):
            if await self.depth() == expected:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"the queue holds {await self.depth()} messages, not {expected}")

    async def drain(self) -> None:
        """Remove the waiting messages, including S3's test message."""
        await self.sqs.purge_queue(QueueUrl=self.url)


class Watching:
    """A watch within its block; `next` has a time limit."""

    def __init__(self, queued: QueuedBucket, watcher: QueueWatcher, options: dict[str, Any]) -> None:
        self.ready = asyncio.Event()
        chosen = WatchOptions(on_ready=self.ready.set, **options)
        self.events = watcher.watch(queued.bucket, chosen, prepare=queued.exists)
        self.step: asyncio.Task[ObjectEvent] | None = None

    async def __aenter__(self) -> Watching:
        self.ask()
        ready = asyncio.ensure_future(self.ready.wait())
        assert self.step is not None
        try:
            async with asyncio.timeout(BOUND):
                await asyncio.wait({ready, self.step}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        return self

    def ask(self) -> None:
        """Request the next event, which acknowledges the last."""
        self.step = asyncio.ensure_future(anext(self.events))

    async def next(self) -> ObjectEvent:
        """Return the requested event; the next call requests the next one."""
        if self.step is None:
            self.ask()
        assert self.step is not None
        async with asyncio.timeout(BOUND):
            event = await self.step
        self.step = None
        return event

    async def next_of(self, kind: EventType, key: str) -> ObjectEvent:
        event = await self.next()
        assert (event.type, event.key) == (kind, key)
        return event

    async def aclose(self) -> None:
        """Cancel the pending step, and end the watch."""
        if self.step is not None:
            self.step.cancel()
            await asyncio.wait({self.step})
            if not self.step.cancelled():
                self.step.exception()
        await self.events.aclose()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def record(bucket: str, key: str, change: str = "ObjectCreated:Put", **more: Any) -> dict[str, Any]:
    """Return a record as S3 writes it; the key is inserted as given."""
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventTime": "2026-01-02T03:04:05.678Z",
        "eventName": change,
        "s3": {"bucket": {"name": bucket}, "object": {"key": key, **more}},
    }


@asynccontextmanager
async def queued_bucket() -> AsyncIterator[QueuedBucket]:
    """Create a bucket and a queue for its events, and remove both at the end."""
    async with AsyncExitStack() as stack:
        s3, sqs = [await stack.enter_async_context(client(service)) for service in ("s3", "sqs")]
        queued = QueuedBucket(s3, sqs)
        await s3.create_bucket(Bucket=queued.bucket)
        queued.url = await setup_queue(s3, sqs, queued.bucket, queued.queue)
        await queued.drain()
        try:
            yield queued
        finally:
            await sqs.delete_queue(QueueUrl=queued.url)
            listed = await s3.list_objects_v2(Bucket=queued.bucket)
            for found in listed.get("Contents", ()):
                await s3.delete_object(Bucket=queued.bucket, Key=found["Key"])
            await s3.delete_bucket(Bucket=queued.bucket)
