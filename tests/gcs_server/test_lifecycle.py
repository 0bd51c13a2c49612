from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.gcs_server.conftest import Put
from tests.gcs_server.requests import OBJECTS
from trove_async.testing.gcs import GCSServer

BUCKET = "/storage/v1/b/my-bucket"


def days(number: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=number)


async def ruled(
    client: httpx.AsyncClient, *rules: tuple[dict[str, Any], dict[str, Any]], versioned: bool = False
) -> None:
    listed = [{"action": action, "condition": condition} for action, condition in rules]
    body = {"lifecycle": {"rule": listed}, "versioning": {"enabled": versioned}}
    assert (await client.patch(BUCKET, json=body)).status_code == 200


DELETE = {"type": "Delete"}


@pytest.mark.asyncio
async def test_rules_are_not_applied_by_themselves_or_too_early(
    server: GCSServer, client: httpx.AsyncClient, put: Put
) -> None:
    await ruled(client, (DELETE, {"age": 30}))
    await put("a")
    assert server.apply_lifecycle() == 0
    assert server.apply_lifecycle(days(29.9)) == 0
    assert server.apply_lifecycle(days(30.1)) == 1
    assert server.objects("my-bucket") == []


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        ({"age": 0, "matchesPrefix": ["logs/"]}, ["data/a.txt"]),
        ({"age": 0, "matchesSuffix": [".txt", ".csv"]}, ["logs/a.gz"]),
        ({"matchesStorageClass": ["COLDLINE"]}, ["data/a.txt", "logs/a.gz"]),
        ({"createdBefore": "2020-01-01"}, ["data/a.txt", "logs/a.gz"]),
        ({"createdBefore": "2999-01-01"}, []),
        ({"isLive": False}, ["data/a.txt", "logs/a.gz"]),
        ({"daysSinceCustomTime": 1}, ["data/a.txt"]),
        ({"customTimeBefore": "2020-01-01"}, ["data/a.txt", "logs/a.gz"]),
    ],
)
@pytest.mark.asyncio
async def test_conditions(
    server: GCSServer, client: httpx.AsyncClient, put: Put, condition: dict[str, Any], left: list[str]
) -> None:
    await put("logs/a.gz")
    await put("data/a.txt")
    await client.patch(f"{OBJECTS}/logs%2Fa.gz", json={"customTime": "2024-01-01T00:00:00Z"})
    await ruled(client, (DELETE, condition))
    server.apply_lifecycle(days(5))
    assert [item.name for item in server.objects("my-bucket")] == left


@pytest.mark.asyncio
async def test_noncurrent_generations(server: GCSServer, client: httpx.AsyncClient, put: Put) -> None:
    await ruled(client, (DELETE, {"numNewerVersions": 2}), versioned=True)
    made = [await put("a", bytes([number])) for number in range(4)]
    assert server.apply_lifecycle() == 2
    kept = [str(item.generation) for item in server.objects("my-bucket", versions=True)]
    assert kept == [resource["generation"] for resource in made[2:]]
    await ruled(client, (DELETE, {"daysSinceNoncurrentTime": 7}), versioned=True)
    assert server.apply_lifecycle(days(6)) == 0
    assert server.apply_lifecycle(days(8)) == 1
    assert len(server.objects("my-bucket")) == 1


@pytest.mark.asyncio
async def test_a_live_object_of_a_versioned_bucket_is_archived(
    server: GCSServer, client: httpx.AsyncClient, put: Put
) -> None:
    await ruled(client, (DELETE, {"age": 1, "isLive": True}), versioned=True)
    await put("a")
    assert server.apply_lifecycle(days(2)) == 1
    assert server.objects("my-bucket") == []
    assert len(server.objects("my-bucket", versions=True)) == 1


@pytest.mark.asyncio
async def test_the_coldest_class_and_deletion_first(server: GCSServer, client: httpx.AsyncClient, put: Put) -> None:
    classes = [({"type": "SetStorageClass", "storageClass": name}, {"age": 1}) for name in ("COLDLINE", "NEARLINE")]
    await ruled(client, *classes, (DELETE, {"age": 10}))
    generation = (await put("a"))["generation"]
    assert server.apply_lifecycle(days(2)) == 1
    resource = (await client.get(f"{OBJECTS}/a")).json()
    assert (resource["storageClass"], resource["generation"]) == ("COLDLINE", generation)
    assert server.apply_lifecycle(days(2)) == 0
    assert server.apply_lifecycle(days(11)) == 1
    assert server.objects("my-bucket") == []


@pytest.mark.asyncio
async def test_rules_do_not_delete_held_objects(server: GCSServer, client: httpx.AsyncClient, put: Put) -> None:
    await ruled(client, (DELETE, {"age": 0}))
    await put("a")
    await client.patch(f"{OBJECTS}/a", json={"temporaryHold": True})
    assert server.apply_lifecycle(days(1)) == 0


@pytest.mark.asyncio
async def test_incomplete_uploads_are_aborted(server: GCSServer, client: httpx.AsyncClient, bucket: str) -> None:
    await ruled(client, ({"type": "AbortIncompleteMultipartUpload"}, {"age": 7, "matchesPrefix": ["in/"]}))
    for name in ("in/a", "out/a"):
        await client.post(f"/my-bucket/{name}?uploads")
    assert server.apply_lifecycle(days(6)) == 0
    assert server.apply_lifecycle(days(8)) == 1
    assert [upload.name for upload in server.open_uploads()] == ["out/a"]
