from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import subprocess
import sys
import textwrap
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.doubles import ScriptedStream, info_of, scripted
from trove_async.errors import (
    BackendError,
    ChecksumError,
    ClosedError,
    ObjectChangedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    TransientError,
    UnavailableError,
)
from trove_async.opening import Opening
from trove_async.reader import ByteStream, ObjectReader

pytestmark = pytest.mark.asyncio

DATA = bytes(range(256)) * 4


async def test_reading_to_the_end_releases_the_stream() -> None:
    reader, stream = scripted(DATA, 100, 1, 500)
    assert await reader.read() == DATA
    assert (stream.closed, stream.aborted) == (1, 0)
    assert await reader.read() == b""
    assert reader.tell() == len(DATA)
    await reader.aclose()
    assert stream.closed == 1


async def test_read_returns_exactly_the_requested_bytes_and_fewer_only_at_the_end() -> None:
    reader, stream = scripted(DATA, 3, 3, 3)
    assert await reader.read(0) == b""
    assert await reader.read(10) == DATA[:10]
    assert await reader.read(1000) == DATA[10:1010]
    assert stream.open
    assert await reader.read(1000) == DATA[1010:]
    assert not stream.open


async def test_iteration_yields_chunks_as_they_arrive() -> None:
    reader, stream = scripted(DATA, 100, 200)
    assert [len(chunk) async for chunk in reader] == [100, 200, len(DATA) - 300]
    assert not stream.open


async def test_readinto_fills_a_buffer_as_far_as_there_are_bytes() -> None:
    reader, _ = scripted(DATA, 7, 7)
    buffer = bytearray(1000)
    assert await reader.readinto(buffer) == 1000
    assert buffer == DATA[:1000]
    assert await reader.readinto(memoryview(buffer)) == 24
    assert buffer[:24] == DATA[1000:]
    assert await reader.readinto(buffer) == 0


async def test_seek_moves_within_the_range_and_reopens_the_stream() -> None:
    stream = ScriptedStream(DATA)
    stream.position = 100
    reader = ObjectReader(info_of(DATA), stream, start=100, stop=200)
    assert reader.size == 100
    assert await reader.read() == DATA[100:200]
    assert not stream.open
    assert await reader.seek(-10, os.SEEK_END) == 90
    assert stream.seeks == [190]
    assert await reader.read(5) == DATA[190:195]
    assert await reader.seek(-5, os.SEEK_CUR) == 90
    assert await reader.read() == DATA[190:200]
    assert await reader.seek(1000) == 1000
    assert await reader.read() == b""
    assert await reader.seek(0) == 0
    assert await reader.read(1) == DATA[100:101]
    with pytest.raises(ValueError, match="before the beginning"):
        await reader.seek(-1)
    await reader.aclose()
    assert not stream.open


async def test_seek_to_the_current_position_makes_no_request() -> None:
    reader, stream = scripted(DATA)
    await reader.read(10)
    await reader.seek(10)
    assert stream.seeks == []
    await reader.aclose()


@given(st.lists(st.tuples(st.sampled_from(["read", "seek"]), st.integers(0, 40)), max_size=20), st.booleans())
async def test_it_behaves_like_a_file(steps: list[tuple[str, int]], buffered: bool) -> None:
    data = bytes(range(30))
    reader = ObjectReader(info_of(data), data) if buffered else scripted(data, 1, 2, 3)[0]
    position = 0
    for step, number in steps:
        if step == "seek":
            position = await reader.seek(number)
        else:
            assert await reader.read(number) == data[position : position + number]
            position = max(position, min(len(data), position + number))
        assert reader.tell() == position
    await reader.aclose()


async def test_a_broken_connection_is_resumed_at_the_same_byte() -> None:
    reader, stream = scripted(DATA, 100, UnavailableError(), 50, UnavailableError(), UnavailableError())
    assert await reader.read() == DATA
    assert stream.seeks == [100, 150, 150]


