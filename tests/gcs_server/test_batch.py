from __future__ import annotations

import httpx
import pytest

from tests.gcs_server.conftest import Put
from tests.gcs_server.requests import assert_error
from trove_async.testing.gcs import GCSServer

BATCH = "/batch/storage/v1"
TYPE = {"Content-Type": "multipart/mixed; boundary=limit"}


def body(*calls: str) -> bytes:
    parts = [
        f"--limit\r\nContent-Type: application/http\r\nContent-ID: <id+{number}>\r\n\r\n{call}\r\n"
        for number, call in enumerate(calls)
    ]
    return ("".join(parts) + "--limit--").encode()


def delete(name: str) -> str:
    return f"DELETE /storage/v1/b/my-bucket/o/{name} HTTP/1.1\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.asyncio
async def test_calls_are_answered_one_by_one(server: GCSServer, client: httpx.AsyncClient, put: Put) -> None:
    for name in ("a", "b", "c%2Fd"):
        await put(name)
    patch = '{"metadata": {"type": "tabby"}}'
    call = (
        "PATCH /storage/v1/b/my-bucket/o/b HTTP/1.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(patch)}\r\n\r\n{patch}"
    )
    answer = await client.post(BATCH, content=body(delete("a"), delete("missing"), call), headers=TYPE)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("multipart/mixed; boundary=batch_")
    boundary = answer.headers["Content-Type"].partition("boundary=")[2]
    parts = answer.text.split(f"--{boundary}")[1:-1]
    assert answer.text.endswith(f"--{boundary}--\r\n")
    assert [f"Content-ID: <response-id+{number}>" in part for number, part in enumerate(parts)] == [True] * 3
    assert "HTTP/1.1 204 No Content" in parts[0]
    assert "HTTP/1.1 404 Not Found" in parts[1]
    assert "No such object: my-bucket/missing" in parts[1]
    assert '"metadata":{"type":"tabby"}' in parts[2]
    assert [item.name for item in server.objects("my-bucket")] == ["b", "c%2Fd"]


@pytest.mark.asyncio
async def test_a_batch_has_at_most_100_calls(client: httpx.AsyncClient, bucket: str) -> None:
    answer = await client.post(BATCH, content=body(*[delete("x")] * 100), headers=TYPE)
    assert answer.text.count("HTTP/1.1 404 Not Found") == 100
    assert_error(await client.post(BATCH, content=body(*[delete("x")] * 101), headers=TYPE), 400, "badRequest")
    assert_error(await client.post(BATCH, content=b"", headers=TYPE), 400, "badContent")


@pytest.mark.asyncio
async def test_a_batch_refuses_media(client: httpx.AsyncClient, put: Put) -> None:
    await put("a", b"content")
    calls = (
        "GET /storage/v1/b/my-bucket/o/a?alt=media",
        "POST /upload/storage/v1/b/my-bucket/o?uploadType=media&name=b",
    )
    answer = await client.post(BATCH, content=body(*(f"{call} HTTP/1.1\r\n\r\n" for call in calls)), headers=TYPE)
    assert answer.text.count("HTTP/1.1 400 Bad Request") == 2


@pytest.mark.asyncio
async def test_calls_may_have_their_own_credentials(
    server: GCSServer, client: httpx.AsyncClient, stranger: httpx.AsyncClient, put: Put
) -> None:
    assert (await stranger.post(BATCH, content=body(delete("a")), headers=TYPE)).status_code == 401
    await put("a")
    own = "GET /storage/v1/b/my-bucket/o/a HTTP/1.1\r\nAuthorization: Bearer unknown\r\n\r\n"
    answer = await client.post(BATCH, content=body(own, delete("a")), headers=TYPE)
    assert "HTTP/1.1 401 Unauthorized" in answer.text
    assert server.objects("my-bucket") == []


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("content_id", ["<id+1>", "1", ""], ids=["angle-brackets", "plain", "none"])
@pytest.mark.asyncio
async def test_the_forms_that_clients_send(
    server: GCSServer, client: httpx.AsyncClient, put: Put, end: str, content_id: str
) -> None:
    """Google's clients: for Python with bare line feeds, a MIME-Version, an absolute URL and no Content-ID."""
    await put("a")
    await put("b")
    identity = f"Content-ID: {content_id}{end}" if content_id else ""
    patch = '{"metadata": {"k": "v"}}'
    calls = [
        f"PATCH {server.url}/storage/v1/b/my-bucket/o/a HTTP/1.1{end}Content-Type: application/json{end}"
        f"Content-Length: {len(patch)}{end}{end}{patch}",
        f"DELETE {server.url}/storage/v1/b/my-bucket/o/b HTTP/1.1{end}{end}",
    ]
    head = f"Content-Type: application/http{end}MIME-Version: 1.0{end}{identity}{end}"
    parts = "".join(f"--===============7330845974216740156=={end}{head}{call}{end}" for call in calls)
    answer = await client.post(
        BATCH,
        content=f"{parts}--===============7330845974216740156==--{end}",
        headers={"Content-Type": 'multipart/mixed; boundary="===============7330845974216740156=="'},
    )
    assert answer.status_code == 200, answer.text
    assert (answer.text.count("HTTP/1.1 200 OK"), answer.text.count("HTTP/1.1 204 No Content")) == (1, 1)
    assert ("Content-ID: <response-" in answer.text) == bool(content_id)
    assert [(item.name, item.fields["metadata"]) for item in server.objects("my-bucket")] == [("a", {"k": "v"})]


@pytest.mark.asyncio
async def test_an_invalid_content_length_in_a_call(client: httpx.AsyncClient, bucket: str) -> None:
    call = "DELETE /storage/v1/b/my-bucket/o/a HTTP/1.1\r\nContent-Length: x\r\n\r\n"
    assert_error(await client.post(BATCH, content=body(call), headers=TYPE), 400, "badRequest")
