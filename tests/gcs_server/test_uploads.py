from __future__ import annotations

import asyncio
import base64
import hashlib
import json

import httpx
import pytest

from tests.gcs_server.conftest import Put
from tests.gcs_server.requests import OBJECTS, QUANTUM, UPLOADS, assert_error, related, started
from trove_async.testing.gcs import GCSServer


@pytest.mark.asyncio
async def test_an_upload_with_metadata(client: httpx.AsyncClient, bucket: str) -> None:
    metadata = {
        "name": "my-document.txt",
        "metadata": {"key": "ü"},
        "cacheControl": "no-store",
        "storageClass": "NEARLINE",
    }
    body, headers = related(metadata, b"some\r\n--separatordata", "text/markdown")
    answer = await client.post(f"{UPLOADS}?uploadType=multipart", content=body, headers=headers)
    resource = answer.json()
    assert resource["metadata"] == {"key": "ü"}
    assert (resource["cacheControl"], resource["storageClass"]) == ("no-store", "NEARLINE")
    assert resource["contentType"] == "text/markdown"
    assert (await client.get(f"{OBJECTS}/my-document.txt?alt=media")).content == b"some\r\n--separatordata"


@pytest.mark.parametrize("data", [b"", b"\r\n", b"\r\n\r\n", b"--separate", b"x" * 3_000_000])
@pytest.mark.asyncio
async def test_arbitrary_bytes_in_a_multipart_body(client: httpx.AsyncClient, bucket: str, data: bytes) -> None:
    body, headers = related({"name": "a"}, data)
    assert (await client.post(f"{UPLOADS}?uploadType=multipart", content=body, headers=headers)).status_code == 200
    assert (await client.get(f"{OBJECTS}/a?alt=media")).content == data


@pytest.mark.parametrize("kind", ["multipart", "resumable"])
@pytest.mark.parametrize(("metadata", "uploaded"), [("a/b", None), (None, "a/b"), ("a/b", "a/b")])
@pytest.mark.asyncio
async def test_the_content_type_comes_with_the_metadata_or_the_bytes(
    client: httpx.AsyncClient, bucket: str, kind: str, metadata: str | None, uploaded: str | None
) -> None:
    answer = await typed_upload(client, kind, metadata, uploaded)
    assert answer.json()["contentType"] == "a/b"


@pytest.mark.parametrize("kind", ["multipart", "resumable"])
@pytest.mark.asyncio
async def test_content_types_that_differ_are_refused(
    server: GCSServer, client: httpx.AsyncClient, bucket: str, kind: str
) -> None:
    answer = await typed_upload(client, kind, "image/png", "application/octet-stream")
    message = (
        "Content-Type specified in the upload (application/octet-stream) does not match Content-Type specified in "
        "metadata (image/png)."
    )
    assert_error(answer, 400, "invalid", message)
    assert (server.objects(bucket), server.open_uploads()) == ([], [])


async def typed_upload(
    client: httpx.AsyncClient, kind: str, metadata: str | None, uploaded: str | None
) -> httpx.Response:
    """Upload an object with the content type in its metadata, with its bytes, or both."""
    document = {"name": "a", **({"contentType": metadata} if metadata else {})}
    if kind == "multipart":
        typed = f"Content-Type: {uploaded}\r\n" if uploaded else ""
        head = f"--x\r\nContent-Type: application/json\r\n\r\n{json.dumps(document)}\r\n--x\r\n{typed}\r\n"
        headers = {"Content-Type": "multipart/related; boundary=x"}
        return await client.post(f"{UPLOADS}?uploadType=multipart", content=f"{head}data\r\n--x--", headers=headers)
    headers = {"X-Upload-Content-Type": uploaded} if uploaded else {}
    begun = await client.post(f"{UPLOADS}?uploadType=resumable", json=document, headers=headers)
    return begun if begun.status_code != 200 else await client.put(begun.headers["Location"], content=b"data")


@pytest.mark.asyncio
async def test_an_object_without_a_type_is_served_as_bytes(client: httpx.AsyncClient, bucket: str) -> None:
    answer = await client.post(UPLOADS, params={"uploadType": "media", "name": "a"}, content=b"x")
    assert "contentType" not in answer.json()
    assert (await client.get(f"{OBJECTS}/a?alt=media")).headers["Content-Type"] == "application/octet-stream"


