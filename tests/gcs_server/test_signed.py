from __future__ import annotations

import time

import httpx
import pytest

from tests.gcs_server.conftest import Put
from tests.gcs_server.requests import OBJECTS, assert_xml_error
from tests.gcs_server.signing import signed_form, signed_url
from trove_async.testing.gcs import GCSServer


@pytest.mark.parametrize("with_hmac", [False, True], ids=["rsa", "hmac"])
@pytest.mark.parametrize("name", ["a", "dir/ü ☺.txt", "a+b%20c", "!?=#$&'()*,:;@[]\"", "x//y"])
@pytest.mark.asyncio
async def test_a_signed_download(
    server: GCSServer, stranger: httpx.AsyncClient, put: Put, name: str, with_hmac: bool
) -> None:
    await put(name, b"content")
    answer = await stranger.get(signed_url(server, "GET", f"/my-bucket/{name}", with_hmac=with_hmac))
    assert (answer.status_code, answer.content) == (200, b"content"), answer.text


@pytest.mark.asyncio
async def test_response_headers_can_be_overridden(server: GCSServer, stranger: httpx.AsyncClient, put: Put) -> None:
    await put("a", b"content")
    query = {"response-content-disposition": 'attachment; filename="ü.txt"', "response-content-type": "image/png"}
    answer = await stranger.get(signed_url(server, "GET", "/my-bucket/a", query=query), headers={"Range": "bytes=0-1"})
    assert (answer.status_code, answer.content) == (206, b"co")
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="ü.txt"'


@pytest.mark.asyncio
async def test_a_signed_upload_with_headers(server: GCSServer, stranger: httpx.AsyncClient, bucket: str) -> None:
    headers = {"Content-Type": "image/png", "x-goog-meta-author": "me  too", "x-goog-if-generation-match": "0"}
    url = signed_url(server, "PUT", "/my-bucket/a", headers=headers)
    answer = await stranger.put(url, content=b"data", headers=headers)
    assert (answer.status_code, answer.content) == (200, b"")
    made = server.objects(bucket)[0]
    assert (made.data, made.fields["contentType"]) == (b"data", "image/png")
    assert made.fields["metadata"] == {"author": "me  too"}
    assert_xml_error(await stranger.put(url, content=b"data", headers=headers), 412, "PreconditionFailed")


@pytest.mark.asyncio
async def test_head_and_delete(server: GCSServer, stranger: httpx.AsyncClient, put: Put) -> None:
    await put("a", b"content")
    head = await stranger.head(signed_url(server, "HEAD", "/my-bucket/a"))
    assert (head.status_code, head.headers["Content-Length"]) == (200, "7")
    assert (await stranger.delete(signed_url(server, "DELETE", "/my-bucket/a"))).status_code == 204
    assert server.objects("my-bucket") == []


@pytest.mark.asyncio
async def test_a_signed_resumable_upload(server: GCSServer, stranger: httpx.AsyncClient, bucket: str) -> None:
    headers = {"x-goog-resumable": "start", "Content-Type": "text/csv"}
    started = await stranger.post(signed_url(server, "POST", "/my-bucket/a", headers=headers), headers=headers)
    assert started.status_code == 201
    answer = await stranger.put(started.headers["Location"], content=b"1,2")
    assert (answer.status_code, answer.content) == (200, b"")
    assert server.objects(bucket)[0].fields["contentType"] == "text/csv"


@pytest.mark.parametrize(
    ("size", "status", "code"), [(3, 400, "EntityTooSmall"), (4, 200, ""), (8, 200, ""), (9, 400, "EntityTooLarge")]
)
@pytest.mark.asyncio
async def test_a_signed_length(
    server: GCSServer, stranger: httpx.AsyncClient, bucket: str, size: int, status: int, code: str
) -> None:
    headers = {"X-Goog-Content-Length-Range": "4,8"}
    url = signed_url(server, "PUT", "/my-bucket/a", headers=headers)
    answer = await stranger.put(url, content=bytes(size), headers=headers)
    assert answer.status_code == status
    if code:
        assert_xml_error(answer, status, code)
        assert server.objects(bucket) == []


@pytest.mark.asyncio
async def test_a_signed_length_of_a_resumable_upload(
    server: GCSServer, stranger: httpx.AsyncClient, bucket: str
) -> None:
    headers = {"x-goog-resumable": "start", "X-Goog-Content-Length-Range": "0,4"}
    for size, status in ((5, 400), (4, 200)):
        started = await stranger.post(signed_url(server, "POST", "/my-bucket/a", headers=headers), headers=headers)
        answer = await stranger.put(started.headers["Location"], content=bytes(size))
        assert answer.status_code == status
    assert [len(item.data) for item in server.objects(bucket)] == [4]
    assert server.open_uploads() == []


@pytest.mark.asyncio
async def test_requests_that_differ_from_what_was_signed(
    server: GCSServer, stranger: httpx.AsyncClient, put: Put
) -> None:
    await put("a", b"content")
    url = signed_url(server, "GET", "/my-bucket/a")
    assert_xml_error(await stranger.put(url, content=b"x"), 403, "SignatureDoesNotMatch")
    assert_xml_error(await stranger.get(url.replace("/a?", "/b?")), 403, "SignatureDoesNotMatch")
    assert_xml_error(await stranger.get(f"{url}&response-content-type=text/html"), 403, "SignatureDoesNotMatch")
    longer = url.replace("X-Goog-Expires=600", "X-Goog-Expires=6000")
    assert_xml_error(await stranger.get(longer), 403, "SignatureDoesNotMatch")
    assert_xml_error(await stranger.get(f"{url[:-2]}00"), 403, "SignatureDoesNotMatch")
    assert_xml_error(await stranger.get(f"{url[:-2]}xx"), 403, "SignatureDoesNotMatch")
    other = url.replace("trove%40", "other%40")
    assert_xml_error(await stranger.get(other), 403, "InvalidSecurity")
    assert (await stranger.get(url)).status_code == 200


