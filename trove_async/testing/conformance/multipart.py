"""U: uploads in parts, and resuming them.

How a driver splits a body (U7, U10) is visible from outside only in this: any size is stored completely, no part
number exceeds the limit, and memory is bounded. These are checked here.
"""

from __future__ import annotations

import asyncio
import hashlib
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from trove_async.driver import MultipartDriver
from trove_async.errors import (
    BucketNotFoundError,
    InvalidPartError,
    ObjectNotFoundError,
    UploadNotFoundError,
)
from trove_async.testing.conformance.context import Context, plainly, requires
from trove_async.testing.conformance.counting import CallCounter
from trove_async.testing.conformance.processes import OPEN, run_python, store_for_another_process
from trove_async.testing.helpers import random_bytes
from trove_async.types import PartInfo

__all__ = ["MultipartChecks"]

_RESUME = f"""{OPEN}
async def main(dsn, layers, bucket, key, upload_id, size):
    async with open_store(dsn, layers) as store:
        await store.upload_part(bucket, key, upload_id, 2, b"2" * int(size))
        parts = await store.list_parts(bucket, key, upload_id)
        info = await store.complete_multipart(bucket, key, upload_id, parts)
        print(info.etag)

asyncio.run(main(*sys.argv[1:]))
"""


async def _upload(ctx: Context, key: str, upload: str, numbers: range | list[int]) -> list[PartInfo]:
    """Upload parts in the given order, each filled with its number; return them in ascending order."""
    parts = [await ctx.store.upload_part(ctx.bucket, key, upload, number, _part(ctx, number)) for number in numbers]
    return sorted(parts, key=lambda part: part.number)


def _part(ctx: Context, number: int) -> bytes:
    return bytes([number]) * ctx.part_size