@pytest.mark.asyncio
async def test_malformed_uploads(client: httpx.AsyncClient, bucket: str) -> None:
    assert_error(await client.post(UPLOADS, params={"name": "a"}), 400, "wrongUrlForUpload", "uploadType")
    assert_error(await client.post(OBJECTS, params={"name": "a"}), 400, "wrongUrlForUpload")
    body, headers = related({"name": "a"}, b"x")
    cut = await client.post(f"{UPLOADS}?uploadType=multipart", content=body[:-15], headers=headers)
    assert_error(cut, 400, "badContent")
    none = await client.post(f"{UPLOADS}?uploadType=multipart", content=body, headers={"Content-Type": "text/plain"})
    assert_error(none, 400, "badContent")
    no_bucket = await client.post("/upload/storage/v1/b/none/o?uploadType=media&name=a")
    assert_error(no_bucket, 404, "notFound", "bucket")


@pytest.mark.parametrize("where", ["header", "metadata"])
@pytest.mark.parametrize("algorithm", ["crc32c", "md5"])
@pytest.mark.asyncio
async def test_a_wrong_checksum_stores_nothing(
    server: GCSServer, client: httpx.AsyncClient, bucket: str, where: str, algorithm: str
) -> None:
    metadata, headers = {"name": "a"}, {}
    wrong = "AAAAAA==" if algorithm == "crc32c" else base64.b64encode(bytes(16)).decode()
    if where == "header":
        headers["x-goog-hash"] = f"{algorithm}={wrong}"
    else:
        metadata["crc32c" if algorithm == "crc32c" else "md5Hash"] = wrong
    body, more = related(metadata, b"x")
    answer = await client.post(f"{UPLOADS}?uploadType=multipart", content=body, headers={**headers, **more})
    assert_error(answer, 400, "invalid", "doesn't match calculated")
    assert server.objects(bucket) == []


@pytest.mark.asyncio
async def test_right_checksums_are_accepted(client: httpx.AsyncClient, put: Put) -> None:
    resource = await put("a", b"content")
    digest = f"crc32c={resource['crc32c']},md5={base64.b64encode(hashlib.md5(b'content').digest()).decode()}"
    parameters = {"uploadType": "media", "name": "b"}
    answer = await client.post(UPLOADS, params=parameters, content=b"content", headers={"x-goog-hash": digest})
    assert answer.status_code == 200


@pytest.mark.asyncio
async def test_one_of_many_creators_wins(client: httpx.AsyncClient, bucket: str) -> None:
    parameters = {"uploadType": "media", "name": "a", "ifGenerationMatch": "0"}
    answers = await asyncio.gather(*(client.post(UPLOADS, params=parameters, content=b"x") for _ in range(30)))
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 29


@pytest.mark.asyncio
async def test_a_resumable_upload_in_chunks(
    server: GCSServer, client: httpx.AsyncClient, stranger: httpx.AsyncClient, bucket: str
) -> None:
    data = bytes(range(256)) * 2500  # 2 quanta and a remainder
    answer = await client.post(
        f"{UPLOADS}?uploadType=resumable",
        json={"name": "big", "metadata": {"k": "v"}},
        headers={"X-Upload-Content-Type": "image/png", "X-Upload-Content-Length": str(len(data))},
    )
    assert (answer.status_code, answer.content) == (200, b"")
    location = answer.headers["Location"]
    assert location.startswith(f"{server.url}{UPLOADS}?uploadType=resumable&upload_id=")
    empty = await stranger.put(location, headers={"Content-Range": "bytes */*"})
    assert (empty.status_code, "Range" in empty.headers) == (308, False)
    # the session's URI needs no other credentials
    first = await stranger.put(location, content=data[:QUANTUM], headers={"Content-Range": f"bytes 0-{QUANTUM - 1}/*"})
    assert (first.status_code, first.headers["Range"]) == (308, f"bytes=0-{QUANTUM - 1}")
    asked = await stranger.put(location, headers={"Content-Range": f"bytes */{len(data)}"})
    assert (asked.status_code, asked.headers["Range"]) == (308, f"bytes=0-{QUANTUM - 1}")
    assert len(server.open_uploads()) == 1
    headers = {"Content-Range": f"bytes {QUANTUM}-{len(data) - 1}/{len(data)}"}
    last = await stranger.put(location, content=data[QUANTUM:], headers=headers)
    assert last.status_code == 200
    assert (last.json()["size"], last.json()["contentType"]) == (str(len(data)), "image/png")
    assert last.json()["metadata"] == {"k": "v"}
    assert (await client.get(f"{OBJECTS}/big?alt=media")).content == data
    assert server.open_uploads() == []
    # a repeated request gets the same response and creates no object
    again = await stranger.put(location, content=data[QUANTUM:], headers=headers)
    assert again.json() == last.json()
    assert (await stranger.put(location, headers={"Content-Range": "bytes */*"})).json() == last.json()


