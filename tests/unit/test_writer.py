from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

import trove_async
from trove_async.body import Chunk
from trove_async.errors import BodyTypeError, ClosedError, UnavailableError
from trove_async.testing.faults import Fault, Faults
from trove_async.types import ObjectInfo
from trove_async.writer import ObjectWriter

pytestmark = pytest.mark.asyncio

LARGE = bytes(300_000)


class Store:
    """Receives what a writer puts: keeps the committed bytes, and how the put ended."""

    def __init__(self) -> None:
        self.committed: bytes | None = None
        self.ended = False
        self.chunks: list[int] = []

    async def put(self, chunks: AsyncIterator[Chunk]) -> ObjectInfo:
        data = b""
        try:
            async for chunk in chunks:
                self.chunks.append(len(chunk))
                data += bytes(chunk)
            self.committed = data
            return ObjectInfo("k", len(data), "e")
        finally:
            self.ended = True


Put = Callable[[AsyncIterator[Chunk]], Awaitable[ObjectInfo]]


def make(put: Put) -> ObjectWriter:
    return ObjectWriter(put, cleanup_timeout=5, what="the writer of b/k")


async def use(put: Put, work: Callable[[ObjectWriter], Awaitable[object]]) -> None:
    async with make(put) as writer:
        await work(writer)


async def test_a_clean_exit_commits_what_was_written() -> None:
    store = Store()
    async with make(store.put) as writer:
        assert await writer.write(b"hello ") == 6
        assert await writer.write(bytearray(b"wor")) == 3
        assert await writer.write(memoryview(b"xld")[1:]) == 2
        assert await writer.write(b"") == 0
        assert writer.tell() == 11
        assert writer.info is None
        assert store.committed is None
    assert store.committed == b"hello world"
    assert writer.info == ObjectInfo("k", 11, "e")


async def test_nothing_written_is_an_empty_object() -> None:
    store = Store()
    async with make(store.put):
        pass
    assert store.committed == b""


async def test_small_writes_are_gathered_and_a_buffer_can_be_used_again() -> None:
    store = Store()
    buffer = bytearray(1000)
    async with make(store.put) as writer:
        for number in range(1000):
            buffer[:] = bytes([number % 256]) * 1000
            await writer.write(buffer)
    assert store.committed == b"".join(bytes([number % 256]) * 1000 for number in range(1000))
    assert len(store.chunks) <= 4


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
async def test_leaving_the_block_by_an_exception_aborts(error: type[BaseException]) -> None:
    store = Store()

    async def fail(writer: ObjectWriter) -> None:
        await writer.write(LARGE)
        raise error

    with pytest.raises(error):
        await asyncio.create_task(use(store.put, fail))
    assert store.committed is None
    assert store.ended


async def test_the_block_exits_quietly_after_abort() -> None:
    store = Store()
    async with make(store.put) as writer:
        await writer.write(LARGE)
        await writer.abort()
        await writer.abort()
        with pytest.raises(ClosedError):
            await writer.write(b"x")
    assert (store.committed, store.ended, writer.info) == (None, True, None)


async def refuse(chunks: AsyncIterator[Chunk]) -> ObjectInfo:
    async for _ in chunks:
        break
    raise UnavailableError("no")


async def write_much(writer: ObjectWriter) -> None:
    for _ in range(10):
        await writer.write(LARGE)


async def test_write_raises_the_error_of_the_backend() -> None:
    taken = []

    async def write(writer: ObjectWriter) -> None:
        await write_much(writer)
        taken.append(True)

    with pytest.raises(UnavailableError):
        await use(refuse, write)
    assert taken == []


async def test_leaving_the_block_raises_the_error_if_no_write_could() -> None:
    with pytest.raises(UnavailableError):
        await use(refuse, lambda writer: writer.write(b"small"))


async def test_leaving_the_block_raises_the_error_again_if_write_raised_it_and_it_was_caught() -> None:
    async def careless(writer: ObjectWriter) -> None:
        with pytest.raises(UnavailableError):
            await write_much(writer)
        with pytest.raises(ClosedError):
            await writer.write(b"more")

    with pytest.raises(UnavailableError, match="no"):
        await use(refuse, careless)


async def test_write_waits_while_the_backend_is_behind() -> None:
    taking = asyncio.Event()
    taken = 0

    async def slow(chunks: AsyncIterator[Chunk]) -> ObjectInfo:
        nonlocal taken
        async for chunk in chunks:
            taken += len(chunk)
            await taking.wait()
        return ObjectInfo("k", taken, "e")

    async with make(slow) as writer:
        writing = asyncio.ensure_future(write_much(writer))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not writing.done()
        assert writer.tell() - taken <= 2 * len(LARGE)
        taking.set()
        await writing
    assert taken == 10 * len(LARGE)


