"""U: parts of uploads that grow, and parts that are copied from objects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from trove_async.driver import AppendDriver, PartCopyDriver, VersioningDriver
from trove_async.errors import (
    BodySizeError,
    BucketNotFoundError,
    CopyNotSupportedError,
    InvalidPartError,
    ObjectNotFoundError,
    RangeNotSatisfiableError,
    TroveError,
    UploadNotFoundError,
)
from trove_async.testing.conformance.context import Context, requires
from trove_async.testing.helpers import random_bytes
from trove_async.types import ObjectRef, PartInfo

__all__ = ["PartChecks"]

_CHUNK = 10_000


async def _chunks(data: bytes, error: Exception | None = None) -> AsyncIterator[bytes]:
    for first in range(0, len(data), _CHUNK):
        await asyncio.sleep(0)
        yield data[first : first + _CHUNK]
    if error is not None:
        raise error


async def _completed(ctx: Context, upload: str, parts: list[PartInfo]) -> bytes:
    """Complete the upload of ``key`` and return the object's content, after which nothing may be left of it."""
    info = await ctx.store.complete_multipart(ctx.bucket, "key", upload, parts)
    assert info.size == sum(part.size for part in parts)
    content = await ctx.store.read(ctx.bucket, "key")
    await ctx.assert_clean()
    return content


