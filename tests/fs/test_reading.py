"""Files of bytes, for reading."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path

import pytest

import trove_async as trove
from tests.fs.conftest import Place
from tests.fs.counting import counted
from trove_async.errors import ClosedError, InvalidArgumentError, ObjectChangedError
from trove_async.fs import open_file
from trove_async.fs.reading import BLOCK
from trove_async.testing.faults import Fault, Faults
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere

pytestmark = pytest.mark.asyncio

LARGE = random.Random(1).randbytes(40 * BLOCK + 12_345)


async def test_a_file_on_every_backend(place: Place) -> None:
    data = random.Random(2).randbytes(3 * BLOCK) + b"\nsecond\nlast"
    await place.store.put(place.bucket, "data", data)
    async with open_file(place.store, place.bucket, "data", "rb") as f:
        assert (f.size, f.info.size, f.mode) == (len(data), len(data), "rb")
        assert (f.readable(), f.writable(), f.seekable()) == (True, False, True)
        assert await f.read(10) == data[:10]
        assert await f.seek(-4, os.SEEK_END) == len(data) - 4
        assert await f.read() == b"last"
        assert await f.read() == b""
        assert await f.seek(3 * BLOCK + 1) == await f.tell() == 3 * BLOCK + 1
        assert await f.readlines() == [b"second\n", b"last"]
        assert await f.seek(5) == 5
        buffer = bytearray(2 * BLOCK)
        assert await f.readinto(buffer) == len(buffer)
        assert buffer == data[5 : 5 + len(buffer)]
        await f.seek(0)
        assert b"".join([line async for line in f]) == data
    assert f.closed
    with pytest.raises(ClosedError):
        await f.read()
    await f.aclose()


async def test_a_change_is_an_error_and_never_mixes_two_objects(place: Place) -> None:
    """Whatever is returned after the object was replaced belongs to the object that was opened."""
    old, new = b"o" * len(LARGE), b"n" * len(LARGE)
    await place.store.put(place.bucket, "data", old)
    async with open_file(place.store, place.bucket, "data", "rb") as f:
        await f.seek(20 * BLOCK)
        assert await f.read(10) == old[:10]
        await place.store.put(place.bucket, "data", new)
        for offset in (0, 30 * BLOCK, len(old) - 5, 20 * BLOCK):
            await f.seek(offset)
            try:
                found = await f.read(10)
            except ObjectChangedError:
                continue
            assert set(found) == set(b"o")
    if place.store.driver.name != "memory":  # there, the whole object is at hand
        async with open_file(place.store, place.bucket, "data", "rb") as f:
            await f.seek(-1, os.SEEK_END)
            assert await f.read() == b"n"
            await place.store.delete(place.bucket, "data")
            await f.seek(8 * BLOCK)
            with pytest.raises(ObjectChangedError) as caught:
                await f.read(1)
            assert (caught.value.bucket, caught.value.key) == (place.bucket, "data")
            assert await f.tell() == 8 * BLOCK


async def test_a_missing_object_is_a_missing_file(place: Place) -> None:
    with pytest.raises(FileNotFoundError):
        await open_file(place.store, place.bucket, "missing")
    with pytest.raises(FileNotFoundError):
        await open_file(place.store, "missing-bucket", "missing", "rb")


async def test_a_small_object_is_one_request(tmp_path: Path) -> None:
    async with counted(tmp_path) as (store, requests):
        for data in (b"", b"a\nb\n", LARGE[:BLOCK]):
            await store.put("b", "k", data)
            requests.clear()
            async with open_file(store, "b", "k", "rb") as f:
                assert await f.read() == data
                await f.seek(1)
                assert await f.read(2) == data[1:3]
                await f.seek(10 * BLOCK)
                assert await f.read(2) == await f.readline() == b""
            assert requests.operations == {"get": 1}


@pytest.mark.parametrize("size", [1_000, BLOCK, 3 * BLOCK + 7, -1])
async def test_reading_in_order_is_one_request(tmp_path: Path, size: int) -> None:
    data = LARGE if size > 1_000 or size < 0 else LARGE[: 8 * BLOCK]
    async with counted(tmp_path) as (store, requests):
        await store.put("b", "k", data)
        requests.clear()
        async with open_file(store, "b", "k", "rb") as f:
            found = []
            while piece := await f.read(size):
                found.append(piece)
        assert b"".join(found) == data
        assert requests.operations == {"get": 1}


async def test_seeking_takes_no_request(tmp_path: Path) -> None:
    async with counted(tmp_path) as (store, requests):
        await store.put("b", "k", LARGE)
        f = await open_file(store, "b", "k", "rb")
        requests.clear()
        for offset in (0, 5_000_000, 17):
            await f.seek(offset)
            await f.seek(-1, os.SEEK_END)
        assert not requests.operations
        await f.aclose()


async def test_scattered_reads_are_ranges_and_what_was_read_is_kept(tmp_path: Path) -> None:
    async with counted(tmp_path) as (store, requests):
        await store.put("b", "k", LARGE)
        async with open_file(store, "b", "k", "rb") as f:
            requests.clear()
            for offset in (30 * BLOCK + 5, 20 * BLOCK, len(LARGE) - 10, 20 * BLOCK + 100, 30 * BLOCK):
                await f.seek(offset)
                assert await f.read(10) == LARGE[offset : offset + 10]
            assert requests.ranges == [(30 * BLOCK, BLOCK), (20 * BLOCK, BLOCK), (40 * BLOCK, 12_345)]
            requests.clear()
            await f.seek(10 * BLOCK + 1)
            assert await f.read(5 * BLOCK) == LARGE[10 * BLOCK + 1 : 15 * BLOCK + 1]
            assert requests.ranges == [(10 * BLOCK + 1, 5 * BLOCK)]


async def test_reading_on_from_a_scattered_read_becomes_one_request(tmp_path: Path) -> None:
    async with counted(tmp_path) as (store, requests):
        await store.put("b", "k", LARGE)
        async with open_file(store, "b", "k", "rb") as f:
            await f.seek(7 * BLOCK)
            requests.clear()
            found = b""
            while piece := await f.read(10_000):
                found += piece
        assert found == LARGE[7 * BLOCK :]
        assert requests.ranges == [
            (7 * BLOCK, BLOCK), (8 * BLOCK, 2 * BLOCK), (10 * BLOCK, 4 * BLOCK), (14 * BLOCK, None)
        ]  # fmt: skip


async def test_a_short_way_ahead_needs_no_other_request(tmp_path: Path) -> None:
    async with counted(tmp_path) as (store, requests):
        await store.put("b", "k", LARGE)
        requests.clear()
        async with open_file(store, "b", "k", "rb") as f:
            for offset in range(0, 20 * BLOCK, 3 * BLOCK // 2):
                await f.seek(offset)
                assert await f.read(100) == LARGE[offset : offset + 100]
        assert requests.operations == {"get": 1}


async def test_memory_is_bounded(tmp_path: Path) -> None:
    async with counted(tmp_path) as (store, _):
        await store.put("b", "k", LARGE)
        async with open_file(store, "b", "k", "rb") as f:
            for number in [*range(0, 40, 3), *range(1, 40, 3)]:
                await f.seek(number * BLOCK)
                await f.read(1)
            assert sum(map(len, f._blocks._kept.values())) <= 16 * BLOCK


async def test_a_read_that_is_cancelled_leaves_the_position(tmp_path: Path) -> None:
    async with counted(tmp_path) as (store, _):
        await store.put("b", "k", LARGE)
        async with open_file(store, "b", "k", "rb") as f:
            await f.read(100)

            async def read() -> None:
                await f.read(30 * BLOCK)

            async def check(outcome: Outcome[None]) -> None:
                if outcome.cancelled:
                    assert await f.tell() == 100
                    assert await f.read(BLOCK) == LARGE[100 : 100 + BLOCK]
                assert outcome.left_running == frozenset()

            async def prepare() -> None:
                await f.seek(100)

            assert await cancel_everywhere(read, Delivery.PENDING, prepare=prepare, check=check) > 0


async def test_a_body_that_cannot_be_read_says_what_was_read(tmp_path: Path) -> None:
    faults = Faults()
    async with trove.open(f"local://{tmp_path}?fsync=0", layers=[faults]) as store:
        await store.create_bucket("b")
        await store.put("b", "k", LARGE)
        faults.add(Fault("get", error=trove.AccessDeniedError("no"), reset_after=3 * BLOCK))
        async with open_file(store, "b", "k", "rb") as f:
            with pytest.raises(PermissionError, match=r"^read 'b/k': no"):
                await f.read()
            assert await f.read(10) == LARGE[:10]


async def test_positions_before_the_beginning_are_refused(store: trove.Trove) -> None:
    await store.put("b", "k", b"abc")
    async with open_file(store, "b", "k", "rb") as f:
        for offset, whence in ((-1, 0), (-4, 2), (-1, 1), (0, 3)):
            with pytest.raises(InvalidArgumentError):
                await f.seek(offset, whence)
        with pytest.raises(io.UnsupportedOperation, match="mode 'rb' has no write"):
            await f.write(b"x")


async def test_it_reads_what_a_file_in_memory_reads(tmp_path: Path) -> None:
    content = LARGE.replace(b"\x00", b"\n") + b"end"
    steps = random.Random(3)
    async with counted(tmp_path) as (store, _):
        await store.put("b", "k", content)
        for _ in range(20):
            expected = io.BytesIO(content)
            async with open_file(store, "b", "k", "rb") as f:
                for step in steps.choices(["seek", "read", "readline", "readinto", "read1"], k=20):
                    size = steps.choice([-1, 0, 1, steps.randrange(2_000), steps.randrange(3 * BLOCK)])
                    if step == "seek":
                        offset = steps.choice([steps.randrange(len(content) + 10), BLOCK - 1, BLOCK, BLOCK + 1])
                        assert await f.seek(offset) == expected.seek(offset)
                    elif step == "readinto":
                        ours, theirs = bytearray(max(size, 0)), bytearray(max(size, 0))
                        assert await f.readinto(ours) == expected.readinto(theirs)
                        same = ours == theirs
                        assert same
                    elif step == "read1":
                        found = await f.read1(size)
                        assert found == expected.read(len(found))
                    else:
                        same = await getattr(f, step)(size) == getattr(expected, step)(size)
                        assert same  # the difference would be shown byte by byte
                    assert await f.tell() == expected.tell()
