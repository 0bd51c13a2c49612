from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.gcs_server.conftest import Put
from tests.gcs_server.requests import OBJECTS, UPLOADS, assert_error, related
from trove_async.testing.gcs import GCSServer

REWRITE = f"{OBJECTS}/a/rewriteTo/b/my-bucket/o/b"
COPY = f"{OBJECTS}/a/copyTo/b/my-bucket/o/b"
COMPOSE = f"{OBJECTS}/joined/compose"


async def source(client: httpx.AsyncClient) -> dict[str, Any]:
    body, headers = related({"name": "a", "metadata": {"k": "v"}, "contentType": "image/png"}, b"content")
    answer = await client.post(f"{UPLOADS}?uploadType=multipart", content=body, headers=headers)
    resource: dict[str, Any] = answer.json()
    return resource


@pytest.mark.parametrize("path", [REWRITE, COPY])
@pytest.mark.asyncio
async def test_a_copy_has_the_content_and_metadata_of_its_source(
    client: httpx.AsyncClient, bucket: str, path: str
) -> None:
    original = await source(client)
    answer = (await client.post(path)).json()
    if path == REWRITE:
        assert answer["kind"] == "storage#rewriteResponse"
        assert (answer["done"], answer["objectSize"], answer["totalBytesRewritten"]) == (True, "7", "7")
        answer = answer["resource"]
    assert answer["metadata"] == {"k": "v"}
    assert answer["contentType"] == "image/png"
    assert answer["md5Hash"] == original["md5Hash"]
    assert answer["generation"] != original["generation"]
    assert (await client.get(f"{OBJECTS}/b?alt=media")).content == b"content"


@pytest.mark.parametrize("path", [REWRITE, COPY])
@pytest.mark.asyncio
async def test_metadata_of_the_request_replaces_all(client: httpx.AsyncClient, bucket: str, path: str) -> None:
    await source(client)
    answer = (await client.post(path, json={"cacheControl": "no-store", "storageClass": "COLDLINE"})).json()
    made = answer.get("resource", answer)
    assert (made["cacheControl"], made["storageClass"]) == ("no-store", "COLDLINE")
    assert "metadata" not in made
    assert "contentType" not in made


@pytest.mark.asyncio
async def test_the_class_is_that_of_the_destination(client: httpx.AsyncClient, bucket: str) -> None:
    await source(client)
    await client.post("/storage/v1/b?project=p", json={"name": "cold", "storageClass": "COLDLINE"})
    made = (await client.post(f"{OBJECTS}/a/copyTo/b/cold/o/b%2Fc")).json()
    assert (made["bucket"], made["name"], made["storageClass"]) == ("cold", "b/c", "COLDLINE")


@pytest.mark.parametrize("path", [REWRITE, COPY])
@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"ifGenerationMatch": "0"}, 200),
        ({"ifGenerationMatch": "5"}, 412),
        ({"ifSourceGenerationMatch": "{g}"}, 200),
        ({"ifSourceGenerationMatch": "5"}, 412),
        ({"ifSourceGenerationNotMatch": "{g}"}, 412),
        ({"ifSourceMetagenerationMatch": "1"}, 200),
        ({"ifSourceMetagenerationNotMatch": "1"}, 412),
        ({"sourceGeneration": "5"}, 404),
    ],
)
@pytest.mark.asyncio
async def test_conditional_copies(
    server: GCSServer, client: httpx.AsyncClient, bucket: str, path: str, parameters: dict[str, str], status: int
) -> None:
    generation = (await source(client))["generation"]
    asked = {name: value.format(g=generation) for name, value in parameters.items()}
    answer = await client.post(path, params=asked)
    assert answer.status_code == status
    assert len(server.objects("my-bucket")) == (2 if status == 200 else 1)


@pytest.mark.asyncio
async def test_copies_of_missing_objects(client: httpx.AsyncClient, bucket: str) -> None:
    assert_error(await client.post(REWRITE), 404, "notFound", "No such object: my-bucket/a")
    await source(client)
    assert_error(await client.post(f"{OBJECTS}/a/rewriteTo/b/none/o/b"), 404, "notFound", "bucket")


