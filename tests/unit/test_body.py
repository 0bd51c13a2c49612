from __future__ import annotations

import array
import asyncio
import hashlib
import io
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trove_async import checksums, readiness
from trove_async import sources as sources_module
from trove_async.body import Body, Chunk
from trove_async.checksums import Checksum
from trove_async.errors import BodySizeError, BodySourceError, BodyTypeError, ChecksumError

pytestmark = pytest.mark.asyncio

DATA = bytes(range(256)) * 8
SHA256 = hashlib.sha256(DATA).hexdigest()


async def chunks_of(body: Body) -> list[bytes]:
    return [bytes(chunk) async for chunk in body]


async def drain(body: Body, into: bytearray) -> None:
    async for chunk in body:
        into += chunk


async def read(data: object, **options: object) -> bytes:
    body = Body(data, **options)  # type: ignore[arg-type]
    try:
        await body.prepare()
        return await body.read_all()
    finally:
        await body.aclose()


def generate(*chunks: bytes) -> Iterator[bytes]:
    yield from chunks


async def generate_async(*chunks: object) -> AsyncIterator[object]:
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


class AsyncFile:
    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    async def read(self, size: int) -> bytes:
        return self._file.read(min(size, 100))


class Unseekable(io.RawIOBase):
    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        return self._file.readinto(memoryview(buffer)[:300])  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)
    return path


@pytest.mark.parametrize(
    "make",
    [
        lambda: DATA,
        lambda: bytearray(DATA),
        lambda: memoryview(DATA),
        lambda: memoryview(bytes(reversed(DATA)))[::-1],
        lambda: memoryview(DATA).cast("I"),
        lambda: array.array("I", DATA),
        lambda: io.BytesIO(DATA),
        lambda: Unseekable(DATA),
        lambda: io.BufferedReader(Unseekable(DATA)),
        lambda: [DATA[:100], b"", bytearray(DATA[100:200]), memoryview(DATA)[200:]],
        lambda: (DATA[:1], DATA[1:]),
        lambda: generate(DATA[:700], DATA[700:]),
        lambda: map(bytes, [DATA[:5], DATA[5:]]),
        lambda: generate_async(DATA[:10], b"", memoryview(DATA)[10:]),
        lambda: AsyncFile(DATA),
    ],
)
async def test_every_kind_of_body_gives_its_bytes(make: object) -> None:
    assert callable(make)
    assert await read(make()) == DATA
    assert await read(make(), size=len(DATA), checksum=Checksum("sha256", SHA256)) == DATA


async def test_a_path_and_its_files_are_read(path: Path) -> None:
    assert await read(path) == DATA
    with path.open("rb") as file:
        assert await read(file) == DATA
    with path.open("rb", buffering=0) as raw:
        assert await read(raw) == DATA


@pytest.mark.parametrize(
    ("make", "size", "replayable"),
    [
        (lambda: DATA, len(DATA), True),
        (lambda: memoryview(array.array("I", DATA)), len(DATA), True),
        (lambda: io.BytesIO(DATA), len(DATA), True),
        (lambda: Unseekable(DATA), None, False),
        (lambda: [DATA], None, True),
        (lambda: generate(DATA), None, False),
        (lambda: generate_async(DATA), None, False),
        (lambda: AsyncFile(DATA), None, False),
    ],
)
async def test_size_and_replayable_are_known_after_prepare(make: object, size: int | None, replayable: bool) -> None:
    assert callable(make)
    body = Body(make())
    await body.prepare()
    assert (body.size, body.replayable) == (size, replayable)
    await body.aclose()


async def test_a_replayable_body_can_be_read_again(path: Path) -> None:
    for data in (DATA, [DATA[:9], DATA[9:]], io.BytesIO(DATA), path):
        body = Body(data, checksum=Checksum("sha256"))
        await body.prepare()
        assert await body.read_all() == DATA
        await body.rewind()
        assert body.taken == 0
        assert await body.read_all() == DATA
        assert body.checksums == {"sha256": SHA256}
        await body.aclose()
    with pytest.raises(BodyTypeError, match="only once"):
        await Body(generate(DATA)).rewind()