@pytest.mark.asyncio
async def test_headers_are_all_or_none(server: GCSServer, stranger: httpx.AsyncClient, bucket: str) -> None:
    signed = {"x-goog-meta-a": "1"}
    url = signed_url(server, "PUT", "/my-bucket/a", headers=signed)
    assert_xml_error(await stranger.put(url, content=b"x"), 400, "MalformedSecurityHeader")
    assert_xml_error(await stranger.put(url, headers={"x-goog-meta-a": "2"}), 403, "SignatureDoesNotMatch")
    more = {**signed, "x-goog-meta-b": "2"}
    assert_xml_error(await stranger.put(url, content=b"x", headers=more), 400, "MalformedSecurityHeader")


@pytest.mark.asyncio
async def test_times_of_a_signed_url(server: GCSServer, stranger: httpx.AsyncClient, put: Put) -> None:
    await put("a", b"content")
    now = time.time()
    ended = signed_url(server, "GET", "/my-bucket/a", expires=10, began=now - 11)
    assert_xml_error(await stranger.get(ended), 400, "ExpiredToken")
    early = signed_url(server, "GET", "/my-bucket/a", began=now + 3600)
    assert_xml_error(await stranger.get(early), 403, "RequestTimeTooSkewed")
    week = signed_url(server, "GET", "/my-bucket/a", expires=604_800)
    assert (await stranger.get(week)).status_code == 200
    longer = signed_url(server, "GET", "/my-bucket/a", expires=604_801)
    assert_xml_error(await stranger.get(longer), 400, "AuthorizationQueryParametersError")
    partial = week.replace("X-Goog-Date=", "X-Goog-Day=")
    assert_xml_error(await stranger.get(partial), 400, "AuthorizationQueryParametersError")


@pytest.mark.asyncio
async def test_a_form_with_a_policy(server: GCSServer, stranger: httpx.AsyncClient, bucket: str) -> None:
    conditions = [["starts-with", "$key", "uploads/"], ["content-length-range", 1, 10], {"Content-Type": "text/plain"}]
    conditions += [["eq", "$x-goog-meta-author", "me"], {"success_action_status": "201"}]
    form = signed_form(server, "uploads/${filename}", conditions)
    form |= {"Content-Type": "text/plain", "x-goog-meta-author": "me", "success_action_status": "201"}
    answer = await stranger.post("/my-bucket/", data=form, files={"file": ("dog.txt", b"woof")})
    assert answer.status_code == 201, answer.text
    assert "<Key>uploads/dog.txt</Key>" in answer.text
    made = server.objects(bucket)[0]
    assert (made.name, made.data) == ("uploads/dog.txt", b"woof")
    assert (made.fields["contentType"], made.fields["metadata"]) == ("text/plain", {"author": "me"})


@pytest.mark.asyncio
async def test_forms_answer_204_or_redirect(server: GCSServer, stranger: httpx.AsyncClient, bucket: str) -> None:
    form = signed_form(server, "a", [{"key": "a"}])
    assert (await stranger.post("/my-bucket", data=form, files={"file": b"x"})).status_code == 204
    form = signed_form(server, "a", [{"key": "a"}, {"success_action_redirect": "https://example.com/done"}])
    form["success_action_redirect"] = "https://example.com/done"
    answer = await stranger.post("/my-bucket", data=form, files={"file": b"x"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "https://example.com/done")


@pytest.mark.parametrize(
    ("conditions", "more", "size", "status", "code"),
    [
        ([["starts-with", "$key", "other/"]], {}, 1, 403, "AccessDenied"),
        ([{"key": "b"}], {}, 1, 403, "AccessDenied"),
        ([{"key": "a"}, {"bucket": "other-bucket"}], {}, 1, 403, "AccessDenied"),
        ([{"key": "a"}, ["content-length-range", 2, 3]], {}, 1, 400, "EntityTooSmall"),
        ([{"key": "a"}, ["content-length-range", 2, 3]], {}, 4, 400, "EntityTooLarge"),
        ([{"key": "a"}], {"x-goog-meta-unlisted": "1"}, 1, 403, "AccessDenied"),
        ([{"key": "a"}], {"x-goog-signature": "00"}, 1, 403, "SignatureDoesNotMatch"),
        ([{"key": "a"}, ["what"]], {}, 1, 400, "InvalidPolicyDocument"),
    ],
)
@pytest.mark.asyncio
async def test_forms_that_are_refused(
    server: GCSServer,
    stranger: httpx.AsyncClient,
    bucket: str,
    conditions: list[object],
    more: dict[str, str],
    size: int,
    status: int,
    code: str,
) -> None:
    form = {**signed_form(server, "a", conditions), **more}
    answer = await stranger.post("/my-bucket", data=form, files={"file": bytes(size)})
    assert_xml_error(answer, status, code)
    assert server.objects(bucket) == []


@pytest.mark.asyncio
async def test_a_policy_expires(server: GCSServer, stranger: httpx.AsyncClient, bucket: str) -> None:
    form = signed_form(server, "a", [{"key": "a"}], expires=-1)
    answer = await stranger.post("/my-bucket", data=form, files={"file": b"x"})
    assert_xml_error(answer, 403, "AccessDenied")
    ignored = {**signed_form(server, "a", [{"key": "a"}]), "x-ignore-this": "1"}
    assert (await stranger.post("/my-bucket", data=ignored, files={"file": b"x"})).status_code == 204
    assert (await stranger.get(OBJECTS)).status_code == 401
