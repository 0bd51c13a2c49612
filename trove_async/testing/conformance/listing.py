"""T: listings: order, pages, cursors, prefixes and delimiters."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from trove_async.driver import MultipartDriver
from trove_async.errors import BucketNotFoundError, InvalidCursorError, ObjectNotFoundError
from trove_async.listing import Item
from trove_async.store import Trove
from trove_async.testing.conformance.context import Context, requires
from trove_async.testing.conformance.counting import CallCounter
from trove_async.testing.conformance.keys import KEYS
from trove_async.types import ObjectInfo, Prefix

__all__ = ["ListChecks"]


async def _put_all(ctx: Context, keys: Iterable[str]) -> list[str]:
    """Store small objects; return their keys in the order in which a listing must have them."""
    ordered = sorted(keys, key=str.encode)
    for key in ordered:
        await ctx.store.put(ctx.bucket, key, b"x")
    return ordered


async def _keys(store: Trove, bucket: str, prefix: str = "", **options: object) -> list[str]:
    return [found.key for found in await store.list(bucket, prefix, **options).all()]  # type: ignore[call-overload]


def _grouped(keys: Iterable[str], delimiter: str, prefix: str = "") -> list[str]:
    """Return the names that a listing with a delimiter must have, computed in a simple and slow way."""
    names = set()
    for key in keys:
        if key.startswith(prefix):
            head, found, _ = key[len(prefix) :].partition(delimiter)
            names.add(prefix + head + found)
    return sorted(names, key=str.encode)


class ListChecks:
    """The content and order of listings, and how they are resumed; for large ones see `BulkListChecks`."""

    async def test_t01_empty_bucket(self, ctx: Context) -> None:
        """A listing of an empty bucket is empty; for a missing bucket the first step raises."""
        assert await ctx.store.list(ctx.bucket).all() == []
        assert await ctx.store.list(ctx.bucket, delimiter="/").all() == []
        assert [page async for page in ctx.store.list(ctx.bucket).pages()] == []
        listing = ctx.store.list(ctx.bucket)
        with pytest.raises(StopAsyncIteration):
            await listing.next()
        assert listing.cursor is None
        with pytest.raises(BucketNotFoundError) as caught:
            await ctx.store.list(ctx.missing_bucket).all()
        assert caught.value.bucket == ctx.missing_bucket

    async def test_t02_prefix_hits_and_misses(self, ctx: Context) -> None:
        """A prefix selects the keys that begin with it, and no others."""
        keys = await _put_all(ctx, ["a", "a/1", "a/2", "ab", "b/1", "b"])
        for prefix in ("", "a", "a/", "a/1", "b/", "a/1x", "c", "A", "/"):
            assert await _keys(ctx.store, ctx.bucket, prefix) == [key for key in keys if key.startswith(prefix)]

    async def test_t03_order_is_that_of_utf8_bytes(self, ctx: Context) -> None:
        """The order holds across pages; it is not the order of UTF-16 or of a language."""
        names = [
            "a",
            "B",
            "Z",
            "b",
            "é",
            "z",
            "~",
            "\uffff",
            "\U00010000",
            "\U0010ffff",
            "\ue000",
            "ä",
            "a!",
            "a/",
            "a0",
        ]
        names += [f"{name}/{name}" for name in names if not name.endswith("/")]
        keys = await _put_all(ctx, ctx.held(names))
        for page_size in (1000, 3, 1):
            assert await _keys(ctx.store, ctx.bucket, page_size=page_size) == keys

    async def test_t04_page_size_changes_nothing(self, ctx: Context) -> None:
        """Any page size gives the same items, and no page has more items than requested."""
        keys = await _put_all(ctx, [f"{folder}/{name}" for folder in "abc" for name in range(3)] + ["a", "b.txt", "z"])
        grouped = _grouped(keys, "/")
        for page_size in (1, 2, 3, len(keys), len(keys) + 1):
            assert await _keys(ctx.store, ctx.bucket, page_size=page_size) == keys
            assert await _keys(ctx.store, ctx.bucket, delimiter="/", page_size=page_size) == grouped
            pages = [page async for page in ctx.store.list(ctx.bucket, page_size=page_size).pages()]
            assert [found.key for page in pages for found in page] == keys
            assert all(1 <= len(page) <= page_size for page in pages)

    async def test_t05_cursor_resumes_on_another_store(self, ctx: Context) -> None:
        """A cursor continues after any item, also in the middle of a page and with a delimiter."""
        keys = await _put_all(ctx, [f"{folder}/{name}" for folder in "ab" for name in range(3)] + ["a!", "c", "d"])
        other = await ctx.reopen()
        for delimiter, names in ((None, keys), ("/", _grouped(keys, "/"))):
            for taken in range(1, len(names)):
                listing = ctx.store.list(ctx.bucket, delimiter=delimiter, page_size=3)
                assert [(await listing.next()).key for _ in range(taken)] == names[:taken]
                rest = await _keys(other, ctx.bucket, delimiter=delimiter, page_size=2, cursor=listing.cursor)
                assert rest == names[taken:]

    async def test_t05_cursor_of_another_listing_is_refused(self, ctx: Context) -> None:
        """A cursor is valid only for the bucket, prefix and delimiter of its listing."""
        await _put_all(ctx, ["a/1", "a/2", "b"])
        listing = ctx.store.list(ctx.bucket, "a/", page_size=1)
        await listing.next()
        cursor = listing.cursor
        assert cursor is not None
        assert await _keys(ctx.store, ctx.bucket, "a/", cursor=cursor) == ["a/2"]
        for arguments in ({"prefix": "a"}, {"prefix": ""}, {"prefix": "a/", "delimiter": "/"}):
            with pytest.raises(InvalidCursorError):
                ctx.store.list(ctx.bucket, cursor=cursor, **arguments)  # type: ignore[call-overload]
        with pytest.raises(InvalidCursorError):
            ctx.store.list(await ctx.new_bucket(), "a/", cursor=cursor)
        for broken in ("", "no cursor", cursor[:-4], "é"):
            with pytest.raises(InvalidCursorError):
                ctx.store.list(ctx.bucket, "a/", cursor=broken)

    @pytest.mark.parametrize("resumed", [False, True], ids=["same-iterator", "from-cursor"])
    async def test_t06_changes_behind_the_cursor(self, ctx: Context, resumed: bool) -> None:
        """Keys inserted or deleted before the cursor's position make the listing neither repeat nor skip a key."""
        keys = await _put_all(ctx, [f"key-{number:02}" for number in range(12)])
        for page_size in (2, 3, 5):
            listing = ctx.store.list(ctx.bucket, page_size=page_size)
            taken = [(await listing.next()).key for _ in range(6)]
            for key in ("key-00", "key-03", "key-05"):  # the cursor stands at the last one
                await ctx.store.delete(ctx.bucket, key)
            for key in ("key-00!", "key-04!", "a"):
                await ctx.store.put(ctx.bucket, key, b"x")
            if resumed:
                listing = ctx.store.list(ctx.bucket, page_size=page_size, cursor=listing.cursor)
            assert taken + [found.key async for found in listing] == keys
            await ctx.store.delete_many(ctx.bucket, ["key-00!", "key-04!", "a"])
            await _put_all(ctx, keys)

    async def test_t07_start_after_is_exclusive(self, ctx: Context) -> None:
        """``start_after`` may be a key or lie between keys, before all or after all, with a prefix and with pages."""
        keys = await _put_all(ctx, ["a", "a/1", "a/2", "b", "b/1", "c"])
        for start in ("a", "a/1", "a/1x", "a0", "0", "c", "zzz", "b/"):
            expected = [key for key in keys if key > start]
            for page_size in (1, 2, 1000):
                assert await _keys(ctx.store, ctx.bucket, start_after=start, page_size=page_size) == expected
            below = [key for key in expected if key.startswith("a/")]
            assert await _keys(ctx.store, ctx.bucket, "a/", start_after=start) == below
        listing = ctx.store.list(ctx.bucket, start_after="a", page_size=2)
        await listing.next()
        assert await _keys(ctx.store, ctx.bucket, cursor=listing.cursor) == ["a/2", "b", "b/1", "c"]

    async def test_t08_delimiter_groups_once(self, ctx: Context) -> None:
        """A group is a `Prefix`, is listed once for any page size, and has its place in the order of the objects."""
        await _put_all(ctx, ["a/1", "a/2", "a/b/3", "b", "c/1", "a.txt"])
        for page_size in (1, 2, 1000):
            found = await ctx.store.list(ctx.bucket, delimiter="/", page_size=page_size).all()
            assert [item.key for item in found] == ["a.txt", "a/", "b", "c/"]
            assert [type(item) for item in found] == [ObjectInfo, Prefix, ObjectInfo, Prefix]
            assert found[1] == Prefix("a/")
        assert await _keys(ctx.store, ctx.bucket, "a/", delimiter="/") == ["a/1", "a/2", "a/b/"]

    @pytest.mark.parametrize("delimiter", ["abc", "\\", "☺", "//", "-", "a", "%2F", " "])
    async def test_t09_other_delimiters(self, ctx: Context, delimiter: str) -> None:
        """Any text can be the delimiter."""
        d = delimiter
        names = [f"x{d}1", f"x{d}2", f"x{d}y{d}3", "x", f"{d}lead", f"tail{d}", "none/of/it", f"{d}{d}"]
        keys = await _put_all(ctx, ctx.held(names))
        for prefix in ("", "x", f"x{d}", d, "none"):
            expected = _grouped(keys, delimiter, prefix)
            for page_size in (1, 2, 1000):
                assert await _keys(ctx.store, ctx.bucket, prefix, delimiter=delimiter, page_size=page_size) == expected

    async def test_t10_dash_sorts_before_slash(self, ctx: Context) -> None:
        """``t-/`` comes before ``t/``, although ``t`` comes before ``t-``: groups are ordered by the listed name."""
        keys = await _put_all(ctx, ["t/1", "t/2", "t-/1", "t-/2", "t", "t-", "t.x/1", "t0", "t!"])
        for page_size in range(1, len(keys) + 2):
            assert await _keys(ctx.store, ctx.bucket, page_size=page_size) == keys
            assert await _keys(ctx.store, ctx.bucket, delimiter="/", page_size=page_size) == _grouped(keys, "/")

    async def test_t11_prefix_is_a_string(self, ctx: Context) -> None:
        """A prefix is not a folder: ``foo`` matches ``foobar``, and a key matches itself as a prefix."""
        await _put_all(ctx, ["foo", "foo/1", "foobar", "foobar/1", "fo", "fop"])
        assert await _keys(ctx.store, ctx.bucket, "foo") == ["foo", "foo/1", "foobar", "foobar/1"]
        assert await _keys(ctx.store, ctx.bucket, "foobar/1") == ["foobar/1"]
        assert await _keys(ctx.store, ctx.bucket, "foo", delimiter="/") == ["foo", "foo/", "foobar", "foobar/"]

    async def test_t12_prefix_that_ends_in_the_delimiter(self, ctx: Context) -> None:
        """It lists the content of the folder, not the folder."""
        await _put_all(ctx, ["a/b/1", "a/b/2", "a/c", "a", "a/b"])
        assert await _keys(ctx.store, ctx.bucket, "a/", delimiter="/") == ["a/b", "a/b/", "a/c"]
        assert await _keys(ctx.store, ctx.bucket, "a/b/", delimiter="/") == ["a/b/1", "a/b/2"]
        assert await _keys(ctx.store, ctx.bucket, "a", delimiter="/") == ["a", "a/"]
        assert await _keys(ctx.store, ctx.bucket, "a//", delimiter="/") == []

    async def test_t13_directory_marker(self, ctx: Context) -> None:
        """An object whose key ends in a slash is an object; a listing with that key as prefix has it as an object."""
        await _put_all(ctx, ["a/", "a/1", "empty/"])
        assert await _keys(ctx.store, ctx.bucket) == ["a/", "a/1", "empty/"]
        assert await ctx.store.list(ctx.bucket, delimiter="/").all() == [Prefix("a/"), Prefix("empty/")]
        inside: list[Item] = await ctx.store.list(ctx.bucket, "a/", delimiter="/").all()
        assert [(item.key, type(item)) for item in inside] == [("a/", ObjectInfo), ("a/1", ObjectInfo)]

    async def test_t15_leaving_a_listing_costs_one_request(self, ctx: Context) -> None:
        """Stopping after the first item costs one request, and nothing continues in the background."""
        await _put_all(ctx, [f"key-{number}" for number in range(10)])
        counter = CallCounter()
        store = await ctx.reopen(counter)
        async for found in store.list(ctx.bucket, page_size=3):
            assert found.key == "key-0"
            break
        assert [call.name for call in counter.calls] == ["list_page"]

    async def test_t16_limit_is_honoured(self, ctx: Context) -> None:
        """``max_keys`` limits the number of items over all pages, and no further pages are requested."""
        keys = await _put_all(ctx, [f"{folder}/{name}" for folder in "abc" for name in range(4)])
        for limit in (0, 1, 3, len(keys), len(keys) + 5):
            for page_size in (1, 2, 1000):
                assert await _keys(ctx.store, ctx.bucket, max_keys=limit, page_size=page_size) == keys[:limit]
        assert await _keys(ctx.store, ctx.bucket, delimiter="/", max_keys=2) == ["a/", "b/"]
        limited = ctx.store.list(ctx.bucket, max_keys=5)
        assert [found.key async for found in limited] == keys[:5]
        assert await _keys(ctx.store, ctx.bucket, cursor=limited.cursor) == keys[5:]

    async def test_t17_own_files_are_never_listed(self, ctx: Context) -> None:
        """A listing has only objects, and none of the driver's own files."""
        store, bucket = ctx.store, ctx.bucket
        limit = min(4096, store.features.limits.max_metadata_size - 8)
        await store.put(bucket, "large-metadata", b"x", metadata={"m": "v" * limit})
        for key in ("a", "a/b", "a/b/c"):
            await store.put(bucket, key, b"first")
            await store.put(bucket, key, b"second")
        await store.copy(bucket, "a", bucket, "copy")
        await store.put(bucket, "gone/deep/down", b"x")
        await store.delete(bucket, "gone/deep/down")
        expected = ["a", "a/b", "a/b/c", "copy", "large-metadata"]
        assert await _keys(store, bucket) == expected
        assert await _keys(store, bucket, delimiter="/") == ["a", "a/", "copy", "large-metadata"]
        for prefix in (".", "..", "/", "%", "gone", "_", "~"):
            assert await _keys(store, bucket, prefix) == []
        await ctx.assert_clean()

    @requires(MultipartDriver)
    async def test_t18_upload_in_progress_is_invisible(self, ctx: Context) -> None:
        """The upload is neither listed nor readable before its completion; an existing object stays."""
        store, bucket = ctx.store, ctx.bucket
        await store.put(bucket, "old", b"old")
        for key in ("new", "old"):
            upload = await store.initiate_multipart(bucket, key)
            await store.upload_part(bucket, key, upload, 1, b"p" * ctx.part_size)
        assert await _keys(store, bucket) == ["old"]
        assert await store.read(bucket, "old") == b"old"
        assert not await store.exists(bucket, "new")
        with pytest.raises(ObjectNotFoundError):
            await store.read(bucket, "new")
        for found in await store.list_multipart_uploads(bucket):
            await store.abort_multipart(bucket, found.key, found.upload_id)

    async def test_t21_special_keys_survive_the_listing(self, ctx: Context) -> None:
        """Keys that XML, JSON or URLs escape are listed unchanged, also as groups and after a cursor."""
        special = [*KEYS["k05_escapes_are_not_decoded"], *KEYS["k09_quotes"], *KEYS["k10_url_characters"], "☺", "a b"]
        keys = await _put_all(ctx, {*special, *(f"{key}/below" for key in special)})
        for page_size in (1, 7, 1000):
            assert await _keys(ctx.store, ctx.bucket, page_size=page_size) == keys
            assert await _keys(ctx.store, ctx.bucket, delimiter="/", page_size=page_size) == _grouped(keys, "/")
        for key in special:
            expected = [found for found in keys if found.startswith(key)]
            assert await _keys(ctx.store, ctx.bucket, key) == expected
            assert await _keys(ctx.store, ctx.bucket, start_after=key) == [found for found in keys if found > key]
