"""Servers whose ``copy-data`` does less, or something else, than it says."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import trove_async as trove
from tests.payload import pattern
from tests.sftp.odd_server import Odd, opened_odd
from trove_async.driver import ServerCopyDriver
from trove_async.drivers.sftp.protocol import Kind

pytestmark = pytest.mark.asyncio

DATA = pattern(5_000_000)
Copy = Callable[[int, int, int, int, int], None]


def part(of: int) -> Copy:
    def copy(source: int, at: int, size: int, target: int, to: int) -> None:
        os.pwrite(target, os.pread(source, size // of, at), to)

    return copy


def nothing(source: int, at: int, size: int, target: int, to: int) -> None:
    pass


def refusal(source: int, at: int, size: int, target: int, to: int) -> None:
    raise OSError(errno.ENOTSUP, "unsupported")


def more(source: int, at: int, size: int, target: int, to: int) -> None:
    os.pwrite(target, os.pread(source, size, at) + b"more", to)


class Copies(Odd):
    """Copies as it should until the test says otherwise; the size that it says of a file is right."""

    odd_copy: Copy = staticmethod(part(1))
    writes_fail = False

    def copy(self, source: int, at: int, size: int, target: int, to: int) -> None:
        self.odd_copy(source, at, size, target, to)

    def write(self, file: int, offset: int, data: bytes) -> None:
        if not self.writes_fail:
            super().write(file, offset, data)


@pytest.mark.parametrize(
    ("copy", "passes_through"),
    [(part(1), False), (part(2), True), (nothing, True), (refusal, True)],
    ids=["all", "half", "nothing", "refused"],
)
async def test_what_the_server_does_not_copy_is_read_and_written(
    tmp_path: Path, copy: Copy, passes_through: bool
) -> None:
    odd = Copies()
    async with opened_odd(odd, tmp_path) as store:
        await store.create_bucket("bucket")
        await store.put("bucket", "key", DATA)
        odd.odd_copy = copy
        odd.counts.clear()
        await store.copy("bucket", "key", "bucket", "copy")
        assert (odd.counts[Kind.READ] > 0, odd.counts[Kind.WRITE] > 0) == (passes_through, passes_through)
        assert await store.read("bucket", "copy") == DATA
        upload = await store.initiate_multipart("bucket", "parts")
        parts = [await store.upload_part("bucket", "parts", upload, number, DATA) for number in (1, 2)]
        await store.complete_multipart("bucket", "parts", upload, parts)
        assert await store.read("bucket", "parts") == DATA + DATA


async def test_more_than_was_requested_is_an_error(tmp_path: Path) -> None:
    odd = Copies()
    async with opened_odd(odd, tmp_path) as store:
        await store.create_bucket("bucket")
        await store.put("bucket", "key", DATA)
        odd.odd_copy = more
        with pytest.raises(trove.CopyError, match="5000004 bytes; 5000000 were requested"):
            await store.copy("bucket", "key", "bucket", "copy")
        assert not await store.exists("bucket", "copy")


async def test_a_copy_that_is_too_short_after_all_is_an_error(tmp_path: Path) -> None:
    odd = Copies()
    async with opened_odd(odd, tmp_path) as store:
        await store.create_bucket("bucket")
        await store.put("bucket", "key", DATA)
        odd.odd_copy, odd.writes_fail = part(2), True  # without an error
        with pytest.raises(trove.CopyError, match="a copy has 2500000 bytes"):
            await store.copy("bucket", "key", "bucket", "copy")
        odd.writes_fail = False
        assert not await store.exists("bucket", "copy")


@pytest.mark.parametrize("copy", [nothing, refusal], ids=["nothing", "refused"])
async def test_a_server_that_copies_nothing_has_no_server_copy(tmp_path: Path, copy: Copy) -> None:
    odd = Copies()
    odd.odd_copy = copy
    async with opened_odd(odd, tmp_path) as store:
        assert not store.supports(ServerCopyDriver)
        await store.create_bucket("bucket")
        await store.put("bucket", "key", DATA)
        await store.copy("bucket", "key", "bucket", "copy")
        assert await store.read("bucket", "copy") == DATA
