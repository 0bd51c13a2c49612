"""Watching through a queue, with moto's S3 and SQS."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from botocore.exceptions import ClientError, EndpointConnectionError

from tests.s3.queues import QueuedBucket, Watching, name, queued_bucket, record
from trove_async.cancellation import CleanupWarning
from trove_async.driver import WatchOptions
from trove_async.driver.retry import WATCHING
from trove_async.drivers.s3.sqs import queue_of
from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    ClosedError,
    NotFoundError,
    TroveError,
    UnavailableError,
    WatchOverflowError,
)
from trove_async.testing.conformance.context import leftover_tasks
from trove_async.types import EventType

pytestmark = pytest.mark.asyncio

CREATED, UPDATED, DELETED = EventType.CREATED, EventType.UPDATED, EventType.DELETED


@pytest_asyncio.fixture
async def queued() -> AsyncIterator[QueuedBucket]:
    """Yield a bucket and its queue; assert at the end that no client and no task of a watch is left."""
    before = asyncio.all_tasks()
    async with queued_bucket() as found:
        yield found
        assert found.tap.open == 0
    gc.collect()
    assert await leftover_tasks(before) == []


def denied(operation: str) -> ClientError:
    answer = {"Error": {"Code": "AccessDenied", "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    return ClientError(answer, operation)


def unreachable() -> EndpointConnectionError:
    return EndpointConnectionError(endpoint_url="http://sqs.test")


async def test_changes_of_the_bucket(queued: QueuedBucket) -> None:
    async with queued.watch() as watch:
        for key in ("k", "a b/ü+%2F/😀.txt", "..//x/"):
            etag = await queued.put(key, b"first")
            event = await watch.next_of(CREATED, key)
            assert (event.bucket, event.size, event.etag) == (queued.bucket, 5, etag)
            assert event.time is not None
            assert event.time.tzinfo is not None
            etag = await queued.put(key, b"second")
            event = await watch.next_of(UPDATED, key)
            assert event.etag == etag
            await queued.delete(key)
            event = await watch.next_of(DELETED, key)
            assert (event.size, event.etag) == (None, None)


async def test_an_upload_that_is_reported_twice_is_one_event(queued: QueuedBucket) -> None:
    async with queued.watch() as watch:
        target = {"Bucket": queued.bucket, "Key": "k"}
        upload = (await queued.s3.create_multipart_upload(**target))["UploadId"]
        part = await queued.s3.upload_part(**target, UploadId=upload, PartNumber=1, Body=b"x")
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        await queued.s3.complete_multipart_upload(**target, UploadId=upload, MultipartUpload=parts)
        await watch.next_of(CREATED, "k")
        await queued.put("last")
        await watch.next_of(CREATED, "last")


async def test_messages_of_eventbridge_and_of_topics(queued: QueuedBucket) -> None:
    bridge = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "time": "2026-01-02T03:04:05Z",
        "detail": {"bucket": {"name": queued.bucket}, "object": {"key": "a+b", "size": 1, "etag": "1"}},
    }
    async with queued.watch() as watch:
        await queued.send(bridge)
        await watch.next_of(CREATED, "a+b")
        await queued.send({"Type": "Notification", "Message": json.dumps({"Records": [record(queued.bucket, "a+c")]})})
        await watch.next_of(CREATED, "a c")


async def test_repetitions_are_deleted_without_an_event(queued: QueuedBucket) -> None:
    async with queued.watch() as watch:
        for sequencer in ("0A", "0B", "0A", "0B"):
            await queued.notify("k", sequencer=sequencer)
        await queued.notify("last")
        await watch.next_of(CREATED, "k")
        await watch.next_of(UPDATED, "k")
        await watch.next_of(CREATED, "last")
        watch.ask()
        await queued.until_depth((0, 0))


async def test_a_message_is_deleted_when_the_next_event_is_requested(queued: QueuedBucket) -> None:
    async with queued.watch() as watch:
        await queued.put("k")
        await watch.next_of(CREATED, "k")
        assert await queued.depth() == (0, 1)
        assert queued.tap.count("delete_message_batch") == 0
        watch.ask()
        await queued.until_depth((0, 0))


async def test_an_unacknowledged_message_is_delivered_again(queued: QueuedBucket) -> None:
    for key in "abc":
        await queued.put(key)
    async with queued.watch() as watch:
        await watch.next_of(CREATED, "a")
        await watch.next_of(CREATED, "b")
    assert await queued.depth() == (2, 0), "only the first was acknowledged, and nothing stays invisible"
    async with queued.watch() as watch:
        await watch.next_of(CREATED, "b")
        await watch.next_of(CREATED, "c")
        watch.ask()
        await queued.until_depth((0, 0))


async def test_messages_stay_invisible_for_a_slow_consumer(queued: QueuedBucket) -> None:
    watcher = queued.watcher(visibility=2)
    async with queued.watch(watcher) as watch:
        await queued.put("k")
        await watch.next_of(CREATED, "k")
        while queued.tap.count("change_message_visibility_batch") < 5:
            await asyncio.sleep(0.1)
            assert await queued.depth() == (0, 1)
        watch.ask()
        await queued.until_depth((0, 0))


async def test_only_messages_that_can_be_handled_in_time_are_received(queued: QueuedBucket) -> None:
    for number in range(25):
        await queued.notify(f"k{number}")
    async with queued.watch() as watch:
        for _ in range(11):
            await watch.next()
        for _ in range(5):
            await asyncio.sleep(0.02)
        assert await queued.depth() == (5, 10)
        for _ in range(14):
            await watch.next()
        watch.ask()
        await queued.until_depth((0, 0))


async def test_messages_outside_prefix_and_types_are_deleted(queued: QueuedBucket) -> None:
    async with queued.watch(prefix="p/", events=frozenset({UPDATED, DELETED})) as watch:
        for key in ("p/k", "q/k", "p"):
            await queued.put(key)
            await queued.put(key, b"yy")
        await watch.next_of(UPDATED, "p/k")
        await queued.delete("q/k")
        await queued.delete("p/k")
        await watch.next_of(DELETED, "p/k")
        watch.ask()
        await queued.until_depth((0, 0))


async def test_s3s_test_message_is_deleted(queued: QueuedBucket) -> None:
    await queued.send({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": queued.bucket})
    async with queued.watch():
        await queued.until_depth((0, 0))


async def test_an_unreadable_message_is_left_and_named(queued: QueuedBucket, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "trove_async"):
        await queued.send("nonsense")
        await queued.send({"Records": [{}]})
        async with queued.watch() as watch:
            await queued.put("k")
            await watch.next_of(CREATED, "k")
            watch.ask()
            await queued.until_depth((0, 2))
    assert len(caplog.records) == 2
    assert all(queued.queue in found.getMessage() for found in caplog.records)
    assert "nonsense" not in caplog.text


async def test_messages_of_other_buckets_are_left(queued: QueuedBucket, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "trove_async"):
        for key in "ab":
            await queued.send({"Records": [record("other-bucket", key)]})
        await queued.send({"Records": [record("other-bucket", "c"), record(queued.bucket, "mine")]})
        async with queued.watch() as watch:
            await watch.next_of(CREATED, "mine")
            await queued.put("k")
            await watch.next_of(CREATED, "k")
            watch.ask()
            await queued.until_depth((0, 3))
    assert [found.getMessage() for found in caplog.records if "'other-bucket'" in found.getMessage()] != []
    assert len(caplog.records) == 1


async def test_every_watch_of_a_queue_gets_every_event(queued: QueuedBucket) -> None:
    watcher = queued.watcher()
    async with queued.watch(watcher) as one, queued.watch(watcher, prefix="b") as other:
        assert queued.tap.open == 1
        for key in "abc":
            await queued.put(key)
        for key in "abc":
            await one.next_of(CREATED, key)
        one.ask()
        await queued.until_depth((0, 1))
        await other.next_of(CREATED, "b")
        other.ask()
        await queued.until_depth((0, 0))


async def test_messages_that_a_watch_did_not_take_come_again_when_it_ends(queued: QueuedBucket) -> None:
    watcher = queued.watcher()
    async with queued.watch(watcher) as one:
        async with queued.watch(watcher) as other:
            await queued.put("k")
            await one.next_of(CREATED, "k")
            one.ask()
            await other.next_of(CREATED, "k")
            assert await queued.depth() == (0, 1)
        # The message is released for a new watch, and its repetition for the one that has taken it.
        await queued.until_depth((0, 0))


async def test_a_message_that_is_redelivered_too_early_waits_for_its_consumer(queued: QueuedBucket) -> None:
    watcher = queued.watcher()
    async with queued.watch(watcher) as fast, queued.watch(watcher) as slow:
        await queued.put("k")
        await slow.next_of(CREATED, "k")
        await fast.next_of(CREATED, "k")
        (receipt,) = queued.tap.receipts
        await queued.sqs.change_message_visibility(QueueUrl=queued.url, ReceiptHandle=receipt, VisibilityTimeout=0)
        await queued.put("last")
        await fast.next_of(CREATED, "last")
        assert len(queued.tap.receipts) == 3
        assert await queued.depth() == (0, 2)
        await slow.next_of(CREATED, "last")
        slow.ask()
        fast.ask()
        await queued.until_depth((0, 0))


async def test_a_watch_that_is_slower_than_others_overflows(queued: QueuedBucket) -> None:
    watcher = queued.watcher()
    async with queued.watch(watcher) as fast, queued.watch(watcher, buffer_size=3) as slow:
        for number in range(8):
            await queued.put(f"k{number}")
        await slow.next_of(CREATED, "k0")
        for number in range(8):
            await fast.next_of(CREATED, f"k{number}")
        with pytest.raises(WatchOverflowError, match="more than 3"):
            await slow.next()
        fast.ask()
        await queued.until_depth((0, 0))


async def test_a_small_buffer_is_enough_for_a_single_watch(queued: QueuedBucket) -> None:
    async with queued.watch(buffer_size=1) as watch:
        for number in range(12):
            await queued.put(f"k{number}")
        for number in range(12):
            await watch.next_of(CREATED, f"k{number}")


async def test_a_missing_bucket_is_an_error_before_the_queue_is_used(queued: QueuedBucket) -> None:
    async def missing() -> None:
        raise ZeroDivisionError

    options = WatchOptions(on_ready=lambda: pytest.fail("it is not ready"))
    with pytest.raises(ZeroDivisionError):
        await anext(queued.watcher().watch(queued.bucket, options, prepare=missing))
    assert queued.tap.calls == []


@pytest.mark.parametrize("as_url", [False, True])
async def test_a_queue_that_is_missing(queued: QueuedBucket, as_url: bool) -> None:
    queue = queued.url.replace(queued.queue, name()) if as_url else name()
    options = WatchOptions(on_ready=lambda: pytest.fail("it is not ready"))
    with pytest.raises(NotFoundError, match="does not exist; create it") as caught:
        await anext(queued.watcher(queue).watch(queued.bucket, options, prepare=queued.exists))
    assert isinstance(caught.value.__cause__, ClientError)


async def test_the_queue_may_be_given_as_url_or_with_the_bucket_s_name(queued: QueuedBucket) -> None:
    await queued.put("k")
    async with queued.watch(queued.watcher(queued.url)) as watch:
        await watch.next_of(CREATED, "k")
    assert queue_of("events-{bucket}", "my.bucket") == "events-my-bucket"
    await queued.sqs.create_queue(QueueName=f"events-{queued.bucket}")
    async with queued.watch(queued.watcher("events-{bucket}")):
        assert ("get_queue_url", {"QueueName": f"events-{queued.bucket}"}) in queued.tap.calls


async def test_closing_ends_all_watches(queued: QueuedBucket) -> None:
    watcher = queued.watcher()
    async with queued.watch(watcher) as one, queued.watch(watcher) as other:
        await queued.put("k")
        await one.next_of(CREATED, "k")
        await other.next_of(CREATED, "k")
        other.ask()
        await watcher.aclose()
        await watcher.aclose()
        assert queued.tap.open == 0
        for watch in (one, other):
            with pytest.raises(ClosedError):
                await watch.next()
    assert await queued.depth() == (1, 0)


async def test_a_watch_that_is_being_prepared_at_close_does_not_begin(queued: QueuedBucket) -> None:
    watcher = queued.watcher()
    options = WatchOptions(on_ready=lambda: pytest.fail("it is not ready"))
    with pytest.raises(ClosedError):
        await anext(watcher.watch(queued.bucket, options, prepare=watcher.aclose))
    assert queued.tap.calls == []


async def test_transient_failures_are_survived(queued: QueuedBucket, caplog: pytest.LogCaptureFixture) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    with caplog.at_level(logging.WARNING, "trove_async"):
        async with queued.watch(queued.watcher(sleep=sleep)) as watch:
            await queued.put("a")
            await watch.next_of(CREATED, "a")
            queued.tap.errors = {"delete_message_batch": [unreachable()], "receive_message": [unreachable()]}
            await queued.put("b")
            await watch.next_of(CREATED, "b")
            watch.ask()
            await queued.until_depth((0, 0))
    assert len(slept) == 2
    assert all(seconds <= WATCHING.ceiling(2) for seconds in slept)
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("operation", "error", "kind"),
    [
        ("get_queue_url", denied, AccessDeniedError),
        ("receive_message", denied, AccessDeniedError),
        ("receive_message", lambda _: unreachable(), UnavailableError),
        ("receive_message", ValueError, BackendError),
    ],
)
async def test_a_failure_before_the_subscription_is_raised_and_the_next_watch_tries_again(
    queued: QueuedBucket, operation: str, error: type[Exception], kind: type[TroveError]
) -> None:
    watcher = queued.watcher()
    queued.tap.errors = {operation: [error(operation)]}
    options = WatchOptions(on_ready=lambda: pytest.fail("it is not ready"))
    with pytest.raises(kind) as caught:
        await anext(watcher.watch(queued.bucket, options, prepare=queued.exists))
    assert not isinstance(caught.value.__cause__, TroveError)
    await queued.put("k")
    async with queued.watch(watcher) as watch:
        await watch.next_of(CREATED, "k")


async def test_a_permanent_failure_ends_all_watches_each_with_its_own_error(queued: QueuedBucket) -> None:
    watcher = queued.watcher()
    async with queued.watch(watcher) as one, queued.watch(watcher) as other:
        await queued.put("k")
        await one.next_of(CREATED, "k")
        await other.next_of(CREATED, "k")
        queued.tap.errors = {"delete_message_batch": [denied("DeleteMessageBatch")]}
        found = []
        for watch in (one, other):
            watch.ask()
        for watch in (one, other):
            with pytest.raises(AccessDeniedError) as caught:
                await watch.next()
            found.append(caught.value)
        assert found[0] is not found[1]


async def _until_stalled(queued: QueuedBucket, operation: str) -> Watching:
    """Watch until an operation stalls, after one event was acknowledged and one was taken."""
    queued.tap.stall = operation
    watch = queued.watch(queued.watcher(visibility=2))
    watch.ask()
    stalled = asyncio.ensure_future(queued.tap.stalled.wait())
    async with asyncio.timeout(20):
        while not stalled.done():
            if watch.step is None:
                if operation == "change_message_visibility_batch":
                    await stalled
                    break
                watch.ask()
            assert watch.step is not None
            await asyncio.wait({stalled, watch.step}, return_when=asyncio.FIRST_COMPLETED)
            if watch.step.done():
                watch.step.result()
                watch.step = None
    return watch


@pytest.mark.parametrize(
    "operation",
    ["connect", "get_queue_url", "receive_message", "delete_message_batch", "change_message_visibility_batch"],
)
async def test_cancelled_at_any_stall_it_leaves_nothing_and_loses_nothing(queued: QueuedBucket, operation: str) -> None:
    before = asyncio.all_tasks()
    await queued.put("first")
    watch = await _until_stalled(queued, operation)
    await watch.aclose()
    assert asyncio.all_tasks() == before
    assert queued.tap.open == 0
    acknowledged = operation == "delete_message_batch"
    assert await queued.depth() == ((0, 0) if acknowledged else (1, 0))
    if not acknowledged:
        async with queued.watch() as again:
            await again.next_of(CREATED, "first")


async def test_the_clean_up_has_a_time_limit(queued: QueuedBucket) -> None:
    watch = queued.watch(queued.watcher(cleanup_timeout=0.1))
    async with watch:
        await queued.put("k")
        await watch.next_of(CREATED, "k")
        queued.tap.stall, queued.tap.stalls = "change_message_visibility_batch", 2
        with pytest.warns(CleanupWarning, match=queued.queue):
            await watch.events.aclose()
    for _ in range(50):
        await asyncio.sleep(0.01)
    assert queued.tap.open == 0
