"""The flow of Resumable Uploads for HTTP over a data store in memory."""

from __future__ import annotations

import hashlib
from base64 import b64encode

import pytest

from tests.uploads.flows import GONE, Flow, Part, Reply
from tests.uploads.memory_store import MemoryStore
from trove_async.errors import UnavailableError, UploadNotFoundError, UploadRejectedError
from trove_async.uploads import FinalAnswer, Hooks, UploadEvent
from trove_async.uploads.protocol.messages import Settings
from trove_async.uploads.protocol.problems import COMPLETED_UPLOAD, INCONSISTENT_LENGTH, MISMATCHING_OFFSET

pytestmark = pytest.mark.asyncio

PARTIAL = "application/partial-upload"
DIGEST = f"sha-256=:{b64encode(hashlib.sha256(b'helloworld').digest()).decode()}:"


async def post(flow: Flow, *parts: Part, **headers: str | None) -> Reply:
    """Create an upload; by default it is not complete with this body."""
    said: dict[str, str | None] = {"tus_resumable": None, "upload_complete": "?0", **headers}
    return await flow.send("POST", None, *parts, **said)


async def patch(flow: Flow, upload_id: str, offset: int, *parts: Part, **headers: str | None) -> Reply:
    """Append to an upload; by default it is not complete with this body."""
    said: dict[str, str | None] = {"tus_resumable": None, "content_type": PARTIAL, "upload_complete": "?0", **headers}
    return await flow.send("PATCH", upload_id, *parts, upload_offset=str(offset), **said)


async def head(flow: Flow, upload_id: str, **headers: str | None) -> Reply:
    """Ask for the offset."""
    return await flow.send("HEAD", upload_id, tus_resumable=None, **headers)


async def test_a_careful_creation_and_two_bodies() -> None:
    flow = Flow()
    created = await post(flow, content_length="0", upload_length="10")
    assert created.status == 201
    assert (created.headers["upload-complete"], created.headers["upload-offset"]) == ("?0", "0")
    upload_id = created.upload_id
    first = await patch(flow, upload_id, 0, b"hello", content_length="5")
    assert (first.status, first.headers["upload-complete"], first.headers["upload-offset"]) == (204, "?0", "5")
    described = await head(flow, upload_id)
    assert described.status == 204
    assert described.headers["upload-length"] == "10"
    assert described.headers["upload-complete"] == "?0"
    last = await patch(flow, upload_id, 5, b"world", upload_complete="?1", content_length="5")
    assert (last.status, last.headers["upload-complete"]) == (204, "?1")
    assert (await head(flow, upload_id)).headers["upload-complete"] == "?1"
    assert flow.store.uploads[upload_id].info.is_finished


@pytest.mark.parametrize("length", ["10", None])
async def test_all_in_one_request(length: str | None) -> None:
    flow = Flow()
    reply = await post(flow, b"hello", b"world", upload_complete="?1", content_length=length)
    assert (reply.status, reply.headers["upload-complete"]) == (201, "?1")
    assert (await head(flow, reply.upload_id)).headers["upload-length"] == "10"


async def test_all_bytes_do_not_complete_an_upload() -> None:
    flow = Flow()
    created = await post(flow, b"hello", upload_length="5", content_length="5")
    assert created.headers["upload-complete"] == "?0"
    described = await head(flow, created.upload_id)
    assert (described.headers["upload-complete"], described.headers["upload-offset"]) == ("?0", "5")
    last = await patch(flow, created.upload_id, 5, upload_complete="?1", content_length="0")
    assert (last.status, last.headers["upload-complete"]) == (204, "?1")


async def test_tus_js_client_completes_what_has_all_bytes() -> None:
    store = MemoryStore()
    store.faults["finish_upload"] = [UnavailableError(), UnavailableError()]
    flow = Flow(store)
    headers: dict[str, str | None] = {"upload_draft_interop_version": "6"}
    created = await post(flow, b"hel", upload_length="5", content_length="3", **headers)
    failed = await patch(flow, created.upload_id, 3, b"lo", content_length="2", **headers)
    assert failed.status == 503
    assert (await head(flow, created.upload_id, **headers)).status == 423  # it would take the upload for finished
    described = await head(flow, created.upload_id, **headers)
    assert (described.headers["upload-offset"], described.headers["upload-length"]) == ("5", "5")
    assert described.headers["upload-complete"] == "?1"
    again = await patch(flow, created.upload_id, 5, content_length="0", **headers)
    assert (again.status, again.headers["upload-complete"]) == (201, "?1")
    empty = await post(flow, upload_length="0", content_length="0", **headers)
    assert empty.headers["upload-complete"] == "?1"