class MultipartChecks:
    """An upload is invisible until it is completed, and anyone can continue it until then."""

    @requires(MultipartDriver)
    async def test_u01_parts_out_of_order(self, ctx: Context) -> None:
        """Parts are joined by number, whatever their order of arrival; completion accepts only an ascending list."""
        upload = await ctx.store.initiate_multipart(ctx.bucket, "key", content_type="a/b", metadata={"m": "1"})
        parts = await _upload(ctx, "key", upload, [3, 1, 2])
        assert [(part.number, part.size) for part in parts] == [(n, ctx.part_size) for n in (1, 2, 3)]
        assert await ctx.store.list_parts(ctx.bucket, "key", upload) == parts
        with pytest.raises(InvalidPartError):
            await ctx.store.complete_multipart(ctx.bucket, "key", upload, parts[::-1])
        info = await ctx.store.complete_multipart(ctx.bucket, "key", upload, parts)
        head = await ctx.store.head(ctx.bucket, "key")
        assert (info.key, info.size, info.etag) == ("key", 3 * ctx.part_size, head.etag)
        assert (head.size, head.content_type, dict(head.metadata)) == (3 * ctx.part_size, "a/b", {"m": "1"})
        assert await ctx.store.read(ctx.bucket, "key") == b"".join(_part(ctx, n) for n in (1, 2, 3))
        assert await ctx.store.list_multipart_uploads(ctx.bucket) == []

    @requires(MultipartDriver)
    async def test_u02_concurrent_parts(self, ctx: Context) -> None:
        """Concurrent parts of one upload do not affect each other."""
        upload = await ctx.store.initiate_multipart(ctx.bucket, "key")
        numbers = range(1, 9)
        work = (ctx.store.upload_part(ctx.bucket, "key", upload, n, _part(ctx, n)) for n in numbers)
        parts = await asyncio.gather(*work)
        await ctx.store.complete_multipart(ctx.bucket, "key", upload, parts)
        assert await ctx.store.read(ctx.bucket, "key") == b"".join(_part(ctx, n) for n in numbers)

    @requires(MultipartDriver)
    async def test_u03_part_that_is_sent_again_replaces_the_first(self, ctx: Context) -> None:
        """The part that was sent last counts, and the ETag of the first is refused."""
        upload = await ctx.store.initiate_multipart(ctx.bucket, "key")
        first, second = await _upload(ctx, "key", upload, [1, 2])
        again = await ctx.store.upload_part(ctx.bucket, "key", upload, 1, b"again" * ctx.part_size)
        assert await ctx.store.list_parts(ctx.bucket, "key", upload) == [again, second]
        with pytest.raises(InvalidPartError):
            await ctx.store.complete_multipart(ctx.bucket, "key", upload, [first, second])
        await ctx.store.complete_multipart(ctx.bucket, "key", upload, [again, second])
        assert await ctx.store.read(ctx.bucket, "key") == b"again" * ctx.part_size + _part(ctx, 2)

    @requires(MultipartDriver)
    async def test_u04_abort_leaves_nothing(self, ctx: Context) -> None:
        """No object, upload or part is left; an existing object stays, and a second abort succeeds."""
        await ctx.store.put(ctx.bucket, "old", b"old")
        for key in ("new", "old"):
            upload = await ctx.store.initiate_multipart(ctx.bucket, key)
            await _upload(ctx, key, upload, [1, 2])
            await ctx.store.abort_multipart(ctx.bucket, key, upload)
            await ctx.store.abort_multipart(ctx.bucket, key, upload)
            with pytest.raises(UploadNotFoundError):
                await ctx.store.list_parts(ctx.bucket, key, upload)
        assert await ctx.store.list_multipart_uploads(ctx.bucket) == []
        assert await ctx.store.read(ctx.bucket, "old") == b"old"
        with pytest.raises(ObjectNotFoundError):
            await ctx.store.head(ctx.bucket, "new")
        await ctx.assert_clean()

    @requires(MultipartDriver)
    async def test_u04_open_uploads_are_listed_in_order(self, ctx: Context) -> None:
        """They are listed by key, then by start time, and selected by prefix."""
        ids = [(key, await ctx.store.initiate_multipart(ctx.bucket, key)) for key in ("b/1", "a", "b/2", "a", "c")]
        listed = [(found.key, found.upload_id) for found in await ctx.store.list_multipart_uploads(ctx.bucket)]
        assert listed == [ids[1], ids[3], ids[0], ids[2], ids[4]]
        below = [found.key for found in await ctx.store.list_multipart_uploads(ctx.bucket, "b/")]
        assert below == ["b/1", "b/2"]
        for key, upload in ids:
            await ctx.store.abort_multipart(ctx.bucket, key, upload)

    @requires(MultipartDriver)
    async def test_u05_bad_parts_are_refused(self, ctx: Context) -> None:
        """The upload then stays open, and can be completed with other parts or aborted."""
        await ctx.store.put(ctx.bucket, "key", b"old")
        upload = await ctx.store.initiate_multipart(ctx.bucket, "key")
        first, second = await _upload(ctx, "key", upload, [1, 2])
        for wrong in (PartInfo(3, first.etag, first.size), PartInfo(2, first.etag, first.size)):
            with pytest.raises(InvalidPartError):
                await ctx.store.complete_multipart(ctx.bucket, "key", upload, [first, wrong])
            assert await ctx.store.read(ctx.bucket, "key") == b"old"
        assert await ctx.store.list_parts(ctx.bucket, "key", upload) == [first, second]
        await ctx.store.complete_multipart(ctx.bucket, "key", upload, [second])
        assert await ctx.store.read(ctx.bucket, "key") == _part(ctx, 2)
        other = await ctx.store.initiate_multipart(ctx.bucket, "key")
        with pytest.raises(InvalidPartError):
            await ctx.store.complete_multipart(ctx.bucket, "key", other, [first])
        await ctx.store.abort_multipart(ctx.bucket, "key", other)
        await ctx.assert_clean()

    @requires(MultipartDriver)
    async def test_u06_small_part_is_refused(self, ctx: Context) -> None:
        """Only the last part may be smaller than the limit."""
        smallest = ctx.store.features.limits.min_part_size
        upload = await ctx.store.initiate_multipart(ctx.bucket, "key")
        if smallest > 1:
            small = await ctx.store.upload_part(ctx.bucket, "key", upload, 1, b"s" * (smallest - 1))
            last = await ctx.store.upload_part(ctx.bucket, "key", upload, 2, b"l")
            with pytest.raises(InvalidPartError):
                await ctx.store.complete_multipart(ctx.bucket, "key", upload, [small, last])
        first = await ctx.store.upload_part(ctx.bucket, "key", upload, 1, b"f" * smallest)
        last = await ctx.store.upload_part(ctx.bucket, "key", upload, 2, b"l")
        await ctx.store.complete_multipart(ctx.bucket, "key", upload, [first, last])
        assert await ctx.store.read(ctx.bucket, "key") == b"f" * smallest + b"l"

    async def test_u07_streams_of_any_length_are_stored_whole(self, ctx: Context) -> None:
        """Bodies of known and unknown length, around the part boundaries."""
        size = ctx.part_size
        for total in (size - 1, size, size + 1, 3 * size, 3 * size + 7):
            data = random_bytes(total)
            for declared in (total, None):

                async def chunks(data: bytes = data) -> AsyncIterator[bytes]:
                    for first in range(0, len(data), 10_000):
                        yield data[first : first + 10_000]

                info = await ctx.store.put(ctx.bucket, "key", chunks(), size=declared)
                assert info.size == total
                found = hashlib.sha256(await ctx.store.read(ctx.bucket, "key"))
                assert found.digest() == hashlib.sha256(data).digest()
        if ctx.store.supports(MultipartDriver):
            assert await ctx.store.list_multipart_uploads(ctx.bucket) == []

    @requires(MultipartDriver)
    async def test_u08_zero_parts(self, ctx: Context) -> None:
        """An upload without parts cannot be completed, but it can be aborted."""
        upload = await ctx.store.initiate_multipart(ctx.bucket, "key")
        assert await ctx.store.list_parts(ctx.bucket, "key", upload) == []
        with pytest.raises(InvalidPartError):
            await ctx.store.complete_multipart(ctx.bucket, "key", upload, [])
        assert not await ctx.store.exists(ctx.bucket, "key")
        await ctx.store.abort_multipart(ctx.bucket, "key", upload)

    @requires(MultipartDriver)
    async def test_u09_two_uploads_of_one_key(self, ctx: Context) -> None:
        """The two are independent; the upload that is completed last determines the object."""
        one = await ctx.store.initiate_multipart(ctx.bucket, "key", metadata={"from": "one"})
        two = await ctx.store.initiate_multipart(ctx.bucket, "key", metadata={"from": "two"})
        assert one != two
        one_first = await ctx.store.upload_part(ctx.bucket, "key", one, 1, b"1" * ctx.part_size)
        two_first = await ctx.store.upload_part(ctx.bucket, "key", two, 1, b"2" * ctx.part_size)
        one_second = await ctx.store.upload_part(ctx.bucket, "key", one, 2, b"one")
        two_second = await ctx.store.upload_part(ctx.bucket, "key", two, 2, b"two")
        for upload, parts, content, name in (
            (two, [two_first, two_second], b"2" * ctx.part_size + b"two", "two"),
            (one, [one_first, one_second], b"1" * ctx.part_size + b"one", "one"),
        ):
            await ctx.store.complete_multipart(ctx.bucket, "key", upload, parts)
            assert await ctx.store.read(ctx.bucket, "key") == content
            assert (await ctx.store.head(ctx.bucket, "key")).metadata == {"from": name}

    @requires(MultipartDriver)
    async def test_u10_part_numbers_have_a_limit(self, ctx: Context) -> None:
        """The highest number is accepted; the next one is refused before I/O."""
        counter = CallCounter()
        store = await ctx.reopen(counter)
        highest = store.features.limits.max_parts
        upload = await store.initiate_multipart(ctx.bucket, "key")
        part = await store.upload_part(ctx.bucket, "key", upload, highest, b"x")
        for number in (highest + 1, 0, -1):
            with pytest.raises(InvalidPartError):
                await store.upload_part(ctx.bucket, "key", upload, number, b"x")
        assert counter.count("upload_part") == 1
        await store.complete_multipart(ctx.bucket, "key", upload, [part])
        assert await store.read(ctx.bucket, "key") == b"x"

    @requires(MultipartDriver)
    async def test_u11_resumed_by_another_store(self, ctx: Context) -> None:
        """The upload id is enough: another store uploads parts, lists them and completes."""
        upload = await ctx.store.initiate_multipart(ctx.bucket, "key", metadata={"m": "1"})
        first = await ctx.store.upload_part(ctx.bucket, "key", upload, 1, _part(ctx, 1))
        other = await ctx.reopen()
        assert [found.upload_id for found in await other.list_multipart_uploads(ctx.bucket)] == [upload]
        assert await other.list_parts(ctx.bucket, "key", upload) == [first]
        await other.upload_part(ctx.bucket, "key", upload, 2, _part(ctx, 2))
        parts = await other.list_parts(ctx.bucket, "key", upload)
        await other.complete_multipart(ctx.bucket, "key", upload, parts)
        assert await ctx.store.read(ctx.bucket, "key") == _part(ctx, 1) + _part(ctx, 2)
        assert (await ctx.store.head(ctx.bucket, "key")).metadata == {"m": "1"}

    @requires(MultipartDriver)
    async def test_u11_resumed_by_another_process(self, ctx: Context) -> None:
        """The same in another process, if the backend outlives the process that began."""
        there = store_for_another_process(ctx)
        upload = await ctx.store.initiate_multipart(ctx.bucket, "key")
        await ctx.store.upload_part(ctx.bucket, "key", upload, 1, b"1" * ctx.part_size)
        printed = await run_python(_RESUME, *there, ctx.bucket, "key", upload, str(ctx.part_size))
        assert (await ctx.store.head(ctx.bucket, "key")).etag == printed.strip()
        assert await ctx.store.read(ctx.bucket, "key") == b"1" * ctx.part_size + b"2" * ctx.part_size

    @requires(MultipartDriver)
    async def test_u12_unknown_upload_is_not_found(self, ctx: Context) -> None:
        """Unknown, completed or aborted ids, and ids of another key, raise the error for a missing upload."""
        done = await ctx.store.initiate_multipart(ctx.bucket, "key")
        [part] = await _upload(ctx, "key", done, [1])
        await ctx.store.complete_multipart(ctx.bucket, "key", done, [part])
        aborted = await ctx.store.initiate_multipart(ctx.bucket, "key")
        await ctx.store.abort_multipart(ctx.bucket, "key", aborted)
        theirs = await ctx.store.initiate_multipart(ctx.bucket, "theirs")
        for unknown in (done, aborted, theirs, "never-begun", "../../etc", "a/b", "%2e%2e"):
            with pytest.raises(UploadNotFoundError) as caught:
                await ctx.store.upload_part(ctx.bucket, "key", unknown, 1, b"x")
            assert (caught.value.bucket, caught.value.key) == (ctx.bucket, "key")
            with pytest.raises(UploadNotFoundError):
                await ctx.store.list_parts(ctx.bucket, "key", unknown)
            with pytest.raises(UploadNotFoundError):
                await ctx.store.complete_multipart(ctx.bucket, "key", unknown, [part])
            await ctx.store.abort_multipart(ctx.bucket, "key", unknown)
        assert [found.upload_id for found in await ctx.store.list_multipart_uploads(ctx.bucket)] == [theirs]
        await ctx.store.abort_multipart(ctx.bucket, "theirs", theirs)
        with pytest.raises(BucketNotFoundError):
            await ctx.store.initiate_multipart(ctx.missing_bucket, "key")
        with pytest.raises(BucketNotFoundError):
            await ctx.store.list_multipart_uploads(ctx.missing_bucket)

    @plainly
    async def test_u13_memory_is_bounded(self, ctx: Context) -> None:
        """A stream of unknown length needs the memory of a few parts, whatever its size."""
        bound = ctx.harness.transfer_memory
        if ctx.harness.stores_in_process:
            pytest.skip("this process holds the objects: its memory is the backend's")
        chunk = bytes(256 * 1024)

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(3 * bound // len(chunk)):
                yield chunk

        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            info = await ctx.store.put(ctx.bucket, "key", chunks())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert info.size == 3 * bound // len(chunk) * len(chunk)
        assert peak - before <= bound

    @plainly
    @requires(MultipartDriver)
    async def test_u13_memory_of_concurrent_parts_is_bounded(self, ctx: Context) -> None:
        """Streamed parts need the memory of one part each, plus one."""
        if ctx.harness.stores_in_process:
            pytest.skip("this process holds the objects: its memory is the backend's")
        size, concurrency = max(ctx.part_size, 8 * 1024 * 1024), 3
        chunk = bytes(64 * 1024)

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(size // len(chunk)):
                yield chunk

        upload = await ctx.store.initiate_multipart(ctx.bucket, "key")
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for first in range(1, 3 * concurrency + 1, concurrency):
                numbers = range(first, first + concurrency)
                work = (ctx.store.upload_part(ctx.bucket, "key", upload, n, chunks()) for n in numbers)
                await asyncio.gather(*work)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak - before <= size * (concurrency + 1)
        await ctx.store.abort_multipart(ctx.bucket, "key", upload)

    async def test_u14_failing_part_aborts_the_upload(self, ctx: Context) -> None:
        """A body that fails in its third part raises the source's own error, and nothing is left."""
        await ctx.store.put(ctx.bucket, "key", b"old")
        error = RuntimeError("the source failed")

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(5 * ctx.part_size // 2 // 8192):
                yield b"x" * 8192
            raise error

        before = asyncio.all_tasks()
        with pytest.raises(RuntimeError) as caught:
            await ctx.store.put(ctx.bucket, "key", chunks())
        assert caught.value is error
        assert asyncio.all_tasks() == before
        assert await ctx.store.read(ctx.bucket, "key") == b"old"
        if ctx.store.supports(MultipartDriver):
            assert await ctx.store.list_multipart_uploads(ctx.bucket) == []
        await ctx.assert_clean()

    @requires(MultipartDriver)
    async def test_u14_failing_part_spares_the_others(self, ctx: Context) -> None:
        """A failing part of the caller's upload leaves the other parts, and nothing of itself."""
        upload = await ctx.store.initiate_multipart(ctx.bucket, "key")
        [first] = await _upload(ctx, "key", upload, [1])

        async def chunks() -> AsyncIterator[bytes]:
            yield b"x" * 8192
            raise RuntimeError("the source failed")

        for number in (1, 2):
            with pytest.raises(RuntimeError, match="the source failed"):
                await ctx.store.upload_part(ctx.bucket, "key", upload, number, chunks())
        assert await ctx.store.list_parts(ctx.bucket, "key", upload) == [first]
        await ctx.store.complete_multipart(ctx.bucket, "key", upload, [first])
        assert await ctx.store.read(ctx.bucket, "key") == _part(ctx, 1)
