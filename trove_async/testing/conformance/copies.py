"""Y: copying and moving."""

from __future__ import annotations

import asyncio
from collections.abc import Set

import pytest

from trove_async.driver import ObjectAttributes, ServerCopyDriver
from trove_async.errors import (
    BucketNotFoundError,
    CopyNotSupportedError,
    CopyPhase,
    InvalidArgumentError,
    ObjectAlreadyExistsError,
    ObjectNotFoundError,
    PreconditionFailedError,
    UnavailableError,
)
from trove_async.layers import Operation
from trove_async.testing.conformance.context import Context, requires
from trove_async.testing.conformance.interception import COPYING, Intercept
from trove_async.testing.helpers import random_bytes
from trove_async.types import ObjectInfo, ObjectRef

__all__ = ["CopyChecks"]


def _described(info: ObjectInfo) -> tuple[int, ObjectAttributes]:
    return info.size, ObjectAttributes.of(info)


async def _put_described(ctx: Context, key: str, data: bytes) -> ObjectInfo:
    """Store an object with every property; return the result of `head`."""
    await ctx.store.put(
        ctx.bucket,
        key,
        data,
        content_type="text/x-source; charset=utf-8",
        metadata={"colour": "blå", "shape": "round"},
        cache_control="max-age=60",
        content_disposition='attachment; filename="a.txt"',
        content_encoding="identity",
        content_language="nb",
    )
    return await ctx.store.head(ctx.bucket, key)


