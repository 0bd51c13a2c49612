from __future__ import annotations

import re
from xml.etree import ElementTree

import httpx
import pytest

from tests.gcs_server.conftest import Put
from tests.gcs_server.requests import OBJECTS, assert_xml_error
from trove_async.testing.gcs import GCSServer

PART = 5 << 20
OBJECT = "/my-bucket/dir/a"


def texts(answer: httpx.Response, tag: str) -> list[str]:
    root = ElementTree.fromstring(answer.content)
    return [item.text or "" for item in root.iter() if item.tag.rpartition("}")[2] == tag]


async def initiated(client: httpx.AsyncClient, path: str = OBJECT, **headers: str) -> str:
    answer = await client.post(f"{path}?uploads", headers=headers)
    assert answer.status_code == 200
    return texts(answer, "UploadId")[0]


async def uploaded(client: httpx.AsyncClient, upload: str, number: int, data: bytes) -> str:
    answer = await client.put(OBJECT, params={"partNumber": number, "uploadId": upload}, content=data)
    assert answer.status_code == 200
    return answer.headers["ETag"]


def completion(parts: list[tuple[int, str]]) -> bytes:
    listed = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in parts)
    return f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()


@pytest.mark.asyncio
async def test_a_multipart_upload(server: GCSServer, client: httpx.AsyncClient, bucket: str) -> None:
    upload = await initiated(client, **{"Content-Type": "image/png", "x-goog-meta-k": "v"})
    first = await uploaded(client, upload, 1, b"a" * PART)
    await uploaded(client, upload, 4, b"b")
    last = await uploaded(client, upload, 4, b"c")  # the later one replaces it
    assert [type(item).__name__ for item in server.open_uploads()] == ["MultipartUpload"]
    answer = await client.post(OBJECT, params={"uploadId": upload}, content=completion([(1, first), (4, last)]))
    assert texts(answer, "Key") == ["dir/a"]
    resource = (await client.get(f"{OBJECTS}/dir%2Fa")).json()
    assert (resource["size"], resource["contentType"]) == (str(PART + 1), "image/png")
    assert resource["metadata"] == {"k": "v"}
    assert "md5Hash" not in resource
    assert "componentCount" not in resource
    assert (await client.get(OBJECT)).content == b"a" * PART + b"c"
    assert server.open_uploads() == []
    again = await client.post(OBJECT, params={"uploadId": upload}, content=completion([(1, first)]))
    assert_xml_error(again, 404, "NoSuchUpload")


@pytest.mark.asyncio
async def test_completions_that_are_refused(server: GCSServer, client: httpx.AsyncClient, bucket: str) -> None:
    upload = await initiated(client)
    etags = [await uploaded(client, upload, number, b"small") for number in (1, 2)]

    async def complete(content: bytes) -> httpx.Response:
        return await client.post(OBJECT, params={"uploadId": upload}, content=content)

    assert_xml_error(await complete(completion([(1, etags[0]), (2, etags[1])])), 400, "EntityTooSmall")
    assert_xml_error(await complete(completion([(2, etags[1]), (1, etags[0])])), 400, "InvalidPartOrder")
    assert_xml_error(await complete(completion([(3, etags[0])])), 400, "InvalidPart")
    assert_xml_error(await complete(completion([(1, '"00"')])), 400, "InvalidPart")
    assert_xml_error(await complete(completion([])), 400, "MalformedCompleteMultipartUploadRequest")
    assert_xml_error(await complete(b"<not xml"), 400, "MalformedCompleteMultipartUploadRequest")
    assert len(server.open_uploads()) == 1
    assert (await complete(completion([(2, etags[1])]))).status_code == 200


@pytest.mark.asyncio
async def test_parts_that_are_refused(client: httpx.AsyncClient, bucket: str) -> None:
    upload = await initiated(client)
    for number in (0, 10_001):
        answer = await client.put(OBJECT, params={"partNumber": number, "uploadId": upload}, content=b"x")
        assert_xml_error(answer, 400, "InvalidArgument")
    wrong = {"x-goog-hash": "crc32c=AAAAAA=="}
    answer = await client.put(OBJECT, params={"partNumber": 1, "uploadId": upload}, content=b"x", headers=wrong)
    assert_xml_error(answer, 400, "BadDigest")
    other = await client.put("/my-bucket/other", params={"partNumber": 1, "uploadId": upload}, content=b"x")
    assert_xml_error(other, 404, "NoSuchUpload")


@pytest.mark.asyncio
async def test_an_aborted_upload(server: GCSServer, client: httpx.AsyncClient, bucket: str) -> None:
    upload = await initiated(client)
    assert (await client.delete(OBJECT, params={"uploadId": upload})).status_code == 204
    assert server.open_uploads() == []
    assert_xml_error(await client.delete(OBJECT, params={"uploadId": upload}), 404, "NoSuchUpload")


@pytest.mark.asyncio
async def test_lists_of_parts(client: httpx.AsyncClient, bucket: str) -> None:
    upload = await initiated(client)
    for number in (3, 1, 2):
        await uploaded(client, upload, number, bytes(number))
    first = await client.get(OBJECT, params={"uploadId": upload, "max-parts": 2})
    assert (texts(first, "PartNumber"), texts(first, "Size")) == (["1", "2"], ["1", "2"])
    assert (texts(first, "IsTruncated"), texts(first, "NextPartNumberMarker")) == (["true"], ["2"])
    rest = await client.get(OBJECT, params={"uploadId": upload, "part-number-marker": 2})
    assert (texts(rest, "PartNumber"), texts(rest, "IsTruncated")) == (["3"], ["false"])


