"""The extensions concatenation and concatenation-unfinished."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.uploads.flows import BYTES, Flow
from trove_async.errors import AccessDeniedError, UnavailableError
from trove_async.uploads import Changes, Hooks, UploadEvent
from trove_async.uploads.protocol.messages import Settings

pytestmark = pytest.mark.asyncio


async def test_parts_become_one_upload() -> None:
    flow = Flow()
    one, two = await flow.partial(b"hello ", upload_metadata="a YQ=="), await flow.partial(b"world")
    head = await flow.send("HEAD", one)
    assert head.headers["upload-concat"] == "partial"
    assert head.headers["upload-metadata"] == "a YQ=="
    reply = await flow.final(one, two, one, upload_metadata="b Yg==")
    assert reply.status == 201
    assert flow.store.data(reply.upload_id) == b"hello worldhello "
    head = await flow.send("HEAD", reply.upload_id)
    assert head.headers["upload-concat"] == f"final;/files/{one} /files/{two} /files/{one}"
    assert head.headers["upload-offset"] == head.headers["upload-length"] == "17"
    assert head.headers["upload-metadata"] == "b Yg=="  # those of the parts are not inherited
    assert flow.store.calls.count("finish_upload") == 2  # of the parts
    assert (await flow.send("HEAD", one)).status == 200


async def test_empty_parts() -> None:
    flow = Flow()
    reply = await flow.final(await flow.partial(b""), await flow.partial(b""))
    assert reply.status == 201
    head = await flow.send("HEAD", reply.upload_id)
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("0", "0")


async def test_nothing_is_appended_to_a_final_upload() -> None:
    flow = Flow()
    partial = await flow.create(5, upload_concat="partial")
    waiting = (await flow.final(partial)).upload_id
    assert (await flow.patch(waiting, 0, b"hello")).status == 403
    await flow.patch(partial, 0, b"hello")
    joined = (await flow.final(partial)).upload_id
    assert (await flow.patch(joined, 5)).status == 403
    assert (await flow.patch(joined, 0, b"x")).status == 403
    reply = await flow.send("POST", None, b"x", content_type=BYTES, upload_concat=f"final;/files/{partial}")
    assert (reply.status, reply.reads) == (403, 0)


async def test_a_final_upload_is_joined_once_its_parts_are_complete() -> None:
    flow = Flow()
    one, two = await flow.partial(b"hello "), await flow.create(upload_defer_length="1", upload_concat="partial")
    final = (await flow.final(one, two)).upload_id
    head = await flow.send("HEAD", final)
    assert head.status == 200
    assert "upload-offset" not in head.headers
    assert "upload-length" not in head.headers
    assert head.headers["upload-concat"] == f"final;/files/{one} /files/{two}"
    assert (await flow.send("GET", final)).status == 400
    await flow.patch(two, 0, b"wo", upload_length="5")
    head = await flow.send("HEAD", final)
    assert ("upload-offset" in head.headers, head.headers["upload-length"]) == (False, "11")
    await flow.patch(two, 2, b"rld")
    heads = await asyncio.gather(*(flow.send("HEAD", final) for _ in range(3)))
    assert {head.headers["upload-offset"] for head in heads} == {"11"}
    assert flow.store.data(final) == b"hello world"
    assert flow.store.calls.count("concat_uploads") == 1


async def test_a_download_joins_too() -> None:
    flow = Flow()
    partial = await flow.create(5, upload_concat="partial")
    final = (await flow.final(partial)).upload_id
    await flow.patch(partial, 0, b"hello")
    assert (await flow.send("GET", final)).status == 200
    assert (await flow.send("GET", partial)).status == 403


async def test_a_final_upload_whose_part_is_gone() -> None:
    flow = Flow()
    one, two = await flow.partial(b"hello"), await flow.create(5, upload_concat="partial")
    final = (await flow.final(one, two)).upload_id
    assert (await flow.send("DELETE", two)).status == 204
    assert (await flow.send("HEAD", final)).status == 404  # it can never be completed
    reply = await flow.final(one, two)
    assert reply.status == 404
    assert two in reply.problem["detail"]


async def test_only_partial_uploads_are_joined() -> None:
    flow = Flow()
    plain = await flow.create(0)
    reply = await flow.final(plain)
    assert reply.status == 400
    final = (await flow.final(await flow.partial(b"a"))).upload_id
    assert (await flow.final(final)).status == 400
    assert (await flow.final("unknown")).status == 404


async def test_the_sum_is_limited_also_if_it_is_known_late() -> None:
    flow = Flow(settings=Settings(max_size=5))
    one, two = await flow.partial(b"abc"), await flow.create(upload_defer_length="1", upload_concat="partial")
    final = (await flow.final(one, two)).upload_id
    await flow.patch(two, 0, b"def", upload_length="3")
    assert (await flow.send("HEAD", final)).status == 413
    assert "concat_uploads" not in flow.store.calls


async def test_the_limit_of_one_upload_counts_for_the_sum_also_if_it_is_known_late() -> None:
    flow = Flow(hooks=Owners())
    one, two = [await flow.create(upload_defer_length="1", upload_concat="partial", user="small") for _ in "12"]
    final = (await flow.final(one, two, user="small")).upload_id
    for each in (one, two):
        assert (await flow.patch(each, 0, b"abc", upload_length="3")).status == 204
    assert (await flow.send("HEAD", final)).status == 413
    assert "concat_uploads" not in flow.store.calls


class Owners(Hooks):
    """The owner of an upload is who asks; nobody reads what is secret."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def authorize(self, event: UploadEvent) -> None:
        self.asked.append((event.action, event.info.id))
        if event.action == "concatenate" and event.info.metadata.text("secret") is not None:
            raise AccessDeniedError("secrets are not joined")

    async def before_create(self, event: UploadEvent) -> Changes:
        most = 4 if event.request.headers.get("user") == "small" else None
        return Changes(owner=event.request.headers.get("user", ""), max_size=most)


async def test_parts_of_others_are_not_joined() -> None:
    hooks = Owners()
    flow = Flow(hooks=hooks)
    mine, yours = await flow.partial(b"abc", user="me"), await flow.partial(b"abc", user="you")
    assert (await flow.final(mine, yours, user="me")).status == 403
    assert (await flow.final(yours, user="me")).status == 403
    secret = await flow.partial(b"abc", user="me", upload_metadata="secret")
    hooks.asked.clear()
    assert (await flow.final(mine, secret, user="me")).status == 403
    assert [action for action, _ in hooks.asked] == ["create", "concatenate", "concatenate"]
    assert [asked for _, asked in hooks.asked[1:]] == [mine, secret]
    assert (await flow.final(mine, mine, user="me")).status == 201
    small = await flow.partial(b"abc", user="small")
    assert (await flow.final(small, small, user="small")).status == 413


async def test_a_join_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "trove_async.uploads")
    flow = Flow()
    partial = await flow.create(5, upload_concat="partial")
    final = (await flow.final(partial)).upload_id
    await flow.patch(partial, 0, b"hello")
    flow.store.faults["concat_uploads"] = [UnavailableError(), UnavailableError()]
    assert (await flow.send("HEAD", final)).status == 423
    assert (await flow.final(partial)).status == 503
    assert set(flow.store.uploads) == {partial, final}
    assert (await flow.send("HEAD", final)).headers["upload-offset"] == "5"