class CopyChecks:
    """A copy is complete and independent of its source; a failed move keeps at least one of the two."""

    async def test_y01_content_and_metadata_are_kept(self, ctx: Context) -> None:
        """The copy has the properties of its source, and `copy` returns what `head` returns."""
        source = await _put_described(ctx, "source", b"data")
        info = await ctx.store.copy(ctx.bucket, "source", ctx.bucket, "target/copy.html")
        head = await ctx.store.head(ctx.bucket, "target/copy.html")
        assert _described(head) == _described(source)
        assert (info.key, info.size, info.etag) == ("target/copy.html", 4, head.etag)
        assert await ctx.store.read(ctx.bucket, "target/copy.html") == b"data"
        assert await ctx.store.head(ctx.bucket, "source") == source

    async def test_y01_large_object(self, ctx: Context) -> None:
        """An object of several parts is copied completely."""
        data = bytes(range(256)) * (ctx.part_size * 3 // 256) + b"tail"
        await ctx.store.put(ctx.bucket, "source", data)
        await ctx.store.copy(ctx.bucket, "source", ctx.bucket, "target")
        assert await ctx.store.read(ctx.bucket, "target") == data

    async def test_y02_target_is_replaced(self, ctx: Context) -> None:
        """The target's previous content and metadata are gone."""
        await ctx.store.put(ctx.bucket, "target", b"a longer old one", metadata={"old": "yes"}, content_type="a/old")
        source = await _put_described(ctx, "source", b"new")
        await ctx.store.copy(ctx.bucket, "source", ctx.bucket, "target")
        assert _described(await ctx.store.head(ctx.bucket, "target")) == _described(source)
        assert await ctx.store.read(ctx.bucket, "target") == b"new"

    async def test_y03_missing_source_is_named(self, ctx: Context) -> None:
        """The error names the source, or the missing bucket, says which end failed, and the target stays."""
        await ctx.store.put(ctx.bucket, "target", b"old")
        with pytest.raises(ObjectNotFoundError) as caught:
            await ctx.store.copy(ctx.bucket, "missing", ctx.bucket, "target")
        assert (caught.value.bucket, caught.value.key) == (ctx.bucket, "missing")
        assert caught.value.copy_phase is CopyPhase.READ
        assert await ctx.store.read(ctx.bucket, "target") == b"old"
        for source, target, phase in (
            (ctx.missing_bucket, ctx.bucket, CopyPhase.READ),
            (ctx.bucket, ctx.missing_bucket, CopyPhase.WRITE),
        ):
            with pytest.raises(BucketNotFoundError) as missing:
                await ctx.store.copy(source, "target", target, "other")
            assert (missing.value.bucket, missing.value.copy_phase) == (ctx.missing_bucket, phase)
        assert [found.key for found in await ctx.store.list(ctx.bucket).all()] == ["target"]

    async def test_y04_copy_onto_itself(self, ctx: Context) -> None:
        """It keeps the object; with ``replace`` it changes the object's properties."""
        source = await _put_described(ctx, "key", b"data")
        await ctx.store.copy(ctx.bucket, "key", ctx.bucket, "key")
        assert _described(await ctx.store.head(ctx.bucket, "key")) == _described(source)
        assert await ctx.store.read(ctx.bucket, "key") == b"data"
        await ctx.store.copy(
            ctx.bucket, "key", ctx.bucket, "key", replace=True, metadata={"new": "1"}, content_type="a/b"
        )
        head = await ctx.store.head(ctx.bucket, "key")
        assert (dict(head.metadata), head.content_type, head.cache_control) == ({"new": "1"}, "a/b", None)
        assert await ctx.store.read(ctx.bucket, "key") == b"data"

    async def test_y05_copies_are_apart(self, ctx: Context) -> None:
        """A change to one does not change the other."""
        for key in ("a", "b"):
            await ctx.store.put(ctx.bucket, "a", b"first", metadata={"v": "1"})
            await ctx.store.copy(ctx.bucket, "a", ctx.bucket, "b")
            other = "b" if key == "a" else "a"
            await ctx.store.put(ctx.bucket, key, b"second", metadata={"v": "2"})
            assert await ctx.store.read(ctx.bucket, other) == b"first"
            assert (await ctx.store.head(ctx.bucket, other)).metadata == {"v": "1"}
            await ctx.store.delete(ctx.bucket, key)
            assert await ctx.store.read(ctx.bucket, other) == b"first"
            await ctx.store.delete(ctx.bucket, other)

    @requires("copy")
    async def test_y06_create_only(self, ctx: Context) -> None:
        """With ``if_none_match`` a copy replaces nothing, also in a race."""
        await ctx.store.put(ctx.bucket, "source", b"new")
        await ctx.store.copy(ctx.bucket, "source", ctx.bucket, "target", if_none_match="*")
        await ctx.store.put(ctx.bucket, "target", b"old")
        with pytest.raises(ObjectAlreadyExistsError) as caught:
            await ctx.store.copy(ctx.bucket, "source", ctx.bucket, "target", if_none_match="*")
        assert caught.value.key == "target"
        assert await ctx.store.read(ctx.bucket, "target") == b"old"
        race = (ctx.store.copy(ctx.bucket, "source", ctx.bucket, "raced", if_none_match="*") for _ in range(10))
        results = await asyncio.gather(*race, return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["ObjectAlreadyExistsError"] * 9 + ["ObjectInfo"]

    async def test_y07_special_names(self, ctx: Context) -> None:
        """Names that services put into a header work as source and as target."""
        names = ["a b", "a+b", "☺", "%2F", "a//b", "a?b#c", "'\"&<>", "a\\b", "trailing/", "é,;=", "/leading"]
        for name in ctx.held(names):
            await ctx.store.put(ctx.bucket, name, name.encode())
            await ctx.store.copy(ctx.bucket, name, ctx.bucket, f"copy of {name}")
            await ctx.store.copy(ctx.bucket, f"copy of {name}", ctx.bucket, f"{name}@")
            assert await ctx.store.read(ctx.bucket, f"{name}@") == name.encode()

    async def test_y08_across_buckets(self, ctx: Context) -> None:
        """An object is copied from one bucket to another under the same key."""
        other = await ctx.new_bucket()
        source = await _put_described(ctx, "key", b"data")
        await ctx.store.copy(ctx.bucket, "key", other, "key")
        assert _described(await ctx.store.head(other, "key")) == _described(source)
        assert await ctx.store.read(other, "key") == b"data"
        await ctx.store.put(other, "key", b"changed")
        assert await ctx.store.read(ctx.bucket, "key") == b"data"

    @requires(ServerCopyDriver)
    async def test_y08_server_copy(self, ctx: Context) -> None:
        """The capability does the same as `copy`."""
        other = await ctx.new_bucket()
        source = await _put_described(ctx, "key", b"data")
        info = await ctx.store.server_copy(ObjectRef(ctx.bucket, "key"), ObjectRef(other, "copy"))
        head = await ctx.store.head(other, "copy")
        assert (_described(head), info.etag) == (_described(source), head.etag)
        with pytest.raises(ObjectNotFoundError) as caught:
            await ctx.store.server_copy(ObjectRef(ctx.bucket, "missing"), ObjectRef(other, "copy"))
        assert caught.value.key == "missing"

    async def test_y09_larger_than_one_request_copies(self, ctx: Context) -> None:
        """An object larger than ``limits.max_copy_size`` is copied completely, with all of its properties."""
        limit = ctx.store.features.limits.max_copy_size
        if limit is None:
            pytest.skip(f"{ctx.harness.name} copies an object of any size in one request")
        if limit > ctx.part_size * 16:
            pytest.skip(f"the harness of {ctx.harness.name} does not shrink limits.max_copy_size")
        source = await _put_described(ctx, "source", random_bytes(limit * 2 + 1))
        await ctx.store.copy(ctx.bucket, "source", ctx.bucket, "copy")
        assert _described(await ctx.store.head(ctx.bucket, "copy")) == _described(source)
        assert await ctx.store.read(ctx.bucket, "copy") == await ctx.store.read(ctx.bucket, "source")
        await ctx.assert_clean()

    async def test_y10_replaced_metadata(self, ctx: Context) -> None:
        """With ``replace`` no property of the source is kept; without it, arguments for properties are refused."""
        await _put_described(ctx, "source", b"data")
        await ctx.store.copy(ctx.bucket, "source", ctx.bucket, "a.html", replace=True, metadata={"only": "this"})
        head = await ctx.store.head(ctx.bucket, "a.html")
        assert _described(head) == (4, ObjectAttributes(content_type="text/html", metadata={"only": "this"}))
        with pytest.raises(InvalidArgumentError):
            await ctx.store.copy(ctx.bucket, "source", ctx.bucket, "b", metadata={"only": "this"})
        assert not await ctx.store.exists(ctx.bucket, "b")

    async def test_y11_move_removes_the_source(self, ctx: Context) -> None:
        """After a move the target equals the source; a move of an object onto itself changes nothing."""
        source = await _put_described(ctx, "source", b"data")
        other = await ctx.new_bucket()
        await ctx.store.move(ctx.bucket, "source", other, "target")
        assert not await ctx.store.exists(ctx.bucket, "source")
        assert _described(await ctx.store.head(other, "target")) == _described(source)
        assert await ctx.store.read(other, "target") == b"data"
        await ctx.store.move(other, "target", other, "target")
        assert await ctx.store.read(other, "target") == b"data"

    async def test_y11_failed_move_keeps_the_source(self, ctx: Context) -> None:
        """The source stays if any step of the move fails."""
        await ctx.store.put(ctx.bucket, "source", b"data")
        with pytest.raises(BucketNotFoundError):
            await ctx.store.move(ctx.bucket, "source", ctx.missing_bucket, "target")
        with pytest.raises(ObjectNotFoundError):
            await ctx.store.move(ctx.bucket, "missing", ctx.bucket, "target")
        for failing in (COPYING, {"delete"}):

            async def refuse(operation: Operation, names: Set[str] = failing) -> None:
                if operation.name in names:
                    raise UnavailableError("it is refused")

            store = await ctx.reopen(Intercept(refuse))
            with pytest.raises(UnavailableError):
                await store.move(ctx.bucket, "source", ctx.bucket, "target")
            assert await ctx.store.read(ctx.bucket, "source") == b"data"
            assert await ctx.store.exists(ctx.bucket, "target") is (failing is not COPYING)

    @requires("delete")
    async def test_y11_source_that_was_replaced_is_kept(self, ctx: Context) -> None:
        """An object that was written to the source's key during a move is not deleted."""
        await ctx.store.put(ctx.bucket, "source", b"first")

        async def replace_source(operation: Operation) -> None:
            if operation.name == "delete":
                await ctx.store.put(ctx.bucket, "source", b"second")

        store = await ctx.reopen(Intercept(replace_source))
        with pytest.raises(PreconditionFailedError):
            await store.move(ctx.bucket, "source", ctx.bucket, "target")
        assert await ctx.store.read(ctx.bucket, "source") == b"second"
        assert await ctx.store.read(ctx.bucket, "target") == b"first"

    async def test_y12_streamed_copy(self, ctx: Context) -> None:
        """What the backend does not copy is read and written, with all of its properties."""

        async def refuse(operation: Operation) -> None:
            if operation.name == "copy":
                raise CopyNotSupportedError

        source = await _put_described(ctx, "source", random_bytes(ctx.part_size + 1))
        store = await ctx.reopen(Intercept(refuse))
        info = await store.copy(ctx.bucket, "source", ctx.bucket, "target")
        head = await ctx.store.head(ctx.bucket, "target")
        assert _described(head) == _described(source)
        assert (info.etag, info.size) == (head.etag, head.size)
        assert await ctx.store.read(ctx.bucket, "target") == await ctx.store.read(ctx.bucket, "source")
        with pytest.raises(ObjectNotFoundError) as caught:
            await store.copy(ctx.bucket, "missing", ctx.bucket, "target")
        assert (caught.value.key, caught.value.copy_phase) == ("missing", CopyPhase.READ)
        await ctx.assert_clean()
