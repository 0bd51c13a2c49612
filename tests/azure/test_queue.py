"""Watching through a storage queue: the server's queue, and messages as Event Grid writes them."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

import trove_async as trove
from tests.azure.stores import driver_of, opened
from tests.servers import running
from trove_async.driver import WatchOptions
from trove_async.driver.queues import LastChanges
from trove_async.drivers.azure.notifications import read_notifications
from trove_async.drivers.azure.queue import QueueWatcher
from trove_async.types import EventType

pytestmark = pytest.mark.asyncio

BOUND = 10


def event_of(bucket: str, key: str, kind: str = "Created", sequencer: int = 1, **data: Any) -> dict[str, Any]:
    """Return an event in Event Grid's own schema."""
    return {
        "topic": "/subscriptions/x/resourceGroups/y/providers/Microsoft.Storage/storageAccounts/acct",
        "subject": f"/blobServices/default/containers/{bucket}/blobs/{key}",
        "eventType": f"Microsoft.Storage.Blob{kind}",
        "id": str(uuid.uuid4()),
        "data": {
            "api": "PutBlob",
            "eTag": "0x8D4BCC2E4835CD0",
            "contentLength": 524288,
            "url": "https://acct.blob.core.windows.net/",
            "sequencer": f"{sequencer:064X}",
            **data,
        },
        "dataVersion": "",
        "metadataVersion": "1",
        "eventTime": "2026-06-26T18:41:00.9584103Z",
    }


def cloud_event_of(bucket: str, key: str) -> dict[str, Any]:
    event = event_of(bucket, key)
    return {
        "source": event["topic"],
        "subject": event["subject"],
        "type": event["eventType"],
        "time": event["eventTime"],
        "id": event["id"],
        "data": event["data"],
        "specversion": "1.0",
    }


