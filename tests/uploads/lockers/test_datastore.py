"""DataStoreLocker: the locks of a data store, which are held or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from trove_async.errors import InvalidArgumentError, UnavailableError, UploadLockedError
from trove_async.uploads import DataStoreLocker, FileInfo
from trove_async.uploads.lockers import shared
from trove_async.web.objects import Stream

pytestmark = pytest.mark.asyncio


class Store:
    """A data store that has nothing but locks."""

    def __init__(self) -> None:
        self.locked: set[str] = set()
        self.attempts = 0
        self.error: Exception | None = None
        self.tried = asyncio.Event()

    async def lock_upload(self, upload_id: str) -> None:
        self.attempts += 1
        self.tried.set()
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        if upload_id in self.locked:
            raise UploadLockedError
        self.locked.add(upload_id)

    async def unlock_upload(self, upload_id: str) -> None:
        await asyncio.sleep(0)
        self.locked.remove(upload_id)

    async def new_upload(self, info: FileInfo) -> str:
        raise NotImplementedError

    async def write_chunk(self, upload_id: str, offset: int, src: AsyncIterator[bytes]) -> int:
        raise NotImplementedError

    async def get_info(self, upload_id: str) -> FileInfo:
        raise NotImplementedError

    async def get_reader(self, upload_id: str) -> Stream:
        raise NotImplementedError


async def test_a_lock_is_taken_over_within_the_process() -> None:
    store = Store()
    locker = DataStoreLocker(store)
    asked = asyncio.Event()
    lock = await locker.acquire("a", asked.set)
    assert store.locked == {"a"}
    waiting = asyncio.ensure_future(locker.acquire("a", asked.clear))
    await asked.wait()
    await lock.release()
    lock = await waiting
    assert store.attempts == 2
    await lock.release()
    assert store.locked == set()
    await locker.aclose()


async def test_a_lock_of_another_process_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "_AGAIN", 0)
    store = Store()
    store.locked.add("a")
    locker = DataStoreLocker(store)
    waiting = asyncio.ensure_future(locker.acquire("a", asyncio.Event().set))
    for _ in range(3):
        store.tried.clear()
        await store.tried.wait()
    await store.unlock_upload("a")
    await (await waiting).release()
    impatient = DataStoreLocker(store, timeout=0)
    store.locked.add("a")
    with pytest.raises(UploadLockedError):
        await impatient.acquire("a", asyncio.Event().set)
    await locker.aclose()
    await impatient.aclose()


async def test_errors_of_the_store_are_raised_and_leave_nothing() -> None:
    store = Store()
    locker = DataStoreLocker(store)
    store.error = UnavailableError()
    with pytest.raises(UnavailableError):
        await locker.acquire("a", asyncio.Event().set)
    store.error = None
    await (await locker.acquire("a", asyncio.Event().set)).release()
    await locker.aclose()


@pytest.mark.parametrize("steps", range(6))
async def test_a_lock_that_is_cancelled_is_released(steps: int) -> None:
    store = Store()
    locker = DataStoreLocker(store)
    task = asyncio.ensure_future(locker.acquire("a", asyncio.Event().set))
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        await task.result().release()
    assert store.locked == set()
    await locker.aclose()


async def test_a_store_without_locks_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="lock_upload"):
        DataStoreLocker(object())  # type: ignore[arg-type]
