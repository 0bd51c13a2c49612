"""E: events."""

from __future__ import annotations

import asyncio

import pytest

from trove_async.driver import NotificationDriver
from trove_async.errors import BucketNotFoundError, UnsupportedError
from trove_async.store.watch import Watch
from trove_async.testing.conformance.context import Context, requires
from trove_async.types import EventType, ObjectEvent

__all__ = ["EventChecks"]

_BOUND = 20
_POLL = 0.05


async def _next(events: Watch) -> ObjectEvent:
    """Return the next event; fail if none comes within the time limit."""
    async with asyncio.timeout(_BOUND):
        return await anext(events)


async def _next_of(events: Watch, kind: EventType, key: str) -> ObjectEvent:
    event = await _next(events)
    assert (event.type, event.key) == (kind, key)
    return event


class EventChecks:
    """Each change is seen by the store that made it and by others, in order for each key.

    Backends that poll or look at files may join quick changes of a key, so the checks wait for each event before
    they make the next change of that key.
    """

    @requires(NotificationDriver)
    async def test_e01_created_updated_deleted(self, ctx: Context) -> None:
        """An event has the type, the place and the new object; changes made by another store are seen too."""
        other = await ctx.reopen()
        async with ctx.store.watch(ctx.bucket, poll_interval=_POLL) as events:
            for store in (ctx.store, other):
                created = await store.put(ctx.bucket, "key", b"first")
                event = await _next_of(events, EventType.CREATED, "key")
                assert event.bucket == ctx.bucket
                assert event.etag in (None, created.etag)
                assert event.size in (None, 5)
                assert event.time is None or event.time.tzinfo is not None
                updated = await store.put(ctx.bucket, "key", b"second")
                event = await _next_of(events, EventType.UPDATED, "key")
                assert event.etag in (None, updated.etag)
                await store.delete(ctx.bucket, "key")
                event = await _next_of(events, EventType.DELETED, "key")
                assert (event.size, event.etag) == (None, None)

    @requires(NotificationDriver)
    async def test_e01_order_for_each_key(self, ctx: Context) -> None:
        """Many keys change concurrently: each key has all of its events, in order."""
        keys = [f"folder/key-{number}" for number in range(8)]
        seen: dict[str, list[EventType]] = {key: [] for key in keys}

        async def collect(events: Watch, kind: EventType) -> None:
            while not all(kind in seen[key] for key in keys):
                event = await _next(events)
                seen[event.key].append(event.type)

        async with ctx.store.watch(ctx.bucket, poll_interval=_POLL) as events:
            await asyncio.gather(*(ctx.store.put(ctx.bucket, key, b"1") for key in keys))
            await collect(events, EventType.CREATED)
            await asyncio.gather(*(ctx.store.put(ctx.bucket, key, b"22") for key in keys))
            await collect(events, EventType.UPDATED)
            await ctx.store.delete_many(ctx.bucket, keys)
            await collect(events, EventType.DELETED)
        assert seen == {key: [EventType.CREATED, EventType.UPDATED, EventType.DELETED] for key in keys}

    @requires(NotificationDriver)
    async def test_e01_every_way_to_change_an_object(self, ctx: Context) -> None:
        """Copies, moves and writers produce events as puts and deletes do; failed operations produce none."""
        async with ctx.store.watch(ctx.bucket, poll_interval=_POLL) as events:
            async with ctx.store.writer(ctx.bucket, "written") as writer:
                await writer.write(b"x")
            await _next_of(events, EventType.CREATED, "written")
            with pytest.raises(RuntimeError, match="mine"):
                async with ctx.store.writer(ctx.bucket, "failed") as writer:
                    raise RuntimeError("mine")
            await ctx.store.copy(ctx.bucket, "written", ctx.bucket, "copied")
            await _next_of(events, EventType.CREATED, "copied")
            await ctx.store.move(ctx.bucket, "copied", ctx.bucket, "moved")
            moved = {(event.type, event.key) for event in [await _next(events), await _next(events)]}
            assert moved == {(EventType.CREATED, "moved"), (EventType.DELETED, "copied")}
            await ctx.store.delete(ctx.bucket, "missing")
            await ctx.store.put(ctx.bucket, "last", b"x")
            await _next_of(events, EventType.CREATED, "last")

    @requires(NotificationDriver)
    async def test_e01_prefix_and_types(self, ctx: Context) -> None:
        """A watch returns only the events that match its prefix and types."""
        await ctx.store.put(ctx.bucket, "ab/1", b"x")
        below = ctx.store.watch(ctx.bucket, prefix="a/", poll_interval=_POLL)
        deletions = ctx.store.watch(ctx.bucket, events=["object.deleted"], poll_interval=_POLL)
        async with below, deletions:
            for key in ("a", "ab/2", "a/1"):
                await ctx.store.put(ctx.bucket, key, b"x")
            await _next_of(below, EventType.CREATED, "a/1")
            await ctx.store.delete(ctx.bucket, "ab/1")
            await _next_of(deletions, EventType.DELETED, "ab/1")
            await ctx.store.delete(ctx.bucket, "a/1")
            await _next_of(below, EventType.DELETED, "a/1")

    @requires(NotificationDriver)
    async def test_e01_missing_bucket(self, ctx: Context) -> None:
        """A missing bucket raises immediately, however the watch is started."""
        with pytest.raises(BucketNotFoundError):
            async with ctx.store.watch(ctx.missing_bucket, poll_interval=_POLL):
                pass
        with pytest.raises(BucketNotFoundError):
            await _next(ctx.store.watch(ctx.missing_bucket, poll_interval=_POLL))

    @requires(NotificationDriver)
    async def test_e02_resume_token(self, ctx: Context) -> None:
        """If resume tokens are declared, a watch continues after the token's event; otherwise they are refused."""
        if not ctx.store.features.watch_resume:
            with pytest.raises(UnsupportedError):
                ctx.store.watch(ctx.bucket, resume_token="any")
            pytest.skip(f"{ctx.harness.name} does not declare watch_resume")
        async with ctx.store.watch(ctx.bucket, poll_interval=_POLL) as events:
            await ctx.store.put(ctx.bucket, "first", b"x")
            token = (await _next_of(events, EventType.CREATED, "first")).resume_token
        assert token is not None
        await ctx.store.put(ctx.bucket, "meanwhile", b"x")
        other = await ctx.reopen()
        async with other.watch(ctx.bucket, resume_token=token, poll_interval=_POLL) as events:
            await ctx.store.put(ctx.bucket, "after", b"x")
            await _next_of(events, EventType.CREATED, "meanwhile")
            await _next_of(events, EventType.CREATED, "after")

    @requires(NotificationDriver)
    async def test_e03_cancelled_watch_frees_its_tasks(self, ctx: Context) -> None:
        """When the block of a cancelled watch has ended, none of its tasks is running."""
        async with ctx.store.watch(ctx.bucket, poll_interval=_POLL):
            pass  # tasks that a driver starts for its first watch and keeps until it is closed exist from now on
        before = asyncio.all_tasks()
        waiting = asyncio.Event()

        async def watch() -> None:
            async with ctx.store.watch(ctx.bucket, poll_interval=_POLL) as events:
                waiting.set()
                async for _ in events:
                    pass

        tasks = [asyncio.create_task(watch()) for _ in range(3)]
        async with asyncio.timeout(_BOUND):
            await waiting.wait()
            for _ in range(5):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
        assert asyncio.all_tasks() == before
        await ctx.assert_clean()

    @requires(NotificationDriver)
    async def test_e03_timed_out_step_loses_no_event(self, ctx: Context) -> None:
        """A step that times out and is repeated loses no event."""
        async with ctx.store.watch(ctx.bucket, poll_interval=_POLL) as events:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(_POLL):
                    await anext(events)
            await ctx.store.put(ctx.bucket, "key", b"x")
            await _next_of(events, EventType.CREATED, "key")
        with pytest.raises(StopAsyncIteration):
            await anext(events)