@pytest.mark.asyncio
async def test_a_rewrite_in_several_calls() -> None:
    async with (
        GCSServer(anonymous=True, rewrite_bytes_per_call=3) as server,
        httpx.AsyncClient(base_url=server.url) as client,
    ):
        await client.post("/storage/v1/b?project=p", json={"name": "my-bucket"})
        await source(client)
        first = (await client.post(REWRITE)).json()
        assert (first["done"], first["totalBytesRewritten"], first["objectSize"]) == (False, "3", "7")
        assert "resource" not in first
        assert len(server.objects("my-bucket")) == 1
        second = (await client.post(REWRITE, params={"rewriteToken": first["rewriteToken"]})).json()
        assert (second["done"], second["totalBytesRewritten"]) == (False, "6")
        third = (await client.post(REWRITE, params={"rewriteToken": second["rewriteToken"]})).json()
        assert (third["done"], third["resource"]["size"]) == (True, "7")
        used = await client.post(REWRITE, params={"rewriteToken": second["rewriteToken"]})
        assert_error(used, 400, "invalidParameter", "rewrite token")
        begun = (await client.post(REWRITE)).json()["rewriteToken"]
        other = await client.post(f"{OBJECTS}/a/rewriteTo/b/my-bucket/o/c", params={"rewriteToken": begun})
        assert_error(other, 400, "invalidParameter")


@pytest.mark.asyncio
async def test_a_call_rewrites_at_most_what_it_says(client: httpx.AsyncClient, put: Put) -> None:
    await put("a", bytes(3 << 20))
    asked = {"maxBytesRewrittenPerCall": str(2 << 20)}
    assert (await client.post(REWRITE, params=asked)).json()["done"]  # neither location nor class change
    colder = {"storageClass": "COLDLINE"}
    first = (await client.post(REWRITE, params=asked, json=colder)).json()
    assert first["totalBytesRewritten"] == str(2 << 20)
    asked["rewriteToken"] = first["rewriteToken"]
    assert (await client.post(REWRITE, params=asked, json=colder)).json()["resource"]["storageClass"] == "COLDLINE"
    assert_error(await client.post(REWRITE, params={"maxBytesRewrittenPerCall": 7}), 400, "invalidParameter")


@pytest.mark.asyncio
async def test_objects_are_composed(client: httpx.AsyncClient, put: Put) -> None:
    for name in ("one", "two"):
        await put(name, name.encode())
    body = {"sourceObjects": [{"name": "one"}, {"name": "two"}], "destination": {"contentType": "text/csv"}}
    made = (await client.post(COMPOSE, json=body)).json()
    assert (made["name"], made["size"], made["componentCount"]) == ("joined", "6", 2)
    assert made["contentType"] == "text/csv"
    assert "md5Hash" not in made
    assert (await client.get(f"{OBJECTS}/joined?alt=media")).content == b"onetwo"
    again = {"sourceObjects": [{"name": "joined"}, {"name": "one"}]}
    assert (await client.post(COMPOSE, json=again)).json()["componentCount"] == 3


@pytest.mark.asyncio
async def test_compose_takes_at_most_32_components(client: httpx.AsyncClient, put: Put) -> None:
    await put("one", b"1")
    assert (await client.post(COMPOSE, json={"sourceObjects": [{"name": "one"}] * 32})).json()["size"] == "32"
    assert_error(await client.post(COMPOSE, json={"sourceObjects": [{"name": "one"}] * 33}), 400, "invalid", "(32)")
    assert_error(await client.post(COMPOSE, json={"sourceObjects": []}), 400, "required")


@pytest.mark.asyncio
async def test_conditions_of_compose(client: httpx.AsyncClient, put: Put) -> None:
    generation = (await put("one", b"1"))["generation"]

    def body(wanted: object, key: str = "objectPreconditions") -> dict[str, Any]:
        condition = {"ifGenerationMatch": wanted} if key == "objectPreconditions" else wanted
        return {"sourceObjects": [{"name": "one", key: condition}]}

    assert (await client.post(COMPOSE, json=body(generation))).status_code == 200
    assert_error(await client.post(COMPOSE, json=body("7")), 412, "conditionNotMet")
    assert (await client.post(COMPOSE, json=body(generation, "generation"))).status_code == 200
    assert_error(await client.post(COMPOSE, json=body("7", "generation")), 404, "notFound", "my-bucket/one")
    exists = await client.post(COMPOSE, params={"ifGenerationMatch": 0}, json=body(generation))
    assert_error(exists, 412, "conditionNotMet")
    missing = await client.post(COMPOSE, json={"sourceObjects": [{"name": "none"}]})
    assert_error(missing, 404, "notFound", "my-bucket/none")


