"""Failures of the store, locks, hooks and the server itself: no client loses its upload, and none learns secrets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from tests.uploads.flows import BYTES, Flow, Stall
from tests.uploads.memory_store import MemoryStore
from trove_async.errors import (
    BackendError,
    BucketNotFoundError,
    ChecksumError,
    LeaseLostError,
    ObjectAlreadyExistsError,
    ObjectNotFoundError,
    OperationTimeoutError,
    ThrottledError,
    TroveError,
    UnavailableError,
    UploadLockedError,
    UploadNotFoundError,
    UploadRejectedError,
)
from trove_async.uploads import Hooks, Lock, MemoryLocker, UploadEvent
from trove_async.uploads.protocol.messages import Settings

pytestmark = pytest.mark.asyncio

FAULTS: list[Exception] = [
    UnavailableError("secret", driver="s3"),
    ThrottledError("secret", driver="s3", retry_after=7),
    OperationTimeoutError("secret"),
    BackendError("secret", driver="s3", status=500),
    ObjectNotFoundError("secret", driver="s3"),
    BucketNotFoundError("secret", driver="s3"),
    UploadNotFoundError("secret", driver="s3"),
    LeaseLostError(),
    UploadLockedError("secret"),
    ConnectionError("secret"),
    KeyError("secret"),
]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "trove_async.uploads")


class Deaf:
    """A locker that cannot be reached."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def acquire(self, name: str, on_request: Callable[[], object]) -> Lock:
        raise self.error

    async def aclose(self) -> None:
        pass


class Denying(Hooks):
    """Refuses one action."""

    def __init__(self, action: str, error: Exception) -> None:
        self.action = action
        self.error: Exception | None = error

    async def authorize(self, event: UploadEvent) -> None:
        if event.action == self.action and self.error is not None:
            raise self.error


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
async def test_a_failure_never_makes_clients_begin_anew(fault: Exception) -> None:
    flow = Flow()
    upload_id = await flow.create(10)
    flow.store.faults["get_info"] = [fault, fault]
    head = await flow.send("HEAD", upload_id)
    assert head.status == 423
    assert int(head.headers["retry-after"]) >= 1
    assert "upload-offset" not in head.headers
    patch = await flow.patch(upload_id, 0, b"hello")
    assert patch.status in (423, 500, 503, 504)  # after each of them tus-js-client asks for the offset
    assert b"secret" not in bytes(patch.answer.body)  # type: ignore[arg-type]
    assert (await flow.patch(upload_id, 0, b"hello")).status == 204


async def test_unreachable_locks() -> None:
    store = MemoryStore()
    upload_id = await Flow(store).create(10)
    for error in (UploadLockedError(), UnavailableError("secret")):
        flow = Flow(store, locker=Deaf(error))
        patch = await flow.patch(upload_id, 0, b"hello")
        assert (patch.status, patch.reads) == (423 if isinstance(error, UploadLockedError) else 503, 0)
        assert "retry-after" in patch.headers
        assert (await flow.send("HEAD", upload_id)).status == 200  # it needs no lock
        assert (await flow.send("DELETE", upload_id)).status == patch.status
        assert (await flow.send("POST", None, upload_length="1")).status == patch.status


@pytest.mark.parametrize(
    ("error", "status", "of_head"),
    [
        (UploadRejectedError("log in", status_code=401), 401, 401),
        (UploadRejectedError("slowly", status_code=429), 429, 423),
        (UnavailableError("secret"), 503, 423),
        (ConnectionRefusedError("secret"), 500, 423),
        (ValueError("secret"), 500, 423),
    ],
)
async def test_authorization_that_fails(error: Exception, status: int, of_head: int) -> None:
    store = MemoryStore()
    upload_id = await Flow(store).create(10)
    assert (await Flow(store, hooks=Denying("describe", error)).send("HEAD", upload_id)).status == of_head
    reply = await Flow(store, hooks=Denying("append", error)).patch(upload_id, 0, b"hello")
    assert (reply.status, reply.reads) == (status, 0)
    assert (await Flow(store, hooks=Denying("terminate", error)).send("DELETE", upload_id)).status == status
    reply = await Flow(store, hooks=Denying("create", error)).send(
        "POST", None, b"x", content_type=BYTES, upload_length="1"
    )
    assert (reply.status, reply.reads) == (status, 0)
    assert list(store.uploads) == [upload_id]
    assert store.data(upload_id) == b""


async def test_a_write_that_fails_keeps_what_is_durable() -> None:
    flow = Flow()
    upload_id = await flow.create(10)
    flow.store.faults["flush"] = [UnavailableError()]
    assert (await flow.patch(upload_id, 0, b"hello")).status == 503
    assert (await flow.send("HEAD", upload_id)).headers["upload-offset"] == "5"
    assert (await flow.patch(upload_id, 5, b"world")).status == 204


@pytest.mark.parametrize("fault", [UnavailableError("secret"), BackendError("secret"), RuntimeError("secret")])
async def test_a_finish_that_fails_is_tried_again(fault: Exception) -> None:
    flow = Flow()
    for method in ("HEAD", "GET", "PATCH"):
        upload_id = await flow.create(5)
        flow.store.faults["finish_upload"] = [fault, fault]
        assert (await flow.patch(upload_id, 0, b"hello")).status in (500, 503)
        head = await flow.send("HEAD", upload_id)
        assert (head.status, "upload-offset" in head.headers) == (423, False)
        assert not flow.store.uploads[upload_id].info.is_finished
        reply = await flow.send(method, upload_id, content_type=BYTES, upload_offset="5")
        assert reply.status in (200, 204)
        assert flow.store.uploads[upload_id].info.is_finished


