from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

import trove_async
from trove_async.driver import WatchOptions
from trove_async.errors import BucketNotFoundError, ClosedError, UnsupportedError, WatchOverflowError
from trove_async.opening import Opening
from trove_async.store.watch import Watch
from trove_async.testing.mock import MockDriver
from trove_async.types import EventType, ObjectEvent

pytestmark = pytest.mark.asyncio


def event(key: str) -> ObjectEvent:
    return ObjectEvent(EventType.CREATED, "b", key)


class Source:
    """A driver's watch that sends the events of a test."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[ObjectEvent | BaseException] = asyncio.Queue()
        self.subscribing = asyncio.Event()
        self.may_subscribe = asyncio.Event()
        self.may_subscribe.set()
        self.options: WatchOptions | None = None
        self.ended = 0

    async def watch(self, bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        self.options = options
        try:
            self.subscribing.set()
            await self.may_subscribe.wait()
            options.on_ready()
            while True:
                item = await self.queue.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self.ended += 1

    def store(self) -> Opening[trove_async.Trove]:
        return trove_async.open(MockDriver(watch=self.watch))


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_entering_returns_after_the_subscription() -> None:
    source = Source()
    source.may_subscribe.clear()
    async with source.store() as t:
        watch = t.watch("b", prefix="p/", events=["object.created", EventType.DELETED], buffer_size=3)
        entering = asyncio.create_task(watch.__aenter__())
        await source.subscribing.wait()
        await turns()
        assert not entering.done()
        source.may_subscribe.set()
        assert await entering is watch
        await watch.aclose()
    assert source.options is not None
    assert source.options.prefix == "p/"
    assert source.options.events == {EventType.CREATED, EventType.DELETED}
    assert source.options.buffer_size == 3
    assert source.ended == 1


async def test_events_arrive_in_order_and_leaving_the_block_ends_the_subscription() -> None:
    source = Source()
    for key in "abc":
        source.queue.put_nowait(event(key))
    seen = []
    async with source.store() as t, t.watch("b") as events:
        async for seen_event in events:
            seen.append(seen_event.key)
            if len(seen) == 3:
                break
    assert seen == ["a", "b", "c"]
    assert source.ended == 1


async def test_without_a_block_the_first_step_subscribes() -> None:
    source = Source()
    source.queue.put_nowait(event("a"))
    async with source.store() as t:
        watch = t.watch("b")
        await turns()
        assert not source.subscribing.is_set()
        assert (await anext(watch)).key == "a"
        await watch.aclose()
        await watch.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(watch)
    assert source.ended == 1


async def test_a_step_that_times_out_loses_no_event() -> None:
    source = Source()
    async with source.store() as t, t.watch("b") as events:
        for key in "abc":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await anext(events)
            source.queue.put_nowait(event(key))
            assert (await anext(events)).key == key


async def test_a_step_that_is_cancelled_as_its_event_arrives_loses_no_event() -> None:
    # The event and the cancellation arrive within the same few turns of the loop, in every order.
    for delay in range(8):
        source = Source()
        async with source.store() as t, t.watch("b") as events:
            step = asyncio.ensure_future(anext(events))
            await turns()
            source.queue.put_nowait(event("a"))
            await turns(delay)
            step.cancel()
            await asyncio.wait({step})
            source.queue.put_nowait(event("b"))
            first = (await anext(events)).key if step.cancelled() else step.result().key
            assert (first, (await anext(events)).key) == ("a", "b")


async def test_an_error_before_the_subscription_is_raised_on_entering() -> None:
    async with trove_async.open(MockDriver(watch=BucketNotFoundError())) as t:
        with pytest.raises(BucketNotFoundError) as caught:
            async with t.watch("b"):
                raise AssertionError("it was entered")
    assert (caught.value.operation, caught.value.bucket, caught.value.driver) == ("watch", "b", "mock")


async def test_an_event_before_the_subscription_is_confirmed_is_not_lost() -> None:
    async def hasty(bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        yield event("a")
        await asyncio.Event().wait()

    async with trove_async.open(MockDriver(watch=hasty)) as t, t.watch("b") as events:
        assert (await anext(events)).key == "a"


async def test_an_error_ends_the_watch_and_gets_its_context() -> None:
    source = Source()
    source.queue.put_nowait(event("a"))
    source.queue.put_nowait(WatchOverflowError())
    async with source.store() as t, t.watch("b") as events:
        assert (await anext(events)).key == "a"
        with pytest.raises(WatchOverflowError) as caught:
            await anext(events)
        assert (caught.value.operation, caught.value.bucket) == ("watch", "b")
        with pytest.raises(StopAsyncIteration):
            await anext(events)


async def test_a_watch_that_the_driver_ends_raises() -> None:
    async def short(bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        options.on_ready()
        yield event("a")

    async with trove_async.open(MockDriver(watch=short)) as t, t.watch("b") as events:
        await anext(events)
        with pytest.raises(ClosedError, match="ended"):
            await anext(events)


async def test_cancelling_the_entry_ends_the_subscription() -> None:
    source = Source()
    source.may_subscribe.clear()
    async with source.store() as t:
        entering = asyncio.create_task(t.watch("b").__aenter__())
        await source.subscribing.wait()
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
    assert source.ended == 1


async def test_closing_ends_the_loop_of_another_task() -> None:
    source = Source()
    async with source.store() as t:
        watch = await t.watch("b").__aenter__()

        async def consume() -> list[ObjectEvent]:
            return [seen async for seen in watch]

        consumer = asyncio.create_task(consume())
        await turns()
        await watch.aclose()
        assert await consumer == []
    assert source.ended == 1


async def test_a_watch_is_entered_once() -> None:
    source = Source()
    async with source.store() as t, t.watch("b") as events:
        with pytest.raises(ClosedError, match="once"):
            await events.__aenter__()


async def test_a_watch_that_was_never_started_closes_without_a_warning() -> None:
    source = Source()
    async with source.store() as t:
        watch: Watch = t.watch("b")
        await watch.aclose()
    assert not source.subscribing.is_set()


async def test_a_resume_token_is_refused_if_it_would_be_ignored() -> None:
    async with Source().store() as t:
        with pytest.raises(UnsupportedError, match="resume"):
            t.watch("b", resume_token="x")
