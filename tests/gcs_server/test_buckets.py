from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.gcs_server.conftest import Put
from tests.gcs_server.requests import OBJECTS, assert_error

BUCKETS = "/storage/v1/b"
BUCKET = "/storage/v1/b/my-bucket"


async def created(client: httpx.AsyncClient, name: object, **fields: Any) -> httpx.Response:
    return await client.post(BUCKETS, params={"project": "p"}, json={"name": name, **fields})


@pytest.mark.asyncio
async def test_a_bucket_is_created(client: httpx.AsyncClient) -> None:
    answer = await created(client, "my-bucket", storageClass="NEARLINE", location="us-east1", labels={"team": "a"})
    resource = answer.json()
    assert resource["kind"] == "storage#bucket"
    assert (resource["name"], resource["id"], resource["metageneration"]) == ("my-bucket", "my-bucket", "1")
    assert (resource["storageClass"], resource["location"]) == ("NEARLINE", "US-EAST1")
    assert resource["labels"] == {"team": "a"}
    assert (await client.get(BUCKET)).json() == resource


@pytest.mark.asyncio
async def test_creations_that_are_refused(client: httpx.AsyncClient, bucket: str) -> None:
    assert_error(await created(client, bucket), 409, "conflict", "you already own it")
    assert_error(await client.post(BUCKETS, json={"name": "other"}), 400, "required", "project")
    assert_error(await created(client, "other", storageClass="COLD"), 400, "invalid")
    assert_error(await created(client, "other", lifecycle={"rule": [{"action": {"type": "Delete"}}]}), 400, "invalid")


@pytest.mark.parametrize(
    "name", ["ab", "a" * 64, "Upper", "-dash", "dash-", "goog-x", "my-google-b", "10.0.0.1", "a b", "a..b", "ü-bucket"]
)
@pytest.mark.asyncio
async def test_invalid_names_of_buckets(client: httpx.AsyncClient, name: str) -> None:
    assert_error(await created(client, name), 400, "invalid", "Invalid bucket name")


@pytest.mark.parametrize("name", ["abc", "a" * 63, "with.dots.example", "under_score", "0-9"])
@pytest.mark.asyncio
async def test_valid_names_of_buckets(client: httpx.AsyncClient, name: str) -> None:
    assert (await created(client, name)).status_code == 200


@pytest.mark.asyncio
async def test_buckets_are_listed_in_pages(client: httpx.AsyncClient) -> None:
    names = [f"bucket-{number}" for number in range(5)]
    for name in reversed([*names, "other"]):
        await created(client, name)
    found: list[str] = []
    token = ""
    pages = 0
    while pages == 0 or token:
        parameters = {"project": "p", "maxResults": "2", "prefix": "bucket-", **({"pageToken": token} if token else {})}
        page = (await client.get(BUCKETS, params=parameters)).json()
        found += [item["name"] for item in page["items"]]
        token = page.get("nextPageToken", "")
        pages += 1
    assert (found, pages) == (names, 3)


@pytest.mark.asyncio
async def test_patch_merges_and_null_removes(client: httpx.AsyncClient, bucket: str) -> None:
    await client.patch(BUCKET, json={"labels": {"a": "1", "b": "2"}, "versioning": {"enabled": True}})
    resource = (await client.patch(BUCKET, json={"labels": {"a": None, "c": "3"}})).json()
    assert resource["labels"] == {"b": "2", "c": "3"}
    assert resource["versioning"] == {"enabled": True}
    assert resource["metageneration"] == "3"
    resource = (await client.patch(BUCKET, json={"versioning": None})).json()
    assert "versioning" not in resource


@pytest.mark.asyncio
async def test_update_replaces(client: httpx.AsyncClient, bucket: str) -> None:
    await client.patch(BUCKET, json={"labels": {"a": "1"}})
    resource = (await client.put(BUCKET, json={"storageClass": "COLDLINE"})).json()
    assert "labels" not in resource
    assert (resource["storageClass"], resource["location"]) == ("COLDLINE", "US")


@pytest.mark.asyncio
async def test_conditions_on_the_metageneration(client: httpx.AsyncClient, bucket: str) -> None:
    patch = await client.patch(BUCKET, params={"ifMetagenerationMatch": 2}, json={"labels": {"a": "1"}})
    assert_error(patch, 412, "conditionNotMet")
    assert (await client.get(BUCKET, params={"ifMetagenerationNotMatch": 1})).status_code == 304
    assert (await client.delete(BUCKET, params={"ifMetagenerationMatch": 1})).status_code == 204


@pytest.mark.asyncio
async def test_only_an_empty_bucket_is_deleted(client: httpx.AsyncClient, put: Put) -> None:
    await put("a")
    assert_error(await client.delete(BUCKET), 409, "conflict", "not empty")
    await client.delete(f"{OBJECTS}/a")
    answer = await client.delete(BUCKET)
    assert (answer.status_code, answer.content) == (204, b"")
    assert_error(await client.get(BUCKET), 404, "notFound", "The specified bucket does not exist.")
    assert_error(await client.delete(BUCKET), 404, "notFound", "bucket")


@pytest.mark.asyncio
async def test_noncurrent_generations_keep_a_bucket(client: httpx.AsyncClient, put: Put) -> None:
    await client.patch(BUCKET, json={"versioning": {"enabled": True}})
    await put("a")
    await client.delete(f"{OBJECTS}/a")
    assert_error(await client.delete(BUCKET), 409, "conflict")


@pytest.mark.asyncio
async def test_permissions_and_the_service_account(client: httpx.AsyncClient, bucket: str) -> None:
    path = f"{BUCKET}/iam/testPermissions?permissions=storage.objects.get&permissions=storage.objects.list"
    assert (await client.get(path)).json()["permissions"] == ["storage.objects.get", "storage.objects.list"]
    assert "gs-project-accounts" in (await client.get("/storage/v1/projects/p/serviceAccount")).json()["email_address"]


@pytest.mark.asyncio
async def test_an_unknown_path_and_an_invalid_document(client: httpx.AsyncClient, bucket: str) -> None:
    assert_error(await client.get(f"{BUCKET}/nothing"), 404, "notFound")
    assert_error(await client.post(BUCKETS, params={"project": "p"}, content=b"{"), 400, "parseError")