MOVE = f"{OBJECTS}/a/moveTo/o/b"


@pytest.mark.asyncio
async def test_an_object_is_moved(server: GCSServer, client: httpx.AsyncClient, bucket: str) -> None:
    original = await source(client)
    await client.patch(f"{OBJECTS}/a", json={"cacheControl": "no-store"})
    moved = (await client.post(MOVE)).json()
    assert (moved["kind"], moved["name"], moved["metageneration"]) == ("storage#object", "b", "1")
    assert int(moved["generation"]) > int(original["generation"])
    assert (moved["metadata"], moved["contentType"], moved["cacheControl"]) == ({"k": "v"}, "image/png", "no-store")
    assert [(item.name, item.data) for item in server.objects(bucket)] == [("b", b"content")]


@pytest.mark.asyncio
async def test_a_move_in_a_versioned_bucket_keeps_what_it_replaces(
    server: GCSServer, client: httpx.AsyncClient, put: Put
) -> None:
    await client.patch("/storage/v1/b/my-bucket", json={"versioning": {"enabled": True}})
    await put("a", b"new")
    await put("b", b"old")
    assert (await client.post(MOVE)).status_code == 200
    found = server.objects("my-bucket", versions=True)
    assert [(item.name, item.data, item.deleted is None) for item in found] == [
        ("a", b"new", False),
        ("b", b"old", False),
        ("b", b"new", True),
    ]


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"ifGenerationMatch": "0"}, 200),
        ({"ifGenerationMatch": "5"}, 412),
        ({"ifGenerationNotMatch": "0"}, 412),
        ({"ifSourceGenerationMatch": "{g}"}, 200),
        ({"ifSourceGenerationMatch": "5"}, 412),
        ({"ifSourceGenerationNotMatch": "{g}"}, 412),
        ({"ifSourceMetagenerationMatch": "2"}, 412),
        ({"ifSourceMetagenerationNotMatch": "2"}, 200),
        ({"sourceGeneration": "{g}"}, 400),
    ],
)
@pytest.mark.asyncio
async def test_conditional_moves(
    server: GCSServer, client: httpx.AsyncClient, bucket: str, parameters: dict[str, str], status: int
) -> None:
    generation = (await source(client))["generation"]
    asked = {name: value.format(g=generation) for name, value in parameters.items()}
    assert (await client.post(MOVE, params=asked)).status_code == status
    assert [item.name for item in server.objects(bucket)] == (["b"] if status == 200 else ["a"])


@pytest.mark.asyncio
async def test_moves_that_are_refused(server: GCSServer, client: httpx.AsyncClient, bucket: str) -> None:
    assert_error(await client.post(MOVE), 404, "notFound", "No such object: my-bucket/a")
    await source(client)
    assert_error(await client.post(f"{OBJECTS}/a/moveTo/o/a"), 400, "invalid", "must be different")
    await client.patch(f"{OBJECTS}/a", json={"temporaryHold": True})
    assert_error(await client.post(MOVE), 403, "forbidden", "Temporary hold")
    assert [item.name for item in server.objects(bucket)] == ["a"]


@pytest.mark.asyncio
async def test_customer_managed_keys(client: httpx.AsyncClient, bucket: str) -> None:
    key = "projects/p/locations/global/keyRings/r/cryptoKeys/k"
    made = await client.post(UPLOADS, params={"uploadType": "media", "name": "a", "kmsKeyName": key}, content=b"x")
    assert made.json()["kmsKeyName"] == f"{key}/cryptoKeyVersions/1"
    assert "kmsKeyName" not in (await client.post(COPY)).json()
    assert (await client.post(COPY, params={"destinationKmsKeyName": key})).json()["kmsKeyName"].startswith(key)
    header = {"x-goog-encryption-kms-key-name": key}
    assert (await client.put("/my-bucket/c", content=b"x", headers=header)).status_code == 200
    assert (await client.get("/my-bucket/c")).headers["x-goog-encryption-kms-key-name"].startswith(key)
    wrong = {"uploadType": "media", "name": "a", "kmsKeyName": "k"}
    assert_error(await client.post(UPLOADS, params=wrong, content=b"x"), 400, "invalid", "Malformed Cloud KMS")