@pytest.mark.parametrize("size", [0, 1, QUANTUM, QUANTUM + 1])
@pytest.mark.asyncio
async def test_a_session_with_one_request(client: httpx.AsyncClient, bucket: str, size: int) -> None:
    location = await started(client, "a")
    answer = await client.put(location, content=bytes(size))
    assert (answer.status_code, answer.json()["size"]) == (200, str(size))


@pytest.mark.parametrize("quanta", [0, 2])
@pytest.mark.asyncio
async def test_the_length_may_come_with_the_last_chunk(client: httpx.AsyncClient, bucket: str, quanta: int) -> None:
    location, size = await started(client, "a"), quanta * QUANTUM
    if size:
        chunk = await client.put(location, content=bytes(size), headers={"Content-Range": f"bytes 0-{size - 1}/*"})
        assert chunk.status_code == 308
    answer = await client.put(location, headers={"Content-Range": f"bytes */{size}"})
    assert (answer.status_code, answer.json()["size"]) == (200, str(size))


@pytest.mark.asyncio
async def test_chunks_that_are_refused(client: httpx.AsyncClient, bucket: str) -> None:
    location = await started(client, "a")

    async def chunk(content_range: str, size: int) -> httpx.Response:
        return await client.put(location, content=bytes(size), headers={"Content-Range": content_range})

    for content_range, size, message in (
        ("bytes 0-99/*", 100, "The received request contained 100 bytes"),
        ("bytes 0-99/101", 100, "required to be equal or greater than 262144, except for the final request"),
        (f"bytes 0-{QUANTUM - 1}/*", 100, "There were 100 byte(s) in the request body."),
        ("bytes 9-1/*", 1, "Failed to parse Content-Range header."),
        ("octets 0-1/2", 2, "Failed to parse Content-Range header."),
        (f"bytes {QUANTUM}-{2 * QUANTUM - 1}/*", QUANTUM, "exceeds already uploaded size of 0 byte(s)"),
    ):
        answer = await chunk(content_range, size)
        assert answer.status_code == (503 if "exceeds" in message else 400)
        assert message in answer.text
        assert answer.headers["Content-Type"].startswith("text/")
    assert (await chunk(f"bytes 0-{QUANTUM - 1}/*", QUANTUM)).status_code == 308
    assert_error(await chunk(f"bytes {QUANTUM}-{QUANTUM + 1}/5", 2), 400, "invalid", "less than was uploaded")


@pytest.mark.parametrize("total", ["*", "1000000"])
@pytest.mark.asyncio
async def test_whole_quanta_of_a_chunk_are_persisted(client: httpx.AsyncClient, bucket: str, total: str) -> None:
    location = await started(client, "a")
    chunk = bytes(2 * QUANTUM + 5)
    headers = {"Content-Range": f"bytes 0-{len(chunk) - 1}/{total}"}
    answer = await client.put(location, content=chunk, headers=headers)
    assert (answer.status_code, answer.headers["Range"]) == (308, f"bytes=0-{2 * QUANTUM - 1}")


@pytest.mark.asyncio
async def test_persisted_bytes_are_skipped(client: httpx.AsyncClient, bucket: str) -> None:
    location = await started(client, "a")
    await client.put(location, content=b"a" * QUANTUM, headers={"Content-Range": f"bytes 0-{QUANTUM - 1}/*"})
    body = b"b" * (QUANTUM + 5)
    headers = {"Content-Range": f"bytes 0-{QUANTUM + 4}/{QUANTUM + 5}"}
    assert (await client.put(location, content=body, headers=headers)).status_code == 200
    assert (await client.get(f"{OBJECTS}/a?alt=media")).content == b"a" * QUANTUM + b"bbbbb"


@pytest.mark.asyncio
async def test_a_broken_connection_leaves_whole_quanta(
    server: GCSServer, client: httpx.AsyncClient, bucket: str
) -> None:
    location = await started(client, "a")
    size = 3 * QUANTUM
    reader, writer = await asyncio.open_connection(server.host, server.port)
    path = location.removeprefix(server.url)
    head = (
        f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\nContent-Range: bytes 0-{size - 1}/{size}\r\n\r\n"
    )
    writer.write(head.encode() + bytes(2 * QUANTUM + 77))
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert await reader.read() == b""
    status = await client.put(location, headers={"Content-Range": "bytes */*"})
    while "Range" not in status.headers:  # the server may still be reading
        status = await client.put(location, headers={"Content-Range": "bytes */*"})
    assert status.headers["Range"] == f"bytes=0-{2 * QUANTUM - 1}"
    rest = await client.put(
        location, content=bytes(QUANTUM), headers={"Content-Range": f"bytes {2 * QUANTUM}-{size - 1}/{size}"}
    )
    assert rest.json()["size"] == str(size)


