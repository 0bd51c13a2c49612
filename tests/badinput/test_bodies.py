"""Invalid bodies, bodies that end too early or too late, and failing sources; ranges and times outside the limits."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

import trove_async as trove
from trove_async import readiness
from trove_async.errors import (
    BodySizeError,
    BodyTypeError,
    ChecksumError,
    InvalidArgumentError,
    InvalidPartError,
    InvalidRangeError,
    ObjectNotFoundError,
    RangeNotSatisfiableError,
    TroveError,
    UploadNotFoundError,
    VersionNotFoundError,
)

pytestmark = pytest.mark.asyncio

LARGE = 400_000


@pytest.mark.parametrize(
    ("body", "expected_message"),
    [
        ("text", r"\.encode\(\)"),
        (None, "NoneType"),
        (7, "int"),
        ({"a": "b"}, "dict"),
        ({b"a"}, "set"),
        (io.StringIO("text"), "binary mode"),
        ([b"fine", "text"], r"str, not bytes-like; call \.encode\(\)"),
        ([7], "int, not bytes-like"),
    ],
    ids=lambda value: ascii(value)[:20],
)
async def test_invalid_bodies(store: trove.Trove, body: Any, expected_message: str) -> None:
    with pytest.raises(BodyTypeError, match=expected_message) as raised:
        await store.put("b", "kept", body)
    assert isinstance(raised.value, TypeError)


class Request(dict[str, str]):
    """A mapping with a stream, as a request of Starlette is one."""

    async def stream(self) -> AsyncIterator[bytes]:
        yield b""


class Response:
    """Read all at once, as requests and responses of aiohttp and httpx are."""

    async def read(self) -> bytes:
        return b""


class Field:
    """A field of a form, as aiohttp's `FileField`."""

    file = io.BytesIO()


async def _stream() -> AsyncIterator[bytes]:
    yield b""


