"""Checks P: put, get and head."""

from __future__ import annotations

import array
import asyncio
import hashlib
import mmap
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from trove_async.body import BodyLike
from trove_async.driver import MultipartDriver
from trove_async.errors import (
    BodySizeError,
    BodyTypeError,
    ChecksumError,
    InvalidKeyError,
    ObjectChangedError,
    ObjectNotFoundError,
    TroveError,
)
from trove_async.testing.conformance.context import Context, plainly
from trove_async.testing.conformance.counting import CallCounter
from trove_async.testing.conformance.sources import BREAKING_OFF, ENDING_EARLY, SOURCES, SourceError
from trove_async.testing.helpers import assert_same_object, random_bytes, read_all

__all__ = ["PutGetChecks"]

MIB = 1024 * 1024


async def round_trip(ctx: Context, data: object, expected: bytes, **arguments: int) -> None:
    """Put a body, and assert that reading returns it."""
    info = await ctx.store.put(ctx.bucket, "key", data, **arguments)  # type: ignore[arg-type]
    assert info.size == len(expected)
    assert await ctx.store.read(ctx.bucket, "key") == expected


async def assert_unchanged(ctx: Context, key: str, old: bytes | None) -> None:
    """Assert that an object is unchanged, and that a failed put has left nothing behind."""
    if old is None:
        assert not await ctx.store.exists(ctx.bucket, key)
    else:
        assert await ctx.store.read(ctx.bucket, key) == old
    assert [item.key async for item in ctx.store.list(ctx.bucket)] == ([] if old is None else [key])
    if ctx.store.supports(MultipartDriver):
        assert await ctx.store.list_multipart_uploads(ctx.bucket) == []
    await ctx.assert_clean()


