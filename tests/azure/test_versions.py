"""Versions: snapshots on the server, and requests to an account that keeps versions itself."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

import trove_async as trove
from tests.azure.stores import PART, driver_of, opened, pattern, through
from trove_async.testing.answers import Answer, AnsweringProxy
from trove_async.types import LifecycleReport

pytestmark = pytest.mark.asyncio


async def test_by_default_there_are_no_versions(bucket: str) -> None:
    async with opened() as store:
        assert not store.supports(trove.VersioningDriver)
        with pytest.raises(trove.UnsupportedError):
            await store.set_versioning(bucket, True)
        info = await store.put(bucket, "key", b"data")
        assert info.version_id is None


async def test_concurrent_writers_of_one_key_lose_no_version(bucket: str) -> None:
    async with opened(versions="snapshots") as store:
        await store.set_versioning(bucket, True)
        writes = (store.put(bucket, "key", b"%d" % number) for number in range(12))
        infos = await asyncio.gather(*writes)
        versions = await store.list_versions(bucket, "key")
        assert {version.version_id for version in versions} == {info.version_id for info in infos}
        for number, info in enumerate(infos):
            assert await store.read(bucket, "key", version_id=info.version_id) == b"%d" % number


async def test_every_kind_of_write_creates_a_version(bucket: str) -> None:
    async with opened(versions="snapshots") as store:
        await store.set_versioning(bucket, True)
        first = await store.put(bucket, "key", pattern(3 * PART))
        upload = await store.initiate_multipart(bucket, "key")
        part = await store.upload_part(bucket, "key", upload, 1, b"part")
        second = await store.complete_multipart(bucket, "key", upload, [part])
        await store.put(bucket, "other", b"other", metadata={"m": "1"})
        third = await store.copy(bucket, "other", bucket, "key")
        assert [version.version_id for version in await store.list_versions(bucket, "key")] == [
            info.version_id for info in (third, second, first)
        ]
        head = await store.head(bucket, "key")
        assert (dict(head.metadata), head.version_id) == ({"m": "1"}, third.version_id)
        assert await store.read(bucket, "key", version_id=first.version_id) == pattern(3 * PART)


async def test_create_only_ignores_a_delete_marker(bucket: str) -> None:
    async with opened(versions="snapshots") as store:
        await store.set_versioning(bucket, True)
        await store.put(bucket, "a/key", b"1")
        await store.delete(bucket, "a/key")
        assert await store.list(bucket, delimiter="/").all() == []
        await store.put(bucket, "a/key", b"2", if_none_match="*")
        with pytest.raises(trove.ObjectAlreadyExistsError):
            await store.put(bucket, "a/key", b"3", if_none_match="*")
        markers = [version.is_delete_marker for version in await store.list_versions(bucket, "a/key")]
        assert markers == [False, True, False]


async def test_the_sweeper_removes_old_versions(bucket: str) -> None:
    async with opened(versions="snapshots") as store:
        await store.set_versioning(bucket, True)
        for number in range(3):
            await store.put(bucket, "key", b"%d" % number)
        rule = trove.LifecycleRule("old", noncurrent_expiration_days=10)
        await store.set_lifecycle(bucket, [rule])
        later = datetime.now(UTC) + timedelta(days=11)
        assert await store.apply_lifecycle(bucket, now=later) == LifecycleReport(noncurrent_expired=2)
        assert len(await store.list_versions(bucket, "key")) == 1
        assert await store.read(bucket, "key") == b"2"


# The following answers cannot come from the server, which keeps no versions of its own.


PAGE = """\ufeff<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Blobs>
<Blob><Name>key</Name><VersionId>2026-01-01T00:00:00.0000001Z</VersionId>
<Properties><Last-Modified>Thu, 01 Jan 2026 00:00:00 GMT</Last-Modified><Etag>0x1</Etag>
<Content-Length>1</Content-Length></Properties></Blob>
<Blob><Name>key</Name><VersionId>2026-01-02T00:00:00.0000001Z</VersionId>{current}
<Properties><Last-Modified>Fri, 02 Jan 2026 00:00:00 GMT</Last-Modified><Etag>0x2</Etag>
<Content-Length>2</Content-Length></Properties></Blob>
<Blob><Name>key2</Name><VersionId>2026-01-03T00:00:00.0000001Z</VersionId><IsCurrentVersion>true</IsCurrentVersion>
<Properties><Etag>0x3</Etag><Content-Length>3</Content-Length></Properties></Blob>
</Blobs><NextMarker /></EnumerationResults>"""


def page(*, deleted: bool = False) -> Answer:
    current = "" if deleted else "<IsCurrentVersion>true</IsCurrentVersion>"
    return Answer(
        200, {"content-type": "application/xml", "x-ms-request-id": "1"}, PAGE.format(current=current).encode()
    )


async def test_versions_kept_by_the_account_are_listed(bucket: str, service: AnsweringProxy) -> None:
    async with opened(through(service), versions="native") as store:
        assert await store.get_versioning(bucket) == trove.VersioningStatus.ENABLED
        with pytest.raises(trove.UnsupportedError, match="account"):
            await store.set_versioning(bucket, False)
        service.answer(page(), path="include=versions")
        new, old = await store.list_versions(bucket, "key")
        assert (new.version_id, new.is_latest, new.etag) == ("2026-01-02T00:00:00.0000001Z", True, "0x2")
        assert (old.version_id, old.is_latest, old.size) == ("2026-01-01T00:00:00.0000001Z", False, 1)
        service.answer(page(deleted=True), path="include=versions")
        marker, *rest = await store.list_versions(bucket, "key")
        assert (marker.is_delete_marker, marker.is_latest, len(rest)) == (True, True, 2)
        with pytest.raises(trove.VersionNotFoundError):
            await store.get_version(bucket, "key", marker.version_id)
        service.answer(page(), path="include=versions")
        [replaced] = await driver_of(store).list_noncurrent(bucket, "key")
        assert (replaced.version_id, replaced.last_modified) == (old.version_id, new.last_modified)


async def test_requests_name_the_versions_kept_by_the_account(bucket: str, service: AnsweringProxy) -> None:
    version = "2026-01-01T00:00:00.0000001Z"
    named = "versionid=2026-01-01T00%3A00%3A00.0000001Z"
    async with opened(through(service), versions="native") as store:
        info = await store.put(bucket, "key", b"data")
        await store.read(bucket, "key", version_id=version)
        await store.head(bucket, "key", version_id=version)
        assert service.count("GET", named) == service.count("HEAD", named) == 1
        await store.copy(bucket, "key", bucket, "copy", source_version_id=version)
        [copied] = [seen for seen in service.requests if seen.method == "PUT" and "/copy" in seen.target]
        assert named in str(copied.header("x-ms-copy-source"))
        assert "sr=bv" in str(copied.header("x-ms-copy-source"))
        url = await store.presign_get(bucket, "key", version_id=version)
        assert named in url
        service.answer(page(), path="include=versions")
        service.answer(Answer(202, {"x-ms-request-id": "1"}), method="DELETE", path=named)
        await store.delete_version(bucket, "key", version)
        assert service.count("DELETE", named) == 1
        service.answer(
            Answer(200, {"x-ms-version-id": version, "etag": '"0x1"', "x-ms-request-id": "1"}), method="HEAD"
        )
        assert (await store.head(bucket, "key")).version_id == version
        assert info.version_id is None


async def test_a_container_with_versions_is_not_empty(bucket: str, service: AnsweringProxy) -> None:
    async with opened(through(service), versions="native") as store:
        service.answer(page(deleted=True), path="include=versions")
        with pytest.raises(trove.BucketNotEmptyError):
            await store.delete_bucket(bucket)
    assert service.count("DELETE") == 0


def listed(*blobs: tuple[str, int, bool], marker: str = "") -> Answer:
    """Return a page of versions, each a name, the day of its version, and whether it is the object."""
    items = "".join(
        f"<Blob><Name>{name}</Name><VersionId>2026-01-{day:02}T00:00:00.0000001Z</VersionId>"
        + ("<IsCurrentVersion>true</IsCurrentVersion>" if current else "")
        + f"<Properties><Last-Modified>Thu, {day:02} Jan 2026 00:00:00 GMT</Last-Modified><Etag>0x{day}</Etag>"
        "<Content-Length>1</Content-Length></Properties></Blob>"
        for name, day, current in blobs
    )
    document = f"<EnumerationResults><Blobs>{items}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>"
    return Answer(200, {"content-type": "application/xml", "x-ms-request-id": "1"}, document.encode())


async def test_all_versions_of_the_account(bucket: str, service: AnsweringProxy) -> None:
    """The service lists the oldest version first, and may end a page between two versions of a blob."""
    service.answer(listed(("a", 1, False), ("a", 2, True), ("gone", 1, False), marker="m1"), path="comp=list")
    service.answer(listed(("gone", 1, False), ("gone", 2, False), ("gone2", 3, True)), path="prefix=gone")
    service.answer(listed(("gone", 2, False), ("gone2", 3, True), marker="m2"), path="marker=m1")
    service.answer(listed(("gone2", 3, True)), path="prefix=gone2")
    service.answer(listed(("z", 1, True)), path="marker=m2")
    async with opened(through(service), versions="native") as store:
        versions = await store.list_all_versions(bucket).all()
    assert [(v.key, v.version_id[8:10], v.is_latest, v.is_delete_marker) for v in versions] == [
        ("a", "02", True, False),
        ("a", "01", False, False),
        ("gone", "", True, True),
        ("gone", "02", False, False),
        ("gone", "01", False, False),
        ("gone2", "03", True, False),
        ("z", "01", True, False),
    ]