@pytest.mark.asyncio
async def test_a_wrong_total_size_changes_nothing(client: httpx.AsyncClient, bucket: str) -> None:
    location = await started(client, "a")
    await client.put(location, content=bytes(QUANTUM), headers={"Content-Range": f"bytes 0-{QUANTUM - 1}/*"})
    for size in (5, 2 * QUANTUM):
        answer = await client.put(location, headers={"Content-Range": f"bytes */{size}"})
        assert (answer.status_code, answer.headers["Range"]) == (308, f"bytes=0-{QUANTUM - 1}")
    assert (await client.put(location, headers={"Content-Range": f"bytes */{QUANTUM}"})).status_code == 200


@pytest.mark.asyncio
async def test_chunks_without_308(client: httpx.AsyncClient, bucket: str) -> None:
    location = await started(client, "a")
    headers = {"Content-Range": f"bytes 0-{QUANTUM - 1}/*", "X-GUploader-No-308": "yes"}
    answer = await client.post(location, content=bytes(QUANTUM), headers=headers)
    assert (answer.status_code, answer.headers["X-HTTP-Status-Code-Override"]) == (200, "308")
    assert answer.headers["Range"] == f"bytes=0-{QUANTUM - 1}"


@pytest.mark.asyncio
async def test_a_cancelled_session(server: GCSServer, client: httpx.AsyncClient, bucket: str) -> None:
    location = await started(client, "a")
    answer = await client.delete(location)
    assert (answer.status_code, answer.headers["Content-Length"]) == (499, "0")
    assert_error(await client.put(location, content=b"x"), 410, "gone")
    assert server.open_uploads() == []
    assert_error(await client.put(f"{UPLOADS}?upload_id=unknown", content=b"x"), 404, "notFound")


@pytest.mark.asyncio
async def test_expired_sessions(server: GCSServer, client: httpx.AsyncClient, bucket: str) -> None:
    location = await started(client, "a")
    server.expire_uploads()
    assert_error(await client.put(location, headers={"Content-Range": "bytes */*"}), 410, "gone")


@pytest.mark.asyncio
async def test_a_session_keeps_its_conditions(server: GCSServer, client: httpx.AsyncClient, put: Put) -> None:
    location = await started(client, "a", ifGenerationMatch="0")
    await put("a", b"another's")
    assert_error(await client.put(location, content=b"mine"), 412, "conditionNotMet")
    late = await client.post(UPLOADS, params={"uploadType": "resumable", "name": "a", "ifGenerationMatch": "0"})
    assert_error(late, 412, "conditionNotMet")
    assert (await client.get(f"{OBJECTS}/a?alt=media")).content == b"another's"
    assert server.open_uploads() == []


@pytest.mark.asyncio
async def test_a_session_checks_the_hash_of_its_last_request(client: httpx.AsyncClient, bucket: str) -> None:
    location = await started(client, "a")
    answer = await client.put(location, content=b"x", headers={"x-goog-hash": "crc32c=AAAAAA=="})
    assert_error(answer, 400, "invalid", "doesn't match calculated CRC32C")


@pytest.mark.asyncio
async def test_the_quantum_can_be_made_smaller() -> None:
    async with (
        GCSServer(anonymous=True, chunk_granularity=4) as server,
        httpx.AsyncClient(base_url=server.url) as client,
    ):
        await client.post("/storage/v1/b?project=p", json={"name": "my-bucket"})
        location = await started(client, "a")
        await client.put(location, content=b"abcd", headers={"Content-Range": "bytes 0-3/*"})
        assert (await client.put(location, content=b"e", headers={"Content-Range": "bytes 4-4/5"})).status_code == 200
        assert server.objects("my-bucket")[0].data == b"abcde"


@pytest.mark.asyncio
async def test_expect_is_answered_before_the_body(server: GCSServer, client: httpx.AsyncClient) -> None:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    head = (
        f"POST {UPLOADS}?uploadType=media&name=a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n"
    )
    writer.write(f"{head}\r\n".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
    writer.close()
    await writer.wait_closed()
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(f"{head}Authorization: Bearer {server.issue_token()}\r\n\r\n".encode())
    assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
    writer.write(b"hello")
    assert await reader.readline() == b"\r\n"
    assert (await reader.readline()).startswith(b"HTTP/1.1 404 ")  # there is no bucket
    writer.close()
    await writer.wait_closed()
