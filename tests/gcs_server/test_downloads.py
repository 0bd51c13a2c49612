from __future__ import annotations

import asyncio
import gzip

import httpx
import pytest

from tests.gcs_server.conftest import Put
from tests.gcs_server.requests import OBJECTS, UPLOADS, related
from trove_async.testing.gcs import GCSServer

MEDIA = f"{OBJECTS}/a?alt=media"


async def zipped(client: httpx.AsyncClient, plain: bytes, **metadata: str) -> bytes:
    packed = gzip.compress(plain)
    body, headers = related({"name": "a", "contentEncoding": "gzip", **metadata}, packed)
    assert (await client.post(f"{UPLOADS}?uploadType=multipart", content=body, headers=headers)).status_code == 200
    return packed


async def raw(client: httpx.AsyncClient, headers: dict[str, str]) -> tuple[httpx.Response, bytes]:
    """Return a response and its body without decoding it."""
    async with client.stream("GET", MEDIA, headers=headers) as answer:
        return answer, b"".join([chunk async for chunk in answer.aiter_raw()])


@pytest.mark.asyncio
async def test_the_headers_of_a_download(client: httpx.AsyncClient, put: Put) -> None:
    resource = await put("a", b"content")
    for path in (MEDIA, f"/download{MEDIA}"):
        answer = await client.get(path)
        assert answer.content == b"content"
        headers = answer.headers
        assert headers["ETag"] == resource["etag"]
        assert headers["X-Goog-Generation"] == resource["generation"]
        assert headers["X-Goog-Metageneration"] == "1"
        assert headers["X-Goog-Hash"] == f"crc32c={resource['crc32c']},md5={resource['md5Hash']}"
        assert headers["X-Goog-Stored-Content-Length"] == headers["Content-Length"] == "7"
        assert headers["X-Goog-Stored-Content-Encoding"] == "identity"
        assert headers["X-Goog-Storage-Class"] == "STANDARD"
        assert headers["Content-Type"] == "text/plain"


@pytest.mark.asyncio
async def test_headers_of_the_metadata(client: httpx.AsyncClient, put: Put) -> None:
    await put("a", b"x")
    fields = {"cacheControl": "no-store", "contentDisposition": "attachment", "contentLanguage": "de"}
    await client.patch(f"{OBJECTS}/a", json=fields)
    headers = (await client.get(MEDIA)).headers
    assert (headers["Cache-Control"], headers["Content-Disposition"]) == ("no-store", "attachment")
    assert headers["Content-Language"] == "de"


@pytest.mark.parametrize(
    ("asked", "status", "content_range", "body"),
    [
        ("bytes=0-3", 206, "bytes 0-3/10", b"0123"),
        ("bytes=7-", 206, "bytes 7-9/10", b"789"),
        ("bytes=-2", 206, "bytes 8-9/10", b"89"),
        ("bytes=-99", 206, "bytes 0-9/10", b"0123456789"),
        ("bytes=8-99", 206, "bytes 8-9/10", b"89"),
        ("bytes=10-", 416, "bytes */10", None),
        ("bytes=99-100", 416, "bytes */10", None),
        ("bytes=-0", 416, "bytes */10", None),
        ("bytes=5-2", 200, None, b"0123456789"),
        ("lines=1-2", 200, None, b"0123456789"),
        ("bytes=0-1,4-5", 200, None, b"0123456789"),
    ],
)
@pytest.mark.asyncio
async def test_ranges(
    client: httpx.AsyncClient, put: Put, asked: str, status: int, content_range: str | None, body: bytes | None
) -> None:
    await put("a", b"0123456789")
    answer = await client.get(MEDIA, headers={"Range": asked})
    assert answer.status_code == status
    assert answer.headers.get("Content-Range") == content_range
    if body is not None:
        assert answer.content == body
        assert answer.headers["X-Goog-Stored-Content-Length"] == "10"


@pytest.mark.asyncio
async def test_an_empty_object_has_no_range(client: httpx.AsyncClient, put: Put) -> None:
    await put("a", b"")
    assert (await client.get(MEDIA, headers={"Range": "bytes=0-"})).status_code == 416
    assert (await client.get(MEDIA)).content == b""


@pytest.mark.asyncio
async def test_a_large_object_is_downloaded_completely(client: httpx.AsyncClient, put: Put) -> None:
    data = bytes(range(251)) * 40_000
    await put("a", data)
    assert (await client.get(MEDIA)).content == data
    assert (await client.get(MEDIA, headers={"Range": "bytes=1000000-8999999"})).content == data[1_000_000:9_000_000]


@pytest.mark.asyncio
async def test_gzip_is_decompressed_for_clients_that_do_not_accept_it(client: httpx.AsyncClient, bucket: str) -> None:
    packed = await zipped(client, b"plain" * 100)
    answer, body = await raw(client, {"Accept-Encoding": "identity"})
    assert (answer.status_code, body) == (200, b"plain" * 100)
    assert "Content-Encoding" not in answer.headers
    assert "Content-Length" not in answer.headers
    assert answer.headers["Warning"] == "214 UploadServer gunzipped"
    assert answer.headers["X-Goog-Stored-Content-Encoding"] == "gzip"
    assert answer.headers["X-Goog-Stored-Content-Length"] == str(len(packed))
    # the range is ignored
    ranged, body = await raw(client, {"Accept-Encoding": "identity", "Range": "bytes=0-1"})
    assert (ranged.status_code, body) == (200, b"plain" * 100)


@pytest.mark.asyncio
async def test_gzip_is_served_as_stored_to_clients_that_accept_it(client: httpx.AsyncClient, bucket: str) -> None:
    packed = await zipped(client, b"plain" * 100)
    answer, body = await raw(client, {"Accept-Encoding": "deflate, gzip;q=0.5"})
    assert (answer.headers["Content-Encoding"], body) == ("gzip", packed)
    assert answer.headers["Content-Length"] == str(len(packed))
    ranged, body = await raw(client, {"Accept-Encoding": "gzip", "Range": "bytes=2-5"})
    assert (ranged.status_code, body) == (206, packed[2:6])


@pytest.mark.asyncio
async def test_no_transform_prevents_decompression(client: httpx.AsyncClient, bucket: str) -> None:
    packed = await zipped(client, b"plain", cacheControl="public, no-transform")
    answer, body = await raw(client, {"Accept-Encoding": "identity"})
    assert (answer.headers["Content-Encoding"], body) == ("gzip", packed)


@pytest.mark.asyncio
async def test_sequential_requests_on_one_connection(server: GCSServer, put: Put) -> None:
    for name in ("a", "b"):
        await put(name, name.encode() * 70_000)
    reader, writer = await asyncio.open_connection(server.host, server.port)
    token = server.issue_token()
    for name in ("a", "b"):
        head = f"GET {OBJECTS}/{name}?alt=media HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        writer.write(head.encode())
    for name in ("a", "b"):
        head_read = await reader.readuntil(b"\r\n\r\n")
        assert b"Content-Length: 70000" in head_read
        assert await reader.readexactly(70_000) == name.encode() * 70_000
    writer.close()
    await writer.wait_closed()
