"""Listings: only requested pages, bounded work between two turns of the loop, and arbitrary keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from urllib.parse import parse_qs, quote, urlsplit
from xml.sax.saxutils import escape

import pytest
import pytest_asyncio

import trove_async as trove
from tests.s3.stores import ServerName, busy, opened
from trove_async.testing.answers import Answer, AnsweringProxy, s3_error

pytestmark = pytest.mark.asyncio

PAGE = 1000
KEYS = 20_000

ODD_KEYS = sorted(
    [
        "plain",
        "a b",
        "a+b",
        "a%2Bb",
        "a%20b",
        "100%",
        "a&b",
        "a&amp;b",
        "<Error>",
        "]]>",
        "\"quotes'",
        "ü/ö/☃",
        "日本語",
        "🦊/🦊",
        "e\u0301",
        "\u00e9",
        "a?b#c",
        "a\\b",
        "x=1;y=2,z",
        "~tilde",
        "trailing ",
        "trailing/",
        "@:!$*()",
        "k" * 900,
    ],
    key=str.encode,
)


async def fill(store: trove.Trove, bucket: str, keys: list[str]) -> None:
    todo = iter(keys)

    async def work() -> None:
        for key in todo:
            await store.put(bucket, key, b"")

    await asyncio.gather(*(work() for _ in range(20)))


# Many keys


def entry(key: str) -> str:
    return (
        f"<Contents><Key>{quote(key)}</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified>"
        f'<ETag>"{len(key):032x}"</ETag><Size>7</Size><StorageClass>STANDARD</StorageClass></Contents>'
    )


def page(keys: list[str], token: str | None) -> Answer:
    more = "" if token is None else f"<NextContinuationToken>{escape(token)}</NextContinuationToken>"
    document = (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<EncodingType>url</EncodingType><IsTruncated>{str(token is not None).lower()}</IsTruncated>{more}"
        f"{''.join(map(entry, keys))}</ListBucketResult>"
    )
    return Answer(200, {"Content-Type": "application/xml"}, document.encode())


MANY = [f"folder {number // 100:03}/key+{number:05}" for number in range(KEYS)]


def token(number: int) -> str:
    """Return a token that needs escaping, as the tokens of a service may."""
    return f"at/{number:03}+=&"


def serve_many(service: AnsweringProxy) -> None:
    pages = [MANY[start : start + PAGE] for start in range(0, KEYS, PAGE)]
    for number, keys in reversed(list(enumerate(pages))):
        following = token(number + 1) if number + 1 < len(pages) else None
        asked = "list-type=2" if number == 0 else f"continuation-token={quote(token(number), safe='')}&"
        service.answer(page(keys, following), method="GET", path=asked, times=None)


async def test_twenty_thousand_keys_take_twenty_requests(
    server: ServerName, bucket: str, service: AnsweringProxy
) -> None:
    serve_many(service)
    async with opened(server, service.url()) as store:
        assert [found.key async for found in store.list(bucket)] == MANY
    assert service.count() == KEYS // PAGE


async def test_other_tasks_run_between_pages(server: ServerName, bucket: str, service: AnsweringProxy) -> None:
    serve_many(service)
    taken = 0
    at_turns: list[int] = []

    async def other() -> None:
        while taken < KEYS:
            at_turns.append(taken)
            await asyncio.sleep(0)

    async with opened(server, service.url()) as store:
        turning = asyncio.create_task(other())
        async for _ in store.list(bucket):
            taken += 1
        await turning
    steps = [later - earlier for earlier, later in pairwise(at_turns)]
    assert max(steps) <= PAGE


async def test_no_page_is_requested_before_it_is_needed(
    server: ServerName, bucket: str, service: AnsweringProxy
) -> None:
    serve_many(service)
    async with opened(server, service.url()) as store:
        listing = store.list(bucket)
        assert service.count() == 0
        for number in range(1, 2 * PAGE + 2):
            await listing.next()
            assert service.count() == -(-number // PAGE)
        assert busy(store) == 0  # the listing holds no connection
        cursor = listing.cursor
        rest = [found.key async for found in store.list(bucket, cursor=cursor, max_keys=PAGE)]
        assert rest == MANY[2 * PAGE + 1 : 3 * PAGE + 1]


async def test_a_page_that_breaks_is_requested_again(server: ServerName, bucket: str, service: AnsweringProxy) -> None:
    whole = page(MANY[:PAGE], None)
    service.answer(Answer(200, whole.headers, whole.body[:100_000], content_length=len(whole.body)), method="GET")
    service.answer(s3_error(200, "InternalError"), method="GET")
    service.answer(whole, method="GET")
    async with opened(server, service.url()) as store:
        assert [found.key async for found in store.list(bucket)] == MANY[:PAGE]
        assert busy(store) == 0
    assert service.count() == 3


async def test_a_service_that_repeats_a_page_is_detected(
    server: ServerName, bucket: str, service: AnsweringProxy
) -> None:
    service.answer(page(["a"], "again"), method="GET", times=None)
    async with opened(server, service.url()) as store:
        with pytest.raises(trove.BackendError, match="'a' after 'a'"):
            await store.list(bucket).all()
    assert service.count() == 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>Welcome</body></html>",
        b"<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
        b"<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>",
        b"<ListBucketResult><Contents>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><ListBucketResult/>',
    ],
)
async def test_an_answer_that_is_not_a_page(
    server: ServerName, bucket: str, service: AnsweringProxy, body: bytes
) -> None:
    service.answer(Answer(200, {"Content-Type": "application/xml"}, body), method="GET", times=None)
    async with opened(server, service.url()) as store:
        with pytest.raises(trove.BackendError):
            await store.list(bucket).all()
        assert busy(store) == 0
    assert service.count() == 1


# Real pages


async def test_real_pages_join_without_gaps_or_repetitions(
    server: ServerName, bucket: str, service: AnsweringProxy
) -> None:
    keys = sorted((f"k+{number:04}/ü {number % 7}" for number in range(1_100)), key=str.encode)
    async with opened(server) as direct, opened(server, service.url()) as store:
        await fill(direct, bucket, keys)
        found = [(item.key, item.size) async for item in store.list(bucket)]
        assert found == [(key, 0) for key in keys]
        assert service.count() == 2
        service.requests.clear()
        assert [item.key async for item in store.list(bucket, page_size=300)] == keys
        assert service.count() == 4
        assert parse_qs(urlsplit(service.requests[0].target).query)["max-keys"] == ["300"]


# Unusual keys


@pytest_asyncio.fixture
async def odd(server: ServerName, bucket: str) -> AsyncIterator[tuple[trove.Trove, str]]:
    async with opened(server) as store:
        await fill(store, bucket, ODD_KEYS)
        yield store, bucket


async def test_keys_are_returned_unchanged(odd: tuple[trove.Trove, str]) -> None:
    store, bucket = odd
    assert [found.key async for found in store.list(bucket)] == ODD_KEYS
    assert [found.key async for found in store.list(bucket, page_size=1)] == ODD_KEYS
    for key in ODD_KEYS:
        assert (await store.head(bucket, key)).key == key


async def test_prefixes_and_delimiters_of_any_text(odd: tuple[trove.Trove, str]) -> None:
    store, bucket = odd
    for prefix in ("a", "a+", "a%", "a&", "<", "🦊/", "ü/ö", "日", " ", "e"):
        expected = [key for key in ODD_KEYS if key.startswith(prefix)]
        assert [found.key async for found in store.list(bucket, prefix=prefix)] == expected
    groups = [found.key async for found in store.list(bucket, delimiter="/") if isinstance(found, trove.Prefix)]
    assert groups == sorted(["trailing/", "ü/", "🦊/"], key=str.encode)
    groups = [found.key async for found in store.list(bucket, prefix="a", delimiter="&") if "&" in found.key]
    assert groups == ["a&"]


async def test_listing_after_any_key(odd: tuple[trove.Trove, str]) -> None:
    store, bucket = odd
    for number, key in enumerate(ODD_KEYS):
        found = [item.key async for item in store.list(bucket, start_after=key)]
        assert found == ODD_KEYS[number + 1 :]


async def test_a_cursor_after_any_key(odd: tuple[trove.Trove, str]) -> None:
    store, bucket = odd
    listing = store.list(bucket, page_size=5)
    seen = []
    async for item in listing:
        seen.append(item.key)
        cursor = listing.cursor
        if cursor is not None:
            rest = [found.key async for found in store.list(bucket, cursor=cursor, page_size=7)]
            assert seen + rest == ODD_KEYS
    assert seen == ODD_KEYS


async def test_a_service_that_does_not_encode_keys(server: ServerName, bucket: str, service: AnsweringProxy) -> None:
    document = (
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a+b%20&amp;&lt;ü</Key><Size>1</Size>"
        "</Contents></ListBucketResult>"
    )
    service.answer(Answer(200, {"Content-Type": "application/xml"}, document.encode()), method="GET")
    async with opened(server, service.url()) as store:
        assert [found.key async for found in store.list(bucket)] == ["a+b%20&<ü"]


async def test_keys_of_any_text_can_be_deleted_in_bulk(odd: tuple[trove.Trove, str]) -> None:
    store, bucket = odd
    await store.delete_many(bucket, ODD_KEYS[::2])
    assert [found.key async for found in store.list(bucket)] == ODD_KEYS[1::2]


def versions_page(body: str) -> Answer:
    document = f"<ListVersionsResult><EncodingType>url</EncodingType>{body}</ListVersionsResult>"
    return Answer(200, {"content-type": "application/xml", "x-amz-request-id": "1"}, document.encode())


VERSION = (
    "<Version><Key>a%2Bb</Key><VersionId>v1</VersionId><IsLatest>true</IsLatest><Size>1</Size><ETag>e</ETag>"
    "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Version>"
)
MARKER = "<DeleteMarker><Key>c</Key><VersionId>v2</VersionId><IsLatest>true</IsLatest></DeleteMarker>"


@pytest.mark.parametrize("flag", ["<IsTruncated>true</IsTruncated>", ""])
async def test_pages_of_versions(server: ServerName, service: AnsweringProxy, flag: str) -> None:
    """Keys and the markers of the next page are percent-encoded."""
    more = f"{flag}<NextKeyMarker>a%2Bb</NextKeyMarker>"
    service.answer(versions_page(f"{VERSION}{more}<NextVersionIdMarker>v1</NextVersionIdMarker>"), path="versions")
    service.answer(versions_page(MARKER), path="key-marker=a%2Bb")
    async with opened(server, service.url()) as store:
        listed = await store.list_all_versions("bucket", page_size=1).all()
    assert [(v.key, v.version_id, v.is_delete_marker, v.is_latest) for v in listed] == [
        ("a+b", "v1", False, True),
        ("c", "v2", True, True),
    ]
    [first, second] = [parse_qs(urlsplit(seen.target).query) for seen in service.requests]
    assert first["encoding-type"] == ["url"]
    assert (second["key-marker"], second["version-id-marker"]) == (["a+b"], ["v1"])


@pytest.mark.parametrize(
    "body",
    [
        f"{VERSION}<IsTruncated>true</IsTruncated>",
        f"{VERSION}<IsTruncated>true</IsTruncated><NextVersionIdMarker>v1</NextVersionIdMarker>",
        f"{VERSION}<IsTruncated>true</IsTruncated><NextKeyMarker></NextKeyMarker>",
        f"{VERSION}{VERSION}",
        f"{MARKER}{VERSION}",
        VERSION.replace("<Size>1", "<Size>-1"),
        VERSION.replace("<VersionId>v1</VersionId>", ""),
        MARKER.replace("<Key>c</Key>", ""),
    ],
)
async def test_pages_of_versions_that_would_lose_some(server: ServerName, service: AnsweringProxy, body: str) -> None:
    service.answer(versions_page(body), path="versions")
    async with opened(server, service.url(), profile="generic") as store:
        with pytest.raises(trove.BackendError):
            await store.list_all_versions("bucket").all()


@pytest.mark.parametrize(
    ("root", "ask"),
    [
        ("ListVersionsResult", lambda store: store.list_versions("bucket", "a+b")),
        ("ListPartsResult", lambda store: store.list_parts("bucket", "key", "upload")),
        ("ListMultipartUploadsResult", lambda store: store.list_multipart_uploads("bucket")),
    ],
)
async def test_a_truncated_page_without_a_marker_is_not_the_end(
    server: ServerName, service: AnsweringProxy, root: str, ask: Callable[[trove.Trove], Awaitable[object]]
) -> None:
    page = f"<{root}><IsTruncated>true</IsTruncated></{root}>".encode()
    service.answer(Answer(200, {"Content-Type": "application/xml", "x-amz-request-id": "1"}, page))
    async with opened(server, service.url(), profile="generic") as store:
        with pytest.raises(trove.BackendError, match="truncated"):
            await ask(store)
