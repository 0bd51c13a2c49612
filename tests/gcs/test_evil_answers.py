"""A broken or malicious Cloud Storage service."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, ClassVar, Final

import pytest

from tests.evil_answers import EVIL_HEADERS, EVIL_VALUES, SMALL, check, mutations
from tests.evil_services import EvilAnswers
from tests.gcs.stores import PART, opened
from tests.network_faults import Target
from trove_async.testing.answers import Answer, AnsweringProxy
from trove_async.testing.gcs import GCSServer

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("delays")]

_OBJECT: Final[dict[str, Any]] = {
    "name": "key",
    "generation": "1",
    "size": "4",
    "updated": "2025-01-01T00:00:00.000Z",
    "timeCreated": "2025-01-01T00:00:00.000Z",
    "contentType": "text/plain",
    "cacheControl": "no-store",
    "storageClass": "NEARLINE",
    "metadata": {"a": "b", "trove-tags": "a=b", "trove-checksum": "sha256:00"},
    "crc32c": "AAAAAA==",
}
_DOCUMENT: Final[dict[str, Any]] = {
    **_OBJECT,
    "kind": "storage#objects",
    "items": [_OBJECT],
    "prefixes": ["a/"],
    "nextPageToken": "",
    "labels": {"a": "b"},
    "metageneration": "1",
    "versioning": {"enabled": True},
    "lifecycle": {
        "rule": [
            {"action": {"type": "Delete"}, "condition": {"age": 1, "matchesPrefix": ["a/"], "isLive": True}},
            {"action": {"type": "SetStorageClass", "storageClass": "NEARLINE"}, "condition": {"age": 1}},
            {"action": {"type": "Delete"}, "condition": {"daysSinceNoncurrentTime": 1, "isLive": False}},
        ]
    },
    "done": True,
    "rewriteToken": "token",
    "totalBytesRewritten": "4",
    "resource": _OBJECT,
}
"""A valid answer to each request of the JSON API."""

_ERROR: Final = {
    "error": {"code": 400, "message": "words", "status": "x", "errors": [{"reason": "invalid", "message": "words"}]}
}
_HEADERS: Final = {
    "Content-Type": "application/json",
    "ETag": '"abc"',
    "Location": "/upload?upload_id=1",
    "x-goog-generation": "1",
    "x-goog-hash": "crc32c=AAAAAA==",
}


_JSON: Final = {
    name: SMALL[name]
    for name in (
        "head",
        "put",
        "copy",
        "list",
        "list_buckets",
        "list_versions",
        "get_versioning",
        "get_lifecycle",
        "set_lifecycle",
        "get_tags",
    )
}
"""Operations that use the content of an answer of the JSON API."""

_ERRORS: Final = {name: SMALL[name] for name in ("read", "put", "delete", "list", "create_bucket", "list_parts")}


async def test_the_base_document_is_accepted(server: GCSServer, service: AnsweringProxy) -> None:
    """The documents below differ from it in one value."""
    service.answer(Answer(200, _HEADERS, json.dumps(_DOCUMENT).encode()), times=None)
    async with opened(server, service.url(), attempts=1, api="json") as store:
        assert (await store.head("bucket", "key")).metadata == {"a": "b"}
        assert [found.key for found in await store.list("bucket").all()] == ["a/", "key"]
        assert await store.get_tags("bucket", "key") == {"a": "b"}
        assert len(await store.get_lifecycle("bucket")) == 3
        assert len(await store.list_versions("bucket", "key")) == 1
        assert (await store.copy("bucket", "key", "bucket", "copy")).size == 4


@pytest.mark.parametrize("value", EVIL_VALUES)
async def test_values_in_answers(server: GCSServer, service: AnsweringProxy, value: str) -> None:
    async with opened(server, service.url(), attempts=1, api="json") as store:
        for document in mutations(_DOCUMENT, EVIL_VALUES[value]):
            service.clear()
            answer = Answer(200, _HEADERS, json.dumps(document).encode())
            service.answer(answer, times=None)
            await check(store, answer, _JSON)


@pytest.mark.parametrize("value", EVIL_VALUES)
async def test_values_in_errors(server: GCSServer, service: AnsweringProxy, value: str) -> None:
    async with opened(server, service.url(), attempts=1) as store:
        for document in mutations(_ERROR, EVIL_VALUES[value]):
            for status in (400, 404, 409):
                service.clear()
                answer = Answer(status, _HEADERS, json.dumps(document).encode())
                service.answer(answer, times=None)
                await check(store, answer, _ERRORS)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"error":' * 100_000,
        b"9" * 5000,
        b"\xff\xfe",
        b"<Error>" + b"<a>" * 5000 + b"</a>" * 5000 + b"</Error>",
        b"<ListPartsResult><IsTruncated>true</IsTruncated></ListPartsResult>",
        b"<a><Part><PartNumber>\xc2\xb2</PartNumber><Size>-1</Size><ETag/></Part></a>",
        b"<a><Upload><UploadId/><Key/><Initiated>9999-12-31T23:59:59-23:59</Initiated></Upload></a>",
        b"<a><UploadId>x</UploadId></a>",
        b"--x\r\nContent-ID: <" + b"9" * 5000 + b">\r\n\r\nHTTP/1.1 200 OK\r\n\r\n\r\n--x--",
    ],
    ids=lambda content: content[:30].decode("latin-1"),
)
async def test_documents(server: GCSServer, service: AnsweringProxy, content: bytes) -> None:
    for kind in ("application/json", "multipart/mixed; boundary=x"):
        for status in (200, 404):
            answer = Answer(status, {**_HEADERS, "Content-Type": kind}, content)
            service.clear()
            service.answer(answer, times=None)
            async with opened(server, service.url(), attempts=1) as store:
                await check(store, answer)


@pytest.mark.parametrize("name", [*EVIL_HEADERS, "x-goog-generation", "x-goog-hash", "x-goog-stored-content-length"])
async def test_headers(server: GCSServer, service: AnsweringProxy, name: str) -> None:
    values = EVIL_HEADERS.get(name, ("", "-1", "x", "9" * 5000, "\u00b2", "crc32c=", "crc32c=" + "A" * 4000))
    async with opened(server, service.url(), attempts=1) as store:
        for value in values:
            for status in (200, 206, 308, 403, 503):
                answer = Answer(status, {**_HEADERS, name: value}, b"data")
                service.clear()
                service.answer(answer, times=None)
                await check(store, answer)


@pytest.fixture
def target(server: GCSServer) -> Target:
    return Target(open_store=partial(opened, server), part_size=PART)


class TestEvilAnswers(EvilAnswers):
    """The tests that all HTTP drivers share."""

    own: ClassVar = {"x-goog-generation": "1", "x-guploader-uploadid": "1"}
