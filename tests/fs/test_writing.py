"""Files for writing: stored whole or not at all."""

from __future__ import annotations

import asyncio
import gc
import io
from collections.abc import Awaitable, Callable

import pytest

import trove_async as trove
from tests.fs.conftest import Place
from trove_async.errors import (
    BodyTypeError,
    ClosedError,
    InvalidArgumentError,
    ObjectAlreadyExistsError,
)
from trove_async.fs import open_file
from trove_async.testing.faults import Fault, Faults
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere

pytestmark = pytest.mark.asyncio

LARGE = bytes(300_000)


async def test_a_clean_exit_stores_on_every_backend(place: Place) -> None:
    async with open_file(place.store, place.bucket, "d/k", "wb", content_type="image/png", metadata={"a": "b"}) as f:
        assert (f.readable(), f.writable(), f.seekable()) == (False, True, False)
        assert await f.write(b"one ") == 4
        await f.writelines([b"two ", LARGE])
        assert await f.tell() == 8 + len(LARGE)
        await f.flush()
        assert f.info is None
        assert not await place.store.exists(place.bucket, "d/k")
    assert f.closed
    info = await place.store.head(place.bucket, "d/k")
    assert f.info is not None
    assert (f.info.etag, info.content_type, dict(info.metadata)) == (info.etag, "image/png", {"a": "b"})
    assert await place.store.read(place.bucket, "d/k") == b"one two " + LARGE
    async with open_file(place.store, place.bucket, "d/k", "w") as text:
        await text.write("new")
    assert await place.store.read(place.bucket, "d/k") == b"new"


@pytest.mark.parametrize("mode", ["wb", "xb", "w", "x"])
@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError, KeyboardInterrupt])
async def test_a_body_that_raises_publishes_nothing(place: Place, mode: str, error: type[BaseException]) -> None:
    key = "new" if mode.startswith("x") else "old"
    await place.store.put(place.bucket, "old", b"old")
    with pytest.raises(error):  # noqa: PT012 - the block is under test
        async with open_file(place.store, place.bucket, key, mode) as f:
            await f.write(LARGE if "b" in mode else LARGE.decode())
            await f.write(b"more" if "b" in mode else "more")
            raise error
    assert f.closed
    assert [info.key async for info in place.store.list(place.bucket)] == ["old"]
    assert await place.store.read(place.bucket, "old") == b"old"


async def test_create_replaces_nothing(place: Place) -> None:
    async with open_file(place.store, place.bucket, "k", "x") as f:
        await f.write("first")
    with pytest.raises(FileExistsError):
        await open_file(place.store, place.bucket, "k", "x")
    await place.store.delete(place.bucket, "k")
    with pytest.raises(ObjectAlreadyExistsError):  # noqa: PT012
        async with open_file(place.store, place.bucket, "k", "xb") as late:
            await late.write(b"late")
            await place.store.put(place.bucket, "k", b"meanwhile")
    assert await place.store.read(place.bucket, "k") == b"meanwhile"


@pytest.mark.parametrize("delivery", Delivery)
@pytest.mark.parametrize("mode", ["wb", "x"])
async def test_cancelled_at_every_await_point(store: trove.Trove, delivery: Delivery, mode: str) -> None:
    async def write() -> None:
        async with open_file(store, "b", "k", mode) as f:
            for _ in range(4):
                await f.write(LARGE if "b" in mode else LARGE.decode())

    async def prepare() -> None:
        await store.delete("b", "k")

    async def check(outcome: Outcome[None]) -> None:
        assert outcome.left_running == frozenset()
        assert outcome.error is None
        stored = [info.size async for info in store.list("b")]
        assert stored in ([], [4 * len(LARGE)])
        assert outcome.cancelled or stored

    assert await cancel_everywhere(write, delivery, prepare=prepare, check=check) > 3


async def test_without_a_block_closing_stores_and_aborting_does_not(store: trove.Trove) -> None:
    f = await open_file(store, "b", "k", "wb")
    await f.write(b"stored")
    await f.aclose()
    await f.aclose()
    await f.abort()
    assert await store.read("b", "k") == b"stored"
    for use in (f.write(b""), f.tell()):
        with pytest.raises(ClosedError):
            await use
    other = await open_file(store, "b", "other", "w")
    await other.write("lost")
    await other.abort()
    await other.abort()
    await other.aclose()
    assert other.closed
    assert not await store.exists("b", "other")


async def test_a_file_that_is_lost_is_not_stored(store: trove.Trove) -> None:
    f = await open_file(store, "b", "k", "wb")
    await f.write(LARGE)
    with pytest.warns(ResourceWarning, match="unclosed"):  # noqa: PT031
        del f
        gc.collect()
    await asyncio.sleep(0)
    assert not await store.exists("b", "k")


async def test_an_error_of_the_store_is_raised_though_write_was_caught() -> None:
    async with trove.open("memory://", layers=[faults := Faults()]) as store:
        await store.create_bucket("b")
        faults.add(Fault("put", key="k", error=trove.AccessDeniedError()))
        with pytest.raises(PermissionError):
            async with open_file(store, "b", "k", "w") as f:
                await f.write("text")
    async with trove.open("memory://") as store:
        with pytest.raises(FileNotFoundError):
            async with open_file(store, "missing", "k", "w") as f:
                await f.write("text")


@pytest.mark.parametrize(
    ("mode", "advice"),
    [
        ("a", "read the object, and write it anew"), ("ab", "anew"), ("r+", "twice"), ("w+b", "twice"),
        ("", "give 'r', 'w' or 'x'"), ("rw", "give"), ("b", "give"), ("rbt", "give"), ("rr", "give"), ("U", "give"),
    ],
)  # fmt: skip
async def test_other_modes_are_refused_with_advice(store: trove.Trove, mode: str, advice: str) -> None:
    with pytest.raises(ValueError, match=advice):
        open_file(store, "b", "k", mode)


async def test_wrong_arguments_are_refused(store: trove.Trove) -> None:
    wrong: list[Callable[[], Awaitable[object]]] = [
        lambda: open_file(store, "b", "k", "rb", encoding="utf-8"),
        lambda: open_file(store, "b", "k", "r", content_type="text/plain"),
        lambda: open_file(store, "b", "k", "r", newline="x"),
        lambda: open_file(store, "b", "k", "x", if_match="e"),
        lambda: open_file(store, "b", "", "w"),
    ]
    for call in wrong:
        with pytest.raises(InvalidArgumentError):
            await call()
    for encoding, errors in (("no-such-encoding", None), ("hex", None), (None, "no-such-handler")):
        with pytest.raises(LookupError):
            open_file(store, "b", "k", encoding=encoding, errors=errors)
    async with open_file(store, "b", "k", "w") as f:
        with pytest.raises(io.UnsupportedOperation, match="mode 'w' has no read"):
            await f.read()
        with pytest.raises(io.UnsupportedOperation):
            await f.seek(0)
        with pytest.raises(BodyTypeError, match="'wb'"):
            await f.write(b"bytes")  # type: ignore[arg-type]
