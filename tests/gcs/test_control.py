"""Buckets, versions, lifecycle rules, tags and holds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import trove_async as trove
from tests.gcs.stores import PART, driver_of, json_error, opened, pattern
from trove_async.drivers.gcs.lifecycle import from_gcs, own_labels, to_gcs
from trove_async.testing.answers import Answer, AnsweringProxy, When
from trove_async.testing.gcs import GCSServer
from trove_async.types import LifecycleRule, VersioningStatus

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("delays")]


# Lifecycle

RULES = [
    LifecycleRule("expire-logs", prefix="logs/", expiration_days=30),
    LifecycleRule("Off & on", prefix="tmp/", enabled=False, expiration_days=1),
    LifecycleRule("uploads", abort_incomplete_days=7),
    LifecycleRule(
        "all of it",
        prefix="ä/",
        transition_days=10,
        transition_storage="COLDLINE",
        expiration_days=100,
        noncurrent_expiration_days=5,
        abort_incomplete_days=1,
    ),
]


async def test_rules_in_the_form_of_the_service() -> None:
    made, labels = to_gcs(RULES)
    assert made == [
        {
            "action": {"type": "Delete"},
            "condition": {"age": 30, "isLive": True, "matchesPrefix": ["logs/"]},
        },
        {
            "action": {"type": "Delete"},
            "condition": {"age": 1, "isLive": True, "createdBefore": "1970-01-01", "matchesPrefix": ["tmp/"]},
        },
        {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 7}},
        {"action": {"type": "Delete"}, "condition": {"age": 100, "isLive": True, "matchesPrefix": ["ä/"]}},
        {
            "action": {"type": "SetStorageClass", "storageClass": "COLDLINE"},
            "condition": {"age": 10, "isLive": True, "matchesPrefix": ["ä/"]},
        },
        {
            "action": {"type": "Delete"},
            "condition": {"daysSinceNoncurrentTime": 5, "isLive": False, "matchesPrefix": ["ä/"]},
        },
        {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 1, "matchesPrefix": ["ä/"]}},
    ]
    assert from_gcs(made, labels) == RULES
    assert set(own_labels({**labels, "team": "x"})) == set(labels)
    # https://cloud.google.com/storage/docs/tags-and-labels: valid labels
    for name, value in labels.items():
        assert len(name) <= 63
        assert len(value) <= 63
        assert all(character.islower() or character.isdigit() or character in "-_" for character in name + value)


async def test_foreign_rules_are_identified_by_their_position() -> None:
    made, _ = to_gcs(RULES[:1])
    [rule] = from_gcs(made, {"team": "x"})
    assert rule == LifecycleRule("rule-1", prefix="logs/", expiration_days=30)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (
            {"action": {"type": "Delete"}, "condition": {"age": 1, "matchesStorageClass": ["COLDLINE"]}},
            "matchesStorage",
        ),
        ({"action": {"type": "Delete"}, "condition": {"age": 1, "matchesPrefix": ["a", "b"]}}, "several prefixes"),
        ({"action": {"type": "Delete"}, "condition": {"numNewerVersions": 3}}, "numNewerVersions"),
        ({"action": {"type": "Delete"}, "condition": {"createdBefore": "2020-01-01", "age": 1}}, "createdBefore"),
        ({"action": {"type": "Delete"}, "condition": {"isLive": False, "age": 1}}, "no age"),
        ({"action": {"type": "Delete"}, "condition": {"daysSinceNoncurrentTime": 1, "age": 1}}, "two ages"),
        ({"action": {"type": "Surprise"}, "condition": {"age": 1}}, "Surprise"),
    ],
)
async def test_a_rule_that_cannot_be_stored_is_reported(rule: dict[str, Any], words: str) -> None:
    with pytest.raises(trove.UnsupportedError, match=words):
        from_gcs([rule], {})


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ([LifecycleRule("a", enabled=False, abort_incomplete_days=1)], "is disabled"),
        ([LifecycleRule("a", expiration_days=1), LifecycleRule("b", expiration_days=1)], "same action"),
        ([LifecycleRule("A" * 100, expiration_days=1)], "too long"),
    ],
)
async def test_a_rule_that_the_service_does_not_support(
    server: GCSServer, bucket: str, rules: list[LifecycleRule], words: str
) -> None:
    async with opened(server) as store:
        before = server.requests.count()
        with pytest.raises(trove.UnsupportedError, match=words):
            await store.set_lifecycle(bucket, rules)
        assert server.requests.count() == before


async def test_labels_of_others_are_kept(server: GCSServer, bucket: str) -> None:
    async with opened(server) as store:
        await driver_of(store)._control._patch_bucket(bucket, {"labels": {"team": "x"}})
        await store.set_lifecycle(bucket, RULES)
        assert await store.get_lifecycle(bucket) == RULES
        await store.set_lifecycle(bucket, RULES[:1])
        assert await store.get_lifecycle(bucket) == RULES[:1]
        await store.delete_lifecycle(bucket)
        found = await driver_of(store)._control._bucket(bucket, "labels,lifecycle")
        assert found == {"name": bucket, "labels": {"team": "x"}}


async def test_concurrent_changes_of_rules_store_the_rules_of_one(server: GCSServer, bucket: str) -> None:
    async with opened(server) as store:
        sets = [[LifecycleRule(f"rule-{number}", expiration_days=number + 1)] for number in range(8)]
        await asyncio.gather(*(store.set_lifecycle(bucket, rules) for rules in sets))
        assert await store.get_lifecycle(bucket) in sets


# Versions


async def test_suspending_a_bucket_without_versions_keeps_it_unversioned(server: GCSServer, bucket: str) -> None:
    async with opened(server) as store:
        await store.set_versioning(bucket, False)
        assert await store.get_versioning(bucket) is VersioningStatus.UNVERSIONED
        await store.set_versioning(bucket, True)
        await store.set_versioning(bucket, False)
        assert await store.get_versioning(bucket) is VersioningStatus.SUSPENDED


async def test_a_deleted_object_has_only_noncurrent_generations(server: GCSServer, bucket: str) -> None:
    """There are no delete markers: restoring a generation brings a deleted object back."""
    async with opened(server) as store:
        await store.set_versioning(bucket, True)
        one = await store.put(bucket, "key", b"1", metadata={"a": "b"}, tags={"t": "u"})
        two = await store.put(bucket, "key", b"2")
        await store.delete(bucket, "key")
        versions = await store.list_versions(bucket, "key")
        assert [version.version_id for version in versions] == [two.version_id, one.version_id]
        assert not any(version.is_latest or version.is_delete_marker for version in versions)
        assert not await store.exists(bucket, "key")
        with pytest.raises(trove.BucketNotEmptyError):
            await store.delete_bucket(bucket)
        restored = await store.restore_version(bucket, "key", str(one.version_id))
        head = await store.head(bucket, "key")
        assert (head.etag, dict(head.metadata)) == (restored.etag, {"a": "b"})
        assert await store.get_tags(bucket, "key") == {"t": "u"}
        [latest, *_] = await store.list_versions(bucket, "key")
        assert (latest.version_id, latest.is_latest) == (restored.version_id, True)


async def test_generations_in_several_pages(server: GCSServer, bucket: str) -> None:
    async with opened(server) as store:
        driver_of(store)._control._page_size = 3
        await store.set_versioning(bucket, True)
        made = [(await store.put(bucket, "key", b"x")).version_id for _ in range(10)]
        await store.put(bucket, "key-2", b"x")
        assert [version.version_id for version in await store.list_versions(bucket, "key")] == made[::-1]


# Tags


async def test_setting_tags_changes_nothing_else(server: GCSServer, bucket: str) -> None:
    async with opened(server) as store:
        info = await store.put(bucket, "key", b"data", metadata={"a": "b"}, tags={"x": "1"})
        await store.set_tags(bucket, "key", {"y&=": "2=3&", "ü": ""})
        assert await store.get_tags(bucket, "key") == {"y&=": "2=3&", "ü": ""}
        head = await store.head(bucket, "key")
        assert (head.etag, dict(head.metadata)) == (info.etag, {"a": "b"})
        await store.delete_tags(bucket, "key")
        assert await store.get_tags(bucket, "key") == {}
        [stored] = server.objects(bucket)
        assert stored.fields["metadata"] == {"a": "b"}


async def test_tags_that_exceed_the_limit_of_metadata(server: GCSServer, bucket: str) -> None:
    async with opened(server) as store:
        await store.put(bucket, "key", b"data")
        with pytest.raises(trove.InvalidTagsError, match="8192"):
            await store.set_tags(bucket, "key", {f"{number}": "☺" * 256 for number in range(10)})


# Holds


@pytest.mark.parametrize("hold", ["temporary", "event_based"])
@pytest.mark.parametrize("size", [4, 2 * PART])
async def test_new_objects_are_held(server: GCSServer, bucket: str, hold: str, size: int) -> None:
    async with opened(server, hold=hold) as store:
        await store.put(bucket, "key", pattern(size))
        await store.copy(bucket, "key", bucket, "copy")
        for key in ("key", "copy"):
            for call in (store.delete(bucket, key), store.put(bucket, key, b"other")):
                with pytest.raises(trove.AccessDeniedError, match="hold"):
                    await call
            await driver_of(store).set_holds(bucket, key, temporary=False, event_based=False)
            await store.delete(bucket, key)


async def test_a_hold_is_set_and_released(server: GCSServer, bucket: str) -> None:
    async with opened(server) as store:
        await store.put(bucket, "key", b"data")
        await driver_of(store).set_holds(bucket, "key", temporary=True)
        with pytest.raises(trove.AccessDeniedError):
            await store.delete(bucket, "key")
        with pytest.raises(trove.BulkError):
            await store.delete_many(bucket, ["key"])
        await driver_of(store).set_holds(bucket, "key", temporary=False)
        await store.delete(bucket, "key")


# Storage classes and keys


async def test_the_store_s_own_storage_class_and_key(server: GCSServer, bucket: str, service: AnsweringProxy) -> None:
    key = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
    async with opened(server, service.url(), storage_class="NEARLINE", kms_key=key) as store:
        for name, size in (("small", 4), ("large", 3 * PART)):
            assert (await store.put(bucket, name, pattern(size))).storage_class == "NEARLINE"
            assert (await store.head(bucket, name)).storage_class == "NEARLINE"
        other = await store.put(bucket, "other", b"data", storage_class="ARCHIVE")
        assert other.storage_class == "ARCHIVE"
        await store.copy(bucket, "small", bucket, "copy")
    sent_keys = [
        request.header("x-goog-encryption-kms-key-name") for request in service.requests if request.method == "PUT"
    ]
    assert sent_keys[0] == key
    assert any("destinationKmsKeyName=projects%2Fp" in request.target for request in service.requests)


# Buckets


async def test_the_location_of_a_bucket(server: GCSServer) -> None:
    async with opened(server, location="europe-west3") as store:
        await store.create_bucket("one-bucket")
        await store.create_bucket("two-bucket", region="us-east1")
        with pytest.raises(trove.BucketAlreadyExistsError):
            await store.create_bucket("one-bucket")
        assert [found.name for found in await store.list_buckets()] == ["one-bucket", "two-bucket"]
        control = driver_of(store)._control
        located = [(await control._bucket(name, "location"))["location"] for name in ("one-bucket", "two-bucket")]
        assert [place.lower() for place in located] == ["europe-west3", "us-east1"]


async def test_buckets_in_several_pages(server: GCSServer) -> None:
    async with opened(server) as store:
        driver_of(store)._control._page_size = 2
        names = [f"bucket-{number}" for number in range(5)]
        for name in reversed(names):
            await store.create_bucket(name)
        found = await store.list_buckets()
        assert [bucket.name for bucket in found] == names
        assert all(bucket.created_at is not None for bucket in found)


async def test_a_listing_that_repeats_its_pages_is_an_error(
    server: GCSServer, bucket: str, service: AnsweringProxy
) -> None:
    service.answer(Answer(200, {}, b'{"kind": "storage#objects", "items": [], "nextPageToken": "x"}'), times=None)
    async with opened(server, service.url()) as store:
        for call in (store.list_buckets(), store.list(bucket).all(), store.list_versions(bucket, "key")):
            with pytest.raises(trove.BackendError, match="repeats its pages"):
                await call


async def test_a_bucket_whose_properties_may_not_be_read(
    server: GCSServer, bucket: str, service: AnsweringProxy
) -> None:
    service.answer(json_error(403, "forbidden"), times=None)
    async with opened(server, service.url()) as store:
        for call in (
            store.get_versioning(bucket),
            store.get_lifecycle(bucket),
            store.ping(),
            store.delete_bucket(bucket),
        ):
            with pytest.raises(trove.AccessDeniedError):
                await call


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>Conflict", b'{"error": {"code": 409, "message": "x"}}'])
@pytest.mark.parametrize("headers", [{}, {"X-GUploader-UploadID": "id"}], ids=["front end", "service"])
async def test_a_conflict_on_creation_without_a_reason(
    server: GCSServer, bucket: str, service: AnsweringProxy, body: bytes, headers: dict[str, str]
) -> None:
    """The bucket is looked up: 409 is the answer both for a name that is taken and for a creation in progress."""
    async with opened(server, service.url(), attempts=3) as store:
        service.answer(Answer(409, headers, body), method="POST", path="/b?", times=None)
        with pytest.raises(trove.BucketAlreadyExistsError):
            await store.create_bucket(bucket)
        with pytest.raises(trove.ConflictError):
            await store.create_bucket("another-bucket")
    assert service.count("POST") == 2  # not sent again: the answer is the same


async def test_a_bucket_of_another_user_exists(server: GCSServer, bucket: str, service: AnsweringProxy) -> None:
    async with opened(server, service.url()) as store:
        service.answer(json_error(409, "conflict", "Sorry, that name is not available."), method="POST", path="/b?")
        service.answer(json_error(403, "forbidden"), method="GET", path=f"/b/{bucket}")
        with pytest.raises(trove.BucketAlreadyExistsError):
            await store.create_bucket(bucket)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("described", [{}, {"replace": True, "metadata": {"new": "1"}}], ids=["kept", "replaced"])
async def test_an_uncertain_copy_is_settled_by_a_look_up(
    server: GCSServer, bucket: str, service: AnsweringProxy, when: When, described: dict[str, Any]
) -> None:
    async with opened(server, service.url(), attempts=2) as store:
        await store.put(bucket, "key", b"data", metadata={"a": "b"}, tags={"c": "d"})
        service.answer(json_error(503, "backendError"), method="POST", path="rewriteTo", when=when, times=2)
        if when == "after":
            info = await store.copy(bucket, "key", bucket, "copy", **described)
            assert info == await store.head(bucket, "copy")
        else:
            with pytest.raises(trove.TransientError) as caught:
                await store.copy(bucket, "key", bucket, "copy", **described)
            assert caught.value.ambiguous


async def test_a_copy_without_progress_is_given_up(server: GCSServer, bucket: str, service: AnsweringProxy) -> None:
    answer = Answer(200, {}, b'{"done": false, "rewriteToken": "token", "totalBytesRewritten": "2"}')
    service.answer(answer, method="POST", path="rewriteTo", times=None)
    async with opened(server, service.url(), attempts=3) as store:
        await store.put(bucket, "key", b"data")
        with pytest.raises(trove.TransientError, match="no progress"):
            await store.copy(bucket, "key", bucket, "copy")
    assert service.count("POST", "rewriteTo") == 4


@pytest.mark.parametrize("described", [{}, {"replace": True, "metadata": {"new": "1"}}], ids=["kept", "replaced"])
async def test_what_the_service_cannot_rewrite_is_read_and_written(
    server: GCSServer, bucket: str, service: AnsweringProxy, described: dict[str, Any]
) -> None:
    service.answer(json_error(501, "notImplemented"), method="POST", path="rewriteTo", times=None)
    async with opened(server, service.url()) as store:
        await store.put(bucket, "key", b"data", metadata={"a": "b"}, tags={"c": "d"})
        await store.copy(bucket, "key", bucket, "copy", **described)
        assert (await store.head(bucket, "copy")).metadata == described.get("metadata", {"a": "b"})
        assert await store.get_tags(bucket, "copy") == ({} if described else {"c": "d"})
        assert await store.read(bucket, "copy") == b"data"
    assert service.count("POST", "rewriteTo") == 1
