"""The S3 driver's behaviour beyond the conformance suite, on the servers that support it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest

import trove_async as trove
from tests.s3 import stores
from tests.s3.harness import ceph, moto
from tests.s3.stores import PART, address, scratch
from trove_async.drivers.s3.driver import S3Driver
from trove_async.drivers.s3.pages import parse_page
from trove_async.testing.answers import AnsweringProxy

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[tuple[trove.Trove, str]]:
    bucket = f"driver-{secrets.token_hex(6)}"
    async with trove.open(dsn) as store:
        await store.create_bucket(bucket)
        try:
            yield store, bucket
        finally:
            await store.empty_bucket(bucket, versions=True)
            await store.delete_bucket(bucket)


async def test_ceph_refuses_conditions_where_it_would_ignore_them() -> None:
    async with opened(ceph.dsn()) as (store, bucket):
        await store.put(bucket, "key", b"first", if_none_match="*")
        await store.set_versioning(bucket, True)
        with pytest.raises(trove.UnsupportedError, match="keep versions"):
            await store.put(bucket, "key", b"second", if_none_match="*")
        with pytest.raises(trove.UnsupportedError, match="keep versions"):
            await store.put(bucket, "key", b"second", if_match=(await store.head(bucket, "key")).etag)
        assert await store.read(bucket, "key") == b"first"


async def test_conditions_that_s3_lacks_are_refused_before_any_byte_is_read() -> None:
    async with opened(ceph.dsn()) as (store, bucket):
        info = await store.put(bucket, "key", b"first")
        for condition in ({"if_match": "*"}, {"if_none_match": info.etag}):
            with pytest.raises(trove.UnsupportedError, match="S3 cannot"):
                await store.put(bucket, "key", b"second", **condition)  # type: ignore[arg-type]
        assert await store.read(bucket, "key") == b"first"


@pytest.mark.parametrize(
    ("place", "equal"),
    [("us-east-1/", False), ("auto/?endpoint=https://0123abcd.r2.cloudflarestorage.com", True)],
)
async def test_the_limits_say_whether_parts_must_be_equal(place: str, equal: bool) -> None:
    async with trove.open(f"s3://key:secret@{place}") as store:
        assert store.features.limits.equal_parts is equal


async def test_a_condition_that_the_profile_does_not_declare_says_how_to_declare_it() -> None:
    async with trove.open("s3://us-east-1/bucket?endpoint=http://127.0.0.1:1", anonymous=True) as store:
        with pytest.raises(
            trove.UnsupportedError, match=r"profile 'generic' .* open the store with profile= or conditions="
        ):
            await store.put("bucket", "key", b"", if_none_match="*")


async def test_ceph_refuses_metadata_names_that_it_would_change() -> None:
    async with opened(ceph.dsn()) as (store, bucket):
        with pytest.raises(trove.InvalidMetadataError, match="underscores"):
            await store.put(bucket, "key", b"", metadata={"under_score": "1"})
        assert not await store.exists(bucket, "key")


async def test_ceph_refuses_tags_of_an_upload_because_it_would_drop_them() -> None:
    async with opened(ceph.dsn()) as (store, bucket):
        with pytest.raises(trove.UnsupportedError, match="drop the tags"):
            await store.initiate_multipart(bucket, "key", tags={"a": "1"})
        assert await store.list_multipart_uploads(bucket) == []


async def test_a_form_stores_what_its_policy_allows() -> None:
    async with opened(ceph.dsn()) as (store, bucket), httpx.AsyncClient() as browser:
        form = await store.presign_post(bucket, "posted.txt", max_size=10, min_size=2, content_type="text/plain")

        async def post(content: bytes, **changed: str) -> int:
            answer = await browser.post(form.url, data={**form.fields, **changed}, files={"file": content})
            return answer.status_code

        assert await post(b"x" * 11) == 400
        assert await post(b"x") == 400
        assert await post(b"hello", key="another.txt") == 403
        assert await post(b"hello", **{"Content-Type": "text/html"}) == 403
        assert await store.list(bucket).all() == []
        assert await post(b"hello") in (200, 204)
        assert (await store.head(bucket, "posted.txt")).content_type == "text/plain"
        assert await store.read(bucket, "posted.txt") == b"hello"


async def test_watching_through_a_queue_that_is_set_up() -> None:
    endpoint = moto.dsn().partition("endpoint=")[2].partition("&")[0]
    dsn = f"{moto.dsn()}&watch=sqs&queue=events-{{bucket}}&watch_setup=1&queue_endpoint={endpoint}"
    async with opened(dsn) as (store, bucket):
        assert "watch" in store.features.native
        async with store.watch(bucket, prefix="in/") as events:
            await store.put(bucket, "out/1", b"1")
            await store.put(bucket, "in/a b+ü", b"1")
            async with asyncio.timeout(60):
                event = await anext(events)
        assert (event.type, event.key) == (trove.EventType.CREATED, "in/a b+ü")


async def test_a_page_with_a_prefix_that_xml_cannot_contain() -> None:
    token = "\ufffe\uffff"
    page = await parse_page(
        "<ListBucketResult><EncodingType>url</EncodingType><Prefix>\uffff\x01</Prefix><IsTruncated>true</IsTruncated>"
        f"<NextContinuationToken>{token}</NextContinuationToken><Contents><Key>%EF%BF%BF%01</Key><Size>1</Size>"
        "</Contents></ListBucketResult>".encode()
    )
    assert (page.cursor, [found.key for found in page.objects]) == (token, ["\uffff\x01"])


async def test_conditions_that_s3_lacks_are_refused_before_an_upload_begins() -> None:
    async with (
        scratch("moto") as bucket,
        AnsweringProxy(*address("moto")) as service,
        stores.opened("moto", service.url(), conditions="all", max_copy_size=PART) as store,
    ):
        body = bytes(3 * PART)
        info = await store.put(bucket, "key", body)
        assert service.count("POST") == 2
        for data in (body, chunks(body)):
            with pytest.raises(trove.UnsupportedError, match="S3 cannot"):
                await store.put(bucket, "key", data, if_match="*")
        with pytest.raises(trove.UnsupportedError, match="S3 cannot"):
            await store.copy(bucket, "key", bucket, "copy", if_none_match=info.etag)
        assert service.count("POST") == 2


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 50_000):
        yield data[start : start + 50_000]


async def test_a_part_above_the_service_s_maximum_is_refused_entirely(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(moto.dsn()) as (store, bucket):
        driver = trove.unwrap(store.driver, S3Driver)
        upload = await store.initiate_multipart(bucket, "key")
        limits = replace(driver.features.limits, max_part_size=100_000)
        monkeypatch.setattr(driver, "_features", replace(driver.features, limits=limits))
        with pytest.raises(trove.InvalidPartError, match="100000"):
            await store.upload_part(bucket, "key", upload, 1, chunks(bytes(100_001)))
        assert await store.list_parts(bucket, "key", upload) == []
        assert (await store.upload_part(bucket, "key", upload, 1, chunks(bytes(100_000)))).size == 100_000
        await store.abort_multipart(bucket, "key", upload)


@pytest.mark.parametrize("limit", ["", "&max_copy_size=65536"], ids=["whole", "in parts"])
@pytest.mark.parametrize("target", ["key", "copy"])
async def test_a_copy_keeps_the_checksum_however_it_is_made(target: str, limit: str) -> None:
    async with opened(ceph.dsn() + limit) as (store, bucket):
        info = await store.put(bucket, "key", bytes(200_000), checksum="sha256", metadata={"a": "b"})
        copied = await store.copy(bucket, "key", bucket, target)
        found = await store.head(bucket, target)
        assert (copied.checksums, found.checksums) == (info.checksums, info.checksums)
        assert (copied.metadata, found.metadata) == ({"a": "b"}, {"a": "b"})