async def test_the_final_answer_is_given_again() -> None:
    class Answering(Hooks):
        async def before_finish(self, event: UploadEvent) -> FinalAnswer:
            return FinalAnswer(200, (("Content-Type", "text/plain"),), b"thanks")

    flow = Flow(hooks=Answering())
    created = await post(flow, upload_length="5", content_length="0")
    first = await patch(flow, created.upload_id, 0, b"hello", upload_complete="?1", content_length="5")
    again = await patch(flow, created.upload_id, 5, upload_complete="?1", content_length="0")
    assert first.answer == again.answer
    assert (again.status, again.answer.body) == (200, b"thanks")
    more = await patch(flow, created.upload_id, 5, content_length="0")
    assert (more.status, more.problem["type"]) == (400, COMPLETED_UPLOAD)
    longer = await patch(flow, created.upload_id, 5, b"x", content_length="1")
    assert (longer.status, longer.problem["type"]) == (400, INCONSISTENT_LENGTH)
    assert (await head(flow, created.upload_id)).headers["upload-complete"] == "?1"


async def test_another_offset() -> None:
    flow = Flow()
    created = await post(flow, b"hello", content_length="5")
    reply = await patch(flow, created.upload_id, 3, b"lo", content_length="2")
    assert (reply.status, reply.headers["upload-offset"], reply.reads) == (409, "5", 0)
    assert reply.problem["type"] == MISMATCHING_OFFSET
    assert (reply.problem["expected-offset"], reply.problem["provided-offset"]) == (5, 3)


@pytest.mark.parametrize(("version", "removed"), [(None, True), ("8", True), ("6", False)])
async def test_a_body_beyond_the_length_makes_the_upload_invalid(version: str | None, removed: bool) -> None:
    flow = Flow()
    headers: dict[str, str | None] = {} if version is None else {"upload_draft_interop_version": version}
    created = await post(flow, b"hello", upload_length="6", content_length="5", **headers)
    refused = await patch(flow, created.upload_id, 5, b"wo", content_length="2", **headers)
    assert (refused.status, refused.reads) == (400, 0)  # its header has told it: no byte was taken
    assert (await head(flow, created.upload_id, **headers)).headers["upload-offset"] == "5"
    reply = await patch(flow, created.upload_id, 5, b"wo", b"rld", **headers)
    assert (reply.status, reply.problem["type"]) == (400, INCONSISTENT_LENGTH)
    assert (await head(flow, created.upload_id, **headers)).status == (404 if removed else 204)


@pytest.mark.parametrize(
    ("complete", "headers"),
    [
        ("?0", {"upload_length": "9"}),
        ("?1", {"content_length": "3"}),
    ],
)
async def test_the_length_does_not_change(complete: str, headers: dict[str, str | None]) -> None:
    flow = Flow()
    created = await post(flow, b"hello", upload_length="10", content_length="5")
    reply = await patch(flow, created.upload_id, 5, b"wor", upload_complete=complete, **headers)
    assert (reply.status, reply.problem["type"]) == (400, INCONSISTENT_LENGTH)
    assert reply.headers["upload-complete"] == "?0"
    assert (await head(flow, created.upload_id)).headers["upload-length"] == "10"


async def test_the_last_body_is_shorter_than_the_upload() -> None:
    flow = Flow()
    created = await post(flow, b"hello", upload_length="10", content_length="5")
    reply = await patch(flow, created.upload_id, 5, b"wor", upload_complete="?1")
    assert (reply.status, reply.problem["type"]) == (400, INCONSISTENT_LENGTH)
    assert (await head(flow, created.upload_id)).headers["upload-offset"] == "8"
    whole = await post(flow, b"hello", upload_complete="?1", upload_length="10")
    assert (whole.status, whole.problem["type"]) == (400, INCONSISTENT_LENGTH)