@pytest.mark.parametrize(
    ("error", "status"), [(ObjectAlreadyExistsError(), 422), (ChecksumError(), 460), (LeaseLostError(), 423)]
)
async def test_a_finish_that_is_refused(error: TroveError, status: int) -> None:
    flow = Flow()
    upload_id = await flow.create(5)
    flow.store.faults["finish_upload"] = [error]
    assert (await flow.patch(upload_id, 0, b"hello")).status == status


async def test_a_creation_whose_body_fails_says_where_the_upload_is() -> None:
    flow = Flow()
    for name in ("write_chunk", "flush", "finish_upload"):
        flow.store.faults[name] = [UnavailableError()]
        reply = await flow.send("POST", None, b"hello", content_type=BYTES, upload_length="5")
        assert reply.status == 201
        assert "upload-offset" not in reply.headers  # so that the client asks
        head = await flow.send("HEAD", reply.upload_id)
        offset = int(head.headers["upload-offset"])
        assert (await flow.patch(reply.upload_id, offset, b"hello"[offset:])).status == 204
        assert flow.store.data(reply.upload_id) == b"hello"
        assert flow.store.uploads[reply.upload_id].info.is_finished


async def test_a_creation_of_nothing_that_fails_leaves_nothing() -> None:
    flow = Flow()
    flow.store.faults["finish_upload"] = [UnavailableError()]
    assert (await flow.send("POST", None, upload_length="0")).status == 503
    assert flow.store.uploads == {}
    flow.store.faults["new_upload"] = [UnavailableError()]
    assert (await flow.send("POST", None, upload_length="1")).status == 503
    flow.store.faults = {"finish_upload": [UnavailableError()], "terminate": [UnavailableError()]}
    assert (await flow.send("POST", None, upload_length="0")).status == 503


async def test_a_body_that_is_refused_leaves_no_upload_of_which_nobody_knows() -> None:
    flow = Flow(settings=Settings(max_size=5))
    reply = await flow.send("POST", None, b"hel", b"lo!", content_type=BYTES, upload_defer_length="1")
    assert reply.status == 413
    assert flow.store.uploads == {}


async def test_a_server_that_shuts_down_keeps_what_has_arrived() -> None:
    flow = Flow()
    upload_id = await flow.create(10)
    stall = Stall()
    patch = asyncio.ensure_future(flow.patch(upload_id, 0, b"hello", stall, b"world"))
    await stall.reached.wait()
    await flow.handler.close()
    reply = await patch
    assert (reply.status, "retry-after" in reply.headers) == (503, True)
    assert flow.store.data(upload_id) == b"hello"
    head = await flow.send("HEAD", upload_id)
    assert (head.status, "retry-after" in head.headers) == (423, True)
    for method in ("PATCH", "DELETE"):
        reply = await flow.send(method, upload_id, content_type=BYTES, upload_offset="5")
        assert (reply.status, "retry-after" in reply.headers) == (503, True)
    assert (await flow.send("POST", None, upload_length="1")).status == 503
    assert (await flow.send("OPTIONS", None)).status == 204


async def test_a_body_that_begins_while_the_server_shuts_down_is_stopped() -> None:
    class Slow(Hooks):
        def __init__(self) -> None:
            self.asked = asyncio.Event()
            self.go = asyncio.Event()

        async def before_receive(self, event: UploadEvent) -> None:
            self.asked.set()
            await self.go.wait()

    hooks = Slow()
    flow = Flow(hooks=hooks)
    upload_id = await flow.create(10)
    patch = asyncio.ensure_future(flow.patch(upload_id, 0, b"hello", Stall()))
    await hooks.asked.wait()
    closing = asyncio.ensure_future(flow.handler.close())
    await asyncio.sleep(0)
    hooks.go.set()
    assert (await patch).status == 503
    await closing


class Fragile(MemoryLocker):
    """A locker whose locks can be lost."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple[FragileLock, Callable[[], object]]] = []

    async def acquire(self, name: str, on_request: Callable[[], object]) -> FragileLock:  # type: ignore[override]
        lock = FragileLock(await super().acquire(name, on_request))
        self.held.append((lock, on_request))
        return lock

    def lose(self) -> None:
        lock, on_request = self.held[-1]
        lock.lost = True
        on_request()


class FragileLock:
    def __init__(self, lock: Lock) -> None:
        self.lost = False
        self._lock = lock

    async def release(self) -> None:
        await self._lock.release()


async def test_nothing_is_written_after_the_lock_is_lost() -> None:
    locker = Fragile()
    flow = Flow(locker=locker)
    upload_id = await flow.create(10)
    stall = Stall()
    patch = asyncio.ensure_future(flow.patch(upload_id, 0, b"hello", stall, b"world"))
    await stall.reached.wait()
    locker.lose()
    assert (await patch).status == 423
    assert "finish_upload" not in flow.store.calls


async def test_nothing_is_finished_after_the_lock_is_lost() -> None:
    class Losing(Hooks):
        async def after_receive(self, event: UploadEvent) -> None:
            locker.held[-1][0].lost = True

    locker = Fragile()
    flow = Flow(locker=locker, hooks=Losing())
    upload_id = await flow.create(5)
    assert (await flow.patch(upload_id, 0, b"hello")).status == 423
    assert "finish_upload" not in flow.store.calls