@pytest.mark.parametrize(
    ("body", "expected_message"),
    [
        (Request(a="b"), r"type Request; put what its stream\(\) returns"),
        (Response(), r"type Response, whose read\(\) takes no size; put what streams it"),
        (Field(), r"type Field; put its \.file"),
        (_stream, r"type function; call it"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_leads_to_a_body_says_how(store: trove.Trove, body: Any, expected_message: str) -> None:
    with pytest.raises(BodyTypeError, match=expected_message):
        await store.put("b", "kept", body)


async def test_a_coroutine_is_to_be_awaited(store: trove.Trove) -> None:
    body: Any = Response().read()
    with pytest.raises(BodyTypeError, match="type coroutine; await it"):
        await store.put("b", "kept", body)
    await body


async def test_chunks_that_are_not_bytes(store: trove.Trove) -> None:
    async def chunks() -> AsyncIterator[Any]:
        yield b"x" * LARGE
        yield "text"

    class Reader:
        async def read(self, size: int) -> Any:
            return "text"

    for body in (chunks(), Reader()):
        with pytest.raises(BodyTypeError, match="str, not bytes-like"):
            await store.put("b", "kept", body)


def _iterable(size: int) -> Iterator[bytes]:
    while size:
        yield b"x" * min(size, 100_000)
        size -= min(size, 100_000)


async def _async_iterable(size: int) -> AsyncIterator[bytes]:
    for chunk in _iterable(size):
        yield chunk


BODIES: dict[str, Callable[[int], Any]] = {
    "bytes": lambda size: b"x" * size,
    "file": lambda size: io.BytesIO(b"x" * size),
    "iterable": _iterable,
    "async iterable": _async_iterable,
}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("size", [10, LARGE])
async def test_a_length_other_than_the_declared_one(store: trove.Trove, kind: str, size: int) -> None:
    for declared in (size - 1, size + 1, 0):
        with pytest.raises(BodySizeError, match=str(declared)):
            await store.put("b", "kept", BODIES[kind](size), size=declared)
        with pytest.raises(BodySizeError):
            await store.put("b", "new", BODIES[kind](size), size=declared)


async def test_progress_that_nobody_would_await(store: trove.Trove, tmp_path: Path) -> None:
    async def on_progress(_done: int, _size: int | None) -> None: ...

    expected_message = "on_progress is called and not awaited: write a plain function"
    with pytest.raises(InvalidArgumentError, match=expected_message):
        await store.put("b", "new", b"data", on_progress=on_progress)
    with pytest.raises(InvalidArgumentError, match=expected_message):
        await store.download("b", "kept", tmp_path / "new", on_progress=on_progress)
    assert not await store.exists("b", "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(InvalidArgumentError, match="on_progress is a function of the bytes so far and the size, not 3"):
        await store.put("b", "new", b"data", on_progress=cast(Any, 3))


@pytest.mark.parametrize("size", [-1, 1.5, "10"])
async def test_invalid_lengths(store: trove.Trove, size: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="size must be a whole number of 0 or more"):
        await store.put("b", "kept", b"data", size=size)


async def test_a_path_with_another_length_or_without_a_regular_file(store: trove.Trove, tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"data")
    with pytest.raises(BodySizeError):
        await store.put("b", "kept", path, size=5)
    with pytest.raises(FileNotFoundError) as raised:
        await store.put("b", "kept", tmp_path / "missing")
    # The source is missing, and not an object: the error of the system says which file.
    assert not isinstance(raised.value, TroveError)
    assert raised.value.filename == str(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        await store.put("b", "kept", tmp_path)


@pytest.mark.parametrize("size", [1_500_000, 5_000_000])
async def test_a_file_that_changes_its_size_while_it_is_read(store: trove.Trove, tmp_path: Path, size: int) -> None:
    path = tmp_path / "body"
    for key in ("kept", "new"):
        path.write_bytes(bytes(3_000_000))
        with pytest.raises(BodySizeError, match="when it was opened"):
            await store.put("b", key, path, on_progress=lambda *_: os.truncate(path, size))


async def test_a_put_of_a_fifo_that_is_cancelled(
    store: trove.Trove, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    waits = asyncio.Event()

    async def readable(descriptor: int) -> None:
        waits.set()
        await readiness.readable(descriptor)

    monkeypatch.setattr("trove_async.sources.readable", readable)
    for key in ("kept", "new"):
        waits.clear()
        task = asyncio.create_task(store.put("b", key, path))
        await waits.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


class MineError(Exception):
    pass


@pytest.mark.parametrize("before", [0, 10, LARGE])
async def test_an_exception_of_the_source_is_raised_unchanged(store: trove.Trove, before: int) -> None:
    error = MineError("mine")

    def iterable() -> Iterator[bytes]:
        yield from _iterable(before)
        raise error

    async def async_iterable() -> AsyncIterator[bytes]:
        yield b"x" * before
        raise error

    class File(io.RawIOBase):
        left = before

        def read(self, size: int = -1, /) -> bytes:
            if not self.left:
                raise error
            self.left, data = 0, b"x" * self.left
            return data

    for body in (iterable(), async_iterable(), File()):
        with pytest.raises(MineError) as raised:
            await store.put("b", "kept", body)
        assert raised.value is error
        upload = await store.initiate_multipart("b", "kept")
    for open_upload in await store.list_multipart_uploads("b"):
        upload = open_upload.upload_id
        with pytest.raises(MineError):
            await store.upload_part("b", "kept", upload, 1, iterable())
        assert await store.list_parts("b", "kept", upload) == []
        await store.abort_multipart("b", "kept", upload)


async def test_a_source_that_cancels_itself(store: trove.Trove) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"x" * LARGE
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await store.put("b", "kept", chunks())


async def test_a_checksum_other_than_the_declared_one(store: trove.Trove) -> None:
    for body in (b"data", [b"x" * LARGE], b"x" * LARGE):
        with pytest.raises(ChecksumError, match="sha256"):
            await store.put("b", "kept", body, checksum="sha256:" + "0" * 64)
    for checksum in ("sha257", "sha256:", "sha256:xyz", "", 7):
        with pytest.raises(InvalidArgumentError):
            await store.put("b", "kept", b"data", checksum=checksum)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ((4, None), RangeNotSatisfiableError),
        ((100, 1), RangeNotSatisfiableError),
        ((0, -1), InvalidRangeError),
        ((-1, 1), InvalidRangeError),
        (("0", "1"), InvalidRangeError),
        ((0, 1.5), InvalidRangeError),
        ((1,), InvalidRangeError),
        ("bytes=0-1", InvalidRangeError),
        (5, InvalidRangeError),
    ],
    ids=str,
)
async def test_ranges_outside_the_object(store: trove.Trove, wanted: Any, error: type[TroveError]) -> None:
    with pytest.raises(error):
        await store.read("b", "kept", wanted)
    with pytest.raises(error):
        await store.get("b", "kept", range=wanted)


async def test_ranges_at_the_ends_of_the_object(store: trove.Trove) -> None:
    assert await store.read("b", "kept", (3, None)) == b"t"
    assert await store.read("b", "kept", (1, 100)) == b"ept"
    assert await store.read("b", "kept", (-100, None)) == b"kept"
    assert await store.read("b", "kept", (100, 0)) == b""


@pytest.mark.parametrize("expires", [0, -1, 0.5, 7 * 24 * 3600 + 1, "60", None, timedelta(days=8)], ids=str)
async def test_expiries_outside_the_limits(store: trove.Trove, expires: Any) -> None:
    for sign in (store.presign_get, store.presign_put):
        with pytest.raises(InvalidArgumentError, match="expires must be 1 to 604800"):
            await sign("b", "kept", expires=expires)


async def test_invalid_conditions(store: trove.Trove) -> None:
    etag = (await store.head("b", "kept")).etag
    with pytest.raises(InvalidArgumentError, match="not both"):
        await store.put("b", "kept", b"new", if_match=etag, if_none_match="*")
    for value in ("", '""', '"a", "b"', 7):
        with pytest.raises(InvalidArgumentError, match="ETag"):
            await store.put("b", "kept", b"new", if_match=value)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="time zone"):
        await store.get("b", "kept", if_modified_since=datetime(2024, 1, 1))  # noqa: DTZ001 - naive on purpose
    with pytest.raises(InvalidArgumentError, match="if_unmodified_since is a datetime, not str"):
        await store.head("b", "kept", if_unmodified_since="2024-01-01")  # type: ignore[arg-type]


async def test_an_unknown_condition_is_not_reported_as_unsupported(store: trove.Trove) -> None:
    assert store.supports("put_if_match")
    with pytest.raises(InvalidArgumentError, match=r"'if_match' is neither .*bulk_delete.* a condition \(put_if_none_"):
        store.supports("if_match")


async def test_invalid_listings(store: trove.Trove) -> None:
    with pytest.raises(InvalidArgumentError, match="max_keys"):
        await store.list("b", max_keys=-1).all()
    with pytest.raises(InvalidArgumentError, match="page_size"):
        await store.list("b", page_size=0).all()
    with pytest.raises(InvalidArgumentError):
        await store.list("b", cursor="no cursor").all()
    with pytest.raises(InvalidArgumentError):
        await store.list("b", delimiter="").all()


async def test_invalid_parts(store: trove.Trove) -> None:
    upload = await store.initiate_multipart("b", "kept")
    for number in (0, -1, 10_001, "1"):
        with pytest.raises(InvalidPartError, match="a part's number is 1 to 10000"):
            await store.upload_part("b", "kept", upload, number, b"part")  # type: ignore[arg-type]
    one = await store.upload_part("b", "kept", upload, 1, b"part")
    two = await store.upload_part("b", "kept", upload, 2, b"part")
    other = trove.PartInfo(3, one.etag, 4)
    for parts, expected_message in (
        ([], "no parts"),
        ([two, one], "ascend"),
        ([one, one], "ascend"),
        ([one, other], "part 3 was not uploaded"),
        ([trove.PartInfo(1, two.etag, 4)], "part 1 .*uploaded again"),
    ):
        with pytest.raises(InvalidPartError, match=expected_message):
            await store.complete_multipart("b", "kept", upload, parts)
    assert [part.number for part in await store.list_parts("b", "kept", upload)] == [1, 2]
    with pytest.raises(UploadNotFoundError):
        await store.complete_multipart("b", "other", upload, [one])
    await store.abort_multipart("b", "kept", upload)


async def test_missing_objects_and_buckets(store: trove.Trove) -> None:
    with pytest.raises(ObjectNotFoundError, match="missing"):
        await store.read("b", "missing")
    with pytest.raises(ObjectNotFoundError, match="missing"):
        await store.copy("b", "missing", "b", "kept")
    with pytest.raises(VersionNotFoundError, match="no-such"):
        await store.read("b", "kept", version_id="no-such")
    with pytest.raises(UploadNotFoundError, match="no-such"):
        await store.upload_part("b", "kept", "no-such", 1, b"part")
