"""X: cancellation and timeouts: an interrupted call leaves the old or the new object, and nothing else.

The idle timeouts of drivers that talk to a server (X6) and the connections in their pools (X5) are
checked by those drivers' own tests; the checks here apply to every driver.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

import trove_async
from trove_async.body import Body
from trove_async.cancellation import CleanupWarning
from trove_async.driver import Driver, MultipartDriver, PutOptions
from trove_async.errors import BodySizeError, ClosedError
from trove_async.layers import LayerDriver
from trove_async.reader import ByteStream
from trove_async.store import Trove
from trove_async.testing.conformance.cancelled_operations import OPERATIONS, Stored, snapshot
from trove_async.testing.conformance.context import Context, heavy
from trove_async.testing.conformance.interception import Streams
from trove_async.testing.helpers import random_bytes
from trove_async.testing.injection import Delivery, cancel_everywhere
from trove_async.types import ObjectInfo

__all__ = ["CancellationChecks"]

each_operation = pytest.mark.parametrize("operation", OPERATIONS)

_SHORT: Final = 0.05
_BOUND: Final = 30


async def _cancel_everywhere(ctx: Context, name: str, delivery: Delivery, folder: Path) -> None:
    operation = OPERATIONS[name](ctx, folder)
    if operation.capability is not None and not ctx.store.supports(operation.capability):
        pytest.skip(f"{ctx.harness.name} does not declare {operation.capability.__name__}")
    await operation.open()
    points = await cancel_everywhere(
        operation.run, delivery, prepare=operation.prepare, check=operation.check, step=ctx.await_point_step
    )
    assert points >= operation.least_points


async def _cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task, and assert that it ends with `asyncio.CancelledError`."""
    task.cancel()
    await asyncio.wait({task}, timeout=_BOUND)
    assert task.done(), "the cancelled call did not end"
    assert task.cancelled(), f"the cancellation was swallowed: {task!r}"


class _StalledSource:
    """A source that returns its chunks and then waits forever; `reached` is set when it waits."""

    def __init__(self, chunks: int, size: int) -> None:
        self.reached = asyncio.Event()
        self._left = chunks
        self._chunk = b"g" * size

    async def read(self, size: int = -1, /) -> bytes:
        if self._left == 0:
            self.reached.set()
            await asyncio.Event().wait()
        self._left -= 1
        return self._chunk

    async def stream(self) -> AsyncIterator[bytes]:
        while True:
            yield await self.read()


async def _old_object(ctx: Context) -> dict[str, Stored]:
    await ctx.store.put(ctx.bucket, "key", b"old", metadata={"version": "old"})
    return await snapshot(ctx.store, ctx.bucket)


async def _assert_unchanged(ctx: Context, old: dict[str, Stored]) -> None:
    assert await snapshot(ctx.store, ctx.bucket) == old
    if ctx.store.supports(MultipartDriver):
        assert await ctx.store.list_multipart_uploads(ctx.bucket) == []
    await ctx.assert_clean()


