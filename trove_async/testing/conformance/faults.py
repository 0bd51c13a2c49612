"""V: concurrency, and failures while reading.

V8, V10 and V12 (errors inside successful answers, expired tokens, the circuit breaker) concern code below or
around a driver, and are checked there.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

import pytest

from trove_async.errors import (
    BucketNotFoundError,
    ChecksumError,
    ClosedError,
    ObjectChangedError,
    ObjectNotFoundError,
    ThrottledError,
    TransientError,
    UnavailableError,
)
from trove_async.layers import Limit, Operation
from trove_async.reader import ByteStream
from trove_async.testing.conformance.context import Context, heavy
from trove_async.testing.conformance.interception import COPYING, Intercept, Read, Streams
from trove_async.testing.faults import Fault, Faults
from trove_async.testing.helpers import random_bytes

__all__ = ["FaultChecks"]


def _value_of(number: int, size: int) -> bytes:
    """Return a value of which each part identifies the writer."""
    return bytes([number]) * size


def _fail_after(count: int, fail: Callable[[], Awaitable[bytes]], *, times: int = 1) -> Read:
    """Read a number of bytes in small pieces, then fail a number of times, then continue."""
    left, failures = count, times

    async def read(stream: ByteStream, size: int) -> bytes:
        nonlocal left, failures
        if left <= 0 and failures:
            failures -= 1
            return await fail()
        chunk = await stream.read(min(size, 4096, max(left, 1)) if left > 0 else size)
        left -= len(chunk)
        return chunk

    return read


async def _reset() -> bytes:
    raise UnavailableError("the connection was reset")


async def _end() -> bytes:
    return b""


class FaultChecks:
    """Concurrent use, broken bodies, and corrupt bytes."""

    async def test_v01_writers_of_distinct_keys(self, ctx: Context) -> None:
        """Twenty concurrent writers, each with its own key."""
        values = {f"key-{n:02}": _value_of(n, 10_000 + n) for n in range(20)}
        infos = await asyncio.gather(*(ctx.store.put(ctx.bucket, key, value) for key, value in values.items()))
        assert [info.key for info in infos] == [*values]
        assert [found.key for found in await ctx.store.list(ctx.bucket).all()] == [*values]
        for key, value in values.items():
            assert await ctx.store.read(ctx.bucket, key) == value

    @heavy
    async def test_v02_writers_of_one_key(self, ctx: Context) -> None:
        """None of forty concurrent writers fails, one wins, and concurrent readers never see a mix."""
        size = ctx.part_size * 2
        await ctx.store.put(ctx.bucket, "key", _value_of(255, size))
        done = False

        async def read() -> None:
            while not done:
                try:
                    value = await ctx.store.read(ctx.bucket, "key")
                except ObjectChangedError:
                    continue
                assert value == _value_of(value[0], size), "a torn read"
                await asyncio.sleep(0)

        readers = [asyncio.create_task(read()) for _ in range(4)]
        infos = await asyncio.gather(*(ctx.store.put(ctx.bucket, "key", _value_of(n, size)) for n in range(40)))
        done = True
        await asyncio.gather(*readers)
        head = await ctx.store.head(ctx.bucket, "key")
        winners = [n for n, info in enumerate(infos) if info.etag == head.etag]
        value = await ctx.store.read(ctx.bucket, "key")
        assert value == _value_of(value[0], size)
        assert value[0] in winners
        await ctx.assert_clean()

    async def test_v03_reader_during_overwrite(self, ctx: Context) -> None:
        """A reader opened before the overwrite reads the old object to its end or raises; it never sees a mix."""
        size = ctx.part_size * 4
        for number in range(1, 6):
            await ctx.store.put(ctx.bucket, "key", _value_of(0, size))
            reader = await ctx.store.get(ctx.bucket, "key")
            value = await reader.read(size // 4)
            await ctx.store.put(ctx.bucket, "key", _value_of(number, size))
            try:
                value += await reader.read()
            except ObjectChangedError:
                assert reader.closed
            else:
                assert value == _value_of(0, size)
                await reader.aclose()
            assert await ctx.store.read(ctx.bucket, "key") == _value_of(number, size)

    async def test_v04_limit_is_never_exceeded(self, ctx: Context) -> None:
        """`Limit` lets exactly as many concurrent operations reach the driver as it allows."""
        at_work = most = 0

        async def count(operation: Operation) -> None:
            nonlocal at_work, most
            at_work += 1
            most = max(most, at_work)
            try:
                for _ in range(3):
                    await asyncio.sleep(0)
            finally:
                at_work -= 1  # also if it is cancelled, as the slower one of two reads

        # The context's layers are around it, since not every layer may be inside `Limit`.
        store = await ctx.wrap(Limit(3)(Intercept(count)(await ctx.harness.driver())))
        await asyncio.gather(*(store.put(ctx.bucket, f"key-{n}", b"x") for n in range(20)))
        assert most == 3
        await asyncio.gather(*(store.read(ctx.bucket, f"key-{n}") for n in range(20)))
        assert most == 3
        with pytest.raises(BucketNotFoundError):
            await store.read(ctx.missing_bucket, "key")
        await asyncio.gather(*(store.delete(ctx.bucket, f"key-{n}") for n in range(20)))
        assert most == 3

    async def test_v05_throttling_is_passed_on(self, ctx: Context) -> None:
        """If a backend asks for fewer requests, the error with the time to wait is raised immediately."""
        await ctx.store.put(ctx.bucket, "key", b"old")
        asked: list[str] = []

        async def throttle(operation: Operation) -> None:
            asked.append(operation.name)
            raise ThrottledError("slow down", status=503, retry_after=7.5)

        store = await ctx.reopen(Intercept(throttle))
        with pytest.raises(ThrottledError) as caught:
            await store.put(ctx.bucket, "key", b"new")
        error = caught.value
        assert (error.retryable, error.retry_after, error.status) == (True, 7.5, 503)
        assert (error.operation, error.bucket, error.key) == ("put", ctx.bucket, "key")
        assert asked == ["put"]
        assert await ctx.store.read(ctx.bucket, "key") == b"old"

    async def test_v05_a_resumed_reader_waits_as_long_as_it_is_asked_to(self, ctx: Context) -> None:
        """A body that breaks with a time to wait is resumed after that time, not before."""
        data = random_bytes(ctx.part_size * 3)
        await ctx.store.put(ctx.bucket, "key", data)
        loop = asyncio.get_running_loop()
        broke: list[float] = []

        async def slow_down() -> bytes:
            broke.append(loop.time())
            raise ThrottledError("slow down", retry_after=0.05)

        store = await ctx.reopen(Streams(_fail_after(5000, slow_down)))
        assert await store.read(ctx.bucket, "key") == data
        assert len(broke) == 1
        assert loop.time() - broke[0] >= 0.05  # the minimum duration of such a wait

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
    async def test_v06_reset_body_is_resumed(self, ctx: Context, share: float) -> None:
        """After a connection breaks, the reader makes another request and returns all bytes."""
        data = random_bytes(ctx.part_size * 3 + 1)
        await ctx.store.put(ctx.bucket, "key", data)
        for times in (1, 3):
            streams = Streams(_fail_after(int(len(data) * share), _reset, times=times))
            store = await ctx.reopen(streams)
            async with store.get(ctx.bucket, "key") as reader:
                digest = hashlib.sha256()
                async for chunk in reader:
                    digest.update(chunk)
            assert digest.digest() == hashlib.sha256(data).digest()
            assert streams.open == 0
        streams = Streams(_fail_after(10, _reset))
        store = await ctx.reopen(streams)
        assert await store.read(ctx.bucket, "key", (100, 5000)) == data[100:5100]

    async def test_v06_body_that_stays_broken_is_an_error(self, ctx: Context) -> None:
        """The reader gives up, raises the cause, and releases its resources."""
        await ctx.store.put(ctx.bucket, "key", random_bytes(ctx.part_size * 3))
        streams = Streams(_fail_after(5000, _reset, times=1000))
        store = await ctx.reopen(streams)
        async with store.get(ctx.bucket, "key") as reader:
            with pytest.raises(UnavailableError):
                await reader.read()
            assert reader.closed
            with pytest.raises(ClosedError):
                await reader.read()
        assert streams.open == 0

    async def test_v06_resumed_body_is_never_spliced(self, ctx: Context) -> None:
        """If the object was replaced before the connection broke, the reader returns the old bytes or raises."""
        size = ctx.part_size * 3
        await ctx.store.put(ctx.bucket, "key", _value_of(1, size))

        async def replace() -> bytes:
            await ctx.store.put(ctx.bucket, "key", _value_of(2, size))
            raise UnavailableError("the connection was reset")

        streams = Streams(_fail_after(size // 2, replace))
        store = await ctx.reopen(streams)
        reader = await store.get(ctx.bucket, "key")
        try:
            assert await reader.read() == _value_of(1, size)
        except ObjectChangedError:
            assert reader.closed
        assert streams.open == 0
        assert await ctx.store.read(ctx.bucket, "key") == _value_of(2, size)

    async def test_v07_truncated_body_is_detected(self, ctx: Context) -> None:
        """A body that ends early is resumed where it ended; if it always ends early, the reader raises."""
        data = random_bytes(ctx.part_size * 3)
        await ctx.store.put(ctx.bucket, "key", data)
        store = await ctx.reopen(Streams(_fail_after(5000, _end)))
        assert await store.read(ctx.bucket, "key") == data
        streams = Streams(_fail_after(5000, _end, times=1000))
        store = await ctx.reopen(streams)
        with pytest.raises(TransientError, match=f"5000 of {len(data)} bytes"):
            await store.read(ctx.bucket, "key")
        assert streams.open == 0

    async def test_v09_a_write_whose_answer_is_lost_is_not_sent_again(self, ctx: Context) -> None:
        """A write with an unknown outcome is settled or raises an ambiguous error, and is not sent again."""
        sent: list[str | None] = []
        writes = [("put", "key"), *((name, "copy") for name in COPYING), ("delete", "key")]
        lost = Faults([Fault(name, key=key, error=UnavailableError(), when="after") for name, key in writes])

        async def note(operation: Operation) -> None:
            if operation.name in {name for name, _ in writes}:
                sent.append(operation.key)

        store = await ctx.reopen(Intercept(note), lost)
        with pytest.raises(UnavailableError) as caught:
            await store.put(ctx.bucket, "key", b"data")
        assert caught.value.ambiguous
        copied = await store.copy(ctx.bucket, "key", ctx.bucket, "copy")  # it has the bytes of its source
        assert copied == await ctx.store.head(ctx.bucket, "copy")
        with pytest.raises(UnavailableError):
            await store.delete(ctx.bucket, "key")
        assert sent == ["key", "copy", "key"]
        assert len(lost.injected) == 3
        assert not await ctx.store.exists(ctx.bucket, "key")
        assert await ctx.store.read(ctx.bucket, "copy") == b"data"

    async def test_v11_corrupt_body_is_detected(self, ctx: Context) -> None:
        """Bytes that do not match the stored checksum raise at the end of a complete read."""
        data = random_bytes(ctx.part_size * 3)
        digest = hashlib.sha256(data).hexdigest()
        info = await ctx.store.put(ctx.bucket, "key", data, checksum="sha256")
        assert info.checksums == {"sha256": digest}
        assert (await ctx.store.head(ctx.bucket, "key")).checksums == {"sha256": digest}

        async def corrupt(stream: ByteStream, size: int) -> bytes:
            chunk = await stream.read(size)
            return bytes([chunk[0] ^ 1]) + chunk[1:]

        streams = Streams(corrupt)
        store = await ctx.reopen(streams)
        with pytest.raises(ChecksumError):
            await store.read(ctx.bucket, "key")
        assert streams.open == 0
        assert await ctx.store.read(ctx.bucket, "key") == data

    async def test_v11_wrong_checksum_stores_nothing(self, ctx: Context) -> None:
        """A body that does not match its declared checksum leaves the old object, or none."""
        data = random_bytes(ctx.part_size * 3)
        wrong = "sha256:" + hashlib.sha256(b"another").hexdigest()
        await ctx.store.put(ctx.bucket, "old", b"old")
        for key in ("old", "new"):
            for body in (data, [data[:1000], data[1000:]]):
                with pytest.raises(ChecksumError):
                    await ctx.store.put(ctx.bucket, key, body, checksum=wrong)
        assert await ctx.store.read(ctx.bucket, "old") == b"old"
        with pytest.raises(ObjectNotFoundError):
            await ctx.store.head(ctx.bucket, "new")
        await ctx.assert_clean()

    @heavy
    async def test_v13_hundred_concurrent_puts(self, ctx: Context) -> None:
        """Puts of streams and of bytes, small and large."""

        async def put(number: int) -> None:
            data = _value_of(number, 100 + number * 1000)
            body = data if number % 2 else [data[:50], data[50:]]
            info = await ctx.store.put(ctx.bucket, f"key-{number:03}", body)
            assert info.size == len(data)

        await asyncio.gather(*(put(number) for number in range(100)))
        assert [found.size for found in await ctx.store.list(ctx.bucket).all()] == [100 + n * 1000 for n in range(100)]
        await ctx.assert_clean()

    @heavy
    async def test_v14_hundred_concurrent_reads(self, ctx: Context) -> None:
        """Reads of one object, and of many."""
        data = random_bytes(ctx.part_size * 2)
        await ctx.store.put(ctx.bucket, "one", data)
        for number in range(20):
            await ctx.store.put(ctx.bucket, f"key-{number}", _value_of(number, 5000))
        results = await asyncio.gather(*(ctx.store.read(ctx.bucket, "one") for _ in range(100)))
        assert all(result == data for result in results)
        many = await asyncio.gather(*(ctx.store.read(ctx.bucket, f"key-{n % 20}") for n in range(100)))
        assert many == [_value_of(n % 20, 5000) for n in range(100)]
        await ctx.assert_clean()
