"""Checks N: buckets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from trove_async.errors import (
    BucketAlreadyExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    InvalidBucketNameError,
)
from trove_async.testing.conformance.context import Context
from trove_async.testing.conformance.counting import CallCounter

__all__ = ["BucketChecks"]

INVALID_NAMES = ("", ".", "..", ".trove", ".trove-x", "a/b", "a\\b", "a\nb", "a\0b", "b" * 256, "/")


class BucketChecks:
    """N1 to N7."""

    async def test_n01_create_then_listed(self, ctx: Context) -> None:
        name = await ctx.new_bucket()
        assert name in [bucket.name for bucket in await ctx.store.list_buckets()]

    async def test_n02_create_duplicate(self, ctx: Context) -> None:
        await ctx.store.put(ctx.bucket, "key", b"kept")
        with pytest.raises(BucketAlreadyExistsError) as raised:
            await ctx.store.create_bucket(ctx.bucket)
        assert type(raised.value) is BucketAlreadyExistsError
        assert raised.value.bucket == ctx.bucket
        assert (await ctx.store.create_bucket(ctx.bucket, exist_ok=True)).name == ctx.bucket
        assert await ctx.store.read(ctx.bucket, "key") == b"kept"

    async def test_n03_delete(self, ctx: Context) -> None:
        name = await ctx.new_bucket()
        await ctx.store.put(name, "key", b"x")
        await ctx.store.delete(name, "key")
        await ctx.store.delete_bucket(name)
        assert name not in [bucket.name for bucket in await ctx.store.list_buckets()]
        with pytest.raises(BucketNotFoundError):
            await ctx.store.put(name, "key", b"x")

    async def test_n04_delete_missing(self, ctx: Context) -> None:
        with pytest.raises(BucketNotFoundError) as raised:
            await ctx.store.delete_bucket(ctx.missing_bucket)
        assert raised.value.bucket == ctx.missing_bucket

    async def test_n05_delete_non_empty(self, ctx: Context) -> None:
        for key in ("a", "deep/er/b"):
            await ctx.store.put(ctx.bucket, key, key.encode())
        with pytest.raises(BucketNotEmptyError) as raised:
            await ctx.store.delete_bucket(ctx.bucket)
        assert raised.value.bucket == ctx.bucket
        for key in ("a", "deep/er/b"):
            assert await ctx.store.read(ctx.bucket, key) == key.encode()

    async def test_n06_list_sorted_with_times(self, ctx: Context) -> None:
        for _ in range(3):
            await ctx.new_bucket()
        buckets = await ctx.store.list_buckets()
        names = [bucket.name for bucket in buckets]
        assert names == sorted(names)
        created = {bucket.name: bucket.created_at for bucket in buckets}[ctx.bucket]
        if created is not None:
            assert created.utcoffset() == timedelta(0)
            # A server has its own clock; the check is only that the time is roughly the present and not a constant.
            assert abs(datetime.now(UTC) - created) < timedelta(days=1)

    async def test_n07_invalid_names_before_io(self, ctx: Context) -> None:
        counter = CallCounter()
        store = await ctx.reopen(counter)
        for name in INVALID_NAMES:
            for call in (store.create_bucket, store.delete_bucket):
                with pytest.raises(InvalidBucketNameError):
                    await call(name)
            with pytest.raises(InvalidBucketNameError):
                await store.put(name, "key", b"x")
            with pytest.raises(InvalidBucketNameError):
                await store.head(name, "key")
        with pytest.raises(InvalidBucketNameError):
            await store.create_bucket(7)  # type: ignore[arg-type]
        assert counter.calls == []
