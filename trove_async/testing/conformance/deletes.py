"""D: deleting one object, and deleting many."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from trove_async.driver import Driver
from trove_async.errors import (
    BucketNotFoundError,
    BulkError,
    InvalidKeyError,
    ObjectNotFoundError,
    UnavailableError,
)
from trove_async.layers import LayerDriver
from trove_async.testing.conformance.context import Context
from trove_async.types import DeleteResult

__all__ = ["DeleteChecks"]

WEIRD_KEYS = (
    "plain",
    "with space",
    " leading and trailing ",
    "ünï☺",
    "a//b",
    "trailing/",
    "%2F",
    "<&>'\"",
    "a+b=c",
    "]]>",
    "back\\slash",
)


class DeleteChecks:
    """One object, many objects, and the objects that must stay."""

    async def test_d01_deleted_object_is_not_found(self, ctx: Context) -> None:
        """No read operation finds a deleted object."""
        await ctx.store.put(ctx.bucket, "key", b"data")
        await ctx.store.delete(ctx.bucket, "key")
        with pytest.raises(ObjectNotFoundError) as caught:
            await ctx.store.read(ctx.bucket, "key")
        assert (caught.value.bucket, caught.value.key) == (ctx.bucket, "key")
        with pytest.raises(ObjectNotFoundError):
            await ctx.store.head(ctx.bucket, "key")
        assert await ctx.store.exists(ctx.bucket, "key") is False

    async def test_d02_deleting_a_missing_object_is_success(self, ctx: Context) -> None:
        """Deleting is idempotent; deleting in a missing bucket is an error."""
        await ctx.store.delete(ctx.bucket, "never/there")
        await ctx.store.put(ctx.bucket, "key", b"data")
        await ctx.store.delete(ctx.bucket, "key")
        await ctx.store.delete(ctx.bucket, "key")
        with pytest.raises(BucketNotFoundError) as caught:
            await ctx.store.delete(ctx.missing_bucket, "key")
        assert caught.value.bucket == ctx.missing_bucket

    async def test_d03_bulk_gives_a_result_for_each_key(self, ctx: Context) -> None:
        """The results are in the order of the keys, which include missing and unusual ones."""
        weird = ctx.held(WEIRD_KEYS)
        for key in weird:
            await ctx.store.put(ctx.bucket, key, key.encode())
        keys = [*weird[:4], "missing", *weird[4:], "missing/too"]
        results = [result async for result in ctx.store.delete_many(ctx.bucket, keys)]
        assert results == [DeleteResult(key) for key in keys]
        assert await ctx.store.list(ctx.bucket).all() == []

    async def test_d03_bulk_in_a_missing_bucket_is_an_error(self, ctx: Context) -> None:
        """In a missing bucket no key counts as deleted."""
        with pytest.raises((BucketNotFoundError, BulkError)) as caught:
            await ctx.store.delete_many(ctx.missing_bucket, ["a", "b"])
        if isinstance(caught.value, BulkError):
            assert caught.value.deleted_count == 0
            assert [type(result.error) for result in caught.value.failed] == [BucketNotFoundError] * 2

    async def test_d04_more_than_1000_keys_are_chunked(self, ctx: Context) -> None:
        """No call to the driver exceeds its maximum number of keys, and keys at the chunk boundaries are deleted."""
        sizes: list[int] = []
        store = await ctx.reopen(lambda driver: _BulkSizes(driver, sizes))
        there = ["key-0000", "key-0999", "key-1000", "key-1001", "key-2002"]
        for key in there:
            await store.put(ctx.bucket, key, b"")
        await store.put(ctx.bucket, "kept", b"")

        async def keys() -> AsyncIterator[str]:
            for number in range(2003):
                yield f"key-{number:04}"

        assert await store.delete_many(ctx.bucket, keys()) == 2003
        assert [found.key for found in await store.list(ctx.bucket).all()] == ["kept"]
        limit = store.features.limits.max_bulk_delete
        assert all(size <= limit for size in sizes)

    async def test_d05_partial_failure_is_reported(self, ctx: Context) -> None:
        """Every key is tried, even if one of them fails."""
        await ctx.store.put(ctx.bucket, "a", b"")
        await ctx.store.put(ctx.bucket, "b", b"")
        with pytest.raises(BulkError) as caught:
            await ctx.store.delete_many(ctx.bucket, ["a", "", "b", "nul\0"])
        assert [result.key for result in caught.value.failed] == ["", "nul\0"]
        assert [type(result.error) for result in caught.value.failed] == [InvalidKeyError] * 2
        assert caught.value.deleted_count == 2
        assert caught.value.bucket == ctx.bucket
        assert await ctx.store.list(ctx.bucket).all() == []

    async def test_d05_failure_of_the_backend_is_reported(self, ctx: Context) -> None:
        """A key that the backend refuses to delete is in the results with its error, and stays."""
        store = await ctx.reopen(lambda driver: _RefusingDriver(driver, "kept"))
        for key in ("a", "b", "kept"):
            await store.put(ctx.bucket, key, b"")
        deletion = store.delete_many(ctx.bucket, ["a", "kept", "b"], raise_errors=False)
        results = [(result.key, type(result.error)) async for result in deletion]
        assert results == [("a", type(None)), ("kept", UnavailableError), ("b", type(None))]
        assert [found.key for found in await store.list(ctx.bucket).all()] == ["kept"]

    async def test_d06_bulk_with_duplicates(self, ctx: Context) -> None:
        """A key that is given twice has two successful results."""
        await ctx.store.put(ctx.bucket, "a", b"")
        await ctx.store.put(ctx.bucket, "b", b"")
        results = [result async for result in ctx.store.delete_many(ctx.bucket, ["a", "b", "a"])]
        assert results == [DeleteResult("a"), DeleteResult("b"), DeleteResult("a")]
        assert await ctx.store.list(ctx.bucket).all() == []

    async def test_d07_deleting_a_prefix_spares_its_neighbours(self, ctx: Context) -> None:
        """Deleting the keys of a prefix leaves keys that share only a part of the prefix."""
        spared = ["log", "log-1", "log.txt", "logs", "logs2/a"]
        for key in ["logs/a", "logs/b/c", "logs/", *spared]:
            await ctx.store.put(ctx.bucket, key, b"")
        listing = ctx.store.list(ctx.bucket, prefix="logs/")
        assert await ctx.store.delete_many(ctx.bucket, (found.key async for found in listing)) == 3
        assert [found.key for found in await ctx.store.list(ctx.bucket).all()] == spared

    async def test_d08_deleted_object_is_invisible_at_once(self, ctx: Context) -> None:
        """When delete returns, nobody sees the object, also not through another driver."""
        other = await ctx.reopen()
        for number in range(5):
            await ctx.store.put(ctx.bucket, "key", str(number).encode())
            assert await other.exists(ctx.bucket, "key")
            await ctx.store.delete(ctx.bucket, "key")
            for store in (ctx.store, other):
                assert not await store.exists(ctx.bucket, "key")
                assert await store.list(ctx.bucket).all() == []

    async def test_d09_keys_below_a_deleted_key_stay(self, ctx: Context) -> None:
        """Deleting ``a`` leaves ``a/b`` readable and listed, and the reverse."""
        family = ["a", "a/", "a/b", "a/b/c"]
        for gone in family:
            for key in family:
                await ctx.store.put(ctx.bucket, key, key.encode())
            await ctx.store.delete(ctx.bucket, gone)
            left = [key for key in family if key != gone]
            assert [found.key for found in await ctx.store.list(ctx.bucket).all()] == left
            for key in left:
                assert await ctx.store.read(ctx.bucket, key) == key.encode()
            assert not await ctx.store.exists(ctx.bucket, gone)


class _BulkSizes(LayerDriver):
    """A layer that records the number of keys in each call of the driver."""

    inner: Any

    def __init__(self, inner: Driver, sizes: list[int]) -> None:
        super().__init__(inner)
        self._sizes = sizes

    async def delete_many(self, bucket: str, keys: list[str]) -> list[DeleteResult]:
        self._sizes.append(len(keys))
        return [*await self.inner.delete_many(bucket, keys)]


class _RefusingDriver(LayerDriver):
    """Refuses to delete one key, as a backend with a failed disk does."""

    inner: Any

    def __init__(self, inner: Driver, refused: str) -> None:
        super().__init__(inner)
        self._refused = refused

    async def delete(self, bucket: str, key: str, options: Any) -> None:
        if key == self._refused:
            raise UnavailableError("it is refused")
        await self.inner.delete(bucket, key, options)

    async def delete_many(self, bucket: str, keys: list[str]) -> list[DeleteResult]:
        wanted = [key for key in keys if key != self._refused]
        done = {result.key: result for result in await self.inner.delete_many(bucket, wanted)}
        return [done.get(key) or DeleteResult(key, UnavailableError("it is refused")) for key in keys]