async def test_limits() -> None:
    flow = Flow(settings=Settings(max_size=10))
    for headers in ({"content_length": "11"}, {"upload_length": "11"}):
        reply = await post(flow, b"x" * 11, **headers)
        assert (reply.status, reply.headers["upload-limit"], reply.reads) == (413, "max-size=10", 0)
    endless = await post(flow, b"x" * 11)
    assert endless.status == 413
    assert not flow.store.uploads
    options = await flow.send("OPTIONS", None, tus_resumable=None)
    assert options.headers["upload-limit"] == "max-size=10"
    assert options.headers["tus-max-size"] == "10"


async def test_what_is_said_about_the_upload_is_its_metadata() -> None:
    flow = Flow()
    created = await post(
        flow,
        upload_complete="?1",
        content_length="0",
        content_type="image/png",
        content_disposition="inline; filename=\"x.png\"; filename*=UTF-8''a%20%C3%BC.png",
        content_language="de",
    )
    metadata = flow.store.uploads[created.upload_id].info.metadata
    assert (metadata.text("filename"), metadata.text("filetype")) == ("a ü.png", "image/png")
    assert metadata.text("content-language") == "de"


async def test_digests() -> None:
    flow = Flow()
    created = await post(flow, b"hello", content_length="5", repr_digest=DIGEST)
    wrong = await patch(flow, created.upload_id, 5, b"world", upload_complete="?1", content_digest=DIGEST)
    assert (wrong.status, wrong.headers["upload-complete"]) == (400, "?0")
    assert (await head(flow, created.upload_id)).headers["upload-offset"] == "5"
    last = await patch(flow, created.upload_id, 5, b"world", upload_complete="?1")
    assert (last.status, last.headers["repr-digest"]) == (204, DIGEST)


async def test_cancellation() -> None:
    flow = Flow()
    created = await post(flow, content_length="0")
    assert (await flow.send("DELETE", created.upload_id, tus_resumable=None)).status == 204
    assert (await head(flow, created.upload_id)).status == 404
    with pytest.raises(UploadNotFoundError):
        await flow.store.get_info(created.upload_id)


async def test_what_arrived_before_a_disconnect_is_kept_and_not_complete() -> None:
    flow = Flow()
    created = await post(flow, content_length="0", upload_length="5")
    await patch(flow, created.upload_id, 0, b"hello", GONE, upload_complete="?1", content_length="5")
    described = await head(flow, created.upload_id)
    assert (described.headers["upload-offset"], described.headers["upload-complete"]) == ("5", "?0")


async def test_a_failure_is_not_taken_for_the_end_of_the_upload() -> None:
    """Clients of this protocol take any 2xx to a request with the whole upload for its end."""
    store = MemoryStore()
    store.faults["write_chunk"] = [UnavailableError(), UnavailableError()]
    flow = Flow(store)
    whole = await post(flow, b"hello", upload_complete="?1", content_length="5")
    assert (whole.status, whole.headers["upload-complete"]) == (503, "?0")
    assert "retry-after" in whole.headers
    assert not store.uploads
    # One that has more to send learns where to send it.
    part = await post(flow, b"hello", content_length="5")
    assert (part.status, part.headers["upload-complete"]) == (201, "?0")
    assert (await head(flow, part.upload_id)).headers["upload-offset"] == "0"


async def test_a_refusal_of_the_whole_upload_is_final() -> None:
    class Refusing(Hooks):
        async def before_finish(self, event: UploadEvent) -> None:
            raise UploadRejectedError("no cats", status_code=422)

    flow = Flow(hooks=Refusing())
    created = await post(flow, b"hel", content_length="3")
    last = await patch(flow, created.upload_id, 3, b"lo", upload_complete="?1")
    assert (last.status, last.headers["upload-complete"]) == (422, "?1")
    assert last.problem["detail"] == "no cats"


async def test_methods_of_tus_in_a_header_are_those_of_tus() -> None:
    reply = await Flow().send("POST", "a", tus_resumable=None, x_http_method_override="DELETE")
    assert reply.status == 412
