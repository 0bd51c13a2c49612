"""Downloads to existing targets: files with modes and owners, links, devices, pipes and open descriptors."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import struct
import threading
import tty
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

import trove_async
from trove_async import permissions, readiness
from trove_async.store import targets

pytestmark = pytest.mark.asyncio
LARGE = bytes(range(256)) * 8192


@pytest_asyncio.fixture
async def b() -> AsyncIterator[trove_async.Bucket]:
    async with trove_async.open("memory://") as t:
        bucket = await t.create_bucket("b")
        await bucket.put("k", b"new")
        await bucket.put("large", LARGE)
        yield bucket


@pytest.fixture
def umask() -> Iterator[None]:
    old = os.umask(0o027)
    yield
    os.umask(old)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("umask")
async def test_a_new_file_has_the_mode_of_the_umask(b: trove_async.Bucket, tmp_path: Path) -> None:
    await b.download("k", tmp_path / "file")
    assert mode_of(tmp_path / "file") == 0o640


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(("before", "after"), [(0o600, 0o600), (0o666, 0o666), (0o755, 0o755), (0o4755, 0o755)])
async def test_a_replaced_file_keeps_its_mode(b: trove_async.Bucket, tmp_path: Path, before: int, after: int) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    target.chmod(before)
    await b.download("k", target)
    assert (target.read_bytes(), mode_of(target)) == (b"new", after)


async def test_a_private_file_stays_private_during_the_download(b: trove_async.Bucket, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    target.chmod(0o600)
    seen: set[int] = set()
    await b.download("large", target, on_progress=lambda *_: seen.update(map(mode_of, tmp_path.iterdir())))
    assert seen == {0o600}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to another user")
async def test_a_replaced_file_keeps_its_owner_and_group(b: trove_async.Bucket, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    os.chown(target, 12345, 12346)
    await b.download("k", target)
    status = target.stat()
    assert (status.st_uid, status.st_gid, target.read_bytes()) == (12345, 12346, b"new")


async def test_another_group_gets_no_more_permissions_than_everybody(
    b: trove_async.Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    target.chmod(0o664)
    monkeypatch.setattr(permissions, "_set_owner", lambda descriptor, old: False)
    await b.download("k", target)
    assert mode_of(target) == 0o644


async def test_an_access_list_is_kept(b: trove_async.Bucket, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    # The owner and user 12345 may read and write, and the group nothing: acl(5), linux/posix_acl_xattr.h.
    entries = [(0x01, 6, -1), (0x02, 6, 12345), (0x04, 0, -1), (0x10, 6, -1), (0x20, 0, -1)]
    access = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(target, "system.posix_acl_access", access)
    except OSError:
        pytest.skip("the file system has no access lists")
    await b.download("k", target)
    assert os.getxattr(target, "system.posix_acl_access") == access
    assert (target.read_bytes(), mode_of(target)) == (b"new", 0o660)


async def test_a_link_is_kept_and_its_target_is_replaced(b: trove_async.Bucket, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    real, old = tmp_path / "elsewhere" / "real", tmp_path / "old"
    real.write_bytes(b"old")
    old.hardlink_to(real)
    first, second = tmp_path / "first", tmp_path / "second"
    second.symlink_to("elsewhere/real")
    first.symlink_to(second)
    await b.download("k", first)
    assert first.is_symlink()
    assert second.is_symlink()
    assert (real.read_bytes(), old.read_bytes()) == (b"new", b"old")  # replaced, and not written into
    assert names_in(tmp_path / "elsewhere") == ["real"]


async def test_a_link_to_a_missing_file_creates_the_file(b: trove_async.Bucket, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    await b.download("k", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


async def test_a_device_is_written(b: trove_async.Bucket, tmp_path: Path) -> None:
    # A terminal is a device that any user can create. The link is there so that only the link could be replaced.
    master, slave = os.openpty()
    tty.setraw(slave)
    target = tmp_path / "device"
    target.symlink_to(os.ttyname(slave))
    await b.download("k", target)
    assert os.read(master, 100) == b"new"
    assert target.is_symlink()
    assert names_in(tmp_path) == ["device"]
    os.close(master)
    os.close(slave)


async def test_a_pipe_is_written_and_stays_a_pipe(b: trove_async.Bucket, tmp_path: Path) -> None:
    target = tmp_path / "pipe"
    os.mkfifo(target)
    taken: list[bytes] = []
    reader = threading.Thread(target=lambda: taken.append(target.read_bytes()))
    reader.start()
    info = await b.download("large", target)
    await asyncio.to_thread(reader.join)
    assert (info.size, taken) == (len(LARGE), [LARGE])
    assert stat.S_ISFIFO(target.lstat().st_mode)
    assert names_in(tmp_path) == ["pipe"]


async def test_waiting_for_a_reader_of_a_pipe_can_be_cancelled(
    b: trove_async.Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = asyncio.Event()
    loop = asyncio.get_running_loop()
    open_once = targets.StreamTarget._open

    def tell(self: targets.StreamTarget) -> None:
        open_once(self)
        loop.call_soon_threadsafe(tried.set)

    monkeypatch.setattr(targets.StreamTarget, "_open", tell)
    target = tmp_path / "pipe"
    os.mkfifo(target)
    task = asyncio.create_task(b.download("k", target))
    await tried.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert names_in(tmp_path) == ["pipe"]


class FullPipe:
    """A pipe that is open for reading and not read.

    Attributes:
        reader: the descriptor.
        full: set when the download waits because the pipe is full.
    """

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        os.mkfifo(path)
        self.reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.full = asyncio.Event()
        self._wait = readiness.writable
        monkeypatch.setattr(targets, "writable", self._writable)

    async def _writable(self, descriptor: int) -> None:
        self.full.set()
        await self._wait(descriptor)


async def test_waiting_for_a_full_pipe_can_be_cancelled(
    b: trove_async.Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = FullPipe(tmp_path / "pipe", monkeypatch)
    task = asyncio.create_task(b.download("large", tmp_path / "pipe"))
    await pipe.full.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    taken = b"".join(iter(lambda: os.read(pipe.reader, 65536), b""))  # it ends because the descriptor was closed
    assert LARGE.startswith(taken)
    os.close(pipe.reader)


async def test_a_pipe_whose_reader_closes_it_is_an_error(
    b: trove_async.Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = FullPipe(tmp_path / "pipe", monkeypatch)
    task = asyncio.create_task(b.download("large", tmp_path / "pipe"))
    await pipe.full.wait()
    os.close(pipe.reader)
    with pytest.raises(BrokenPipeError):
        await task


@pytest.mark.parametrize("flags", [os.O_TRUNC, os.O_APPEND], ids=["truncated", "appended"])
async def test_an_open_descriptor_of_the_process_is_written_to(
    b: trove_async.Bucket, tmp_path: Path, flags: int
) -> None:
    real, target = tmp_path / "real", tmp_path / "stdout"
    real.write_bytes(b"before ")
    descriptor = os.open(real, os.O_WRONLY | flags)
    target.symlink_to(f"/proc/self/fd/{descriptor}")
    await b.download("k", target)
    os.write(descriptor, b" after")
    os.close(descriptor)
    assert real.read_bytes() == (b"before " if flags == os.O_APPEND else b"") + b"new after"
    assert target.is_symlink()


@pytest.mark.parametrize("kind", ["file", "device"])
async def test_an_open_descriptor_for_reading_is_refused(b: trove_async.Bucket, tmp_path: Path, kind: str) -> None:
    """Closed standard output, for example, is replaced by /dev/null, which must not take in what is lost."""
    real = tmp_path / "real" if kind == "file" else Path(os.devnull)
    if kind == "file":
        real.write_bytes(b"before")
    descriptor = os.open(real, os.O_RDONLY)
    (tmp_path / "stdout").symlink_to(f"/proc/self/fd/{descriptor}")
    try:
        with pytest.raises(OSError, match="reading only") as caught:
            await b.download("k", tmp_path / "stdout")
    finally:
        os.close(descriptor)
    assert caught.value.errno == errno.EBADF
    assert kind == "device" or real.read_bytes() == b"before"


async def test_a_directory_is_refused_with_advice(
    b: trove_async.Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IsADirectoryError, match=r"\./NAME"):
        await b.download("k", ".")
    for missing in ("", "missing/", "missing/file"):
        with pytest.raises(FileNotFoundError):
            await b.download("k", missing)
    assert names_in(tmp_path) == []


async def test_a_name_may_be_as_long_as_the_file_system_permits(b: trove_async.Bucket, tmp_path: Path) -> None:
    for name in ("n" * 255, "\N{SNOWMAN}" * 85):
        await b.download("k", tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"new"