async def test_a_range_is_resumed_at_the_offset_in_the_object() -> None:
    stream = ScriptedStream(DATA, [10, UnavailableError()])
    stream.position = 500
    reader = ObjectReader(info_of(DATA), stream, start=500, stop=600)
    assert await reader.read() == DATA[500:600]
    assert stream.seeks == [510]


async def test_a_body_that_ends_early_is_resumed_and_not_treated_as_complete() -> None:
    reader, stream = scripted(DATA, 100, 0)
    assert await reader.read() == DATA
    assert stream.seeks == [100]


@pytest.mark.parametrize("failure", [0, UnavailableError("gone")])
async def test_it_gives_up_after_three_resumptions_without_progress(failure: int | BaseException) -> None:
    reader, stream = scripted(DATA, 100, failure, failure, failure, failure)
    with pytest.raises(TransientError) as caught:
        await reader.read()
    assert stream.seeks == [100] * 3
    assert not stream.open
    assert stream.aborted == 1
    if failure == 0:
        assert "100 of 1024" in str(caught.value)
    with pytest.raises(ClosedError, match="a read failed"):
        await reader.read()


async def test_progress_resets_the_count_of_resumptions() -> None:
    failures: list[int | BaseException] = [UnavailableError(), UnavailableError(), UnavailableError(), 1]
    reader, stream = scripted(DATA, *failures * 5)
    assert await reader.read() == DATA
    assert stream.seeks == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3


async def test_a_failed_read_of_a_large_object_is_collected_without_a_message() -> None:
    script = """
        import asyncio
        import gc

        import trove_async
        from trove_async.testing.faults import Fault, Faults

        async def main():
            broken = Fault("get", reset_after=70_000, error=trove_async.AccessDeniedError("x"))
            async with trove_async.open("memory://", layers=[Faults([broken])]) as t:
                await t.create_bucket("b")
                await t.put("b", "k", bytes(3_000_000))
                try:
                    await t.read("b", "k")
                except trove_async.AccessDeniedError as error:
                    error.itself = error
                    print("failed")

        asyncio.run(main(), debug=False)
        gc.collect()
    """
    command = [sys.executable, "-X", "dev", "-c", textwrap.dedent(script)]  # reports as every Python from 3.13 on does
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout == "failed\n"


@pytest.mark.parametrize("error", [PreconditionFailedError(), ObjectNotFoundError()])
async def test_an_object_that_changed_is_never_spliced(error: BaseException) -> None:
    reader, stream = scripted(DATA, 100, UnavailableError())
    stream.seek_errors = [error]
    with pytest.raises(ObjectChangedError) as caught:
        await reader.read()
    assert caught.value.__cause__ is error
    assert not stream.open
    reader, stream = scripted(DATA)
    stream.seek_errors = [error]
    with pytest.raises(ObjectChangedError):
        await reader.seek(10)
    assert not stream.open


async def test_a_backend_that_sends_too_much_is_an_error() -> None:
    class TooMuch(ScriptedStream):
        async def read(self, size: int) -> bytes:
            return bytes(size + 1)

    stream = TooMuch(DATA)
    with pytest.raises(BackendError, match="more than"):
        await ObjectReader(info_of(DATA), stream).read()
    assert stream.aborted == 1


async def test_a_stream_that_raises_the_end_of_an_iteration_is_an_error() -> None:
    reader, stream = scripted(DATA, 10, StopAsyncIteration())
    assert await anext(reader) == DATA[:10]
    with pytest.raises(BackendError, match="StopAsyncIteration"):
        await anext(reader)
    assert not stream.open


async def test_a_complete_read_is_checked_against_the_checksum() -> None:
    good, bad = hashlib.md5(DATA).hexdigest(), "00" * 16
    assert await scripted(DATA, 100, UnavailableError(), md5=good)[0].read() == DATA
    reader, stream = scripted(DATA, 100, md5=bad)
    with pytest.raises(ChecksumError):
        await reader.read()
    assert stream.aborted == 1
    with pytest.raises(ChecksumError):
        await ObjectReader(info_of(DATA, md5=bad), DATA).read()