@pytest.mark.parametrize("data", ["text", {"a": b"b"}, {b"set"}, 7, None, object(), io.StringIO("text"), True])
async def test_an_invalid_body_is_refused_immediately(data: object) -> None:
    with pytest.raises(TypeError) as caught:
        Body(data)
    assert isinstance(caught.value, BodyTypeError)


async def test_a_str_and_a_text_file_are_refused_with_advice(path: Path) -> None:
    with pytest.raises(BodyTypeError, match=r"\.encode\(\)"):
        Body("text")
    with path.open("r", encoding="latin-1") as file, pytest.raises(BodyTypeError, match="binary mode"):
        Body(file)
    with pytest.raises(BodyTypeError, match=r"\.encode\(\)"):
        await read(["text"])
    with pytest.raises(BodyTypeError, match="int"):
        await read(generate_async(b"a", 1))


async def test_a_buffer_is_not_copied() -> None:
    data = bytearray(DATA)
    body = Body(data)
    assert isinstance(body.buffer, memoryview)
    assert body.buffer.obj is data
    assert Body(DATA).buffer is DATA
    assert Body([DATA]).buffer is None


class Spy:
    """Sync sources that record the threads that use them."""

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def chunks(self) -> Iterator[bytes]:
        for _ in range(3):
            self.threads.add(threading.get_ident())
            yield DATA

    def file(self) -> BinaryIO:
        spy = self

        class File(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                spy.threads.add(threading.get_ident())
                return super().read(size)

            def seek(self, offset: int, whence: int = 0) -> int:
                spy.threads.add(threading.get_ident())
                return super().seek(offset, whence)

        return File(DATA)


@pytest.mark.parametrize("kind", ["chunks", "file"])
async def test_sync_sources_are_used_off_the_loop(kind: str) -> None:
    spy = Spy()
    assert await read(getattr(spy, kind)())
    assert spy.threads
    assert threading.get_ident() not in spy.threads


async def test_many_small_chunks_are_joined() -> None:
    data = bytes(300_000)
    body = Body(data[i : i + 1] for i in range(len(data)))
    chunks = await chunks_of(body)
    assert b"".join(chunks) == data
    # Bytes are joined for a bounded time; a slow machine makes more chunks than the two of a fast one.
    assert len(chunks) < len(data) / 100


@pytest.mark.parametrize("make", [lambda: DATA, lambda: [DATA], lambda: io.BytesIO(DATA), lambda: generate_async(DATA)])
@pytest.mark.parametrize("declared", [0, len(DATA) - 1, len(DATA) + 1])
async def test_a_length_other_than_the_declared_one_is_an_error(make: object, declared: int) -> None:
    assert callable(make)
    with pytest.raises(BodySizeError, match=str(declared)):
        await read(make(), size=declared)


async def test_a_body_that_is_too_long_never_yields_the_excess() -> None:
    taken = bytearray()
    with pytest.raises(BodySizeError):
        await drain(Body([DATA, b"x"], size=len(DATA)), taken)
    assert len(taken) <= len(DATA)


@pytest.mark.parametrize("make", [lambda: DATA, lambda: [DATA[:9], DATA[9:]], lambda: generate_async(DATA)])
async def test_a_checksum_other_than_the_declared_one_is_an_error(make: object) -> None:
    assert callable(make)
    with pytest.raises(ChecksumError, match="sha256 of the body"):
        await read(make(), checksum=Checksum("sha256", "00" * 32))


class GatedHasher:
    """A sha256 that adds no chunk before the gate is open."""

    gate = threading.Event()

    def __init__(self) -> None:
        self._inner = hashlib.sha256()

    def update(self, data: Chunk, /) -> None:
        assert self.gate.wait(30)
        self._inner.update(data)

    def hexdigest(self) -> str:
        return self._inner.hexdigest()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    event = threading.Event()
    monkeypatch.setattr(GatedHasher, "gate", event)
    monkeypatch.setitem(checksums._HASHERS, "sha256", GatedHasher)
    yield event
    event.set()


LARGE = os.urandom(300_000)


def counted(pulled: list[int], kind: Callable[[bytes], Chunk]) -> Iterator[Chunk]:
    for number in range(3):
        pulled.append(number)
        yield kind(LARGE)


async def test_a_chunk_is_sent_while_it_is_hashed_and_the_next_one_is_read(gate: threading.Event) -> None:
    pulled: list[int] = []
    body = Body(counted(pulled, bytes), checksum=Checksum("sha256"))
    assert await anext(body) == LARGE
    assert await anext(body) == LARGE  # neither is hashed yet
    third = asyncio.ensure_future(anext(body))
    await asyncio.sleep(0)
    assert not third.done()  # no more than two wait in memory
    gate.set()
    assert await third == LARGE
    assert await anext(body, None) is None
    assert body.digest == hashlib.sha256(LARGE * 3).hexdigest()


@pytest.mark.parametrize("kind", [bytearray, memoryview])
async def test_a_chunk_that_can_change_is_hashed_before_the_next_one_is_read(
    gate: threading.Event, kind: Callable[[bytes], Chunk]
) -> None:
    pulled: list[int] = []
    body = Body(counted(pulled, kind), checksum=Checksum("sha256"))
    assert await anext(body) == LARGE
    second = asyncio.ensure_future(anext(body))
    await asyncio.sleep(0)
    assert pulled == [0]
    gate.set()
    assert await second == LARGE
    assert [bytes(chunk) async for chunk in body] == [LARGE]
    assert body.digest == hashlib.sha256(LARGE * 3).hexdigest()


async def test_a_body_that_was_cancelled_while_it_was_hashed_starts_again(
    gate: threading.Event, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(LARGE * 10)
    body = Body(tmp_path / "file", checksum=Checksum("sha256"))
    await body.prepare()
    await anext(body)
    step = asyncio.ensure_future(anext(body, None))
    await asyncio.sleep(0)
    step.cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await step
    await body.rewind()
    assert b"".join(await chunks_of(body)) == LARGE * 10
    assert body.digest == hashlib.sha256(LARGE * 10).hexdigest()
    await body.aclose()


async def test_a_checksum_of_large_chunks_and_of_a_buffer_is_the_same() -> None:
    large = bytes(3 * 1024 * 1024)
    expected = hashlib.sha256(large).hexdigest()
    for data in (large, [large]):
        body = Body(data, checksum=Checksum("sha256"))
        await body.read_all()
        assert body.digest == expected
    body = Body(large, checksum=Checksum("sha256", expected))
    await body.finish_buffer()
    assert body.checksums == {"sha256": expected}


async def test_finish_buffer_checks_and_reports_like_an_iteration() -> None:
    seen: list[tuple[int, int | None]] = []
    body = Body(DATA, checksum=Checksum("md5"), on_progress=lambda taken, size: seen.append((taken, size)))
    await body.finish_buffer()
    assert seen == [(len(DATA), len(DATA))]
    assert body.taken == len(DATA)
    with pytest.raises(ChecksumError):
        await Body(DATA, checksum=Checksum("md5", "00" * 16)).finish_buffer()


async def test_progress_grows_to_the_size() -> None:
    seen: list[tuple[int, int | None]] = []
    await read([bytes(300_000), bytes(300_000)], on_progress=lambda taken, size: seen.append((taken, size)))
    assert seen == sorted(seen)
    assert seen[-1] == (600_000, None)
    seen.clear()
    await read([DATA], size=len(DATA), on_progress=lambda taken, size: seen.append((taken, size)))
    assert seen == [(len(DATA), len(DATA))]


class SourceError(Exception):
    pass


async def test_an_exception_of_the_source_is_raised_unchanged_after_the_bytes_before_it() -> None:
    error = SourceError("broken")

    def broken() -> Iterator[bytes]:
        yield b"one"
        yield b"two"
        raise error

    async def broken_async() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"
        raise error

    for source in (broken(), broken_async()):
        taken = bytearray()
        with pytest.raises(SourceError) as caught:
            await drain(Body(source), taken)
        assert taken == b"onetwo"
        assert caught.value is error


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
@pytest.mark.parametrize("kind", ["async read", "file", "iterator"])
async def test_an_exception_that_looks_like_the_end_is_an_error_with_it_as_cause(
    kind: str, error: type[Exception]
) -> None:
    class Source:
        def __init__(self) -> None:
            self.left = [DATA]

        def take(self) -> bytes:
            if not self.left:
                raise error
            return self.left.pop()

    class AsyncRead(Source):
        async def read(self, size: int) -> bytes:
            return self.take()

    class File(Source):
        def read(self, size: int) -> bytes:
            return self.take()

    class Chunks(Source):
        def __iter__(self) -> Chunks:
            return self

        def __next__(self) -> bytes:
            return self.take()

    sources: dict[str, type[Source]] = {"async read": AsyncRead, "file": File, "iterator": Chunks}
    if (kind, error) == ("iterator", StopIteration):
        assert await read(Chunks()) == DATA  # it is the end of an iterator
        return
    taken = bytearray()
    with pytest.raises(RuntimeError) as caught:
        await drain(Body(sources[kind]()), taken)
    assert taken == DATA
    assert type(caught.value.__cause__) is error
    # Python itself replaces a StopIteration that leaves a coroutine.
    assert isinstance(caught.value, BodySourceError) or (kind, error) == ("async read", StopIteration)


async def test_an_iterable_that_raises_before_its_first_chunk_does_not_end_what_puts_it() -> None:
    class Iterable:
        def __iter__(self) -> Iterator[bytes]:
            raise StopIteration

    class AsyncIterable:
        def __aiter__(self) -> AsyncIterator[bytes]:
            raise StopAsyncIteration

    for source in (Iterable(), AsyncIterable()):
        with pytest.raises(BodySourceError):
            Body(source)


async def test_a_class_is_no_body_though_its_instances_are() -> None:
    with pytest.raises(BodyTypeError, match="call it"):
        Body(io.BytesIO)


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
async def test_a_progress_callback_does_not_end_the_body(error: type[Exception]) -> None:
    def progress(taken: int, size: int | None) -> None:
        raise error

    with pytest.raises(BodySourceError, match="on_progress"):
        await read([DATA, DATA], on_progress=progress)


@pytest.mark.parametrize("end", [None, ""])
async def test_a_file_without_data_yet_or_with_text_has_not_ended(end: object) -> None:
    class File:
        def __init__(self) -> None:
            self.left = [DATA]

        def read(self, size: int) -> object:
            return self.left.pop() if self.left else end

    with pytest.raises(BodySourceError if end is None else BodyTypeError):
        await read(File())


async def test_a_pipe_in_non_blocking_mode_has_not_ended_while_it_is_empty() -> None:
    inlet, outlet = os.pipe()
    os.set_blocking(inlet, False)
    with open(inlet, "rb", buffering=0) as file, open(outlet, "wb", buffering=0) as writer:
        writer.write(DATA)
        taken = bytearray()
        with pytest.raises(BodySourceError, match="non-blocking"):
            await drain(Body(file), taken)
        assert taken == DATA


async def test_a_rewound_body_has_no_error_from_the_first_time() -> None:
    class FailsOnce:
        def __init__(self) -> None:
            self.failed = False

        def __iter__(self) -> Iterator[bytes]:
            yield b"one"
            if not self.failed:
                self.failed = True
                raise SourceError
            yield b"two"

    body = Body(FailsOnce())
    assert await anext(body) == b"one"
    await body.rewind()
    assert await body.read_all() == b"onetwo"


async def test_a_users_file_is_read_from_its_position_and_stays_open(path: Path) -> None:
    with path.open("rb") as file:
        file.seek(100)
        body = Body(file)
        await body.prepare()
        assert body.size == len(DATA) - 100
        assert await body.read_all() == DATA[100:]
        await body.rewind()
        assert await body.read_all() == DATA[100:]
        await body.aclose()
        assert not file.closed


async def test_a_missing_path_or_a_folder_raises_the_error_of_the_system(tmp_path: Path) -> None:
    for path, error in ((tmp_path / "missing", FileNotFoundError), (tmp_path, IsADirectoryError)):
        body = Body(path)
        with pytest.raises(error):
            await body.prepare()
        await body.aclose()


async def test_a_path_knows_its_size(path: Path) -> None:
    body = Body(path)
    await body.prepare()
    assert body.size == len(DATA)
    await body.aclose()
    await body.aclose()
    with pytest.raises(BodySizeError):
        await read(path, size=1)


async def test_no_file_stays_open_when_the_opening_of_a_path_is_cancelled(path: Path) -> None:
    # An unclosed file would be a ResourceWarning, which is an error in this suite.
    for turns in range(6):
        body = Body(path)
        task = asyncio.create_task(body.prepare())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        await body.aclose()
    await asyncio.get_running_loop().run_in_executor(None, int)  # the executor has finished its earlier work


async def test_an_async_generator_is_closed_when_the_body_is_abandoned() -> None:
    closed = []

    async def source() -> AsyncIterator[bytes]:
        try:
            yield b"one"
            yield b"two"
        finally:
            closed.append(True)

    body = Body(source())
    await anext(body)
    assert not closed
    await body.aclose()
    assert closed == [True]


async def test_a_users_async_iterator_that_is_no_generator_is_not_closed() -> None:
    class Chunks:
        def __init__(self) -> None:
            self.left = [b"one", b"two"]

        def __aiter__(self) -> Chunks:
            return self

        async def __anext__(self) -> Chunk:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop(0)

    chunks = Chunks()
    body = Body(chunks)
    await anext(body)
    await body.aclose()
    assert chunks.left == [b"two"]


@given(st.lists(st.binary(max_size=20), max_size=20))
async def test_no_chunk_is_empty_and_joined_they_are_the_body(chunks: list[bytes]) -> None:
    for source in (chunks, generate(*chunks), generate_async(*chunks)):
        taken = await chunks_of(Body(source))
        assert all(taken)
        assert b"".join(taken) == b"".join(chunks)


def lie(monkeypatch: pytest.MonkeyPatch, path: Path, size: int) -> None:
    """Let the system give a file another size, as it does for those of ``/proc`` and ``/sys``."""
    inode = path.stat().st_ino

    def lying(ask: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def answer(*arguments: Any, **options: Any) -> os.stat_result:
            status = ask(*arguments, **options)
            return os.stat_result((*status[:6], size, *status[7:])) if status.st_ino == inode else status

        return answer

    monkeypatch.setattr(os, "stat", lying(os.stat))
    monkeypatch.setattr(os, "fstat", lying(os.fstat))


class LyingFile(io.BytesIO):
    claimed = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.claimed if whence == io.SEEK_END else super().seek(offset, whence)


@pytest.mark.parametrize("size", [0, 10, 300_000])
@pytest.mark.parametrize("claimed", [0, 4096])
async def test_a_size_that_is_wrong_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, claimed: int
) -> None:
    data = bytes(range(250)) * (size // 250) + bytes(size % 250)
    path = tmp_path / "data"
    path.write_bytes(data)
    lie(monkeypatch, path, claimed)
    file = LyingFile(data)
    file.claimed = claimed
    with path.open("rb") as opened, path.open("rb", buffering=0) as raw:
        for source in (path, file, opened, raw):
            body = Body(source)
            await body.prepare()
            assert body.size in (None, size)
            assert await body.read_all() == data
            await body.rewind()
            assert await body.read_all() == data
            await body.aclose()
    assert await read(path, size=size) == data
    with pytest.raises(BodySizeError):
        await read(path, size=size + 1)


@pytest.mark.parametrize("name", ["/proc/version", "/proc/self/environ"])
async def test_a_file_of_the_kernel_is_read(name: str) -> None:
    data = Path(name).read_bytes()
    assert data
    assert await read(Path(name)) == data
    with open(name, "rb") as file, open(name, "rb", buffering=0) as raw:
        assert await read(file) == data
        assert await read(raw) == data


@pytest.mark.parametrize(
    ("size", "expected_message"), [(5_000_000, "the file grew"), (1_500_000, "ended after 1500000 bytes")]
)
async def test_a_file_that_changes_its_size_while_it_is_read_is_an_error(
    tmp_path: Path, size: int, expected_message: str
) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(3_000_000))
    with pytest.raises(BodySizeError, match=expected_message):
        await read(path, on_progress=lambda *_: os.truncate(path, size))


async def test_a_file_may_change_its_size_before_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(3_000_000))
    body = Body(path)
    os.truncate(path, 10)
    await body.prepare()
    assert await body.read_all() == bytes(10)
    await body.aclose()


class Waiting:
    """Notes that a body waits for a pipe."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = asyncio.Event()
        monkeypatch.setattr(sources_module, "readable", self._readable)

    async def _readable(self, descriptor: int) -> None:
        self.begun.set()
        await readiness.readable(descriptor)


async def test_a_fifo_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(DATA * 100))
    writer.start()
    body = Body(path)
    await body.prepare()
    assert (body.size, body.replayable) == (None, False)
    assert await body.read_all() == DATA * 100
    await body.aclose()
    await asyncio.to_thread(writer.join)


@pytest.mark.parametrize("written", [b"", DATA], ids=["no writer", "a silent writer"])
async def test_a_cancellation_does_not_wait_for_the_writer_of_a_fifo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bytes
) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    waiting = Waiting(monkeypatch)
    body = Body(path)
    await body.prepare()
    with ExitStack() as stack:
        writer = stack.enter_context(path.open("wb", buffering=0)) if written else None
        if writer is not None:
            writer.write(written)
            assert await anext(body) == written
            waiting.begun.clear()
        task = asyncio.ensure_future(anext(body))
        await waiting.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await body.aclose()
        if writer is not None:
            with pytest.raises(BrokenPipeError):
                writer.write(written)


async def test_a_device_is_read() -> None:
    body = Body(Path("/dev/null"))
    await body.prepare()
    assert await body.read_all() == b""
    await body.aclose()
    body = Body(Path("/dev/zero"))
    await body.prepare()
    assert set(await anext(body)) == {0}
    await body.aclose()


def response(head: bytes, body: bytes) -> HTTPResponse:
    """Return a response whose connection is closed after the body."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + body)
        theirs.close()
        found = HTTPResponse(ours)
        found.begin()
        return found


@pytest.mark.parametrize("size", [0, 5, 60_000])
async def test_an_http_response_has_its_size(size: int) -> None:
    data = bytes(size)
    with response(b"Content-Length: %d" % size, data) as found:
        body = Body(found)
        await body.prepare()
        assert body.size == size
        assert await body.read_all() == data
    with response(b"Connection: close", data) as found:
        assert await Body(found).read_all() == data


@pytest.mark.parametrize(("size", "sent"), [(1, 0), (10, 9), (120_000, 60_000)])
async def test_an_http_response_whose_connection_breaks_is_no_body(size: int, sent: int) -> None:
    missing = pytest.raises(BodySourceError, match=f"{size - sent} bytes are missing")
    with response(b"Content-Length: %d" % size, bytes(sent)) as found, missing:
        await Body(found).read_all()
