"""Parts that the service copies. Azurite cannot do that: the requests are checked, and answered by the test."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

import trove_async as trove
from tests.azure.stores import ACCOUNT, PART, azure_error, opened, pattern, through
from trove_async.testing.answers import Answer, AnsweringProxy

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("delays")]

COPIED = Answer(201, {"x-ms-request-id": "1"})


async def test_a_range_becomes_a_block_without_moving_bytes(bucket: str, service: AnsweringProxy) -> None:
    async with opened(through(service)) as store:
        source = await store.put(bucket, "a b+ü", pattern(3 * PART))
        upload = await store.initiate_multipart(bucket, "key")
        service.answer(COPIED, method="PUT", path="blockid=")
        service.requests.clear()
        part = await store.copy_part(bucket, "key", upload, 7, trove.ObjectRef(bucket, "a b+ü"), 5, 2 * PART)
        manifest, look, block = service.requests
        await store.abort_multipart(bucket, "key", upload)
    assert (part.number, part.size) == (7, 2 * PART)
    assert [manifest.method, look.method, block.method, block.body_size] == ["HEAD", "HEAD", "PUT", 0]
    url = urlsplit(str(block.header("x-ms-copy-source")))
    assert url.path == f"/{ACCOUNT}/{bucket}/a%20b%2B%C3%BC"
    assert parse_qs(url.query)["sp"] == ["r"]
    assert block.header("x-ms-source-range") == f"bytes=5-{2 * PART + 4}"
    assert block.header("x-ms-source-if-match") == f'"{source.etag}"'


async def test_a_version_is_named_in_the_source(bucket: str, service: AnsweringProxy) -> None:
    service.answer(COPIED, method="PUT", path="blockid=", times=None)
    async with opened(through(service), versions="snapshots") as store:
        await store.set_versioning(bucket, True)
        first = await store.put(bucket, "source", b"old")
        await store.put(bucket, "source", b"newer")
        upload = await store.initiate_multipart(bucket, "key")
        old = trove.ObjectRef(bucket, "source", first.version_id)
        await store.copy_part(bucket, "key", upload, 1, old, 0, 3)
        block = service.requests[-1]
        with pytest.raises(trove.RangeNotSatisfiableError):
            await store.copy_part(bucket, "key", upload, 1, old, 0, 4)
        await store.abort_multipart(bucket, "key", upload)
    assert "snapshot" in parse_qs(urlsplit(str(block.header("x-ms-copy-source"))).query)


@pytest.mark.parametrize(
    ("answer", "expected", "key"),
    [
        (azure_error(404, "CannotVerifyCopySource"), trove.CopyNotSupportedError, "key"),
        (azure_error(412, "SourceConditionNotMet"), trove.ObjectChangedError, "source"),
        (azure_error(403, "CannotVerifyCopySource"), trove.CopyNotSupportedError, "key"),
        (None, trove.CopyNotSupportedError, "key"),
    ],
    ids=["gone", "replaced", "unreadable", "emulator"],
)
async def test_errors_name_what_they_are_about(
    bucket: str, service: AnsweringProxy, answer: Answer | None, expected: type[trove.TroveError], key: str
) -> None:
    if answer is not None:
        service.answer(answer, method="PUT", path="blockid=")
    async with opened(through(service)) as store:
        await store.put(bucket, "source", b"data")
        upload = await store.initiate_multipart(bucket, "key")
        with pytest.raises(expected) as caught:
            await store.copy_part(bucket, "key", upload, 1, trove.ObjectRef(bucket, "source"), 0, 4)
        assert await store.list_parts(bucket, "key", upload) == []
        await store.abort_multipart(bucket, "key", upload)
    assert (type(caught.value), caught.value.key, caught.value.ambiguous) == (expected, key, False)
    assert caught.value.copy_phase == ("read" if key == "source" else None)


async def test_what_is_missing_is_found_before_anything_is_copied(bucket: str, service: AnsweringProxy) -> None:
    async with opened(through(service)) as store:
        await store.put(bucket, "source", b"data")
        upload = await store.initiate_multipart(bucket, "key")
        source = trove.ObjectRef(bucket, "source")
        with pytest.raises(trove.UploadNotFoundError):
            await store.copy_part(bucket, "key", "0" * 30, 1, source, 0, 4)
        with pytest.raises(trove.ObjectNotFoundError) as caught:
            await store.copy_part(bucket, "key", upload, 1, trove.ObjectRef(bucket, "missing"), 0, 4)
        assert (caught.value.key, caught.value.copy_phase) == ("missing", "read")
        for offset, length in ((0, 5), (4, 1)):
            with pytest.raises(trove.RangeNotSatisfiableError):
                await store.copy_part(bucket, "key", upload, 1, source, offset, length)
        await store.abort_multipart(bucket, "key", upload)
    assert service.count("PUT", "x-ms-copy-source") == service.count("PUT", "blockid=") == 0