@pytest.mark.asyncio
async def test_lists_of_uploads(client: httpx.AsyncClient, bucket: str) -> None:
    begun = [(name, await initiated(client, f"/my-bucket/{name}")) for name in ("b", "a/2", "a/1", "a/1")]
    found: list[tuple[str, str]] = []
    asked = {"uploads": "", "max-uploads": "1", "prefix": "a/"}
    for _ in range(10):
        answer = await client.get("/my-bucket", params=asked)
        found += zip(texts(answer, "Key"), texts(answer, "UploadId"), strict=True)
        if texts(answer, "IsTruncated") == ["false"]:
            break
        markers = {
            "key-marker": texts(answer, "NextKeyMarker"),
            "upload-id-marker": texts(answer, "NextUploadIdMarker"),
        }
        asked |= {name: values[0] for name, values in markers.items()}
    assert found == sorted(begun[1:])


@pytest.mark.asyncio
async def test_simple_requests(client: httpx.AsyncClient, bucket: str) -> None:
    headers = {
        "Content-Type": "a/b",
        "x-goog-meta-k": "v",
        "Cache-Control": "no-store",
        "x-goog-storage-class": "NEARLINE",
    }
    made = await client.put(OBJECT, content=b"data", headers=headers)
    assert (made.status_code, made.content) == (200, b"")
    answer = await client.get(OBJECT)
    assert answer.content == b"data"
    assert answer.headers["ETag"] == made.headers["ETag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', made.headers["ETag"])
    assert answer.headers["x-goog-meta-k"] == "v"
    assert (answer.headers["Cache-Control"], answer.headers["X-Goog-Storage-Class"]) == ("no-store", "NEARLINE")
    head = await client.head(OBJECT)
    assert (head.headers["Content-Length"], head.content) == ("4", b"")
    assert (await client.delete(OBJECT)).status_code == 204
    missing = await client.get(OBJECT)
    assert_xml_error(missing, 404, "NoSuchKey")
    assert "No such object: my-bucket/dir/a" in missing.text
    assert_xml_error(await client.get("/no-bucket/a"), 404, "NoSuchBucket")
    assert_xml_error(await client.patch(OBJECT), 405, "MethodNotAllowed")


@pytest.mark.asyncio
async def test_conditions_in_headers(client: httpx.AsyncClient, put: Put) -> None:
    generation = (await put("dir/a", b"x"))["generation"]
    etag = (await client.head(OBJECT)).headers["ETag"]
    modified = (await client.head(OBJECT)).headers["Last-Modified"]

    async def status(method: str, **headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return (await client.request(method, OBJECT, headers=named)).status_code

    assert await status("GET", x_goog_if_generation_match=generation) == 200
    assert await status("GET", x_goog_if_generation_match="1") == 412
    assert await status("GET", x_goog_if_generation_not_match=generation) == 304
    assert await status("GET", If_None_Match=etag) == 304
    assert await status("GET", If_Match='"00"') == 412
    assert await status("GET", If_Modified_Since=modified) == 304
    assert await status("GET", If_Unmodified_Since="Mon, 01 Jan 2001 00:00:00 GMT") == 412
    assert await status("PUT", x_goog_if_generation_match="0") == 412
    assert await status("DELETE", x_goog_if_metageneration_match="2") == 412
    assert await status("DELETE", x_goog_if_generation_match=generation) == 204


@pytest.mark.asyncio
async def test_preconditions_of_a_multipart_upload_are_refused(client: httpx.AsyncClient, put: Put) -> None:
    await put("dir/a", b"old")
    upload = await initiated(client)
    etag = await uploaded(client, upload, 1, b"new")
    headers = {"x-goog-if-generation-match": "0"}
    parts = completion([(1, etag)])
    assert_xml_error(await client.post(f"{OBJECT}?uploads", headers=headers), 400, "InvalidArgument")
    answer = await client.post(OBJECT, params={"uploadId": upload}, content=parts, headers=headers)
    assert_xml_error(answer, 400, "InvalidArgument")
    assert (await client.get(OBJECT)).content == b"old"


@pytest.mark.asyncio
async def test_without_a_token(server: GCSServer, stranger: httpx.AsyncClient, put: Put) -> None:
    await put("dir/a")
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    for method in ("GET", "HEAD", "PUT", "DELETE", "POST"):
        answer = await stranger.request(method, OBJECT, headers=form)
        assert answer.status_code == 401
        if method != "HEAD":
            assert_xml_error(answer, 401, "AuthenticationRequired")
    assert (await stranger.get(f"{OBJECT}?upload_id=x")).status_code == 401
    for method in ("PUT", "POST", "DELETE"):
        answer = await stranger.request(method, f"{OBJECT}?upload_id=x&uploadId=y&uploads")
        assert_xml_error(answer, 404, "NoSuchUpload")
    assert len(server.objects("my-bucket")) == 1
