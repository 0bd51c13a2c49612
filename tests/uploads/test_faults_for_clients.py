"""tus-js-client and a server whose store, locks and hooks fail again and again: it never begins an upload anew."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.payload import pattern
from tests.uploads.foreign import tus_js
from tests.uploads.memory_store import MemoryStore
from tests.uploads.web.apps import served
from trove_async.errors import BackendError, ThrottledError, UnavailableError, UploadLockedError
from trove_async.uploads import Hooks, MemoryLocker, UploadEvent
from trove_async.uploads.lockers.memory import MemoryLock

pytestmark = pytest.mark.asyncio

DATA: Final = pattern(1_000_000)
OFTEN: Final = [10] * 100  # milliseconds before each retry


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "trove_async.uploads")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)
    return path


def now_and_then(*errors: Exception) -> Iterator[Exception | None]:
    """Yield no error first, and then each of some errors after a few calls without one."""
    yield from [None] * 4
    for place, error in enumerate(errors * 3):
        yield error
        yield from [None] * (place % 4)


class Faulty(Hooks):
    """Hooks whose database is away now and then, once an upload was created."""

    def __init__(self) -> None:
        self.errors = now_and_then(ConnectionError("database"), UnavailableError(), TimeoutError("database"))

    def fail(self) -> None:
        error = next(self.errors, None)
        if error is not None:
            raise error

    async def authorize(self, event: UploadEvent) -> None:
        if event.action != "create":
            self.fail()

    async def before_finish(self, event: UploadEvent) -> None:
        self.fail()


class FaultyLocker(MemoryLocker):
    """Locks that cannot be had now and then, once an upload was created."""

    def __init__(self) -> None:
        super().__init__(timeout=5)
        self.errors = now_and_then(UploadLockedError(), UnavailableError())

    async def acquire(self, name: str, on_request: Callable[[], object]) -> MemoryLock:
        error = next(self.errors, None)
        if error is not None:
            raise error
        return await super().acquire(name, on_request)


def faulty_store() -> MemoryStore:
    """Return a store that fails now and then, once an upload was created."""
    store = MemoryStore()
    store.faults = {
        name: list(now_and_then(UnavailableError(), BackendError("500"), ThrottledError()))
        for name in ("get_info", "flush")
    }
    store.faults["finish_upload"] = [UnavailableError(), BackendError("500"), OSError("disk")]
    return store


CASES: Final = [
    (what, creation, protocol)
    for what in ("all", "store", "locker", "hooks")
    for creation in (False, True)
    for protocol in ("tus-v1", "ietf-draft-05", "ietf-draft-03")
]
SHORT: Final = [("all", False, "tus-v1"), ("all", True, "tus-v1"), ("all", False, "ietf-draft-05")]


@pytest.mark.parametrize(
    ("what", "creation", "protocol"),
    [pytest.param(*case, marks=[] if case in SHORT else pytest.mark.long) for case in CASES],
)
async def test_an_upload_is_created_once(file: Path, what: str, creation: bool, protocol: str) -> None:
    store = faulty_store() if what in ("store", "all") else MemoryStore()
    options: dict[str, Any] = {}
    if what in ("locker", "all"):
        options["locker"] = FaultyLocker()
    if what in ("hooks", "all"):
        options["hooks"] = Faulty()
    client_options: dict[str, Any] = {
        "chunkSize": 100_000, "retryDelays": OFTEN, "uploadDataDuringCreation": creation, "protocol": protocol
    }  # fmt: skip
    async with (
        served("uvicorn", store, **options) as port,
        tus_js(file, f"http://127.0.0.1:{port}/files/", **client_options) as client,
    ):
        result = await client.result()
    assert result["ok"], client.events[-10:]
    assert client.creations == 1
    (upload,) = store.uploads.values()
    assert upload.data == DATA
    assert upload.info.is_finished
    assert any(event["status"] >= 400 for event in client.events if event["event"] == "response")