@pytest.mark.parametrize("following", [b"", b"more", LARGE], ids=["nothing", "little", "much"])
async def test_a_write_that_is_cancelled_while_it_waits_leaves_no_hole(following: bytes) -> None:
    store, behind = Store(), asyncio.Event()

    async def slow(chunks: AsyncIterator[Chunk]) -> ObjectInfo:
        await behind.wait()
        return await store.put(chunks)

    async with make(slow) as writer:
        write = asyncio.create_task(writer.write(LARGE))
        await asyncio.sleep(0)
        write.cancel()
        await asyncio.wait({write})
        assert write.cancelled()
        others = [asyncio.create_task(writer.write(following)) for _ in range(3)]
        await asyncio.sleep(0)
        behind.set()
        await asyncio.gather(*others)
        assert writer.tell() == len(LARGE) + 3 * len(following)
    assert store.committed == LARGE + 3 * following


async def test_a_cancellation_while_committing_is_raised_after_the_put_has_ended() -> None:
    committing = asyncio.Event()
    ended = []

    async def put(chunks: AsyncIterator[Chunk]) -> ObjectInfo:
        try:
            async for _ in chunks:
                pass
            committing.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)
        raise AssertionError

    task = asyncio.create_task(use(put, lambda writer: writer.write(b"x")))
    await committing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]


async def test_a_writer_is_used_once_and_only_within_its_block() -> None:
    store = Store()
    writer = make(store.put)
    with pytest.raises(ClosedError):
        await writer.write(b"x")
    async with writer:
        pass
    with pytest.raises(ClosedError):
        await writer.write(b"x")
    with pytest.raises(ClosedError):
        await writer.__aenter__()


async def test_a_str_is_refused_with_the_advice_to_encode_it() -> None:
    store = Store()
    with pytest.raises(BodyTypeError, match=r"\.encode\(\)"):
        await use(store.put, lambda writer: writer.write("text"))  # type: ignore[arg-type]
    assert store.committed is None


class WreckedError(Exception):
    pass


async def enter(t: trove_async.Trove, data: bytes = LARGE) -> ObjectWriter:
    writer = t.writer("b", "k")
    await writer.__aenter__()
    await writer.write(data)
    return writer


@pytest.fixture(params=["memory", "local"])
def dsn(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"local://{tmp_path}"


async def test_a_writer_that_is_not_left_before_its_store_is_closed_is_named_once(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = asyncio.all_tasks()
    t = await trove_async.open(dsn)
    await t.create_bucket("b")
    writer = await enter(t)
    with pytest.warns(ResourceWarning, match=rf"opened at {__file__}:\d+; use it in a with block") as caught:
        await t.aclose()
    assert asyncio.all_tasks() == before
    with pytest.raises(ClosedError):
        await writer.write(b"more")
    with pytest.raises(ClosedError, match="nothing was stored"):
        await writer.__aexit__(None, None, None)
    del writer
    gc.collect()
    await asyncio.sleep(0)
    assert len(caught) == 1
    assert caplog.messages == []


async def test_a_writer_that_is_collected_is_named_once_and_aborted(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    async with trove_async.open(dsn) as t:
        await t.create_bucket("b")
        before = asyncio.all_tasks()
        writers = [await enter(t)]
        (put,) = asyncio.all_tasks() - before
        with pytest.warns(ResourceWarning, match=rf"opened at {__file__}:\d+; use it in a with block") as caught:
            writers.clear()
        await asyncio.wait({put})
        assert put.cancelled()
        assert not await t.exists("b", "k")
    assert len(caught) == 1
    assert caplog.messages == []


async def test_a_writer_whose_put_failed_and_that_is_not_left_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults([Fault("put", error=UnavailableError("broken"))])
    t = await trove_async.open("memory://", layers=[faults])
    await t.create_bucket("b")
    writer = await enter(t, b"few")
    await asyncio.sleep(0)
    with pytest.warns(ResourceWarning, match="unclosed <ObjectWriter"):
        await t.aclose()
    del writer
    gc.collect()
    await asyncio.sleep(0)
    assert caplog.messages == []


async def test_writers_that_were_left_or_never_entered_are_lost_without_a_word() -> None:
    async with trove_async.open("memory://") as t:
        await t.create_bucket("b")
        t.writer("b", "never")
        async with t.writer("b", "k") as writer:
            await writer.write(b"data")
        with pytest.raises(WreckedError):
            async with t.writer("b", "other"):
                raise WreckedError
        del writer
        gc.collect()