def cut(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """Yield the data in chunks of these sizes, repeatedly."""
    start = turn = 0
    while start < len(data):
        size = sizes[turn % len(sizes)]
        yield data[start : start + size]
        start += size
        turn += 1


async def acut(data: bytes, sizes: Sequence[int]) -> AsyncIterator[bytes]:
    for chunk in cut(data, sizes):
        yield chunk


class PutGetChecks:
    """P1 to P26."""

    async def test_p01_round_trip(self, ctx: Context) -> None:
        data = random_bytes(1000)
        info = await ctx.store.put(ctx.bucket, "folder/key", data)
        assert (info.key, info.size) == ("folder/key", 1000)
        assert await ctx.store.read(ctx.bucket, "folder/key") == data
        async with ctx.store.get(ctx.bucket, "folder/key") as reader:
            assert await reader.read() == data
        assert await read_all(await ctx.store.get(ctx.bucket, "folder/key")) == data
        assert await ctx.store.exists(ctx.bucket, "folder/key")

    async def test_p02_empty_object(self, ctx: Context) -> None:
        bodies: tuple[BodyLike, ...] = (b"", iter([]), acut(b"", [1]))
        for body in bodies:
            info = await ctx.store.put(ctx.bucket, "key", body)
            assert info.size == 0
            assert (await ctx.store.head(ctx.bucket, "key")).size == 0
            assert await ctx.store.read(ctx.bucket, "key") == b""
            assert await read_all(await ctx.store.get(ctx.bucket, "key")) == b""
            await ctx.store.delete(ctx.bucket, "key")

    async def test_p03_writer_without_a_write(self, ctx: Context) -> None:
        async with ctx.store.writer(ctx.bucket, "key") as writer:
            pass
        assert writer.info is not None
        assert writer.info.size == 0
        assert await ctx.store.read(ctx.bucket, "key") == b""

    async def test_p03_writer(self, ctx: Context) -> None:
        data = random_bytes(3 * ctx.part_size)
        await ctx.store.put(ctx.bucket, "key", b"old")
        async with ctx.store.writer(ctx.bucket, "key", content_type="text/plain") as writer:
            for chunk in cut(data, [1, ctx.part_size, 77]):
                assert await writer.write(chunk) == len(chunk)
            assert writer.tell() == len(data)
            assert await ctx.store.read(ctx.bucket, "key") == b"old"
        assert writer.info is not None
        assert_same_object(writer.info, await ctx.store.head(ctx.bucket, "key"))
        assert await ctx.store.read(ctx.bucket, "key") == data

    async def test_p04_overwrite_replaces_metadata(self, ctx: Context) -> None:
        await ctx.store.put(
            ctx.bucket, "key", b"long old content", content_type="text/html", metadata={"a": "1", "b": "2"},
            cache_control="no-store",
        )  # fmt: skip
        await ctx.store.put(ctx.bucket, "key", b"new", metadata={"a": "3"})
        info = await ctx.store.head(ctx.bucket, "key")
        assert info.metadata == {"a": "3"}
        assert (info.content_type, info.cache_control) == ("application/octet-stream", None)
        assert (info.size, await ctx.store.read(ctx.bucket, "key")) == (3, b"new")

    async def test_p05_chunks_of_one_byte(self, ctx: Context) -> None:
        data = random_bytes(1000)
        await round_trip(ctx, cut(data, [1]), data)
        await round_trip(ctx, acut(data, [1]), data)

    async def test_p06_irregular_chunks(self, ctx: Context) -> None:
        data = random_bytes(2 * ctx.part_size + 12345)
        sizes = [1, 4095, 7, 65537, 3, 10_000]
        await round_trip(ctx, cut(data, sizes), data)
        await round_trip(ctx, acut(data, sizes), data)
        await round_trip(ctx, iter([b"", data[:5], b"", b"", data[5:], b""]), data)

    async def test_p07_buffers(self, ctx: Context) -> None:
        data = random_bytes(4000)
        numbers = array.array("I", data)
        mapped = mmap.mmap(-1, len(data))
        mapped[:] = data
        strided = memoryview(bytes(x for pair in zip(data, data, strict=True) for x in pair))[::2]
        with mapped:
            for body in (memoryview(data), bytearray(data), numbers, memoryview(numbers), mapped, strided):
                await round_trip(ctx, body, data)
            await round_trip(ctx, iter([bytearray(data), memoryview(numbers), numbers]), 3 * data)

    async def test_p08_iterable_is_pulled_off_the_loop(self, ctx: Context) -> None:
        threads = set()

        def chunks() -> Iterator[bytes]:
            for _ in range(10):
                threads.add(threading.get_ident())
                yield b"0123456789"

        await round_trip(ctx, chunks(), b"0123456789" * 10)
        assert threads
        assert threading.get_ident() not in threads
        await round_trip(ctx, [b"a list ", b"of chunks"], b"a list of chunks")

    async def test_p09_async_iterable(self, ctx: Context) -> None:
        closed = False

        async def chunks() -> AsyncIterator[bytes]:
            nonlocal closed
            try:
                yield b"first "
                await asyncio.sleep(0)
                yield b"second"
            finally:
                closed = True

        await round_trip(ctx, chunks(), b"first second")
        assert closed

    async def test_p10_path(self, ctx: Context, tmp_path: Path) -> None:
        data = b""
        for size in (0, 1, 2 * ctx.part_size + 1):
            data = random_bytes(size)
            path = tmp_path / f"{size}.bin"
            path.write_bytes(data)
            await round_trip(ctx, path, data)
            with path.open("rb") as file:
                file.seek(min(1, size))
                await round_trip(ctx, file, data[1:])
                assert not file.closed
        with pytest.raises(FileNotFoundError) as raised:
            await ctx.store.put(ctx.bucket, "key", tmp_path / "missing")
        assert not isinstance(raised.value, TroveError)
        assert await ctx.store.read(ctx.bucket, "key") == data[1:]

    async def test_p11_known_and_unknown_length(self, ctx: Context) -> None:
        data = random_bytes(2 * ctx.part_size + 5)
        for size in (len(data), None):
            seen: list[tuple[int, int | None]] = []

            def note(taken: int, of: int | None, seen: list[tuple[int, int | None]] = seen) -> None:
                seen.append((taken, of))

            await ctx.store.put(ctx.bucket, "key", acut(data, [50_000]), size=size, on_progress=note)
            assert await ctx.store.read(ctx.bucket, "key") == data
            assert seen[-1] == (len(data), size)
            assert seen == sorted(seen, key=lambda step: step[0])

    async def test_p12_around_the_part_size(self, ctx: Context) -> None:
        for parts in (1, 2):
            for more in (-1, 0, 1):
                data = random_bytes(parts * ctx.part_size + more)
                await round_trip(ctx, acut(data, [ctx.part_size]), data)
                await round_trip(ctx, acut(data, [1000]), data, size=len(data))
                await round_trip(ctx, data, data)

    async def test_p13_empty_key(self, ctx: Context) -> None:
        counter = CallCounter()
        store = await ctx.reopen(counter)
        with pytest.raises(InvalidKeyError):
            await store.put(ctx.bucket, "", b"x")
        with pytest.raises(InvalidKeyError):
            await store.get(ctx.bucket, "")
        with pytest.raises(BodyTypeError, match="encode"):
            await store.put(ctx.bucket, "key", "text")  # type: ignore[arg-type]
        assert counter.calls == []

    async def test_p14_get_missing(self, ctx: Context) -> None:
        await ctx.store.put(ctx.bucket, "folder/key", b"x")
        for key in ("missing", "folder", "folder/", "folder/ke", "folder/key/", "folder/key/x"):
            for call in (ctx.store.get, ctx.store.read):
                with pytest.raises(ObjectNotFoundError) as raised:
                    await call(ctx.bucket, key)
                assert type(raised.value) is ObjectNotFoundError
                assert isinstance(raised.value, FileNotFoundError)
                assert (raised.value.bucket, raised.value.key) == (ctx.bucket, key)
                assert key in str(raised.value)
                assert repr(key) not in raised.value.message  # a layer that changes keys could not change it

    async def test_p15_head_missing(self, ctx: Context) -> None:
        with pytest.raises(ObjectNotFoundError) as raised:
            await ctx.store.head(ctx.bucket, "missing")
        assert type(raised.value) is ObjectNotFoundError
        assert (raised.value.operation, raised.value.key) == ("head", "missing")
        assert await ctx.store.exists(ctx.bucket, "missing") is False

    async def test_p16_head_get_and_list_agree(self, ctx: Context) -> None:
        for key, size in (("small", 10), ("large", 3 * ctx.part_size), ("empty", 0)):
            await ctx.store.put(ctx.bucket, key, random_bytes(size), metadata={"a": "1"})
        for listed in await ctx.store.list(ctx.bucket).all():
            head = await ctx.store.head(ctx.bucket, listed.key)
            async with ctx.store.get(ctx.bucket, listed.key) as reader:
                assert reader.info == head
            assert (listed.size, listed.etag, listed.last_modified) == (head.size, head.etag, head.last_modified)
            assert_same_object(listed, head)

    async def test_p17_etag_changes_with_the_content(self, ctx: Context) -> None:
        etags = [(await ctx.store.put(ctx.bucket, "key", body)).etag for body in (b"one", b"two", b"three", b"")]
        assert len(set(etags)) == len(etags)

    async def test_p18_put_returns_the_etag(self, ctx: Context) -> None:
        data = random_bytes(3 * ctx.part_size)
        for body in (b"small", data, acut(data, [ctx.part_size])):
            info = await ctx.store.put(ctx.bucket, "key", body, metadata={"a": "1"}, content_type="text/plain")
            assert info.etag
            assert_same_object(info, await ctx.store.head(ctx.bucket, "key"))

    @pytest.mark.parametrize("kind", SOURCES)
    async def test_p19_failing_source(self, ctx: Context, kind: str) -> None:
        chunks = [random_bytes(ctx.part_size // 2, seed) for seed in range(6)]
        total = sum(map(len, chunks))
        for old in (None, b"old"):
            if old is not None:
                await ctx.store.put(ctx.bucket, "key", old)
            for size in (None, total):
                for fail_at in (0, len(chunks) // 2, len(chunks) - 1, len(chunks)):
                    with pytest.raises(SourceError):
                        await ctx.store.put(ctx.bucket, "key", SOURCES[kind](chunks, fail_at), size=size)
                    await assert_unchanged(ctx, "key", old)
        await round_trip(ctx, SOURCES[kind](chunks, None), b"".join(chunks))

    async def test_p19_failing_small_source(self, ctx: Context) -> None:
        """A body that fits into one request, which a driver might send before the body has ended."""
        for kind in SOURCES.values():
            for size in (None, 2):
                for fail_at in (0, 1, 2):
                    with pytest.raises(SourceError):
                        await ctx.store.put(ctx.bucket, "key", kind([b"a", b"b"], fail_at), size=size)
                    await assert_unchanged(ctx, "key", None)

    async def test_p20_length_mismatch(self, ctx: Context) -> None:
        data = random_bytes(2 * ctx.part_size)
        for old in (None, b"old"):
            if old is not None:
                await ctx.store.put(ctx.bucket, "key", old)
            for content in (b"", b"12345", data):
                for declared in {max(0, len(content) - 1), len(content) + 1, 0} - {len(content)}:
                    for body in (content, cut(content, [1000]), acut(content, [1000])):
                        with pytest.raises(BodySizeError) as raised:
                            await ctx.store.put(ctx.bucket, "key", body, size=declared)
                        assert type(raised.value) is BodySizeError
                        await assert_unchanged(ctx, "key", old)

    async def test_p21_buffer_may_change_after_put(self, ctx: Context) -> None:
        for size in (10, 3 * ctx.part_size):
            data = random_bytes(size)
            buffer = bytearray(data)
            await ctx.store.put(ctx.bucket, "key", buffer)
            buffer[:] = bytes(size)
            assert await ctx.store.read(ctx.bucket, "key") == data

    async def test_p21_buffer_may_be_used_for_each_chunk(self, ctx: Context) -> None:
        data = random_bytes(3 * ctx.part_size)
        buffer = bytearray(1000)

        async def chunks() -> AsyncIterator[memoryview]:
            for chunk in cut(data, [len(buffer)]):
                buffer[: len(chunk)] = chunk
                yield memoryview(buffer)[: len(chunk)]
            buffer[:] = bytes(len(buffer))

        await round_trip(ctx, chunks(), data)

    async def test_p22_two_readers_of_one_object(self, ctx: Context) -> None:
        data = random_bytes(3 * MIB)
        await ctx.store.put(ctx.bucket, "key", data)
        async with ctx.store.get(ctx.bucket, "key") as one, ctx.store.get(ctx.bucket, "key") as two:
            halves = [await one.read(1000), await two.read(2000), await one.read(), await two.read()]
        assert halves == [data[:1000], data[:2000], data[1000:], data[2000:]]
        assert await asyncio.gather(*(ctx.store.read(ctx.bucket, "key") for _ in range(5))) == [data] * 5

    @pytest.mark.parametrize("change", ["overwrite", "delete"])
    async def test_p23_change_under_a_reader(self, ctx: Context, change: str) -> None:
        old, new = random_bytes(8 * MIB, 1), random_bytes(8 * MIB, 2)
        await ctx.store.put(ctx.bucket, "key", old)
        for seek in (False, True):
            async with ctx.store.get(ctx.bucket, "key") as reader:
                found = await reader.read(1000)
                if change == "overwrite":
                    await ctx.store.put(ctx.bucket, "key", new)
                else:
                    await ctx.store.delete(ctx.bucket, "key")
                try:
                    if seek:
                        await reader.seek(5000)
                        await reader.seek(1000)
                    found += await reader.read()
                except ObjectChangedError:
                    continue
                finally:
                    await ctx.store.put(ctx.bucket, "key", old)
            assert found == old

    async def test_p24_large_object(self, ctx: Context) -> None:
        data = random_bytes(max(3 * ctx.part_size, 3 * MIB) + 17)
        expected = hashlib.sha256(data).hexdigest()
        info = await ctx.store.put(ctx.bucket, "key", acut(data, [100_000]), checksum="sha256")
        assert info.checksums == {"sha256": expected}
        found = hashlib.sha256()
        async with ctx.store.get(ctx.bucket, "key") as reader:
            async for chunk in reader:
                assert 0 < len(chunk) <= MIB
                found.update(chunk)
        assert found.hexdigest() == expected

    @plainly
    async def test_p25_around_five_mebibytes(self, ctx: Context) -> None:
        for more in (-1, 0, 1):
            data = random_bytes(5 * MIB + more)
            await round_trip(ctx, data, data)
            await round_trip(ctx, acut(data, [MIB]), data)

    @pytest.mark.parametrize("kind", BREAKING_OFF)
    async def test_p26_source_that_breaks_off(self, ctx: Context, kind: str) -> None:
        """A source that raises ``StopIteration`` or ``StopAsyncIteration`` from within has not ended."""
        for chunks in ([b"half"], [random_bytes(ctx.part_size + 1)] * 2):
            for size in (None, sum(map(len, chunks))):
                await ctx.store.put(ctx.bucket, "key", b"old")
                with pytest.raises(RuntimeError, match=r"Stop(Async)?Iteration"):
                    await ctx.store.put(ctx.bucket, "key", BREAKING_OFF[kind](chunks), size=size)
                await assert_unchanged(ctx, "key", b"old")

    @pytest.mark.parametrize("kind", ENDING_EARLY)
    async def test_p26_source_that_ends_early(self, ctx: Context, kind: str) -> None:
        for chunks in ([b"half"], [random_bytes(ctx.part_size + 1)] * 2):
            await ctx.store.put(ctx.bucket, "key", b"old")
            with pytest.raises(BodySizeError):
                await ctx.store.put(ctx.bucket, "key", ENDING_EARLY[kind](chunks), size=sum(map(len, chunks)) + 1)
            whole = hashlib.sha256(b"".join([*chunks, b"more"])).hexdigest()
            with pytest.raises(ChecksumError):
                await ctx.store.put(ctx.bucket, "key", ENDING_EARLY[kind](chunks), checksum=f"sha256:{whole}")
            await assert_unchanged(ctx, "key", b"old")
