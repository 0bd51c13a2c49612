"""Checks C: conditions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from trove_async.driver import Condition, MultipartDriver
from trove_async.errors import (
    NotModifiedError,
    ObjectAlreadyExistsError,
    ObjectNotFoundError,
    PreconditionFailedError,
    UnsupportedError,
)
from trove_async.store import Trove
from trove_async.testing.conformance.context import Context, heavy, requires
from trove_async.testing.conformance.counting import CallCounter, bare
from trove_async.testing.conformance.probes import STALE
from trove_async.testing.helpers import random_bytes

__all__ = ["ConditionChecks"]

RACERS = 50
COUNTERS, INCREMENTS = 5, 10


async def chunks(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


class ConditionChecks:
    """C1 to C12."""

    @requires("put_if_none_match")
    async def test_c01_create_only(self, ctx: Context) -> None:
        info = await ctx.store.put(ctx.bucket, "key", b"first", if_none_match="*")
        with pytest.raises(ObjectAlreadyExistsError) as raised:
            await ctx.store.put(ctx.bucket, "key", b"second", if_none_match="*")
        assert type(raised.value) is ObjectAlreadyExistsError
        assert isinstance(raised.value, FileExistsError)
        assert (raised.value.bucket, raised.value.key) == (ctx.bucket, "key")
        assert await ctx.store.read(ctx.bucket, "key") == b"first"
        assert (await ctx.store.head(ctx.bucket, "key")).etag == info.etag

    @requires("put_if_none_match")
    async def test_c01_create_only_after_delete(self, ctx: Context) -> None:
        await ctx.store.put(ctx.bucket, "key", b"first")
        await ctx.store.delete(ctx.bucket, "key")
        await ctx.store.put(ctx.bucket, "key", b"second", if_none_match="*")
        assert await ctx.store.read(ctx.bucket, "key") == b"second"

    @requires("put_if_none_match")
    async def test_c02_create_only_race(self, ctx: Context) -> None:
        ready = asyncio.Event()

        async def race(number: int) -> int | None:
            await ready.wait()
            try:
                await ctx.store.put(ctx.bucket, "key", b"%d" % number, if_none_match="*")
            except ObjectAlreadyExistsError:
                return None
            return number

        racers = [asyncio.ensure_future(race(number)) for number in range(RACERS)]
        ready.set()
        winners = [number for number in await asyncio.gather(*racers) if number is not None]
        assert len(winners) == 1
        assert await ctx.store.read(ctx.bucket, "key") == b"%d" % winners[0]

    @requires("put_if_none_match")
    async def test_c02_create_only_race_of_streams(self, ctx: Context) -> None:
        """Each body ends only after all puts have begun, so a check before the upload cannot pass by chance."""
        begun = 0
        all_begun = asyncio.Event()

        async def body(number: int) -> AsyncIterator[bytes]:
            nonlocal begun
            begun += 1
            if begun == 4:
                all_begun.set()
            yield b"%d" % number
            await all_begun.wait()
            yield b"!"

        async def race(number: int) -> int | None:
            try:
                await ctx.store.put(ctx.bucket, "key", body(number), if_none_match="*")
            except ObjectAlreadyExistsError:
                return None
            return number

        async with asyncio.timeout(60):
            winners = [number for number in await asyncio.gather(*map(race, range(4))) if number is not None]
        assert len(winners) == 1
        assert await ctx.store.read(ctx.bucket, "key") == b"%d!" % winners[0]

    @requires("put_if_match")
    async def test_c03_if_match(self, ctx: Context) -> None:
        first = await ctx.store.put(ctx.bucket, "key", b"first")
        second = await ctx.store.put(ctx.bucket, "key", b"second", if_match=first.etag)
        for stale in (first.etag, STALE):
            with pytest.raises(PreconditionFailedError) as raised:
                await ctx.store.put(ctx.bucket, "key", b"third", if_match=stale)
            assert type(raised.value) is PreconditionFailedError
        assert await ctx.store.read(ctx.bucket, "key") == b"second"
        assert (await ctx.store.head(ctx.bucket, "key")).etag == second.etag

    @requires("put_if_match")
    async def test_c04_if_match_on_missing(self, ctx: Context) -> None:
        with pytest.raises(PreconditionFailedError) as raised:
            await ctx.store.put(ctx.bucket, "key", b"x", if_match=STALE)
        assert type(raised.value) is PreconditionFailedError
        assert not await ctx.store.exists(ctx.bucket, "key")

    @heavy
    @requires("put_if_match")
    async def test_c05_compare_and_swap_counter(self, ctx: Context) -> None:
        await ctx.store.put(ctx.bucket, "counter", b"0")

        async def increment() -> None:
            while True:
                async with ctx.store.get(ctx.bucket, "counter") as reader:
                    value = int(await reader.read())
                try:
                    await ctx.store.put(ctx.bucket, "counter", b"%d" % (value + 1), if_match=reader.info.etag)
                except PreconditionFailedError:
                    continue
                return

        async def count() -> None:
            for _ in range(INCREMENTS):
                await increment()

        async with asyncio.timeout(100):
            await asyncio.gather(*(count() for _ in range(COUNTERS)))
        assert await ctx.store.read(ctx.bucket, "counter") == b"%d" % (COUNTERS * INCREMENTS)

    @requires("get")
    async def test_c06_conditional_get(self, ctx: Context) -> None:
        info = await ctx.store.put(ctx.bucket, "key", b"content")
        assert await ctx.store.read(ctx.bucket, "key", if_match=info.etag) == b"content"
        assert await ctx.store.read(ctx.bucket, "key", if_match="*") == b"content"
        assert await ctx.store.read(ctx.bucket, "key", if_none_match=STALE) == b"content"
        for call in (ctx.store.get, ctx.store.head):
            for condition in (info.etag, "*"):
                with pytest.raises(NotModifiedError) as not_modified:
                    await call(ctx.bucket, "key", if_none_match=condition)
                assert type(not_modified.value) is NotModifiedError
            with pytest.raises(PreconditionFailedError) as failed:
                await call(ctx.bucket, "key", if_match=STALE)
            assert type(failed.value) is PreconditionFailedError

    @requires("get")
    async def test_c06_missing_object_is_not_found(self, ctx: Context) -> None:
        for condition in ({"if_match": STALE}, {"if_none_match": STALE}):
            with pytest.raises(ObjectNotFoundError):
                await ctx.store.get(ctx.bucket, "key", **condition)  # type: ignore[arg-type]

    @requires("get")
    async def test_c07_dates_to_the_second(self, ctx: Context) -> None:
        await ctx.store.put(ctx.bucket, "key", b"content")
        modified = (await ctx.store.head(ctx.bucket, "key")).last_modified
        assert modified is not None
        exact = modified.replace(microsecond=0)
        second = timedelta(seconds=1)
        for call in (ctx.store.get, ctx.store.head):
            for since in (exact, exact + second):
                with pytest.raises(NotModifiedError):
                    await call(ctx.bucket, "key", if_modified_since=since)
            with pytest.raises(PreconditionFailedError):
                await call(ctx.bucket, "key", if_unmodified_since=exact - second)
        for since in (exact, exact + second):
            assert (await ctx.store.head(ctx.bucket, "key", if_unmodified_since=since)).size == 7
        assert (await ctx.store.head(ctx.bucket, "key", if_modified_since=exact - second)).size == 7

    @requires("get")
    async def test_c07_etag_goes_before_date(self, ctx: Context) -> None:
        info = await ctx.store.put(ctx.bucket, "key", b"content")
        old, new = datetime(2000, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(days=1)
        head = await ctx.store.head(ctx.bucket, "key", if_match=info.etag, if_unmodified_since=old)
        assert head.etag == info.etag
        head = await ctx.store.head(ctx.bucket, "key", if_none_match=STALE, if_modified_since=new)
        assert head.etag == info.etag

    @requires("put_if_none_match")
    async def test_c08_create_only_stream(self, ctx: Context) -> None:
        data = random_bytes(3 * ctx.part_size + 1)
        if ctx.store.supports(MultipartDriver) and not ctx.store.supports("complete"):
            # A body larger than a part needs an upload, whose completion would ignore the condition.
            # If the driver has no other way, it refuses.
            try:
                await ctx.store.put(ctx.bucket, "key", chunks(data, ctx.part_size // 3), if_none_match="*")
            except UnsupportedError:
                assert not await ctx.store.exists(ctx.bucket, "key")
                data = data[: ctx.part_size]
            else:
                await ctx.store.delete(ctx.bucket, "key")
        await ctx.store.put(ctx.bucket, "key", chunks(data, ctx.part_size // 3), if_none_match="*")
        with pytest.raises(ObjectAlreadyExistsError):
            await ctx.store.put(ctx.bucket, "key", chunks(data[::-1], ctx.part_size // 3), if_none_match="*")
        assert await ctx.store.read(ctx.bucket, "key") == data

    @requires("complete", MultipartDriver)
    async def test_c08_create_only_multipart(self, ctx: Context) -> None:
        data = random_bytes(ctx.part_size)
        uploads = [await ctx.store.initiate_multipart(ctx.bucket, "key") for _ in range(2)]
        parts = [await ctx.store.upload_part(ctx.bucket, "key", upload, 1, data) for upload in uploads]
        info = await ctx.store.complete_multipart(ctx.bucket, "key", uploads[0], parts[:1], if_none_match="*")
        with pytest.raises(ObjectAlreadyExistsError):
            await ctx.store.complete_multipart(ctx.bucket, "key", uploads[1], parts[1:], if_none_match="*")
        assert (await ctx.store.head(ctx.bucket, "key")).etag == info.etag
        with pytest.raises(PreconditionFailedError):
            await ctx.store.complete_multipart(ctx.bucket, "key", uploads[1], parts[1:], if_match=STALE)
        await ctx.store.complete_multipart(ctx.bucket, "key", uploads[1], parts[1:], if_match=info.etag)
        assert await ctx.store.read(ctx.bucket, "key") == data

    @requires("copy")
    async def test_c09_conditional_copy(self, ctx: Context) -> None:
        source = await ctx.store.put(ctx.bucket, "source", b"source")
        target = await ctx.store.put(ctx.bucket, "target", b"target")

        async def copy(**conditions: str) -> None:
            await ctx.store.copy(ctx.bucket, "source", ctx.bucket, "target", **conditions)  # type: ignore[arg-type]

        for failing in ({"source_if_match": STALE}, {"if_match": STALE}):
            with pytest.raises(PreconditionFailedError) as raised:
                await copy(**failing)
            assert type(raised.value) is PreconditionFailedError
        with pytest.raises(ObjectAlreadyExistsError):
            await copy(if_none_match="*")
        assert await ctx.store.read(ctx.bucket, "target") == b"target"
        await copy(source_if_match=source.etag, if_match=target.etag)
        assert await ctx.store.read(ctx.bucket, "target") == b"source"
        await ctx.store.copy(ctx.bucket, "source", ctx.bucket, "new", if_none_match="*")
        assert await ctx.store.read(ctx.bucket, "new") == b"source"

    @requires("delete")
    async def test_c10_conditional_delete(self, ctx: Context) -> None:
        info = await ctx.store.put(ctx.bucket, "key", b"content")
        with pytest.raises(PreconditionFailedError) as raised:
            await ctx.store.delete(ctx.bucket, "key", if_match=STALE)
        assert type(raised.value) is PreconditionFailedError
        assert await ctx.store.read(ctx.bucket, "key") == b"content"
        await ctx.store.delete(ctx.bucket, "key", if_match=info.etag)
        assert not await ctx.store.exists(ctx.bucket, "key")
        with pytest.raises(PreconditionFailedError):
            await ctx.store.delete(ctx.bucket, "key", if_match=info.etag)

    async def test_c11_unsupported_before_the_body_is_read(self, ctx: Context) -> None:
        """A condition that the store does not declare is refused; a store that declares none refuses all."""
        await ctx.store.put(ctx.bucket, "key", b"content")
        undeclared = {name for name in CONDITIONAL if not ctx.store.supports(name)}
        await assert_refused(ctx, await ctx.reopen(counter := CallCounter()), counter, undeclared)
        await assert_refused(ctx, await ctx.reopen(counter := CallCounter(), bare), counter, {*CONDITIONAL})
        assert await ctx.store.read(ctx.bucket, "key") == b"content"
        assert [item.key async for item in ctx.store.list(ctx.bucket)] == ["key"]

    @requires("put_if_match", "get")
    async def test_c12_etags_are_normalised(self, ctx: Context) -> None:
        for written in ('"{}"', 'W/"{}"', " {} ", "{}"):
            info = await ctx.store.put(ctx.bucket, "key", b"content")
            assert '"' not in info.etag
            assert not info.etag.startswith("W/")
            condition = written.format(info.etag)
            assert await ctx.store.read(ctx.bucket, "key", if_match=condition) == b"content"
            with pytest.raises(NotModifiedError):
                await ctx.store.read(ctx.bucket, "key", if_none_match=condition)
            await ctx.store.put(ctx.bucket, "key", b"changed", if_match=condition)


class UnreadBody:
    """A body that records whether it was read."""

    def __init__(self) -> None:
        self.reads = 0

    async def read(self, _size: int) -> bytes:
        self.reads += 1
        return b""


async def _put_if_none_match(store: Trove, bucket: str, body: UnreadBody) -> None:
    await store.put(bucket, "key", body, if_none_match="*")


async def _put_if_match(store: Trove, bucket: str, body: UnreadBody) -> None:
    await store.put(bucket, "key", body, if_match=STALE)


async def _get(store: Trove, bucket: str, body: UnreadBody) -> None:
    await store.get(bucket, "key", if_match=STALE)


async def _delete(store: Trove, bucket: str, body: UnreadBody) -> None:
    await store.delete(bucket, "key", if_match=STALE)


async def _copy(store: Trove, bucket: str, body: UnreadBody) -> None:
    await store.copy(bucket, "key", bucket, "copy", if_none_match="*")


async def _complete(store: Trove, bucket: str, body: UnreadBody) -> None:
    await store.complete_multipart(bucket, "key", "upload", [], if_none_match="*")


CONDITIONAL: dict[Condition, Callable[[Trove, str, UnreadBody], Awaitable[None]]] = {
    "put_if_none_match": _put_if_none_match,
    "put_if_match": _put_if_match,
    "get": _get,
    "delete": _delete,
    "copy": _copy,
    "complete": _complete,
}
"""For each kind of condition, a call that has one."""


async def assert_refused(ctx: Context, store: Trove, counter: CallCounter, conditions: set[Condition]) -> None:
    for name in sorted(conditions):
        body = UnreadBody()
        with pytest.raises(UnsupportedError):
            await CONDITIONAL[name](store, ctx.bucket, body)
        assert body.reads == 0
    assert counter.calls == []
