"""Watching through Pub/Sub: the server's own notifications, from its own subscriptions."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
import pytest
import pytest_asyncio

import trove_async as trove
from tests.gcs.stores import MIN_PART, opened
from trove_async.drivers.gcs import driver as driver_module
from trove_async.drivers.gcs.notifications import GCSNotification, LastGenerations, read_notification
from trove_async.drivers.gcs.pubsub import SubscriptionWatcher, subscription_of
from trove_async.testing.answers import Answer, AnsweringProxy
from trove_async.testing.gcs import GCSServer
from trove_async.types import EventType, ObjectEvent

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("delays")]

CREATED, UPDATED, DELETED = EventType.CREATED, EventType.UPDATED, EventType.DELETED


@pytest_asyncio.fixture
async def server() -> AsyncIterator[GCSServer]:
    async with GCSServer(minimum_part=MIN_PART, pull_wait=0.2) as server:
        yield server


@pytest_asyncio.fixture
async def api(server: GCSServer) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {server.issue_token()}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers) as client:
        yield client


@pytest_asyncio.fixture
async def subscription(server: GCSServer, bucket: str, api: httpx.AsyncClient) -> str:
    """Make the bucket send its notifications to a topic, and return a subscription to that topic."""
    topic = f"projects/{server.project}/topics/changes"
    await call(api, "PUT", f"/v1/{topic}", {})
    await call(api, "PUT", f"/v1/projects/{server.project}/subscriptions/events", {"topic": topic})
    settings = {"topic": f"//pubsub.googleapis.com/{topic}", "payload_format": "JSON_API_V1"}
    await call(api, "POST", f"/storage/v1/b/{bucket}/notificationConfigs", settings)
    return "events"


async def call(api: httpx.AsyncClient, method: str, path: str, content: dict[str, Any]) -> Any:
    answer = await api.request(method, path, json=content)
    assert answer.status_code == 200, answer.text
    return answer.json()


@asynccontextmanager
async def watching(server: GCSServer, subscription: str = "events", **settings: Any) -> AsyncIterator[trove.Trove]:
    chosen = {"watch": "pubsub", "subscription": subscription, "pubsub_endpoint": server.url, **settings}
    async with opened(server, **chosen) as store:
        yield store


async def take(watch: AsyncIterator[ObjectEvent], count: int) -> list[tuple[EventType, str]]:
    events = [await anext(watch) for _ in range(count)]
    return [(event.type, event.key) for event in events]


def pending(server: GCSServer) -> tuple[int, int]:
    """Return the numbers of waiting and of delivered messages."""
    [found] = server._pubsub.subscriptions.values()
    return len(found.waiting), len(found.leased)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the condition did not become true")


async def test_events_of_each_kind(server: GCSServer, bucket: str, subscription: str) -> None:
    async with watching(server) as store, store.watch(bucket) as watch:
        info = await store.put(bucket, "ä/key ☺", b"data")
        event = await anext(watch)
        assert (event.type, event.bucket, event.key) == (CREATED, bucket, "ä/key ☺")
        assert (event.size, event.etag, event.version_id) == (4, info.etag, info.etag)
        assert event.time is not None
        assert event.time.tzinfo is UTC
        await store.put(bucket, "ä/key ☺", b"more")
        await store.set_tags(bucket, "ä/key ☺", {"a": "b"})
        await store.delete(bucket, "ä/key ☺")
        await store.put(bucket, "other", b"x")
        await store.copy(bucket, "other", bucket, "copy")
        assert await take(watch, 4) == [
            (UPDATED, "ä/key ☺"),
            (DELETED, "ä/key ☺"),
            (CREATED, "other"),
            (CREATED, "copy"),
        ]
    assert pending(server) == (1, 0)  # the last delivered one, which was never acknowledged


async def test_a_large_object_is_one_event(server: GCSServer, bucket: str, subscription: str) -> None:
    async with watching(server) as store, store.watch(bucket) as watch:
        for uploads in ("parts", "resumable"):
            async with opened(server, uploads=uploads) as other:
                await other.put(bucket, uploads, bytes(600_000))
        assert await take(watch, 2) == [(CREATED, "parts"), (CREATED, "resumable")]


async def test_a_versioned_bucket_reports_only_changes_of_the_object(
    server: GCSServer, bucket: str, subscription: str
) -> None:
    async with watching(server) as store:
        await store.set_versioning(bucket, True)
        async with store.watch(bucket) as watch:
            one = await store.put(bucket, "key", b"1")
            await store.put(bucket, "key", b"2")
            await store.delete_version(bucket, "key", one.etag)  # which is noncurrent
            await store.delete(bucket, "key")
            last = await store.put(bucket, "key", b"3")
            await store.delete_version(bucket, "key", last.etag)  # which is the live one
            assert await take(watch, 5) == [
                (CREATED, "key"),
                (UPDATED, "key"),
                (DELETED, "key"),
                (CREATED, "key"),
                (DELETED, "key"),
            ]


async def test_prefix_and_kinds(server: GCSServer, bucket: str, subscription: str) -> None:
    async with watching(server) as store, store.watch(bucket, prefix="a/", events=[DELETED]) as watch:
        for key in ("a/1", "b/1", "a/2"):
            await store.put(bucket, key, b"x")
            await store.delete(bucket, key)
        assert await take(watch, 2) == [(DELETED, "a/1"), (DELETED, "a/2")]


async def test_an_unacknowledged_event_is_delivered_again(server: GCSServer, bucket: str, subscription: str) -> None:
    """Asking for the next event acknowledges the last; an unacknowledged event is delivered again."""
    async with watching(server) as store:
        for number in range(3):
            await store.put(bucket, f"key-{number}", b"x")
        async with store.watch(bucket) as watch:
            assert await take(watch, 2) == [(CREATED, "key-0"), (CREATED, "key-1")]
        assert pending(server) == (2, 0)
    async with watching(server) as store, store.watch(bucket) as watch:
        assert {key for _, key in await take(watch, 2)} == {"key-1", "key-2"}


async def test_a_repetition_is_not_an_event(server: GCSServer, bucket: str, subscription: str) -> None:
    async with watching(server) as store, store.watch(bucket) as watch:
        await store.put(bucket, "key", b"x")
        assert await take(watch, 1) == [(CREATED, "key")]
        [found] = server._pubsub.subscriptions.values()
        [leased] = found.leased.values()
        found.add(leased.message)
        found.add({**leased.message, "messageId": "another"})
        await store.put(bucket, "key", b"y")
        assert await take(watch, 1) == [(UPDATED, "key")]


async def test_a_slow_consumer_keeps_its_messages(server: GCSServer, bucket: str, subscription: str) -> None:
    """Their deadline, which the subscription sets to ten seconds, is extended while they are in use."""
    async with watching(server) as store, store.watch(bucket) as watch:
        await store.put(bucket, "key", b"x")
        await anext(watch)
        await until(lambda: server.requests.count("POST", ":modifyAckDeadline") > 0)
        [found] = server._pubsub.subscriptions.values()
        [leased] = found.leased.values()
        assert leased.until - time.monotonic() > 30


async def test_two_watches_share_a_subscription(server: GCSServer, bucket: str, subscription: str) -> None:
    async with watching(server) as store, store.watch(bucket) as one, store.watch(bucket, prefix="b") as two:
        for key in ("a", "b", "c"):
            await store.put(bucket, key, b"x")
        assert await take(one, 3) == [(CREATED, "a"), (CREATED, "b"), (CREATED, "c")]
        assert await take(two, 1) == [(CREATED, "b")]


async def test_a_buffer_that_overflows(server: GCSServer, bucket: str, subscription: str) -> None:
    async with watching(server) as store, store.watch(bucket) as fast, store.watch(bucket, buffer_size=2) as slow:
        for number in range(6):
            await store.put(bucket, f"key-{number}", b"x")
        assert len(await take(fast, 6)) == 6
        with pytest.raises(trove.WatchOverflowError):
            await take(slow, 6)


async def test_a_message_of_another_bucket_is_left(
    server: GCSServer, bucket: str, subscription: str, api: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    topic = f"projects/{server.project}/topics/changes"
    data = base64.b64encode(b"no notification").decode()
    await call(api, "POST", f"/v1/{topic}:publish", {"messages": [{"data": data}]})
    stranger = {"eventType": "OBJECT_FINALIZE", "bucketId": "elsewhere", "objectId": "key", "objectGeneration": "1"}
    stranger["eventTime"] = "2026-01-01T00:00:00Z"
    await call(api, "POST", f"/v1/{topic}:publish", {"messages": [{"attributes": stranger}]})
    async with watching(server) as store, store.watch(bucket) as watch:
        await store.put(bucket, "key", b"x")
        assert await take(watch, 1) == [(CREATED, "key")]
    assert "elsewhere" in caplog.text
    assert "stays in the queue" in caplog.text
    assert sum(pending(server)) >= 2


async def test_a_cancelled_watch_leaves_nothing(server: GCSServer, bucket: str, subscription: str) -> None:
    tasks = asyncio.all_tasks()
    async with watching(server) as store:

        async def consume() -> None:
            async with store.watch(bucket) as watch:
                await anext(watch)

        task = asyncio.create_task(consume())
        await until(lambda: server.requests.count("POST", ":pull") > 0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await until(lambda: asyncio.all_tasks() <= tasks)


async def test_closing_the_store_ends_the_watch(server: GCSServer, bucket: str, subscription: str) -> None:
    async with watching(server) as store:
        watch = store.watch(bucket)
        await watch.__aenter__()
        waiting = asyncio.create_task(anext(watch))
        await asyncio.sleep(0)
    with pytest.raises(trove.ClosedError):
        await waiting


# Errors


async def test_a_missing_subscription(server: GCSServer, bucket: str) -> None:
    async with watching(server, "nothing") as store:
        with pytest.raises(trove.NotFoundError, match="nothing"):
            async with store.watch(bucket):
                pass


async def test_a_missing_bucket(server: GCSServer, bucket: str, subscription: str) -> None:
    async with watching(server) as store:
        with pytest.raises(trove.BucketNotFoundError):
            async with store.watch("missing"):
                pass


async def test_a_refused_token_is_renewed(server: GCSServer, bucket: str, subscription: str, key_file: str) -> None:
    async with watching(server, access_token=None, credentials=key_file) as store, store.watch(bucket) as watch:
        await store.put(bucket, "one", b"x")
        await anext(watch)
        server.revoke_tokens()
        async with opened(server) as other:
            await other.put(bucket, "two", b"x")
        assert await take(watch, 1) == [(CREATED, "two")]


async def test_a_transient_failure_of_the_service(
    server: GCSServer, bucket: str, subscription: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(driver_module, "SubscriptionWatcher", partial(SubscriptionWatcher, sleep=sleep))
    async with AnsweringProxy(server.host, server.port) as service:
        service.answer(Answer(503), path=":pull", times=2)
        async with watching(server, pubsub_endpoint=service.url()) as store:
            await store.put(bucket, "key", b"x")
            async with store.watch(bucket) as watch, asyncio.timeout(20):
                assert await take(watch, 1) == [(CREATED, "key")]
        assert service.count("POST", ":pull") >= 3
    assert [0 <= delay <= 2**number for number, delay in enumerate(waited)] == [True, True]


async def test_an_endpoint_that_is_not_pubsub(server: GCSServer, bucket: str) -> None:
    async with AnsweringProxy(server.host, server.port) as service:
        service.answer(Answer(200, {"Content-Type": "text/html"}, b"<html>"), path="/v1/", times=None)
        async with watching(server, pubsub_endpoint=service.url()) as store:
            with pytest.raises(trove.BackendError, match="Pub/Sub"):
                async with store.watch(bucket):
                    pass


# Parsing and ordering of notifications


async def test_names_of_subscriptions() -> None:
    assert subscription_of("events", "b", "p") == "projects/p/subscriptions/events"
    assert subscription_of("events-{bucket}", "b", "p") == "projects/p/subscriptions/events-b"
    assert subscription_of("projects/q/subscriptions/s", "b", "p") == "projects/q/subscriptions/s"


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"eventTime": "yesterday"},
        {"eventTime": "2026-01-01T00:00:00"},
        {"objectGeneration": "x"},
    ],
)
async def test_invalid_notifications(attributes: dict[str, str]) -> None:
    whole = {
        "eventType": "OBJECT_FINALIZE",
        "bucketId": "b",
        "objectId": "k",
        "objectGeneration": "1",
        "eventTime": "2026-01-01T00:00:00Z",
    }
    assert read_notification(whole, None).change is CREATED
    assert read_notification({**whole, "payloadFormat": "NONE"}, b"").size is None
    with pytest.raises(ValueError, match="Cloud Storage"):
        read_notification(
            {**whole, **attributes} if len(attributes) == 1 and "eventType" not in attributes else attributes, None
        )


def notification(generation: int, change: EventType | None, *, permanent: bool = False) -> GCSNotification:
    return GCSNotification("bucket", "key", generation, change, permanent, None, datetime(2026, 1, 1, tzinfo=UTC))


async def test_a_late_notification_is_not_an_event() -> None:
    seen = LastGenerations(versioned=False)
    assert seen.classify(notification(5, CREATED)) is CREATED
    assert seen.classify(notification(5, CREATED)) is None
    assert seen.classify(notification(4, CREATED)) is None
    assert seen.classify(notification(4, DELETED)) is None
    assert seen.classify(notification(7, CREATED)) is UPDATED
    assert seen.classify(notification(7, DELETED, permanent=True)) is DELETED
    assert seen.classify(notification(7, DELETED, permanent=True)) is None
    assert seen.classify(notification(7, CREATED)) is None
    assert seen.classify(notification(8, CREATED)) is CREATED
    assert seen.classify(notification(9, None)) is None


async def test_the_end_of_a_generation_that_was_never_seen_live() -> None:
    """In a versioned bucket it is unknown whether it was the live one."""
    assert LastGenerations(versioned=True).classify(notification(5, DELETED, permanent=True)) is None
    assert LastGenerations(versioned=True).classify(notification(5, DELETED)) is DELETED
    assert LastGenerations(versioned=False).classify(notification(5, DELETED, permanent=True)) is DELETED


async def test_the_number_of_remembered_keys_is_bounded() -> None:
    seen = LastGenerations(versioned=False, capacity=10)
    for number in range(100):
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        seen.classify(GCSNotification("bucket", f"key-{number}", 1, CREATED, False, None, moment))
    assert len(seen._last) == 10
    assert isinstance(notification(1, CREATED).event(CREATED), ObjectEvent)
