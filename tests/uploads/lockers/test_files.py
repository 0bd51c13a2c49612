"""FileLocker: its folder, its sockets, and what it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
import threading
from pathlib import Path

import pytest

from tests.uploads.lockers.forking import in_child
from trove_async import lock_files
from trove_async.errors import (
    AccessDeniedError,
    ForkedError,
    InvalidArgumentError,
    StorageFullError,
    TransientError,
    UnsupportedError,
    WrongLoopError,
)
from trove_async.uploads import FileLocker
from trove_async.uploads.lockers import mailbox, shared

pytestmark = pytest.mark.asyncio


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "locks"


def address(folder: Path, name: str) -> str:
    """Return an address of a socket that is short, however long the path of the folder is."""
    return os.path.relpath(folder / name)


@pytest.fixture(autouse=True)
def only_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody try again without a message."""
    monkeypatch.setattr(shared, "_AGAIN", 3600)


def unasked() -> None:
    """Ignore the request to stop."""


def names(folder: Path, ending: str = "") -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(ending))


async def take_over(folder: Path, *, name: str = "a") -> None:
    """Take a lock from another locker, which needs both messages."""
    first, second = FileLocker(folder), FileLocker(folder)
    asked = asyncio.Event()
    lock = await first.acquire(name, asked.set)
    waiting = asyncio.ensure_future(second.acquire(name, unasked))
    await asked.wait()
    await lock.release()
    await (await waiting).release()
    await first.aclose()
    await second.aclose()


async def test_the_folder_is_for_one_user_and_empty_in_the_end(folder: Path) -> None:
    locker = FileLocker(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert names(folder) == []
    locks = [await locker.acquire(str(n), unasked) for n in range(5)]
    assert len(names(folder, ".lock")) == 5
    assert len(names(folder, ".socket")) == 1
    assert {path.stat().st_mode & 0o077 for path in folder.glob("*.lock")} == {0}
    for lock in locks:
        await lock.release()
    assert names(folder, ".lock") == []
    await locker.aclose()
    assert names(folder) == []
    assert not any(thread.name.startswith("trove-upload-locks") for thread in threading.enumerate())


async def test_a_long_path(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100) / ("ü" * 100)
    folder.parent.mkdir()
    await take_over(folder)
    assert names(folder) == []


async def test_a_long_path_where_the_system_has_no_alias_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox, "_ALIAS", str(tmp_path / "{}"))
    with pytest.raises(InvalidArgumentError, match=r"has more than \d\d bytes"):
        FileLocker(tmp_path / ("x" * 100))


async def test_sockets_of_processes_that_have_ended_are_removed(folder: Path) -> None:
    folder.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(address(folder, "1-x.socket"))
    await take_over(folder)
    assert names(folder) == []


async def test_a_process_that_reads_nothing_delays_no_take_over_for_long(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox, "_PATIENCE", struct.pack("ll", 0, 1000))
    folder.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stopped:
        stopped.bind(address(folder, "1-x.socket"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, contextlib.suppress(BlockingIOError):
            sender.setblocking(False)
            while True:
                sender.sendto(b"stop x", address(folder, "1-x.socket"))
        await take_over(folder)
    assert names(folder) == ["1-x.socket"]


@pytest.mark.parametrize("message", [b"", b"stop", b"stop ", b"stop \xff", b"released x", b"x" * 1000])
async def test_messages_of_others_have_no_effect(folder: Path, message: bytes) -> None:
    locker = FileLocker(folder)
    requests: list[int] = []
    lock = await locker.acquire("a", lambda: requests.append(1))
    (name,) = names(folder, ".socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(message, address(folder, name))
    await take_over(folder, name="b")
    await lock.release()
    await locker.aclose()
    assert requests == []


async def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "locks", tmp_path / "missing" / "locks"):
        with pytest.raises(AccessDeniedError, match="the folder of locks"):
            FileLocker(folder)
    for nothing in ("", None, 1):
        with pytest.raises(InvalidArgumentError, match="the folder of locks is a path"):
            FileLocker(nothing)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StorageFullError),
        (errno.EDQUOT, StorageFullError),
        (errno.EACCES, AccessDeniedError),
        (errno.EROFS, AccessDeniedError),
        (errno.EMFILE, TransientError),
    ],
)
async def test_a_lock_that_cannot_be_made_is_refused_at_the_start_and_later(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    locker = FileLocker(folder)
    with monkeypatch.context() as patch:

        def fail(*_: object) -> int:
            raise OSError(number, os.strerror(number))

        patch.setattr(lock_files.os, "open", fail)  # type: ignore[attr-defined]
        with pytest.raises(kind, match=os.strerror(number)):
            FileLocker(folder)
        patch.undo()
        lock = await locker.acquire("b", unasked)  # it has its socket then
        patch.setattr(lock_files.os, "open", fail)  # type: ignore[attr-defined]
        with pytest.raises(kind, match=os.strerror(number)):
            await locker.acquire("a", unasked)
    await lock.release()
    await (await locker.acquire("a", unasked)).release()
    await locker.aclose()


async def test_a_file_system_without_locks_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock_files.fcntl, "flock", fail)  # type: ignore[attr-defined]
    with pytest.raises(UnsupportedError, match="cannot lock files"):
        FileLocker(folder)


async def test_another_event_loop_is_refused(folder: Path) -> None:
    locker = FileLocker(folder)
    lock = await locker.acquire("a", unasked)
    with pytest.raises(WrongLoopError, match="make one for each loop"):
        await asyncio.to_thread(asyncio.run, locker.acquire("a", unasked))
    await lock.release()
    await locker.aclose()


async def test_a_forked_child_refuses_it_and_closes_what_it_inherited(folder: Path) -> None:
    locker, unused = FileLocker(folder), FileLocker(folder)
    lock = await locker.acquire("a", unasked)
    assert locker._mailbox is not None
    descriptors = [locker._mailbox.fileno(), *locker._descriptors.values()]

    def child() -> int:
        for descriptor in descriptors:
            try:
                os.fstat(descriptor)
            except OSError:
                continue
            return 1
        try:
            locker._turns.use()
        except ForkedError:
            unused._turns.use()
            return 7
        return 2

    assert await in_child(child) == 7
    await take_over(folder, name="b")
    assert not lock.lost
    await lock.release()
    await locker.aclose()
    await unused.aclose()
    assert names(folder) == []
