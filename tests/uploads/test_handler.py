"""The flow of tus 1.0 over a data store in memory: creation, bodies, the end, termination, downloads."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime

import pytest

from tests.uploads.flows import BYTES, GONE, Flow
from tests.uploads.memory_store import Bytes, MemoryStore, PlainStore
from trove_async.errors import UnsupportedError, UploadExpiredError
from trove_async.uploads import (
    ConcaterDataStore,
    DataStore,
    FinisherDataStore,
    LengthDeclarerDataStore,
    RecorderDataStore,
    TerminaterDataStore,
    VerifierDataStore,
)
from trove_async.uploads.protocol.messages import Settings
from trove_async.web.http import disposition_filename

pytestmark = pytest.mark.asyncio

SOON = datetime(2099, 1, 2, 3, 4, 5, tzinfo=UTC)


async def test_the_stores_have_the_capabilities_that_they_implement() -> None:
    protocols = (
        TerminaterDataStore, ConcaterDataStore, LengthDeclarerDataStore, FinisherDataStore, VerifierDataStore,
        RecorderDataStore,
    )  # fmt: skip
    assert isinstance(PlainStore(), DataStore)
    assert not any(isinstance(PlainStore(), each) for each in protocols)
    assert all(isinstance(MemoryStore(), each) for each in protocols)


async def test_an_upload_in_two_bodies() -> None:
    flow = Flow(MemoryStore(expires_at=SOON))
    created = await flow.send("POST", upload_length="10", upload_metadata="filename YS50eHQ=,empty")
    assert created.status == 201
    assert created.headers["location"] == f"/files/{created.upload_id}"
    assert created.headers["upload-expires"] == "Fri, 02 Jan 2099 03:04:05 GMT"
    assert created.headers["tus-resumable"] == "1.0.0"
    assert "upload-offset" not in created.headers
    assert created.reads == 0
    upload_id = created.upload_id

    first = await flow.patch(upload_id, 0, b"hel", b"lo", content_length="5")
    assert (first.status, first.headers["upload-offset"]) == (204, "5")
    assert first.headers["upload-expires"] == "Fri, 02 Jan 2099 03:04:05 GMT"

    head = await flow.send("HEAD", upload_id)
    assert head.status == 200
    assert head.headers["upload-offset"] == "5"
    assert head.headers["upload-length"] == "10"
    assert head.headers["upload-metadata"] == "filename YS50eHQ=,empty"
    assert head.headers["cache-control"] == "no-store"

    last = await flow.patch(upload_id, 5, b"world")
    assert (last.status, last.headers["upload-offset"]) == (204, "10")
    assert "upload-expires" not in last.headers
    assert flow.store.uploads[upload_id].info.is_finished
    assert flow.store.data(upload_id) == b"helloworld"
    assert (await flow.send("HEAD", upload_id)).headers["upload-offset"] == "10"


async def test_a_plain_store_is_enough() -> None:
    flow = Flow(PlainStore())
    options = await flow.send("OPTIONS", None, tus_resumable=None)
    assert options.status == 204
    assert options.headers["tus-extension"] == "creation,creation-with-upload"
    upload_id = await flow.create(5)
    assert (await flow.patch(upload_id, 0, b"hello")).status == 204
    assert (await flow.send("HEAD", upload_id)).headers["upload-offset"] == "5"
    assert (await flow.send("DELETE", upload_id)).status == 405
    assert (await flow.send("POST", None, upload_defer_length="1")).status == 400


async def test_options_have_the_headers_of_both_protocols() -> None:
    options = await Flow(settings=Settings(max_size=10)).send("OPTIONS", None, tus_resumable=None)
    assert options.headers["tus-version"] == "1.0.0"
    assert options.headers["tus-max-size"] == "10"
    assert "max-size=10" in options.headers["upload-limit"]


async def test_an_empty_upload_is_finished_when_it_is_created() -> None:
    flow = Flow()
    upload_id = await flow.create(0)
    assert flow.store.uploads[upload_id].info.is_finished
    head = await flow.send("HEAD", upload_id)
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("0", "0")
    assert (await flow.patch(upload_id, 0)).status == 204


async def test_creation_with_upload() -> None:
    flow = Flow()
    part = await flow.send("POST", None, b"hello", content_type=BYTES, upload_length="10")
    assert (part.status, part.headers["upload-offset"]) == (201, "5")
    assert (await flow.patch(part.upload_id, 5, b"world")).status == 204
    whole = await flow.send("POST", None, b"hello", content_type=BYTES, upload_length="5", content_length="5")
    assert (whole.status, whole.headers["upload-offset"]) == (201, "5")
    assert flow.store.uploads[whole.upload_id].info.is_finished
    broken = await flow.send("POST", None, b"hel", GONE, content_type=BYTES, upload_length="5")
    assert (broken.status, broken.headers["upload-offset"]) == (201, "3")


async def test_what_arrived_before_a_disconnect_is_kept() -> None:
    flow = Flow()
    upload_id = await flow.create(10)
    await flow.patch(upload_id, 0, b"hello", b"wo", GONE)
    assert (await flow.send("HEAD", upload_id)).headers["upload-offset"] == "7"
    assert (await flow.patch(upload_id, 7, b"rld", GONE)).status == 204  # all bytes are there
    assert flow.store.uploads[upload_id].info.is_finished


async def test_another_offset_is_a_conflict_and_changes_nothing() -> None:
    flow = Flow()
    upload_id = await flow.create(10)
    await flow.patch(upload_id, 0, b"hello")
    for offset in (0, 4, 6, 10, 11, 2**70):
        reply = await flow.patch(upload_id, offset, b"x")
        assert (reply.status, reply.reads) == (409, 0)
        assert (reply.problem["expected-offset"], reply.problem["provided-offset"]) == (5, offset)
        assert reply.problem["upload"] == upload_id
    assert flow.store.data(upload_id) == b"hello"


async def test_a_finished_upload_takes_nothing_more() -> None:
    flow = Flow()
    upload_id = await flow.create(5)
    await flow.patch(upload_id, 0, b"hello")
    calls = len(flow.store.calls)
    again = await flow.patch(upload_id, 5)
    assert (again.status, again.headers["upload-offset"], again.reads) == (204, "5", 0)
    assert (await flow.patch(upload_id, 5, b"x", content_length="1")).status == 413
    assert (await flow.patch(upload_id, 0, b"x")).status == 409
    assert (await flow.patch(upload_id, 5, upload_length="6")).status == 400
    assert set(flow.store.calls[calls:]) == {"get_info"}


@pytest.mark.parametrize("headers", [{"content_length": "6"}, {"content_length": None}])
async def test_a_body_beyond_the_length_is_too_large(headers: dict[str, str | None]) -> None:
    flow = Flow()
    upload_id = await flow.create(5)
    reply = await flow.patch(upload_id, 0, b"hel", b"lo!", b"more", **headers)
    assert reply.status == 413
    assert reply.reads == (0 if headers["content_length"] else 2)
    assert flow.store.data(upload_id) in (b"", b"hel")
    assert (await flow.patch(upload_id, len(flow.store.data(upload_id)), b"lo")).status == 204


async def test_the_limit_holds_whatever_the_headers_say() -> None:
    flow = Flow(settings=Settings(max_size=5))
    assert (await flow.send("POST", None, upload_length="6")).status == 413
    deferred = await flow.create(upload_defer_length="1")
    assert (await flow.patch(deferred, 0, b"hello!", content_length="6")).status == 413
    assert (await flow.patch(deferred, 0, b"hel", b"lo!")).status == 413
    offset = len(flow.store.data(deferred))
    assert (await flow.patch(deferred, offset, b"x", upload_length="6")).status == 413
    lying = await flow.patch(deferred, offset, b"lo!!", content_length="1")
    assert lying.status == 413
    reply = await flow.send("POST", None, b"hello!", content_type=BYTES, upload_defer_length="1")
    assert reply.status == 413
    assert "location" not in reply.headers
    assert (await flow.send("POST", None, b"", content_type=BYTES, upload_length="5", content_length="6")).status == 413
    parts = [await flow.partial(b"abc"), await flow.partial(b"def")]
    assert (await flow.final(*parts)).status == 413
    assert list(flow.store.uploads) == [deferred, *parts]


async def test_a_deferred_length() -> None:
    flow = Flow()
    upload_id = await flow.create(upload_defer_length="1")
    head = await flow.send("HEAD", upload_id)
    assert head.headers["upload-defer-length"] == "1"
    assert "upload-length" not in head.headers
    assert (await flow.patch(upload_id, 0, b"hello")).status == 204
    assert (await flow.patch(upload_id, 5, b"world", upload_length="4")).status == 400
    assert (await flow.patch(upload_id, 5, b"world!", content_length="6", upload_length="10")).status == 413
    assert flow.store.uploads[upload_id].info.size is None
    assert (await flow.patch(upload_id, 5, b"wor", upload_length="10")).status == 204
    head = await flow.send("HEAD", upload_id)
    assert head.headers["upload-length"] == "10"
    assert "upload-defer-length" not in head.headers
    assert (await flow.patch(upload_id, 8, b"ld", upload_length="11")).status == 400
    assert (await flow.patch(upload_id, 8, b"ld", upload_length="10")).status == 204
    assert flow.store.uploads[upload_id].info.is_finished


async def test_the_length_may_come_after_the_last_byte() -> None:
    flow = Flow()
    upload_id = await flow.create(upload_defer_length="1")
    assert (await flow.patch(upload_id, 0, b"hello")).status == 204
    assert not flow.store.uploads[upload_id].info.is_finished
    reply = await flow.patch(upload_id, 5, content_length="0", upload_length="5")
    assert (reply.status, reply.headers["upload-offset"]) == (204, "5")
    assert flow.store.uploads[upload_id].info.is_finished


async def test_an_empty_body_writes_nothing() -> None:
    flow = Flow()
    upload_id = await flow.create(5)
    calls = len(flow.store.calls)
    assert (await flow.patch(upload_id, 0, content_length="0")).status == 204
    assert set(flow.store.calls[calls:]) == {"get_info"}


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE", "GET"])
@pytest.mark.parametrize("upload_id", ["unknown", "", "a\x00b", "../a", "a/b", "a" * 200, "ä", "."])
async def test_unknown_uploads(method: str, upload_id: str) -> None:
    flow = Flow()
    reply = await flow.send(method, upload_id, b"x", content_type=BYTES, upload_offset="0")
    assert reply.status == 404
    assert reply.reads == 0
    assert "upload-offset" not in reply.headers
    assert reply.headers["tus-resumable"] == "1.0.0"


async def test_an_expired_upload_is_gone() -> None:
    flow = Flow()
    for method in ("HEAD", "PATCH"):
        flow.store.faults["get_info"] = [UploadExpiredError()]
        reply = await flow.send(method, "a", content_type=BYTES, upload_offset="0")
        assert reply.status == 410
        assert "upload-offset" not in reply.headers


async def test_termination() -> None:
    flow = Flow()
    upload_id = await flow.create(10)
    await flow.patch(upload_id, 0, b"hello")
    assert (await flow.send("DELETE", upload_id)).status == 204
    for method in ("HEAD", "DELETE", "GET"):
        assert (await flow.send(method, upload_id)).status == 404
    assert (await flow.patch(upload_id, 5, b"world")).status == 404
    assert not flow.store.uploads


async def test_the_methods_may_be_sent_in_a_header() -> None:
    flow = Flow()
    upload_id = await flow.create(5)
    reply = await flow.send(
        "POST", upload_id, b"hello", content_type=BYTES, upload_offset="0", x_http_method_override="PATCH"
    )
    assert reply.status == 204
    assert (await flow.send("GET", upload_id, x_http_method_override="HEAD")).headers["upload-offset"] == "5"
    assert (await flow.send("POST", upload_id, x_http_method_override="DELETE")).status == 204


async def test_a_wrong_version_is_refused_before_anything_else() -> None:
    flow = Flow()
    for method, upload_id in (("POST", None), ("PATCH", "a")):
        for version in ("0.2.2", None):
            reply = await flow.send(method, upload_id, b"x", tus_resumable=version, upload_length="1")
            assert (reply.status, reply.headers["tus-version"], reply.reads) == (412, "1.0.0", 0)
    assert flow.store.calls == []


async def test_download() -> None:
    flow = Flow()
    upload_id = await flow.create(5, upload_metadata="filename 4pyTLnR4dA==,filetype dGV4dC9wbGFpbg==")
    early = await flow.send("GET", upload_id, tus_resumable=None)
    assert early.status == 400
    await flow.patch(upload_id, 0, b"hello")
    reply = await flow.send("GET", upload_id, tus_resumable=None)
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/plain"
    assert reply.headers["content-disposition"] == "inline; filename=\"_.txt\"; filename*=UTF-8''%E2%9C%93.txt"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["content-length"] == "5"
    assert reply.headers["tus-resumable"] == "1.0.0"
    assert isinstance(reply.answer.body, Bytes)
    async with reply.answer.body as stream:
        assert [chunk async for chunk in stream] == [b"hello"]


@pytest.mark.parametrize(
    "content_type",
    ["image/png;a=b,text/html", 'image/png;a=","', 'image/png;a="b', "image/png;", "image/png; text/html"],
)
async def test_a_type_that_browsers_may_understand_otherwise_is_not_shown(content_type: str) -> None:
    flow = Flow()
    upload_id = await flow.create(1, upload_metadata=f"filetype {b64encode(content_type.encode()).decode()}")
    await flow.patch(upload_id, 0, b"x")
    reply = await flow.send("GET", upload_id)
    assert reply.status == 200
    assert reply.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize(
    ("metadata", "content_type"),
    [
        ("filetype dGV4dC9odG1s", "text/html"),
        ("filetype aW1hZ2Uvc3ZnK3htbA==", "image/svg+xml"),
        ("filetype dGV4dC9wbGFpbjsgY2hhcnNldD11dGYtOA==,filename YS5odG1s", None),
        ("filetype bm9uZQ==,filename YS5odG1s", "text/html"),
        ("filetype /w==", "application/octet-stream"),
        ("filename YS5odG1s", "text/html"),
        (None, "application/octet-stream"),
    ],
)
async def test_only_harmless_types_are_shown_by_browsers(metadata: str | None, content_type: str | None) -> None:
    flow = Flow()
    upload_id = await flow.create(1, upload_metadata=metadata)
    await flow.patch(upload_id, 0, b"x")
    reply = await flow.send("GET", upload_id)
    if content_type is None:
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"
        assert reply.headers["content-disposition"].startswith("inline")
    else:
        assert reply.headers["content-type"] == content_type
        assert reply.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\xe4" * 5000 + ".zip", "\xe4" * 251 + ".zip"),
        ("x" * 5000, "x" * 255),
        ("x." + "y" * 5000, "x." + "y" * 253),
        ("x" * 251 + ".zip", "x" * 251 + ".zip"),
    ],
)
async def test_a_download_has_no_longer_name_than_a_file(name: str, shown: str) -> None:
    flow = Flow()
    upload_id = await flow.create(0, upload_metadata=f"filename {b64encode(name.encode()).decode()}")
    said = (await flow.send("GET", upload_id)).headers["content-disposition"]
    assert disposition_filename(said) == shown


async def test_an_empty_upload_is_read_like_others() -> None:
    """With 204, browsers would save no file."""
    flow = Flow()
    reply = await flow.send("GET", await flow.create(0, upload_metadata="filename YS56aXA="))
    assert (reply.status, reply.headers["content-length"]) == (200, "0")
    assert reply.headers["content-disposition"] == 'attachment; filename="a.zip"'


async def test_downloads_can_be_switched_off() -> None:
    flow = Flow(settings=Settings(downloads=False))
    assert (await flow.send("GET", await flow.create(0))).status == 405


async def test_absolute_locations() -> None:
    flow = Flow(settings=Settings(absolute=True))
    reply = await flow.send("POST", None, upload_length="1")
    assert reply.headers["location"].startswith("/files/")  # the server does not know its origin


async def test_a_store_that_does_not_read_uploads() -> None:
    flow = Flow()
    upload_id = await flow.create(1)
    await flow.patch(upload_id, 0, b"x")
    flow.store.faults["get_reader"] = [UnsupportedError("uploads are not read")]
    reply = await flow.send("GET", upload_id)
    assert (reply.status, reply.problem["detail"]) == (501, "uploads are not read")
