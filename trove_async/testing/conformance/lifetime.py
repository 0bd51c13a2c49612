"""Checks L: the lifetime of a store, from open to close."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import signal
import warnings
from collections.abc import Awaitable, Callable
from urllib.parse import quote

import pytest

import trove_async
from trove_async.dsn import parse_dsn
from trove_async.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    ClosedError,
    ForkedError,
    InvalidDSNError,
    ObjectNotFoundError,
    OperationTimeoutError,
    RootNotFoundError,
    UnavailableError,
    WrongLoopError,
)
from trove_async.reader import ObjectReader
from trove_async.store import Trove
from trove_async.testing.conformance.context import Context, plainly
from trove_async.testing.helpers import random_bytes, read_all

__all__ = ["LifetimeChecks"]

STREAMED = 8 * 1024 * 1024
"""The size of an object that no driver returns in one piece, in bytes."""

OPERATIONS, CONCURRENCY = 1000, 10
_FDS = "/proc/self/fd"

Call = Callable[[Trove, str], Awaitable[object]]


async def _list(store: Trove, bucket: str) -> object:
    return await store.list(bucket).all()


async def _write(store: Trove, bucket: str) -> object:
    async with store.writer(bucket, "written") as writer:
        return await writer.write(b"x")


OBJECT_CALLS: dict[str, Call] = {
    "put": lambda store, bucket: store.put(bucket, "key", b"x"),
    "put of a stream": lambda store, bucket: store.put(bucket, "key", iter([b"x"])),
    "writer": _write,
    "get": lambda store, bucket: store.get(bucket, "key"),
    "read": lambda store, bucket: store.read(bucket, "key"),
    "read_ranges": lambda store, bucket: store.read_ranges(bucket, "key", [(0, 1)]),
    "head": lambda store, bucket: store.head(bucket, "key"),
    "delete": lambda store, bucket: store.delete(bucket, "key"),
    "copy": lambda store, bucket: store.copy(bucket, "key", bucket, "copy"),
    "move": lambda store, bucket: store.move(bucket, "key", bucket, "moved"),
    "list": _list,
}
"""Each verb for objects, as a call that needs only a bucket."""


class LifetimeChecks:
    """L1 to L14."""

    async def test_l01_close_is_idempotent(self, ctx: Context) -> None:
        store = await ctx.reopen()
        assert not store.closed
        await store.aclose()
        await store.aclose()
        await store.driver.close()
        assert store.closed
        async with await ctx.reopen() as entered:
            await entered.ping()
        assert entered.closed

    async def test_l02_use_after_close(self, ctx: Context) -> None:
        store = await ctx.reopen()
        await store.aclose()
        others: dict[str, Call] = {
            "ping": lambda store, bucket: store.ping(),
            "exists": lambda store, bucket: store.exists(bucket, "key"),
            "list_buckets": lambda store, bucket: store.list_buckets(),
            "create_bucket": lambda store, bucket: store.create_bucket(ctx.missing_bucket),
            "delete_bucket": lambda store, bucket: store.delete_bucket(bucket),
            "delete_many": lambda store, bucket: _all_deleted(store, bucket),
            "get_tags": lambda store, bucket: store.get_tags(bucket, "key"),
            "initiate_multipart": lambda store, bucket: store.initiate_multipart(bucket, "key"),
            "get_lifecycle": lambda store, bucket: store.get_lifecycle(bucket),
        }
        for name, call in {**OBJECT_CALLS, **others}.items():
            with pytest.raises(ClosedError) as raised:
                await call(store, ctx.bucket)
            assert "closed" in str(raised.value), name

    async def test_l03_close_while_readers_are_open(self, ctx: Context) -> None:
        data = random_bytes(STREAMED)
        await ctx.store.put(ctx.bucket, "key", data)
        store = await ctx.reopen()
        idle = await store.get(ctx.bucket, "key")
        started = await store.get(ctx.bucket, "key")
        assert await started.read(1000) == data[:1000]
        busy = [asyncio.ensure_future(_read_or_closed(await store.get(ctx.bucket, "key"))) for _ in range(3)]
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            await store.aclose()
            # Bytes that are already in memory may still be read; there is no third outcome.
            for whole, reader in ((data, idle), (data[1000:], started)):
                assert await _read_or_closed(reader) in (None, whole)
            for outcome in await asyncio.gather(*busy):
                assert outcome in (None, data)

    async def test_l04_missing_bucket(self, ctx: Context) -> None:
        assert await ctx.store.exists(ctx.missing_bucket, "key") is False
        for name, call in OBJECT_CALLS.items():
            with pytest.raises(BucketNotFoundError) as raised:
                await call(ctx.store, ctx.missing_bucket)
            assert type(raised.value) is BucketNotFoundError, name
            assert raised.value.bucket == ctx.missing_bucket, name
        await ctx.store.put(ctx.bucket, "key", b"x")
        with pytest.raises(BucketNotFoundError) as raised:
            await ctx.store.copy(ctx.bucket, "key", ctx.missing_bucket, "copy")
        assert raised.value.bucket == ctx.missing_bucket

    async def test_l05_bad_credentials(self, ctx: Context) -> None:
        dsns = ctx.harness.bad_dsns()
        if not dsns:
            pytest.skip(f"{ctx.harness.name} has no credentials")
        for dsn in dsns:
            with pytest.raises(AccessDeniedError):
                await _open_and_ping(dsn, ctx)

    async def test_l06_nothing_is_left_to_the_collector(self, ctx: Context) -> None:
        data = random_bytes(STREAMED)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            async with await ctx.reopen() as store:
                await store.put(ctx.bucket, "key", data)
                assert await read_all(await store.get(ctx.bucket, "key")) == data
                async with store.get(ctx.bucket, "key") as reader:
                    await reader.read(1)
                async for _ in store.list(ctx.bucket):
                    break
                with pytest.raises(ObjectNotFoundError):
                    await store.get(ctx.bucket, "missing")
                await _write(store, ctx.bucket)
            del store, reader
            gc.collect()
        left = [str(warning.message) for warning in caught if issubclass(warning.category, ResourceWarning)]
        assert left == []

    @plainly
    @pytest.mark.skipif(not os.path.isdir(_FDS), reason="the system does not list open file descriptors")
    async def test_l07_file_descriptors_are_stable(self, ctx: Context) -> None:
        async def operate(number: int) -> None:
            key = f"key-{number % CONCURRENCY}"
            await ctx.store.put(ctx.bucket, key, b"%d" % number)
            await ctx.store.read(ctx.bucket, key)
            await ctx.store.head(ctx.bucket, key)
            async for _ in ctx.store.list(ctx.bucket, page_size=2):
                break

        async def batch(first: int) -> None:
            await asyncio.gather(*(operate(first + number) for number in range(CONCURRENCY)))

        await batch(0)
        before = len(os.listdir(_FDS))
        for first in range(0, OPERATIONS // 4, CONCURRENCY):
            await batch(first)
        # A pool may still grow to one connection for each task; a leak would show as hundreds.
        assert len(os.listdir(_FDS)) <= before + CONCURRENCY

    async def test_l08_dsn_round_trip(self, ctx: Context) -> None:
        dsn = _dsn(ctx)
        await ctx.store.put(ctx.bucket, "key", b"content")
        async with trove_async.open(dsn, layers=ctx.layers) as store:
            assert await store.read(ctx.bucket, "key") == b"content"
            assert store.driver.name == ctx.store.driver.name
        with pytest.raises(InvalidDSNError, match="no_such_parameter"):
            await trove_async.open(_with(dsn, "no_such_parameter", "1"))
        with pytest.raises(InvalidDSNError, match="no_such_setting"):
            await trove_async.open(dsn, no_such_setting=1)

    async def test_l09_secrets_are_hidden(self, ctx: Context) -> None:
        secret = "h0rse+staple/battery"
        dsn = _with(_dsn(ctx), "secret_token", secret)
        assert secret not in repr(parse_dsn(dsn))
        assert secret not in str(parse_dsn(dsn))
        with pytest.raises(InvalidDSNError) as raised:
            await trove_async.open(dsn)
        assert secret not in f"{raised.value!r} {raised.value}"
        for bad in ctx.harness.bad_dsns():
            password = parse_dsn(bad).password
            with pytest.raises(AccessDeniedError) as denied:
                await _open_and_ping(bad, ctx)
            assert password is None or password not in f"{denied.value!r} {denied.value}"
        password = parse_dsn(_dsn(ctx)).password
        if password is not None:
            shown = f"{ctx.store!r} {ctx.store.driver!r} {ctx.store.bucket(ctx.bucket)!r}"
            assert password not in shown

    async def test_l10_use_from_another_loop(self, ctx: Context) -> None:
        """The other loop runs in another thread."""

        async def use(call: Call) -> None:
            with pytest.raises(WrongLoopError):
                await call(ctx.store, ctx.bucket)

        for call in OBJECT_CALLS.values():
            await asyncio.to_thread(asyncio.run, use(call))
        await asyncio.to_thread(asyncio.run, use(lambda store, bucket: store.aclose()))
        await ctx.store.put(ctx.bucket, "key", b"still good")

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
    async def test_l11_use_after_fork(self, ctx: Context) -> None:
        raised = _raised_in_child(lambda: ctx.store.head(ctx.bucket, "key"))
        assert raised == ForkedError.__name__
        await ctx.store.put(ctx.bucket, "key", b"the parent goes on")

    async def test_l12_two_drivers_see_the_same(self, ctx: Context) -> None:
        other = await ctx.reopen()
        info = await ctx.store.put(ctx.bucket, "key", b"content")
        assert await other.read(ctx.bucket, "key") == b"content"
        assert (await other.head(ctx.bucket, "key")).etag == info.etag
        await other.delete(ctx.bucket, "key")
        assert not await ctx.store.exists(ctx.bucket, "key")

    async def test_l13_ping(self, ctx: Context) -> None:
        await ctx.store.ping()
        await (await ctx.reopen()).ping()

    async def test_l14_ping_of_a_dead_server(self, ctx: Context) -> None:
        dsns = ctx.harness.dead_dsns()
        if not dsns:
            pytest.skip(f"{ctx.harness.name} has no server that could be dead")
        for dsn in dsns:
            with pytest.raises((UnavailableError, OperationTimeoutError, RootNotFoundError)):
                await _open_and_ping(dsn, ctx)


def _dsn(ctx: Context) -> str:
    dsn = ctx.harness.dsn()
    if dsn is None:
        pytest.skip(f"{ctx.harness.name} has no DSN")
    return dsn


def _with(dsn: str, name: str, value: str) -> str:
    return f"{dsn}{'&' if '?' in dsn else '?'}{name}={quote(value, safe='')}"


async def _open_and_ping(dsn: str, ctx: Context) -> None:
    async with trove_async.open(dsn, layers=ctx.layers) as store:
        await store.ping()


async def _all_deleted(store: Trove, bucket: str) -> int:
    return await store.delete_many(bucket, ["key"])


async def _read_or_closed(reader: ObjectReader) -> bytes | None:
    """Return the remaining bytes of an object; None if the reader says that it is closed."""
    try:
        async with reader:
            return await reader.read()
    except ClosedError:
        return None


def _raised_in_child(call: Callable[[], Awaitable[object]]) -> str:
    """Return the name of the exception that the first step of a coroutine raises in a forked child."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 and later warn about threads at a fork; this child only raises and ends.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            call().__await__().__next__()
        except BaseException as error:  # noqa: BLE001 - it is the result, and the child must not return
            os.write(writing, type(error).__name__.encode())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        if not select.select([reading], [], [], 30)[0]:
            os.kill(child, signal.SIGKILL)
        return os.read(reading, 100).decode()
    finally:
        os.close(reading)
        os.waitpid(child, 0)