class CancellationChecks:
    """After a cancellation, a timeout or an exception the object is old or new, and nothing else is left."""

    @heavy
    @each_operation
    async def test_x01_cancelled_at_every_await_point(self, ctx: Context, operation: str, tmp_path: Path) -> None:
        """The object is old or new, never partial, and nothing is left behind, wherever the call is cancelled."""
        await _cancel_everywhere(ctx, operation, Delivery.PENDING, tmp_path)

    @pytest.mark.parametrize("parts", [0, 1, 3])
    async def test_x02_cancelled_stream_leaves_no_upload(self, ctx: Context, parts: int) -> None:
        """A put that is cancelled while it waits for more data leaves no upload open, after any number of parts."""
        old = await _old_object(ctx)
        source = _StalledSource(parts, ctx.part_size)
        task = asyncio.create_task(ctx.store.put(ctx.bucket, "key", source.stream()))
        await asyncio.wait_for(source.reached.wait(), _BOUND)
        await _cancelled(task)
        await _assert_unchanged(ctx, old)

    @pytest.mark.parametrize("error", [RuntimeError("mine"), asyncio.CancelledError()], ids=["error", "cancellation"])
    async def test_x03_exception_in_a_writer_aborts(self, ctx: Context, error: BaseException) -> None:
        """The old object stays, and no new object appears, however much was written."""
        old = await _old_object(ctx)
        before = asyncio.all_tasks()
        for key in ("key", "new"):
            for written in (0, 1, ctx.part_size * 5 // 2):
                with pytest.raises(type(error)) as caught:  # noqa: PT012 - the block is under test
                    async with ctx.store.writer(ctx.bucket, key) as writer:
                        await writer.write(b"x" * written)
                        raise error
                assert caught.value is error
                assert writer.info is None
                assert asyncio.all_tasks() == before
                await _assert_unchanged(ctx, old)

    @heavy
    @pytest.mark.parametrize("delivery", [Delivery.REPEATED, Delivery.SCOPE], ids=["repeated", "scope"])
    @each_operation
    async def test_x04_cancelled_again_during_clean_up(
        self, ctx: Context, operation: str, delivery: Delivery, tmp_path: Path
    ) -> None:
        """Neither a second cancellation nor those of an anyio scope, which repeat, interrupt the clean-up."""
        await _cancel_everywhere(ctx, operation, delivery, tmp_path)

    @pytest.mark.parametrize("chunks", [0, 2])
    async def test_x05_cancelled_reader_lets_go(self, ctx: Context, chunks: int) -> None:
        """A reader that is cancelled while it reads is closed with its stream before the call ends."""
        await ctx.store.put(ctx.bucket, "key", random_bytes(ctx.part_size * 3))
        stalled = asyncio.Event()
        left = chunks

        async def stall(stream: ByteStream, size: int) -> bytes:
            nonlocal left
            if left == 0:
                stalled.set()
                await asyncio.Event().wait()
            left -= 1
            return await stream.read(min(size, 1024))

        streams = Streams(stall)
        store = await ctx.reopen(streams)
        reader = await store.get(ctx.bucket, "key")
        assert streams.open == 1
        task = asyncio.create_task(reader.read())
        await asyncio.wait_for(stalled.wait(), _BOUND)
        await _cancelled(task)
        assert reader.closed
        assert streams.open == 0
        with pytest.raises(ClosedError):
            await reader.read()
        await ctx.assert_clean()

    async def test_x05_reader_that_is_left_lets_go(self, ctx: Context) -> None:
        """A reader is closed at the end of the block, at the end of the body, and by an exception in the block."""
        await ctx.store.put(ctx.bucket, "key", random_bytes(ctx.part_size * 3))
        streams = Streams()
        store = await ctx.reopen(streams)
        async with store.get(ctx.bucket, "key") as reader:
            await reader.read(10)
            assert streams.open == 1
        assert streams.open == 0
        reader = await store.get(ctx.bucket, "key")
        assert len(await reader.read()) == ctx.part_size * 3
        assert streams.open == 0
        with pytest.raises(RuntimeError, match="mine"):
            async with store.get(ctx.bucket, "key") as reader:
                raise RuntimeError("mine")
        assert reader.closed
        assert streams.open == 0
        await ctx.assert_clean()

    async def test_x06_timeout_while_reading(self, ctx: Context) -> None:
        """A body that stalls ends with the caller's timeout, and the object can be read again."""
        data = random_bytes(ctx.part_size * 3)
        await ctx.store.put(ctx.bucket, "key", data)
        stalls = True

        async def stall(stream: ByteStream, size: int) -> bytes:
            if stalls:
                await asyncio.Event().wait()
            return await stream.read(size)

        streams = Streams(stall)
        store = await ctx.reopen(streams)
        reader = await store.get(ctx.bucket, "key")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(_SHORT):
                await reader.read()
        assert reader.closed
        assert streams.open == 0
        stalls = False
        assert await store.read(ctx.bucket, "key") == data

    async def test_x06_timeout_while_writing(self, ctx: Context) -> None:
        """A source that stalls ends with the caller's timeout, and the old object stays."""
        old = await _old_object(ctx)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(_SHORT):
                await ctx.store.put(ctx.bucket, "key", _StalledSource(1, ctx.part_size).stream())
        with pytest.raises(TimeoutError):
            with anyio.fail_after(_SHORT):
                await ctx.store.put(ctx.bucket, "key", _StalledSource(1, ctx.part_size).stream())
        await _assert_unchanged(ctx, old)

    @heavy
    @each_operation
    async def test_x07_no_task_outlives_the_call(self, ctx: Context, operation: str, tmp_path: Path) -> None:
        """When a call has returned, none of the tasks that it started is running."""
        under_test = OPERATIONS[operation](ctx, tmp_path)
        if under_test.capability is not None and not ctx.store.supports(under_test.capability):
            pytest.skip(f"{ctx.harness.name} does not declare {under_test.capability.__name__}")
        await under_test.open()
        await under_test.prepare()
        await under_test.run()  # tasks that a driver starts once and keeps until it is closed exist from now on
        for upload in await _uploads(ctx):
            await ctx.store.abort_multipart(ctx.bucket, *upload)
        await under_test.prepare()
        before = asyncio.all_tasks()
        await under_test.run()
        assert asyncio.all_tasks() == before
        for upload in await _uploads(ctx):
            await ctx.store.abort_multipart(ctx.bucket, *upload)

    async def test_x08_hanging_source_is_given_up(self, ctx: Context) -> None:
        """A source that does not close delays a failed put by at most ``cleanup_timeout``."""
        old = await _old_object(ctx)
        async with _reopen_with_short_cleanup(ctx) as store:
            with pytest.warns(CleanupWarning, match="the source of a body"), pytest.raises(BodySizeError):
                await store.put(ctx.bucket, "key", _unclosable(), size=1)
        await _assert_unchanged(ctx, old)

    async def test_x08_hanging_source_is_given_up_when_cancelled(self, ctx: Context) -> None:
        """The same after a cancellation, which is still raised as a cancellation."""
        old = await _old_object(ctx)
        waiting = asyncio.Event()
        async with _reopen_with_short_cleanup(ctx, lambda driver: _StuckDriver(driver, waiting)) as store:
            task = asyncio.create_task(store.put(ctx.bucket, "key", _unclosable()))
            await asyncio.wait_for(waiting.wait(), _BOUND)
            with pytest.warns(CleanupWarning, match="the source of a body"):
                await _cancelled(task)
        await _assert_unchanged(ctx, old)

    async def test_x08_hanging_driver_is_given_up_at_close(self, ctx: Context) -> None:
        """Closing a store whose driver does not close returns, with a warning."""
        driver = await ctx.harness.driver()
        store = await trove_async.open(driver, layers=[*ctx.layers, _UnclosableDriver], cleanup_timeout=_SHORT)
        with pytest.warns(CleanupWarning, match="driver"):
            await store.aclose()
        assert store.closed
        await driver.close()

    @pytest.mark.parametrize("chunks", [0, 1, 5])
    @pytest.mark.parametrize("kind", ["stream", "read", "writer"])
    async def test_x09_cancellation_is_not_swallowed(self, ctx: Context, kind: str, chunks: int) -> None:
        """A put that waits for its source ends with `asyncio.CancelledError`, whatever it has read before."""
        old = await _old_object(ctx)
        source = _StalledSource(chunks, 20_000)

        async def write() -> None:
            async with ctx.store.writer(ctx.bucket, "key") as writer:
                while True:
                    await writer.write(await source.read())

        puts: dict[str, Callable[[], Awaitable[object]]] = {
            "stream": lambda: ctx.store.put(ctx.bucket, "key", source.stream()),
            "read": lambda: ctx.store.put(ctx.bucket, "key", source),
            "writer": write,
        }
        task = asyncio.ensure_future(puts[kind]())
        await asyncio.wait_for(source.reached.wait(), _BOUND)
        await _cancelled(task)
        await _assert_unchanged(ctx, old)

    async def test_x09_cancellation_while_a_thread_waits(self, ctx: Context) -> None:
        """A source that blocks its thread does not turn the cancellation into another error."""
        old = await _old_object(ctx)
        loop, reached, release = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

        def chunks() -> Iterator[bytes]:
            yield b"x" * 300_000
            loop.call_soon_threadsafe(reached.set)
            release.wait(_BOUND)
            yield b"y"

        task = asyncio.create_task(ctx.store.put(ctx.bucket, "key", chunks()))
        try:
            await asyncio.wait_for(reached.wait(), _BOUND)
            task.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
        finally:
            release.set()
        await asyncio.wait({task}, timeout=_BOUND)
        assert task.cancelled()
        await _assert_unchanged(ctx, old)

    @heavy
    @each_operation
    async def test_x10_result_or_cancellation(self, ctx: Context, operation: str, tmp_path: Path) -> None:
        """If the result is ready when the cancellation arrives, the call's outcome matches the state of the store."""
        await _cancel_everywhere(ctx, operation, Delivery.DONE, tmp_path)


async def _uploads(ctx: Context) -> list[tuple[str, str]]:
    if not ctx.store.supports(MultipartDriver):
        return []
    return [(found.key, found.upload_id) for found in await ctx.store.list_multipart_uploads(ctx.bucket)]


async def _unclosable() -> AsyncIterator[bytes]:
    """Yield chunks; closing it then waits forever."""
    try:
        while True:
            yield b"x" * 10
    finally:
        await asyncio.Event().wait()


@asynccontextmanager
async def _reopen_with_short_cleanup(ctx: Context, *layers: Callable[[Driver], Driver]) -> AsyncIterator[Trove]:
    """Open another store on the same data, with a very short ``cleanup_timeout``.

    The driver is closed separately, without that timeout: on a busy machine closing it may take longer.
    """
    driver = await ctx.harness.driver()
    try:
        async with trove_async.open(driver, layers=[_KeptOpen, *ctx.layers, *layers], cleanup_timeout=_SHORT) as store:
            yield store
    finally:
        await driver.close()


class _KeptOpen(LayerDriver):
    """A layer that does not close its driver."""

    async def close(self) -> None:
        pass


class _StuckDriver(LayerDriver):
    """Takes one chunk of a body and then waits forever."""

    def __init__(self, inner: Driver, waiting: asyncio.Event) -> None:
        super().__init__(inner)
        self._waiting = waiting

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        await anext(body)
        self._waiting.set()
        await asyncio.Event().wait()
        return await super().put(bucket, key, body, options)


class _UnclosableDriver(LayerDriver):
    """Waits forever when it is closed."""

    async def close(self) -> None:
        await asyncio.Event().wait()
