"""Listings, which omit the library's own blobs."""

from __future__ import annotations

import pytest

import trove_async as trove
from tests.azure.stores import azure_error, driver_of, opened, through
from trove_async.driver import BucketOptions, ListOptions
from trove_async.drivers.azure.names import OWN
from trove_async.drivers.azure.pages import parse_page
from trove_async.testing.answers import AnsweringProxy

pytestmark = pytest.mark.asyncio


async def test_the_library_s_own_blobs_are_not_listed(bucket: str) -> None:
    async with opened() as store:
        await store.set_lifecycle(bucket, [trove.LifecycleRule("a", expiration_days=1)])
        upload = await store.initiate_multipart(bucket, "key")
        await store.put(bucket, "trove/x", b"x")
        assert [found.key for found in await store.list(bucket).all()] == ["trove/x"]
        for delimiter in ("/", "t", OWN, "trove"):
            found = await store.list(bucket, delimiter=delimiter).all()
            assert not any(item.key.startswith(OWN) for item in found)
        await store.abort_multipart(bucket, "key", upload)
        await store.delete(bucket, "trove/x")


async def test_a_container_with_only_settings_is_empty(bucket: str) -> None:
    async with opened() as store:
        name = f"{bucket}-b"
        await store.create_bucket(name)
        await store.set_lifecycle(name, [trove.LifecycleRule("a", expiration_days=1)])
        await store.put(name, "key", b"x")
        with pytest.raises(trove.BucketNotEmptyError):
            await store.delete_bucket(name)
        await store.delete(name, "key")
        await store.delete_bucket(name)
        with pytest.raises(trove.BucketNotFoundError):
            await store.list(name).all()


async def test_names_that_xml_cannot_contain_are_decoded() -> None:
    content = b"""<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Blobs>
    <Blob><Name Encoded="true">a%EF%BF%BF%2Fb</Name><Properties><Etag>0x1</Etag><Content-Length>3</Content-Length>
    <AccessTier>Cool</AccessTier></Properties></Blob>
    <Blob><Name>a%20b</Name><Properties><Etag>0x2</Etag><Content-Length>0</Content-Length>
    <AccessTier>Hot</AccessTier><AccessTierInferred>true</AccessTierInferred></Properties></Blob>
    <BlobPrefix><Name Encoded="true">%EF%BF%BE/</Name></BlobPrefix>
    </Blobs><NextMarker>2!88!more</NextMarker></EnumerationResults>"""
    page = await parse_page(content)
    infos = [found.info for found in page.blobs]
    assert [(info.key, info.storage_class) for info in infos] == [("a\uffff/b", "COOL"), ("a%20b", None)]
    assert (page.prefixes, page.marker) == (["\ufffe/"], "2!88!more")


async def test_start_after_within_a_group_lists_the_group_if_more_of_it_follows(bucket: str) -> None:
    async with opened() as store:
        for key in ("a/1", "a/2", "b/1", "c"):
            await store.put(bucket, key, b"x")
        expected = {"a/1": ["a/", "b/", "c"], "a/2": ["b/", "c"], "b/1": ["c"], "a": ["a/", "b/", "c"]}
        for start, keys in expected.items():
            found = await store.list(bucket, delimiter="/", start_after=start).all()
            assert [item.key for item in found] == keys


async def test_keys_with_every_ascii_character_except_the_backslash(bucket: str) -> None:
    async with opened() as store:
        keys = [f"at-{chr(code)}-it" for code in range(0x20, 0x7F) if chr(code) != "\\"]
        keys += [chr(code) for code in range(0x20, 0x7F) if chr(code) not in "./\\"]
        for key in keys:
            await store.put(bucket, key, key.encode())
        assert [found.key for found in await store.list(bucket).all()] == sorted(keys)
        for key in keys:
            assert await store.read(bucket, key) == key.encode()


@pytest.mark.parametrize(
    "key", ["a\\b", "a\x01b", "a\x7fb", "a\x85b", "\ue000", ".", "a/../b", "./a", "/".join("k" * 255), f"{OWN}x"]
)
async def test_keys_that_azure_cannot_store_are_refused(key: str) -> None:
    async with trove.open("azure://acct:a2V5@?endpoint=http://127.0.0.1:1/acct") as store:
        with pytest.raises(trove.InvalidKeyError):
            await store.put("bucket", key, b"x")
        await store.aclose()


@pytest.mark.parametrize("name", ["ab", "a" * 64, "Aaa", "a--b", "-ab", "ab-", "a_b", "a.b", "ää1"])
async def test_container_names_are_checked(name: str) -> None:
    async with trove.open("azure://acct:a2V5@?endpoint=http://127.0.0.1:1/acct") as store:
        with pytest.raises(trove.InvalidBucketNameError):
            await store.create_bucket(name)


async def test_a_container_that_is_being_deleted_can_be_created_later(service: AnsweringProxy) -> None:
    service.answer(azure_error(409, "ContainerBeingDeleted"), times=None)
    async with opened(through(service), attempts=1) as store:
        with pytest.raises(trove.TransientError, match="half a minute"):
            await driver_of(store).create_bucket("some-container", BucketOptions())
        service.clear()
        service.answer(azure_error(404, "ContainerNotFound"))
        with pytest.raises(trove.BucketNotFoundError):
            await driver_of(store).list_page("some-container", ListOptions())