class PartChecks:
    """A part that grows keeps what was written to it; a part that is copied has the bytes of the object."""

    @requires(AppendDriver)
    async def test_u16_part_grows(self, ctx: Context) -> None:
        """By bodies of any kind; each append returns what the upload then lists, and only the last ETag completes."""
        data = random_bytes(ctx.part_size)
        upload = await ctx.store.initiate_multipart(ctx.bucket, "key")
        begun = await ctx.store.append_part(ctx.bucket, "key", upload, 1, 0, data[:1000])
        assert (begun.number, begun.size) == (1, 1000)
        assert await ctx.store.list_parts(ctx.bucket, "key", upload) == [begun]
        grown = await ctx.store.append_part(ctx.bucket, "key", upload, 1, 1000, _chunks(data[1000:]))
        assert (grown.number, grown.size) == (1, ctx.part_size)
        assert await ctx.store.list_parts(ctx.bucket, "key", upload) == [grown]
        with pytest.raises(ObjectNotFoundError):
            await ctx.store.head(ctx.bucket, "key")
        with pytest.raises(InvalidPartError):
            await ctx.store.complete_multipart(ctx.bucket, "key", upload, [begun])
        assert await _completed(ctx, upload, [grown]) == data

    @requires(AppendDriver)
    async def test_u16_part_that_was_uploaded_grows(self, ctx: Context) -> None:
        """Also from another instance; and an upload replaces a part that has grown."""
        data = random_bytes(3 * ctx.part_size)
        pieces = [data[first : first + ctx.part_size] for first in range(0, len(data), ctx.part_size)]
        upload = await ctx.store.initiate_multipart(ctx.bucket, "key")
        await ctx.store.upload_part(ctx.bucket, "key", upload, 3, pieces[2][:100])
        await ctx.store.append_part(ctx.bucket, "key", upload, 2, 0, b"replaced later")
        other = await ctx.reopen()
        third = await other.append_part(ctx.bucket, "key", upload, 3, 100, pieces[2][100:])
        second = await ctx.store.upload_part(ctx.bucket, "key", upload, 2, pieces[1])
        first = await ctx.store.append_part(ctx.bucket, "key", upload, 1, 0, pieces[0])
        assert await ctx.store.list_parts(ctx.bucket, "key", upload) == [first, second, third]
        assert await _completed(ctx, upload, [first, second, third]) == data

    @requires(AppendDriver)
    async def test_u17_interrupted_append_goes_on(self, ctx: Context) -> None:
        """What the body has given stays in the part when it raises, with its error unchanged; the next call appends."""
        data = random_bytes(ctx.part_size)
        half = ctx.part_size // 2
        upload = await ctx.store.initiate_multipart(ctx.bucket, "key")
        for offset, end in ((0, half), (half, half * 3 // 2)):
            body = _chunks(data[offset:end], RuntimeError("the client is gone"))
            with pytest.raises(RuntimeError, match="the client is gone"):
                await ctx.store.append_part(ctx.bucket, "key", upload, 1, offset, body)
            [part] = await ctx.store.list_parts(ctx.bucket, "key", upload)
            assert part.size == end
        part = await ctx.store.append_part(ctx.bucket, "key", upload, 1, part.size, data[part.size :])
        assert await _completed(ctx, upload, [part]) == data

    @requires(AppendDriver)
    async def test_u17_bytes_beyond_the_offset_are_cut_off(self, ctx: Context) -> None:
        """By a body, by one that fails at once, and by one without bytes."""
        upload = await ctx.store.initiate_multipart(ctx.bucket, "key")
        first = await ctx.store.append_part(ctx.bucket, "key", upload, 1, 0, b"a" * ctx.part_size)
        cut = await ctx.store.append_part(ctx.bucket, "key", upload, 1, 5, b"b" * 3)
        assert (cut.size, cut.etag != first.etag) == (8, True)
        with pytest.raises(RuntimeError):
            await ctx.store.append_part(ctx.bucket, "key", upload, 1, 7, _chunks(b"", RuntimeError()))
        [shorter] = await ctx.store.list_parts(ctx.bucket, "key", upload)
        assert shorter.size == 7
        empty = await ctx.store.append_part(ctx.bucket, "key", upload, 1, 6, b"")
        assert empty.size == 6
        part = await ctx.store.append_part(ctx.bucket, "key", upload, 1, 6, b"c")
        assert await _completed(ctx, upload, [part]) == b"aaaaabc"

    @requires(AppendDriver)
    async def test_u17_body_of_another_length_stays(self, ctx: Context) -> None:
        """What a body had that is shorter than declared is in the part."""
        upload = await ctx.store.initiate_multipart(ctx.bucket, "key")
        with pytest.raises(BodySizeError):
            await ctx.store.append_part(ctx.bucket, "key", upload, 1, 0, _chunks(b"short"), size=100)
        [part] = await ctx.store.list_parts(ctx.bucket, "key", upload)
        assert part.size == 5
        assert await _completed(ctx, upload, [part]) == b"short"

    @requires(AppendDriver)
    async def test_u18_wrong_append_is_refused(self, ctx: Context) -> None:
        """An offset beyond the part, and an upload that is not open: the parts stay, and none is begun."""
        upload = await ctx.store.initiate_multipart(ctx.bucket, "key")
        part = await ctx.store.append_part(ctx.bucket, "key", upload, 1, 0, b"abc")
        for number, offset in ((1, 4), (2, 1)):
            with pytest.raises(InvalidPartError):
                await ctx.store.append_part(ctx.bucket, "key", upload, number, offset, b"x")
        assert await ctx.store.list_parts(ctx.bucket, "key", upload) == [part]
        aborted = await ctx.store.initiate_multipart(ctx.bucket, "key")
        await ctx.store.append_part(ctx.bucket, "key", aborted, 1, 0, b"x")
        await ctx.store.abort_multipart(ctx.bucket, "key", aborted)
        theirs = await ctx.store.initiate_multipart(ctx.bucket, "theirs")
        for unknown in (aborted, theirs, "never-begun", "../../etc"):
            with pytest.raises(UploadNotFoundError) as caught:
                await ctx.store.append_part(ctx.bucket, "key", unknown, 1, 0, b"x")
            assert (caught.value.bucket, caught.value.key) == (ctx.bucket, "key")
        assert await ctx.store.list_parts(ctx.bucket, "theirs", theirs) == []
        await ctx.store.abort_multipart(ctx.bucket, "theirs", theirs)
        assert await _completed(ctx, upload, [part]) == b"abc"

    @requires(PartCopyDriver)
    async def test_u19_part_is_copied(self, ctx: Context) -> None:
        """From this bucket and another, whole and a range, beside a part that is uploaded and one that is replaced."""
        data, size = random_bytes(3 * ctx.part_size), ctx.part_size
        other = await ctx.new_bucket()
        for bucket in (ctx.bucket, other):
            await ctx.store.put(bucket, "origin", data, metadata={"not": "copied"})
        upload = await ctx.store.initiate_multipart(ctx.bucket, "key", metadata={"m": "1"})
        here, there = ObjectRef(ctx.bucket, "origin"), ObjectRef(other, "origin")
        await ctx.store.upload_part(ctx.bucket, "key", upload, 1, b"replaced" * size)
        whole = await ctx.store.copy_part(ctx.bucket, "key", upload, 1, here, 0, 3 * size)
        ranged = await ctx.store.copy_part(ctx.bucket, "key", upload, 2, there, 7, size + 1)
        sent = await ctx.store.upload_part(ctx.bucket, "key", upload, 3, data[:size])
        last = await ctx.store.copy_part(ctx.bucket, "key", upload, 4, here, 3 * size - 1, 1)
        parts = [whole, ranged, sent, last]
        assert [(part.number, part.size) for part in parts] == [(1, 3 * size), (2, size + 1), (3, size), (4, 1)]
        assert await ctx.store.list_parts(ctx.bucket, "key", upload) == parts
        with pytest.raises(ObjectNotFoundError):
            await ctx.store.head(ctx.bucket, "key")
        await ctx.store.delete(other, "origin")
        assert await _completed(ctx, upload, parts) == data + data[7 : size + 8] + data[:size] + data[-1:]
        assert dict((await ctx.store.head(ctx.bucket, "key")).metadata) == {"m": "1"}

    @requires(PartCopyDriver)
    async def test_u20_missing_source_is_named(self, ctx: Context) -> None:
        """The error is that of the source; the parts stay, and none is begun."""
        upload = await ctx.store.initiate_multipart(ctx.bucket, "key")
        part = await ctx.store.upload_part(ctx.bucket, "key", upload, 1, b"data")
        with pytest.raises(ObjectNotFoundError) as caught:
            await ctx.store.copy_part(ctx.bucket, "key", upload, 1, ObjectRef(ctx.bucket, "missing"), 0, 1)
        assert (caught.value.bucket, caught.value.key) == (ctx.bucket, "missing")
        with pytest.raises(BucketNotFoundError) as caught_bucket:
            await ctx.store.copy_part(ctx.bucket, "key", upload, 2, ObjectRef(ctx.missing_bucket, "missing"), 0, 1)
        assert caught_bucket.value.bucket == ctx.missing_bucket
        for error in (caught.value, caught_bucket.value):
            assert (error.operation, error.copy_phase) == ("copy_part", "read")
        assert await ctx.store.list_parts(ctx.bucket, "key", upload) == [part]
        assert await _completed(ctx, upload, [part]) == b"data"

    @requires(PartCopyDriver)
    async def test_u20_source_that_is_too_short_is_refused(self, ctx: Context) -> None:
        """No part is shorter than what was asked for."""
        upload = await ctx.store.initiate_multipart(ctx.bucket, "key")
        source, empty = ObjectRef(ctx.bucket, "origin"), ObjectRef(ctx.bucket, "empty")
        await ctx.store.put(ctx.bucket, "origin", bytes(ctx.part_size))
        await ctx.store.put(ctx.bucket, "empty", b"")
        for src, offset, length in ((source, ctx.part_size - 1, 2), (source, ctx.part_size, 1), (empty, 0, 1)):
            with pytest.raises(RangeNotSatisfiableError) as caught:
                await ctx.store.copy_part(ctx.bucket, "key", upload, 1, src, offset, length)
            assert (caught.value.bucket, caught.value.key) == (src.bucket, src.key)
        await ctx.store.abort_multipart(ctx.bucket, "key", upload)
        await ctx.assert_clean()

    @requires(PartCopyDriver)
    async def test_u20_unknown_upload_is_not_found(self, ctx: Context) -> None:
        """Also one that was aborted, and one of another key."""
        source = ObjectRef(ctx.bucket, "origin")
        await ctx.store.put(ctx.bucket, "origin", bytes(ctx.part_size))
        aborted = await ctx.store.initiate_multipart(ctx.bucket, "key")
        await ctx.store.abort_multipart(ctx.bucket, "key", aborted)
        theirs = await ctx.store.initiate_multipart(ctx.bucket, "theirs")
        for unknown in (aborted, theirs, "never-begun"):
            with pytest.raises(UploadNotFoundError) as caught:
                await ctx.store.copy_part(ctx.bucket, "key", unknown, 1, source, 0, ctx.part_size)
            assert (caught.value.bucket, caught.value.key) == (ctx.bucket, "key")
        assert await ctx.store.list_parts(ctx.bucket, "theirs", theirs) == []
        await ctx.store.abort_multipart(ctx.bucket, "theirs", theirs)

    @requires(PartCopyDriver)
    async def test_u21_special_names_of_sources(self, ctx: Context) -> None:
        """Sources whose names need encoding; none is taken for another, though the backend may be unable to copy it."""
        data = random_bytes(ctx.part_size)
        for other in ("?", "A", "a b"):
            await ctx.store.put(ctx.bucket, other, b"another object" * ctx.part_size)
        for key in ctx.held(["a b/c+d", "a+b", "ü☺", "%41", "%253F", "a/?q=1&r#s", "quote'\"<>", "k=v;@,:!*()~$"]):
            await ctx.store.put(ctx.bucket, key, data)
            upload = await ctx.store.initiate_multipart(ctx.bucket, "key")
            source = ObjectRef(ctx.bucket, key)
            try:
                part = await ctx.store.copy_part(ctx.bucket, "key", upload, 1, source, 1, len(data) - 1)
            except CopyNotSupportedError:
                assert await ctx.store.list_parts(ctx.bucket, "key", upload) == []
                await ctx.store.abort_multipart(ctx.bucket, "key", upload)
            else:
                assert await _completed(ctx, upload, [part]) == data[1:]

    @requires(PartCopyDriver, VersioningDriver)
    async def test_u21_version_of_a_source(self, ctx: Context) -> None:
        """The version that is named is copied, and a missing one is refused."""
        await ctx.store.set_versioning(ctx.bucket, True)
        old = random_bytes(ctx.part_size)
        first = await ctx.store.put(ctx.bucket, "origin", old)
        await ctx.store.put(ctx.bucket, "origin", b"new" * ctx.part_size)
        version = first.version_id or (await ctx.store.list_versions(ctx.bucket, "origin"))[-1].version_id
        upload = await ctx.store.initiate_multipart(ctx.bucket, "key")
        source = ObjectRef(ctx.bucket, "origin", version)
        part = await ctx.store.copy_part(ctx.bucket, "key", upload, 1, source, 0, len(old))
        assert await ctx.store.list_parts(ctx.bucket, "key", upload) == [part]
        await ctx.store.delete_version(ctx.bucket, "origin", version)
        with pytest.raises(TroveError) as caught:
            await ctx.store.copy_part(ctx.bucket, "key", upload, 2, source, 0, len(old))
        assert isinstance(caught.value, FileNotFoundError)
        assert (caught.value.bucket, caught.value.key) == (ctx.bucket, "origin")
        assert await _completed(ctx, upload, [part]) == old
