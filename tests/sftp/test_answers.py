"""Servers whose answers do not match their requests: no wrong byte, no hang, and an error that names the fault."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from tests.payload import pattern
from tests.sftp.odd_server import Fields, Odd, attributes, opened_odd, status
from tests.sftp.stores import remote
from trove_async.drivers.sftp.protocol import Kind, pack_string, pack_u32, pack_u64

pytestmark = pytest.mark.asyncio

SMALL = pattern(5_000)
LARGE = pattern(900_000)
WANTED = {"small": SMALL, "large": LARGE, "described": b"text"}


async def fill(store: trove.Trove) -> None:
    await store.create_bucket("bucket")
    await store.put("bucket", "small", SMALL)
    await store.put("bucket", "large", LARGE)
    await store.put("bucket", "described", b"text", metadata={"a": "b"})


async def read_all(store: trove.Trove) -> None:
    """Check every way of reading."""
    for key, data in WANTED.items():
        assert await store.read("bucket", key) == data
    assert (await store.head("bucket", "described")).metadata == {"a": "b"}
    assert await store.read("bucket", "large", range=(10, 300_000)) == LARGE[10:300_010]
    assert await store.read("bucket", "large", range=(10, 100)) == LARGE[10:110]
    await store.copy("bucket", "large", "bucket", "copy")
    assert await store.read("bucket", "copy") == LARGE


# Lengths


class Short(Odd):
    """Returns at most a number of bytes for a READ."""

    extensions = (b"posix-rename@openssh.com",)

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def read(self, file: int, offset: int, size: int) -> bytes:
        return os.pread(file, min(size, self._most), offset)


@pytest.mark.parametrize("most", [3_000, 16_384, 20_000])
async def test_short_reads_are_continued(tmp_path: Path, most: int) -> None:
    odd = Short(most)
    async with opened_odd(odd, tmp_path) as store:
        await fill(store)
        await read_all(store)
        reads = odd.counts[Kind.READ]
        assert await store.read("bucket", "large") == LARGE
        # From then on a request asks for as much as the server returns at a time.
        assert odd.counts[Kind.READ] - reads <= 2 * (len(LARGE) // most + 1)


async def test_reads_with_hardly_any_progress_end(tmp_path: Path) -> None:
    odd = Short(1 << 20)
    async with opened_odd(odd, tmp_path) as store:
        await fill(store)
        odd._most = 1
        with pytest.raises(trove.BackendError, match="fewer than 256 bytes"):
            await store.read("bucket", "small")
        assert odd.counts[Kind.READ] < 2_000


class Lengthened(Odd):
    """Returns more bytes for a READ than were requested."""

    extra = 0

    def read(self, file: int, offset: int, size: int) -> bytes:
        return os.pread(file, size + self.extra, offset)


READS: dict[str, Callable[[trove.Trove], Awaitable[Any]]] = {
    "read": lambda store: store.read("bucket", "large"),
    "range": lambda store: store.read("bucket", "small", range=(10, 100)),
    "large range": lambda store: store.read("bucket", "large", range=(10, 300_000)),
}


@pytest.mark.parametrize("name", ["read", "range", "large range"])
async def test_more_bytes_than_requested_are_refused(tmp_path: Path, name: str) -> None:
    odd = Lengthened()
    async with opened_odd(odd, tmp_path) as store:
        await fill(store)
        odd.extra = 10
        with pytest.raises(trove.BackendError, match="were requested"):
            await READS[name](store)
        odd.extra = 0
        await read_all(store)  # over a new connection


async def test_more_bytes_than_requested_are_not_copied(tmp_path: Path) -> None:
    odd = Lengthened()
    odd.extensions = (b"posix-rename@openssh.com",)
    async with opened_odd(odd, tmp_path) as store:
        await fill(store)
        odd.extra = 10
        with pytest.raises(trove.CopyError, match=r"^read: .*were requested"):
            await store.copy("bucket", "large", "bucket", "copy")
        assert not await store.exists("bucket", "copy")


class Truncated(Odd):
    """Ends files before their reported size."""

    lies = False

    def lstat(self, path: str) -> bytes:
        return self._longer(os.lstat(path))

    def fstat(self, file: int) -> bytes:
        return self._longer(os.fstat(file))

    def _longer(self, found: os.stat_result) -> bytes:
        packed = attributes(found)
        return packed[:4] + pack_u64(found.st_size + 10) + packed[12:] if self.lies else packed


async def test_a_file_that_ends_before_its_reported_size(tmp_path: Path) -> None:
    odd = Truncated()
    async with opened_odd(odd, tmp_path) as store:
        await fill(store)
        odd.lies = True
        with pytest.raises(trove.BackendError, match="ended after 5000 bytes"):
            await store.read("bucket", "small")
        with pytest.raises(trove.TroveError, match="ended after"):
            await store.read("bucket", "large")
        odd.lies = False


# Kinds

Packets = Callable[[bytes], list[bytes]]


class Replaced(Odd):
    """Answers requests of one kind with other packets."""

    def __init__(self) -> None:
        super().__init__()
        self.replaced: Kind | None = None
        self.packets: Packets

    def answer(self, kind: Kind, number: bytes, fields: Fields) -> list[bytes]:
        if kind == self.replaced:
            return self.packets(number)
        return super().answer(kind, number, fields)


def packet(kind: int, content: bytes) -> Packets:
    return lambda number: [bytes((kind,)) + number + content]


BAD: dict[str, Packets] = {
    "a handle without a length": packet(Kind.HANDLE, b""),
    "a handle that is longer than the packet": packet(Kind.HANDLE, pack_u32(1000) + b"h"),
    "an empty handle": packet(Kind.HANDLE, pack_string(b"")),
    "a status without a code": packet(Kind.STATUS, b""),
    "data that are longer than the packet": packet(Kind.DATA, pack_u32(1000) + b"data"),
    "data": packet(Kind.DATA, pack_string(b"data" * 500_000)),
    "names without end": packet(Kind.NAME, pack_u32(2**32 - 1)),
    "a name with a slash": packet(Kind.NAME, pack_u32(1) + pack_string(b"../x") + pack_string(b"") + pack_u32(0)),
    "unknown attributes": packet(Kind.ATTRS, pack_u32(0x40) + bytes(20)),
    "attributes without end": packet(Kind.ATTRS, pack_u32(0x8000_0000) + pack_u32(2**31)),
    "a size that no file has": packet(Kind.ATTRS, pack_u32(0x01) + pack_u64(2**64 - 1)),
    "an unknown kind": packet(77, b"abc"),
    "an empty packet": lambda number: [b""],
    "a second greeting": lambda number: [bytes((Kind.VERSION,)) + pack_u32(3)],
    "the answer to another request": lambda number: [status(pack_u32(2**31), 0)],
}


async def names(store: trove.Trove) -> list[str]:
    return [info.key for info in await store.list("bucket").all()]


OPERATIONS: dict[str, Callable[[trove.Trove], Awaitable[Any]]] = {
    "read": lambda store: store.read("bucket", "small"),
    "read large": lambda store: store.read("bucket", "large"),
    "list": names,
    "put": lambda store: store.put("bucket", "new", SMALL),
    "put with metadata": lambda store: store.put("bucket", "new", SMALL, metadata={"a": "b"}),
    "delete": lambda store: store.delete("bucket", "copy"),
}
REQUESTS: dict[str, list[Kind]] = {
    "read": [Kind.OPEN, Kind.LSTAT, Kind.READ, Kind.FSTAT],
    "read large": [Kind.OPEN, Kind.READ, Kind.FSTAT],
    "list": [Kind.OPENDIR, Kind.READDIR, Kind.LSTAT],
    "put": [Kind.OPEN, Kind.WRITE, Kind.FSETSTAT, Kind.CLOSE, Kind.EXTENDED, Kind.LSTAT],
    "put with metadata": [Kind.OPEN, Kind.WRITE],
    "delete": [Kind.REMOVE],
}


@pytest.mark.parametrize("name", OPERATIONS)
async def test_an_answer_that_does_not_match_is_an_error(tmp_path: Path, name: str) -> None:
    """Each request of an operation gets a wrong answer: never a value, never a success, and the next call works."""
    odd = Replaced()
    async with opened_odd(odd, tmp_path) as store:
        await fill(store)
        await store.copy("bucket", "small", "bucket", "copy")
        for bad, kind in product(BAD, REQUESTS[name]):
            odd.packets, odd.replaced = BAD[bad], kind
            with pytest.raises(trove.BackendError) as caught:
                await OPERATIONS[name](store)
            assert not caught.value.retryable, bad
            odd.replaced = None
            # After a commit with a wrong answer the object is old or new; here nothing was committed.
            assert await names(store) == ["copy", "described", "large", "small"], bad
            assert await store.read("bucket", "small") == SMALL
        assert remote(store).held_handles == 0


async def test_a_success_status_is_not_a_handle(tmp_path: Path) -> None:
    odd = Replaced()
    async with opened_odd(odd, tmp_path) as store:
        await fill(store)
        for kind in (Kind.OPEN, Kind.READ, Kind.FSTAT, Kind.LSTAT):
            odd.packets, odd.replaced = (lambda number: [status(number, 0)]), kind
            with pytest.raises(trove.BackendError, match="reported success"):
                await store.read("bucket", "small")
            odd.replaced = None


async def test_a_commit_with_a_wrong_answer_is_settled(tmp_path: Path) -> None:
    """The server renamed and sent an invalid answer: over a new connection the object is found."""

    class Renames(Odd):
        bad = False

        def answer(self, kind: Kind, number: bytes, fields: Fields) -> list[bytes]:
            answers = super().answer(kind, number, fields)
            return [bytes((Kind.DATA,)) + number + pack_u32(0)] if self.bad and kind == Kind.EXTENDED else answers

    odd = Renames()
    async with opened_odd(odd, tmp_path) as store:
        await fill(store)
        odd.bad = True
        info = await store.put("bucket", "small", b"new")
        odd.bad = False
        assert await store.read("bucket", "small") == b"new"
        assert (await store.head("bucket", "small")).etag == info.etag


async def test_answers_may_come_in_any_order(tmp_path: Path) -> None:
    class Reversed(Odd):
        held: list[bytes] | None = None

        def answer(self, kind: Kind, number: bytes, fields: Fields) -> list[bytes]:
            answers = super().answer(kind, number, fields)
            if self.held is None:
                return answers
            self.held += answers
            if kind != Kind.CLOSE:
                return []
            held, self.held = self.held, []
            return held[::-1]

    odd = Reversed()
    async with opened_odd(odd, tmp_path) as store:
        await fill(store)
        reading = asyncio.gather(*(store.read("bucket", "large", range=(at, 100_000)) for at in (0, 100_000, 200_000)))
        assert b"".join(await reading) == LARGE[:300_000]


async def test_a_handle_that_is_returned_twice_mixes_no_files(tmp_path: Path) -> None:
    class Same(Odd):
        same = False

        def handle(self, opened: int | list[list[bytes]]) -> bytes:
            handle = super().handle(opened)
            if self.same:
                self._handles[b"same"] = self._handles.pop(handle)
                return b"same"
            return handle

    odd = Same()
    async with opened_odd(odd, tmp_path) as store:
        await fill(store)
        odd.same = True
        one, two = (store.put("bucket", key, key.encode() * 50_000) for key in ("1", "2"))
        results = await asyncio.gather(one, two, return_exceptions=True)
        odd.same = False
        for key, result in zip(("1", "2"), results, strict=True):
            if isinstance(result, BaseException):
                assert isinstance(result, trove.BackendError)
                assert not await store.exists("bucket", key)
            else:
                assert await store.read("bucket", key) == key.encode() * 50_000
        assert any(isinstance(result, trove.BackendError) for result in results)


# Directories and attributes


class Sparse(Odd):
    """Omits attributes."""

    def __init__(self, requests: set[str], **left_out: bool) -> None:
        super().__init__()
        self._requests_of = requests
        self._left_out = left_out

    def _some(self, request: str, found: os.stat_result) -> bytes:
        return attributes(found, **(self._left_out if request in self._requests_of else {}))

    def lstat(self, path: str) -> bytes:
        return self._some("lstat", os.lstat(path))

    def stat(self, path: str) -> bytes:
        return self._some("stat", os.stat(path))

    def fstat(self, file: int) -> bytes:
        return self._some("fstat", os.fstat(file))

    def listed(self, path: str) -> bytes:
        return self._some("listed", os.lstat(path))


NOTHING = {"mode": False, "size": False, "times": False}


@pytest.mark.parametrize(
    ("requests", "left_out"),
    [
        ({"listed"}, NOTHING),
        ({"fstat"}, NOTHING),
        ({"lstat"}, NOTHING),
        ({"listed", "fstat"}, {"size": False}),
        ({"listed"}, {"times": False}),
        ({"listed", "fstat", "stat", "lstat"}, {"mode": False}),
    ],
    ids=["names", "open files", "paths", "sizes", "times", "kinds"],
)
async def test_omitted_attributes_are_requested(tmp_path: Path, requests: set[str], left_out: dict[str, bool]) -> None:
    """Directories stay directories, and files keep their size and ETag."""
    odd = Sparse(requests, **left_out)
    async with opened_odd(odd, tmp_path) as store:
        await fill(store)
        info = await store.put("bucket", "a/b/c", SMALL, metadata={"x": "y"})
        (tmp_path / "bucket/link").symlink_to("small")
        await read_all(store)
        assert await names(store) == ["a/b/c", "copy", "described", "large", "small"]
        found = {o.key: o for o in await store.list("bucket").all()}
        head = await store.head("bucket", "a/b/c")
        assert found["a/b/c"].etag == head.etag == info.etag
        assert found["a/b/c"].size == head.size == len(SMALL)
        assert [bucket.name for bucket in await store.list_buckets()] == ["bucket"]
        await store.delete_many("bucket", await names(store))
        (tmp_path / "bucket/link").unlink()
        await store.delete_bucket("bucket")


class Endless(Odd):
    """Returns names of a directory without end, or stops answering."""

    endless = silent = False
    pages = 0

    def answer(self, kind: Kind, number: bytes, fields: Fields) -> list[bytes]:
        if kind != Kind.READDIR or not self.endless:
            return super().answer(kind, number, fields)
        self.pages += 1
        if self.silent:
            return []
        name = pack_string(b"name-%d" % self.pages) + pack_string(b"") + self.listed("/")
        return [bytes((Kind.NAME,)) + number + pack_u32(1) + name]


@pytest.mark.parametrize("silent", [False, True], ids=["never ends", "never comes"])
async def test_cancelling_a_listing_ends_it_immediately(tmp_path: Path, silent: bool) -> None:
    odd = Endless()
    async with opened_odd(odd, tmp_path) as store:
        await fill(store)
        odd.endless, odd.silent = True, silent
        listing = asyncio.create_task(store.list("bucket").all())
        for _ in range(1000):
            if odd.pages >= (2 if silent else 50):
                break
            await asyncio.sleep(0.01)
        listing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listing  # if it waited for the server, it would give up with a warning, which is an error here
        pages = odd.pages
        odd.endless = False
        if not silent:
            assert await store.read("bucket", "small") == SMALL
            assert odd.pages - pages < 20
            assert remote(store).held_handles == 0


async def test_a_directory_without_end_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trove_async.drivers.sftp.remote_files._MOST_NAMES", 300)
    odd = Endless()
    async with opened_odd(odd, tmp_path) as store:
        await fill(store)
        odd.endless = True
        with pytest.raises(trove.BackendError, match="more than 300 names"):
            await names(store)
        odd.endless = False


async def test_an_answer_without_names_ends_a_directory(tmp_path: Path) -> None:
    odd = Replaced()
    async with opened_odd(odd, tmp_path) as store:
        await fill(store)
        odd.packets, odd.replaced = packet(Kind.NAME, pack_u32(0)), Kind.READDIR
        assert await names(store) == []
        odd.replaced = None


async def test_an_unanswered_request_is_noticed_while_others_are_answered(tmp_path: Path) -> None:
    class Forgets(Odd):
        forget = False

        def answer(self, kind: Kind, number: bytes, fields: Fields) -> list[bytes]:
            return [] if self.forget and kind == Kind.READDIR else super().answer(kind, number, fields)

    odd = Forgets()
    async with opened_odd(odd, tmp_path, idle_timeout=0.5, attempts=1) as store:
        await fill(store)
        odd.forget = True
        listing = asyncio.create_task(names(store))
        for _ in range(100_000):
            if listing.done():
                break
            try:
                await store.head("bucket", "small")
            except trove.TransientError:
                break  # the connection was closed meanwhile
        with pytest.raises(trove.OperationTimeoutError):
            await listing
        odd.forget = False


async def test_a_directory_that_contains_itself_is_listed_as_far_as_keys_reach(tmp_path: Path) -> None:
    class Loop(Odd):
        def path(self, raw: bytes) -> str:
            path = super().path(raw)
            head, loop, tail = path.partition("/loop")
            return head + loop + tail.replace("/loop", "")

    odd = Loop()
    async with opened_odd(odd, tmp_path) as store:
        await store.create_bucket("bucket")
        (tmp_path / "bucket/loop/loop").mkdir(parents=True)
        await store.put("bucket", "small", SMALL)
        assert await names(store) == ["small"]