async def test_a_partial_read_is_not_checked() -> None:
    bad = "00" * 16
    reader, _ = scripted(DATA, md5=bad)
    await reader.seek(1)
    assert await reader.read() == DATA[1:]
    part = ObjectReader(info_of(DATA, md5=bad), ScriptedStream(DATA), stop=10)
    assert await part.read() == DATA[:10]


async def test_a_cancelled_read_releases_the_stream_immediately() -> None:
    reader, stream = scripted(DATA, 10, asyncio.Event())
    task = asyncio.create_task(reader.read())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (stream.aborted, stream.open) == (1, False)
    assert reader.closed
    with pytest.raises(ClosedError):
        await reader.read()


async def test_an_error_in_the_block_aborts_the_stream_and_a_clean_exit_closes_it() -> None:
    reader, stream = scripted(DATA)
    with pytest.raises(ZeroDivisionError):
        async with reader:
            raise ZeroDivisionError
    assert (stream.aborted, stream.closed) == (1, 0)
    reader, stream = scripted(DATA)
    async with reader:
        await reader.read(10)
    assert (stream.aborted, stream.closed) == (0, 1)


@pytest.mark.parametrize("use", [lambda r: r.read(), lambda r: r.read(0), lambda r: anext(r), lambda r: r.seek(0)])
async def test_after_closing_every_use_is_refused(use: object) -> None:
    assert callable(use)
    for reader in (scripted(DATA)[0], ObjectReader(info_of(DATA), DATA)):
        await reader.aclose()
        await reader.aclose()
        assert reader.closed
        with pytest.raises(ClosedError):
            await use(reader)


async def test_an_unclosed_reader_warns_with_the_place_where_it_was_opened() -> None:
    reader, stream = scripted(DATA)
    line = "doubles.py:"  # the caller of ObjectReader, outside of the package
    with pytest.warns(ResourceWarning, match="unclosed.*opened at.*" + line):  # noqa: PT031
        del reader
        gc.collect()
    assert stream.aborted == 1


async def test_readers_without_resources_are_collected_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_to_its_end, _ = scripted(DATA)
        await read_to_its_end.read()
        buffered = ObjectReader(info_of(DATA), DATA)
        del read_to_its_end, buffered
        gc.collect()


async def test_an_error_on_closing_aborts_and_is_raised() -> None:
    class Stubborn(ScriptedStream):
        async def aclose(self) -> None:
            raise OSError("stuck")

    stream = Stubborn(DATA)
    reader = ObjectReader(info_of(DATA), stream)
    with pytest.raises(OSError, match="stuck"):
        await reader.aclose()
    assert stream.aborted == 1


async def test_a_layer_can_wrap_the_stream_and_a_buffered_reader_has_none() -> None:
    class Upper(ScriptedStream):
        def __init__(self, inner: ByteStream) -> None:
            super().__init__(b"")
            self.inner = inner

        async def read(self, size: int) -> bytes:
            return (await self.inner.read(size)).upper()

    reader, _ = scripted(b"abc")
    reader.wrap(Upper)
    assert await reader.read() == b"ABC"
    buffered = ObjectReader(info_of(b"abc"), b"abc")
    assert buffered.buffered
    buffered.wrap(Upper)
    assert await buffered.read() == b"abc"


async def test_an_opening_reader_is_awaited_or_entered() -> None:
    stream = ScriptedStream(DATA)

    async def open_reader() -> ObjectReader:
        return ObjectReader(info_of(DATA), stream)

    async with Opening(open_reader) as reader:
        assert await reader.read(3) == DATA[:3]
    assert stream.closed == 1
    stream = ScriptedStream(DATA)
    reader = await Opening(open_reader)
    with pytest.raises(ZeroDivisionError):
        async with reader:
            raise ZeroDivisionError
    assert stream.aborted == 1


async def test_an_empty_object_reads_as_empty_bytes_and_releases_its_stream() -> None:
    reader, stream = scripted(b"")
    assert await reader.read() == b""
    assert not stream.open
    reader, stream = scripted(b"")
    assert [chunk async for chunk in reader] == []
    assert not stream.open
