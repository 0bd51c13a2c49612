"""Checks M: the metadata of an object."""

from __future__ import annotations

import gzip
from contextlib import suppress
from datetime import timedelta

import pytest

from trove_async.driver import MultipartDriver, TaggingDriver
from trove_async.errors import InvalidMetadataError, InvalidTagsError, ObjectNotFoundError
from trove_async.testing.conformance.context import Context, requires
from trove_async.testing.conformance.counting import CallCounter
from trove_async.types import ObjectInfo

__all__ = ["MetadataChecks"]

PNG = b"\x89PNG\r\n\x1a\n" + bytes(32)
HEADERS = {
    "cache_control": "public, max-age=3600",
    "content_disposition": 'attachment; filename="a b.txt"',
    "content_encoding": "identity",
    "content_language": "de-CH, en",
}


async def described(ctx: Context, key: str = "key") -> list[ObjectInfo]:
    """Return the description that head and get return, which is the same."""
    head = await ctx.store.head(ctx.bucket, key)
    async with ctx.store.get(ctx.bucket, key) as reader:
        assert reader.info == head
    return [head, reader.info]


class MetadataChecks:
    """M1 to M19."""

    async def test_m01_content_type_given(self, ctx: Context) -> None:
        await ctx.store.put(ctx.bucket, "a.txt", b"x", content_type="application/x-own; charset=utf-8")
        for info in await described(ctx, "a.txt"):
            assert info.content_type == "application/x-own; charset=utf-8"

    async def test_m02_content_type_from_extension(self, ctx: Context) -> None:
        expected = {
            "a.txt": "text/plain",
            "photos/a.jpg": "image/jpeg",
            "a.JSON": "application/json",
            "no-extension": "application/octet-stream",
            "a.unheard-of": "application/octet-stream",
            "a.tar.gz": "application/gzip",
            "a.webp": "image/webp",
            "a.parquet": "application/vnd.apache.parquet",
            "folder.txt/a": "application/octet-stream",
        }
        for key, content_type in expected.items():
            await ctx.store.put(ctx.bucket, key, PNG)
            for info in await described(ctx, key):
                assert info.content_type == content_type, key

    async def test_m03_invalid_content_type(self, ctx: Context) -> None:
        counter = CallCounter()
        store = await ctx.reopen(counter)
        for bad in ("", "text", "text/", "/plain", "te xt/plain", "text/plain\r\nX-Evil: 1", "text/plä", " text/plain"):
            with pytest.raises(InvalidMetadataError):
                await store.put(ctx.bucket, "key", b"x", content_type=bad)
        assert counter.calls == []

    async def test_m04_headers(self, ctx: Context) -> None:
        await ctx.store.put(ctx.bucket, "key", b"x", **HEADERS)  # type: ignore[arg-type]
        for info in await described(ctx):
            assert {name: getattr(info, name) for name in HEADERS} == HEADERS
        await ctx.store.put(ctx.bucket, "key", b"x")
        for info in await described(ctx):
            assert {name: getattr(info, name) for name in HEADERS} == dict.fromkeys(HEADERS)

    async def test_m05_user_metadata(self, ctx: Context) -> None:
        metadata = {"author": "someone", "with-hyphen": "1", "under_score": "2", "with.dot": "3", "empty": ""}
        await ctx.store.put(ctx.bucket, "key", b"x", metadata=metadata)
        for info in await described(ctx):
            assert info.metadata == metadata

    async def test_m06_keys_become_lower_case(self, ctx: Context) -> None:
        await ctx.store.put(ctx.bucket, "key", b"x", metadata={"Author": "Someone", "X-ID": "7"})
        for info in await described(ctx):
            assert info.metadata == {"author": "Someone", "x-id": "7"}

    async def test_m07_keys_that_differ_in_case(self, ctx: Context) -> None:
        with pytest.raises(InvalidMetadataError, match="twice"):
            await ctx.store.put(ctx.bucket, "key", b"x", metadata={"a": "1", "A": "2"})
        assert not await ctx.store.exists(ctx.bucket, "key")

    async def test_m08_bad_keys(self, ctx: Context) -> None:
        for bad in ("", " ", "a b", "a:b", "ä", "a\n", "k" * 129):
            with pytest.raises(InvalidMetadataError):
                await ctx.store.put(ctx.bucket, "key", b"x", metadata={bad: "value"})
        assert not await ctx.store.exists(ctx.bucket, "key")

    async def test_m09_unicode_values(self, ctx: Context) -> None:
        metadata = {
            "latin": "Grüße",
            "other": "日本語 ☺ \U0001f600",
            "spaces": "  at both ends  ",
            "percent": "100%25 =?utf-8?q?no?=",
            "quotes": "\"'<>&\\",
        }
        await ctx.store.put(ctx.bucket, "key", b"x", metadata=metadata)
        for info in await described(ctx):
            assert info.metadata == metadata

    async def test_m10_control_characters_and_surrogates(self, ctx: Context) -> None:
        for bad in ("a\nb", "a\r\nX-Evil: 1", "\0", "\x1f", "\x7f", "\ud800"):
            with pytest.raises(InvalidMetadataError):
                await ctx.store.put(ctx.bucket, "key", b"x", metadata={"name": bad})
        with pytest.raises(InvalidMetadataError):
            await ctx.store.put(ctx.bucket, "key", b"x", metadata={"name": b"bytes"})  # type: ignore[dict-item]
        assert not await ctx.store.exists(ctx.bucket, "key")

    async def test_m11_empty_body(self, ctx: Context) -> None:
        await ctx.store.put(ctx.bucket, "key", b"", metadata={"a": "1"}, content_type="text/html")
        for info in await described(ctx):
            assert (info.size, info.metadata, info.content_type) == (0, {"a": "1"}, "text/html")

    @requires(MultipartDriver)
    async def test_m12_through_multipart(self, ctx: Context) -> None:
        upload = await ctx.store.initiate_multipart(
            ctx.bucket, "key", metadata={"A": "1"}, content_type="text/html", cache_control="no-store"
        )
        part = await ctx.store.upload_part(ctx.bucket, "key", upload, 1, b"content")
        await ctx.store.complete_multipart(ctx.bucket, "key", upload, [part])
        for info in await described(ctx):
            assert (info.metadata, info.content_type, info.cache_control) == ({"a": "1"}, "text/html", "no-store")

    async def test_m12_through_stream(self, ctx: Context) -> None:
        await ctx.store.put(
            ctx.bucket, "key", iter([bytes(ctx.part_size)] * 3), metadata={"A": "1"}, content_type="text/html"
        )
        for info in await described(ctx):
            assert (info.metadata, info.content_type) == ({"a": "1"}, "text/html")

    async def test_m13_oversize(self, ctx: Context) -> None:
        await ctx.store.put(ctx.bucket, "key", b"old")
        limit = ctx.store.features.limits.max_metadata_size
        with pytest.raises(InvalidMetadataError, match="bytes"):
            await ctx.store.put(ctx.bucket, "key", b"x", metadata={"name": "v" * limit})
        assert await ctx.store.read(ctx.bucket, "key") == b"old"
        fits = {"name": "v" * (limit - len("name"))}
        await ctx.store.put(ctx.bucket, "key", b"x", metadata=fits)
        for info in await described(ctx):
            assert info.metadata == fits

    async def test_m14_encoded_bytes_stay_encoded(self, ctx: Context) -> None:
        data = gzip.compress(b"content " * 100)
        await ctx.store.put(ctx.bucket, "a.txt", data, content_encoding="gzip", content_type="text/plain")
        assert await ctx.store.read(ctx.bucket, "a.txt") == data
        for info in await described(ctx, "a.txt"):
            assert (info.size, info.content_encoding) == (len(data), "gzip")

    async def test_m15_times(self, ctx: Context) -> None:
        times = []
        for number in range(3):
            await ctx.store.put(ctx.bucket, f"key-{number}", b"x")
            for info in await described(ctx, f"key-{number}"):
                assert info.last_modified is not None
                assert info.last_modified.utcoffset() == timedelta(0)
            times.append(info.last_modified)
        assert times == sorted(times)  # type: ignore[type-var]

    async def test_m16_no_aliasing(self, ctx: Context) -> None:
        metadata = {"a": "1"}
        info = await ctx.store.put(ctx.bucket, "key", b"x", metadata=metadata)
        metadata["a"] = "changed"
        for seen in [info, *await described(ctx)]:
            with suppress(TypeError):
                seen.metadata["a"] = "changed"  # type: ignore[index]
        for seen in await described(ctx):
            assert seen.metadata == {"a": "1"}

    async def test_m17_storage_class(self, ctx: Context) -> None:
        storage_class = ctx.harness.storage_class
        if storage_class is None:
            pytest.skip(f"{ctx.harness.name} has no storage classes")
        await ctx.store.put(ctx.bucket, "key", b"x", storage_class=storage_class)
        for info in await described(ctx):
            assert info.storage_class == storage_class
        await ctx.store.put(ctx.bucket, "key", b"x")
        for info in await described(ctx):
            assert info.storage_class is None

    @requires(TaggingDriver)
    async def test_m18_tags(self, ctx: Context) -> None:
        store, bucket = ctx.store, ctx.bucket
        info = await store.put(bucket, "key", b"x", tags={"a": "1", "Größe": "ä ☺"})
        assert await store.get_tags(bucket, "key") == {"a": "1", "Größe": "ä ☺"}
        await store.set_tags(bucket, "key", {"b": ""})
        assert await store.get_tags(bucket, "key") == {"b": ""}
        await store.delete_tags(bucket, "key")
        assert await store.get_tags(bucket, "key") == {}
        after = await store.head(bucket, "key")
        assert (after.etag, after.metadata) == (info.etag, {})
        await store.set_tags(bucket, "key", {"a": "1"})
        await store.put(bucket, "key", b"y")
        assert await store.get_tags(bucket, "key") == {}

    @requires(TaggingDriver)
    async def test_m18_tags_of_missing_object(self, ctx: Context) -> None:
        for call in (
            ctx.store.get_tags(ctx.bucket, "key"),
            ctx.store.set_tags(ctx.bucket, "key", {"a": "1"}),
            ctx.store.delete_tags(ctx.bucket, "key"),
        ):
            with pytest.raises(ObjectNotFoundError):
                await call

    @requires(TaggingDriver)
    async def test_m18_returned_tags_are_a_copy(self, ctx: Context) -> None:
        await ctx.store.put(ctx.bucket, "key", b"x", tags={"a": "1"})
        tags = await ctx.store.get_tags(ctx.bucket, "key")
        with suppress(TypeError):
            tags["a"] = "changed"
        assert await ctx.store.get_tags(ctx.bucket, "key") == {"a": "1"}

    @requires(TaggingDriver)
    async def test_m19_limits_of_tags(self, ctx: Context) -> None:
        store, bucket = ctx.store, ctx.bucket
        largest = {f"{number}".ljust(128, "k"): "v" * 256 for number in range(10)}
        await store.put(bucket, "key", b"x", tags=largest)
        assert await store.get_tags(bucket, "key") == largest
        for bad in (
            {str(number): "" for number in range(11)},
            {"k" * 129: ""},
            {"a": "v" * 257},
            {"": ""},
            {"a": "\n"},
        ):
            with pytest.raises(InvalidTagsError):
                await store.set_tags(bucket, "key", bad)
            with pytest.raises(InvalidTagsError):
                await store.put(bucket, "key", b"y", tags=bad)
        assert await store.get_tags(bucket, "key") == largest
        assert await store.read(bucket, "key") == b"x"