class Queue:
    """The server's queue, through Microsoft's SDK."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.name: str = client.queue_name

    async def send(self, event: Any, *, encoded: bool = True) -> None:
        text = event if isinstance(event, str) else json.dumps(event)
        await self._client.send_message(base64.b64encode(text.encode()).decode() if encoded else text)

    async def count(self) -> int:
        properties = await self._client.get_queue_properties()
        return int(properties.approximate_message_count)

    async def until(self, visible: int) -> None:
        """Wait until this number of messages is visible."""
        async with asyncio.timeout(BOUND):
            while await self.visible() != visible:  # noqa: ASYNC110 - there is nothing to wait for
                await asyncio.sleep(0.01)

    async def visible(self) -> int:
        return len(await self._client.peek_messages(max_messages=32))


@pytest_asyncio.fixture
async def queue() -> AsyncIterator[Queue]:
    from azure.storage.queue.aio import QueueClient

    name = f"queue-{uuid.uuid4().hex[:12]}"
    async with QueueClient.from_connection_string(running("azurite").connection_string, name) as client:
        await client.create_queue()
        yield Queue(client)
        await client.delete_queue()


def watching(queue: Queue, **settings: Any) -> Any:
    return opened(watch="queue", queue=queue.name, queue_endpoint=running("azurite").queue_endpoint, **settings)


async def following(events: Any) -> trove.ObjectEvent:
    async with asyncio.timeout(BOUND):
        found: trove.ObjectEvent = await anext(events)
        return found


@pytest.mark.parametrize("encoded", [True, False])
async def test_events_of_both_schemas_are_read(bucket: str, queue: Queue, encoded: bool) -> None:
    async with watching(queue) as store, store.watch(bucket, poll_interval=0.02) as events:
        await queue.send(event_of(bucket, "a/ü b.txt"), encoded=encoded)
        event = await following(events)
        assert (event.type, event.bucket, event.key) == (EventType.CREATED, bucket, "a/ü b.txt")
        assert (event.etag, event.size) == ("0x8D4BCC2E4835CD0", 524288)
        assert event.time is not None
        assert event.time.isoformat() == "2026-06-26T18:41:00.958410+00:00"
        await queue.send(cloud_event_of(bucket, "b"), encoded=encoded)
        assert (await following(events)).key == "b"
        await queue.send([event_of(bucket, "c"), event_of(bucket, "d")], encoded=encoded)
        assert [(await following(events)).key, (await following(events)).key] == ["c", "d"]


async def test_a_message_is_deleted_when_its_event_is_acknowledged(bucket: str, queue: Queue) -> None:
    async with watching(queue) as store:
        async with store.watch(bucket, poll_interval=0.02) as events:
            await queue.send(event_of(bucket, "a"))
            await following(events)
            assert await queue.count() == 1
        # The event was not acknowledged: it is delivered again.
        await queue.until(1)
        async with store.watch(bucket, poll_interval=0.02) as events:
            assert (await following(events)).key == "a"
            await queue.send(event_of(bucket, "b"))
            assert (await following(events)).key == "b"
        await queue.until(1)
        assert await queue.count() == 1


async def test_repeated_and_late_messages_are_dropped(bucket: str, queue: Queue) -> None:
    async with watching(queue) as store, store.watch(bucket, poll_interval=0.02) as events:
        for event in (
            event_of(bucket, "a", sequencer=5),
            event_of(bucket, "a", sequencer=5),
            event_of(bucket, "a", sequencer=4),
            event_of(bucket, "a", sequencer=16),
            event_of(bucket, "a", "Deleted", sequencer=17),
            event_of(bucket, "a", sequencer=18),
            event_of(bucket, "last"),
        ):
            await queue.send(event)
        found = [await following(events) for _ in range(5)]
        kinds = [event.type.value.partition(".")[2] for event in found]
        assert kinds == ["created", "updated", "deleted", "created", "created"]
        assert (found[2].size, found[2].etag) == (None, None)
        assert found[-1].key == "last"


async def test_all_watches_of_a_queue_get_all_events(bucket: str, queue: Queue) -> None:
    async with (
        watching(queue) as store,
        store.watch(bucket, poll_interval=0.02) as one,
        store.watch(bucket, poll_interval=0.02, prefix="a/") as two,
        store.watch(bucket, poll_interval=0.02, events=["object.deleted"]) as three,
    ):
        for event in (event_of(bucket, "b"), event_of(bucket, "a/1"), event_of(bucket, "b", "Deleted", sequencer=2)):
            await queue.send(event)
        assert [(await following(one)).key for _ in range(3)] == ["b", "a/1", "b"]
        assert (await following(two)).key == "a/1"
        assert (await following(three)).key == "b"


async def test_unreadable_messages_and_those_of_others_are_left(
    bucket: str, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "trove_async"):
        async with watching(queue) as store, store.watch(bucket, poll_interval=0.02) as events:
            await queue.send("this is no JSON", encoded=False)
            await queue.send(
                {"subject": "/something/else", "eventType": "x", "eventTime": "2026-01-01T00:00:00Z", "data": {}}
            )
            await queue.send(event_of("another-container", "x"))
            await queue.send(event_of(bucket, "mine"))
            assert (await following(events)).key == "mine"
            await queue.send(event_of(bucket, "mine too"))
            assert (await following(events)).key == "mine too"
    assert await queue.count() == 4
    words = " ".join(record.message for record in caplog.records)
    assert words.count("is malformed and stays in the queue") == 2
    assert words.count("another-container") == 1


async def test_a_slow_consumer_keeps_its_messages(bucket: str, queue: Queue) -> None:
    """They stay invisible while they are in use."""
    async with watching(queue) as store:
        client = driver_of(store)._queues._client  # type: ignore[union-attr]
        watcher = QueueWatcher(client, queue.name, visibility=2)

        async def prepare() -> None: ...

        events = watcher.watch(bucket, WatchOptions(poll_interval=0.02), prepare=prepare)
        await queue.send(event_of(bucket, "a"))
        assert (await following(events)).key == "a"
        for _ in range(6):
            await asyncio.sleep(0.5)
            assert await queue.visible() == 0
        await events.aclose()
        assert await queue.visible() == 1
        await watcher.aclose()


async def test_a_missing_queue_or_container_is_reported(bucket: str, queue: Queue) -> None:
    async with watching(queue) as store:
        with pytest.raises(trove.BucketNotFoundError):
            async with store.watch("no-such-container"):
                pass
    endpoint = running("azurite").queue_endpoint
    async with opened(watch="queue", queue="no-such-queue", queue_endpoint=endpoint) as store:
        with pytest.raises(trove.NotFoundError, match="queue"):
            async with store.watch(bucket):
                pass


async def test_closing_the_store_ends_its_watches(bucket: str, queue: Queue) -> None:
    before = asyncio.all_tasks()
    async with watching(queue) as store:
        driver = driver_of(store)
        events = driver.watch(bucket, WatchOptions(poll_interval=0.02))
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.1)
        await store.aclose()
        with pytest.raises(trove.ClosedError):
            await waiting
        await events.aclose()
    assert asyncio.all_tasks() == before


async def test_the_name_of_the_queue_may_contain_that_of_the_container(bucket: str, queue: Queue) -> None:
    prefix, _, rest = queue.name.partition("-")
    watcher_name = f"{prefix}-{{bucket}}"
    async with watching(queue) as store:
        watcher = QueueWatcher(driver_of(store)._queues._client, watcher_name)  # type: ignore[union-attr]

        async def prepare() -> None: ...

        events = watcher.watch(rest, WatchOptions(poll_interval=0.02), prepare=prepare)
        await queue.send(event_of(rest, "a"))
        assert (await following(events)).key == "a"
        await events.aclose()
        await watcher.aclose()


async def test_messages_are_parsed_or_refused() -> None:
    [own] = read_notifications(json.dumps(event_of("bucket", "\u2e2dtrove/parts/x")))
    assert LastChanges().classify(own) is None
    [renamed] = read_notifications(json.dumps(event_of("bucket", "key", "Renamed")))
    assert LastChanges().classify(renamed) is None
    [made] = read_notifications(json.dumps(event_of("bucket", "key", api="CreateFile")))
    assert LastChanges().classify(made) is None
    for text in (
        "",
        "null",
        "1",
        "{}",
        "[1]",
        "e30=",
        json.dumps({**event_of("b", "k"), "eventTime": "2026-01-01T00:00:00"}),
    ):
        with pytest.raises(ValueError, match="not an event of Event Grid"):
            read_notifications(text)
    without = [
        read_notifications(json.dumps(event_of("bucket", "key", sequencer=0) | {"data": {"eTag": tag}}))[0]
        for tag in "aab"
    ]
    seen = LastChanges()
    assert [seen.classify(notification) for notification in without] == [EventType.CREATED, None, EventType.UPDATED]
