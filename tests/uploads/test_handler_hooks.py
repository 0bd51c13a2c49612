"""The hooks: their order, what they decide, how long they may take."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tests.uploads.flows import BYTES, Flow, Stall
from tests.uploads.memory_store import MemoryStore, PlainStore
from trove_async.errors import AccessDeniedError, UnavailableError, UploadRejectedError
from trove_async.uploads import Changes, Destination, FinalAnswer, Hooks, MetaData, UploadEvent

pytestmark = pytest.mark.asyncio

NAMES = [
    "authorize", "before_create", "after_create", "before_receive", "on_progress", "after_receive", "before_finish",
    "after_finish", "before_terminate", "after_terminate",
]  # fmt: skip


class Recorder(Hooks):
    """Notes which hooks are called, and does what a test says."""

    def __init__(self, **does: Any) -> None:
        self.calls: list[str] = []
        self.events: list[tuple[str, UploadEvent]] = []
        self.does = does

    async def note(self, name: str, event: UploadEvent) -> Any:
        self.calls.append(f"{name} {event.action}" if name == "authorize" else name)
        self.events.append((name, event))
        await asyncio.sleep(0)
        does = self.does.get(name)
        if isinstance(does, Exception):
            raise does
        return await does(event) if callable(does) else does


def _hook(name: str) -> Any:
    async def hook(self: Recorder, event: UploadEvent) -> Any:
        return await self.note(name, event)

    return hook


for _name in NAMES:
    setattr(Recorder, _name, _hook(_name))


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "trove_async.uploads")


async def test_the_order() -> None:
    hooks = Recorder()
    flow = Flow(hooks=hooks, progress_seconds=0)
    upload_id = await flow.create(10)
    assert hooks.calls == ["authorize create", "before_create", "after_create"]
    hooks.calls.clear()
    await flow.patch(upload_id, 0, b"hello", b"wor")
    assert hooks.calls[:2] == ["authorize append", "before_receive"]
    assert hooks.calls[-1] == "after_receive"
    assert set(hooks.calls[2:-1]) == {"on_progress"}
    hooks.calls.clear()
    await flow.patch(upload_id, 8, b"ld")
    assert [call for call in hooks.calls if call != "on_progress"] == [
        "authorize append", "before_receive", "after_receive", "authorize finish", "before_finish", "after_finish",
    ]  # fmt: skip
    assert hooks.calls.index("after_receive") > hooks.calls.index("on_progress")
    hooks.calls.clear()
    await flow.send("HEAD", upload_id)
    await flow.send("GET", upload_id)
    await flow.send("DELETE", upload_id)
    assert hooks.calls == [
        "authorize describe", "authorize download", "authorize terminate", "before_terminate", "after_terminate",
    ]  # fmt: skip


async def test_the_order_of_a_creation_with_upload() -> None:
    hooks = Recorder()
    flow = Flow(hooks=hooks)
    await flow.send("POST", None, b"hello", content_type=BYTES, upload_length="5")
    assert hooks.calls == [
        "authorize create", "before_create", "after_create", "before_receive", "after_receive", "authorize finish",
        "before_finish", "after_finish",
    ]  # fmt: skip


async def test_a_plain_store_has_a_finish_too() -> None:
    hooks = Recorder()
    flow = Flow(PlainStore(), hooks=hooks)
    upload_id = await flow.create(5)
    await flow.patch(upload_id, 0, b"hello")
    assert hooks.calls[-3:] == ["authorize finish", "before_finish", "after_finish"]


async def test_what_events_say() -> None:
    hooks = Recorder()
    flow = Flow(hooks=hooks, progress_seconds=0)
    await flow.send("POST", None, b"hel", b"lo", content_type=BYTES, upload_length="5", upload_metadata="a YQ==")
    seen = {name: event for name, event in hooks.events if name != "authorize"}
    assert seen["before_create"].info.size == 5
    upload_id = seen["after_create"].info.id
    assert upload_id in flow.store.uploads
    assert seen["before_receive"].info.offset == 0
    assert next(event.info.offset for name, event in hooks.events if name == "on_progress") == 3
    assert seen["after_receive"].info.offset == 5
    assert not seen["before_finish"].info.is_finished
    assert seen["after_finish"].info.is_finished
    assert {event.info.id for event in seen.values()} == {upload_id}
    assert all(event.info.metadata == MetaData([("a", "a")]) for event in seen.values())
    assert all(event.request.headers["upload-length"] == "5" for event in seen.values())


async def test_partial_uploads_are_received_and_not_finished() -> None:
    hooks = Recorder()
    flow = Flow(hooks=hooks)
    partial = await flow.partial(b"hello")
    assert not {"before_finish", "after_finish", "authorize finish"} & set(hooks.calls)
    hooks.calls.clear()
    await flow.final(partial)
    assert hooks.calls == [
        "authorize create", "authorize concatenate", "before_create", "after_create", "authorize finish",
        "before_finish", "after_finish",
    ]  # fmt: skip


async def test_what_an_application_changes() -> None:
    destination = Destination("photos", "a.jpg")
    changes = Changes(
        id="chosen", metadata=MetaData([("b", "c")]), max_size=7, destination=destination, owner="me",
        headers=(("X-Key", "a.jpg"),),
    )  # fmt: skip
    flow = Flow(hooks=Recorder(before_create=changes))
    reply = await flow.send("POST", None, upload_length="7", upload_metadata="a YQ==")
    assert reply.headers["location"] == "/files/chosen"
    assert reply.headers["x-key"] == "a.jpg"
    info = flow.store.uploads["chosen"].info
    assert (info.metadata.header, info.max_size, info.destination, info.owner) == ("b Yw==", 7, destination, "me")
    assert (await flow.send("POST", None, upload_length="7")).status == 409  # the id is taken
    assert (await flow.send("POST", None, upload_length="8")).status == 413


async def test_an_id_that_is_taken_does_not_stop_its_body() -> None:
    flow = Flow(hooks=Recorder(before_create=Changes(id="chosen")))
    await flow.create(10)
    stall = Stall()
    patch = asyncio.ensure_future(flow.patch("chosen", 0, b"hello", stall, b"world"))
    await stall.reached.wait()
    assert (await flow.send("POST", None, upload_length="7")).status == 409
    assert not patch.done()
    stall.go.set()
    assert (await patch).status == 204


@pytest.mark.parametrize("changes", [Changes(id="a/b"), Changes(id=""), Changes(headers=(("a\n", "b"),))])
async def test_faults_of_an_application_are_not_the_client_s(changes: Changes) -> None:
    flow = Flow(hooks=Recorder(before_create=changes))
    assert (await flow.send("POST", None, upload_length="7")).status == 500
    assert flow.store.uploads == {}


async def test_the_limit_of_one_upload_holds_for_a_deferred_length() -> None:
    flow = Flow(hooks=Recorder(before_create=Changes(max_size=4)))
    upload_id = await flow.create(upload_defer_length="1")
    assert (await flow.patch(upload_id, 0, b"hel", b"lo")).status == 413
    offset = len(flow.store.data(upload_id))
    assert (await flow.patch(upload_id, offset, b"", upload_length="5")).status == 413


@pytest.mark.parametrize("name", ["authorize", "before_create", "before_receive", "before_finish", "before_terminate"])
async def test_refusals(name: str) -> None:
    refusal = UploadRejectedError("not today", status_code=451, headers=[("X-Why", "law")])
    store = MemoryStore()
    upload_id = await Flow(store).create(5)
    flow = Flow(store, hooks=Recorder(**{name: refusal}))
    if name in ("authorize", "before_create"):
        reply = await flow.send("POST", None, upload_length="5")
    elif name == "before_terminate":
        reply = await flow.send("DELETE", upload_id)
    else:
        reply = await flow.patch(upload_id, 0, b"hello")
        assert reply.reads == (0 if name == "before_receive" else 2)
    assert (reply.status, reply.headers["x-why"]) == (451, "law")
    assert reply.problem["detail"] == "not today"
    assert list(store.uploads) == [upload_id]
    assert not store.uploads[upload_id].info.is_finished


async def test_who_is_not_allowed_any_more_finishes_nothing() -> None:
    allowed = True

    async def authorize(event: UploadEvent) -> None:
        if not allowed:
            raise AccessDeniedError("not any more")

    async def revoke(event: UploadEvent) -> None:
        nonlocal allowed
        allowed = False

    flow = Flow(hooks=Recorder(authorize=authorize, after_receive=revoke))
    upload_id = await flow.create(5)
    reply = await flow.patch(upload_id, 0, b"hello")
    assert (reply.status, reply.problem["detail"]) == (403, "not any more")
    assert "finish_upload" not in flow.store.calls
    assert (await flow.send("HEAD", upload_id)).status == 403


async def test_the_answer_of_an_application_is_given_again() -> None:
    answer = FinalAnswer(status=200, headers=(("X-Key", "k"), ("Content-Type", "text/plain")), body=b"thanks")
    flow = Flow(hooks=Recorder(before_finish=answer))
    upload_id = await flow.create(5)
    for reply in (await flow.patch(upload_id, 0, b"hello"), await flow.patch(upload_id, 5)):
        assert (reply.status, reply.answer.body, reply.headers["x-key"]) == (200, b"thanks", "k")
        assert reply.headers["upload-offset"] == "5"
    assert flow.store.calls.index("record_answer") < flow.store.calls.index("finish_upload")


@pytest.mark.parametrize("error", [ValueError("x"), UnavailableError(), UploadRejectedError("x")])
async def test_hooks_that_are_told_refuse_nothing(error: Exception) -> None:
    does = dict.fromkeys(("after_create", "after_receive", "after_finish", "after_terminate"), error)
    if not isinstance(error, UploadRejectedError):
        does["on_progress"] = error
    flow = Flow(hooks=Recorder(**does), progress_seconds=0)
    upload_id = await flow.create(5)
    assert (await flow.patch(upload_id, 0, b"hel", b"lo")).status == 204
    assert (await flow.send("DELETE", upload_id)).status == 204


async def test_progress_can_end_a_body() -> None:
    refusal = UploadRejectedError("the quota is used up", status_code=507)
    flow = Flow(hooks=Recorder(on_progress=refusal), progress_seconds=0)
    upload_id = await flow.create(10)
    reply = await flow.patch(upload_id, 0, b"hello", Stall())
    assert (reply.status, reply.problem["detail"]) == (507, "the quota is used up")
    assert flow.store.data(upload_id) == b"hello"


async def test_progress_is_reported_seldom_and_by_one_call_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    hooks = Recorder()
    flow = Flow(hooks=hooks, progress_seconds=2)
    upload_id = await flow.create(100)
    stalls = [Stall() for _ in range(6)]
    parts = [part for stall in stalls for part in (b"x", stall)]
    patch = asyncio.ensure_future(flow.patch(upload_id, 0, *parts))
    for stall in stalls:
        await stall.reached.wait()
        now += 1
        stall.go.set()
    await patch
    assert [event.info.offset for name, event in hooks.events if name == "on_progress"] == [3, 5]


async def test_a_slow_report_of_progress_does_not_delay_the_body() -> None:
    release = asyncio.Event()

    async def slow(event: UploadEvent) -> None:
        await release.wait()

    hooks = Recorder(on_progress=slow)
    flow = Flow(hooks=hooks, progress_seconds=0)
    upload_id = await flow.create(100)
    stall = Stall()
    patch = asyncio.ensure_future(flow.patch(upload_id, 0, *[b"x"] * 20, stall))
    await stall.reached.wait()  # all chunks went by
    assert hooks.calls.count("on_progress") == 1
    stall.go.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert "after_receive" not in hooks.calls
    release.set()
    await patch
    assert hooks.calls[-1] == "after_receive"


@pytest.mark.parametrize("name", ["authorize", "before_create", "after_create"])
async def test_a_hook_that_hangs_is_given_up(name: str) -> None:
    async def hang(event: UploadEvent) -> None:
        await asyncio.Event().wait()

    flow = Flow(hooks=Recorder(**{name: hang}), hook_timeout=0.01)
    reply = await flow.send("POST", None, upload_length="5")
    assert reply.status == (201 if name == "after_create" else 504)
    if reply.status == 504:
        assert "retry-after" in reply.headers


async def test_a_time_out_of_the_hook_s_own_is_its_error() -> None:
    flow = Flow(hooks=Recorder(authorize=TimeoutError("secret")))
    assert (await flow.send("POST", None, upload_length="5")).status == 500


async def test_a_slow_hook_delays_no_other_upload() -> None:
    release = asyncio.Event()
    slow: list[str] = []

    async def wait(event: UploadEvent) -> None:
        if event.info.id in slow:
            await release.wait()

    flow = Flow(hooks=Recorder(before_finish=wait))
    slow.append(await flow.create(5))
    first = asyncio.ensure_future(flow.patch(slow[0], 0, b"hello"))
    other = await flow.create(5)
    assert (await flow.patch(other, 0, b"hello")).status == 204
    assert not first.done()
    release.set()
    assert (await first).status == 204
