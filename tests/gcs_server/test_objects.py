from __future__ import annotations

import base64
import hashlib
import json
from urllib.parse import quote

import google_crc32c
import httpx
import pytest

from tests.gcs_server.conftest import Put
from tests.gcs_server.requests import OBJECTS, UPLOADS, assert_error, related
from trove_async.testing.gcs import GCSServer

BUCKET = "/storage/v1/b/my-bucket"


def crc32c(data: bytes) -> str:
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


async def versioned(client: httpx.AsyncClient) -> None:
    assert (await client.patch(BUCKET, json={"versioning": {"enabled": True}})).status_code == 200


@pytest.mark.asyncio
async def test_the_resource(server: GCSServer, client: httpx.AsyncClient, put: Put) -> None:
    resource = await put("pets/dog.png", b"woof")
    assert resource["kind"] == "storage#object"
    assert resource["id"] == f"my-bucket/pets/dog.png/{resource['generation']}"
    assert resource["selfLink"] == f"{server.url}{OBJECTS}/pets%2Fdog.png"
    assert (resource["name"], resource["bucket"], resource["size"]) == ("pets/dog.png", "my-bucket", "4")
    assert (resource["metageneration"], resource["storageClass"]) == ("1", "STANDARD")
    assert resource["contentType"] == "text/plain"
    assert resource["crc32c"] == crc32c(b"woof")
    assert resource["md5Hash"] == base64.b64encode(hashlib.md5(b"woof").digest()).decode()
    assert resource["timeCreated"].endswith("Z")
    assert (await client.get(f"{OBJECTS}/pets%2Fdog.png")).json() == resource
    assert (await client.get(resource["mediaLink"])).content == b"woof"


@pytest.mark.asyncio
async def test_missing_buckets_and_objects_differ(client: httpx.AsyncClient, bucket: str) -> None:
    assert_error(await client.get(f"{OBJECTS}/a%2Fb"), 404, "notFound", "No such object: my-bucket/a/b")
    other = await client.get("/storage/v1/b/no-bucket/o/a")
    assert_error(other, 404, "notFound", "The specified bucket does not exist.")
    media = await client.get(f"{OBJECTS}/a", params={"alt": "media"})
    assert (media.status_code, media.text) == (404, "No such object: my-bucket/a")


@pytest.mark.parametrize(
    "name",
    [
        "a b",
        " lead",
        "ü☺😀",
        "a%2Fb",
        "100%",
        "%48",
        "a+b",
        "a?b#c",
        "a//b/",
        "dot/../x",
        "tab\t",
        "\x01",
        'q"\\',
        "e\u0301",
        "\xe9",
    ],
)
@pytest.mark.asyncio
async def test_names_are_decoded_once(server: GCSServer, client: httpx.AsyncClient, put: Put, name: str) -> None:
    assert (await put(name, b"x"))["name"] == name
    path = f"{server.url}{OBJECTS}/{quote(name, safe='')}"
    assert (await client.get(path)).json()["name"] == name
    assert (await client.get(path, params={"alt": "media"})).content == b"x"
    assert [item["name"] for item in (await client.get(OBJECTS)).json()["items"]] == [name]
    assert (await client.delete(path)).status_code == 204


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a\nb", "a\rb", ".well-known/acme-challenge/x", "a" * 1025, "ü" * 513], ids=ascii
)
@pytest.mark.asyncio
async def test_invalid_names_of_objects(client: httpx.AsyncClient, bucket: str, name: str) -> None:
    answer = await client.post(UPLOADS, params={"uploadType": "media", "name": name}, content=b"")
    assert answer.status_code == 400


@pytest.mark.asyncio
async def test_a_name_of_1024_bytes(put: Put) -> None:
    assert (await put("ü" * 512))["name"] == "ü" * 512


@pytest.mark.asyncio
async def test_generations_grow(put: Put) -> None:
    generations = [int((await put("same", bytes([number])))["generation"]) for number in range(20)]
    assert sorted(set(generations)) == generations


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"ifGenerationMatch": "{g}"}, 200),
        ({"ifGenerationMatch": "1"}, 412),
        ({"ifGenerationNotMatch": "1"}, 200),
        ({"ifGenerationNotMatch": "{g}"}, 304),
        ({"ifMetagenerationMatch": "1"}, 200),
        ({"ifMetagenerationMatch": "2"}, 412),
        ({"ifMetagenerationNotMatch": "2"}, 200),
        ({"ifMetagenerationNotMatch": "1"}, 304),
    ],
)
@pytest.mark.parametrize("alt", ["json", "media"])
@pytest.mark.asyncio
async def test_conditional_reads(
    client: httpx.AsyncClient, put: Put, parameters: dict[str, str], status: int, alt: str
) -> None:
    generation = (await put("a", b"x"))["generation"]
    asked = {name: value.format(g=generation) for name, value in parameters.items()}
    answer = await client.get(f"{OBJECTS}/a", params={**asked, "alt": alt})
    assert answer.status_code == status
    if status == 304:
        assert answer.content == b""
    if status == 412 and alt == "json":
        assert_error(answer, 412, "conditionNotMet", "pre-conditions")


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"ifGenerationMatch": "{g}"}, 200),
        ({"ifGenerationMatch": "0"}, 412),
        ({"ifGenerationMatch": "1"}, 412),
        ({"ifGenerationNotMatch": "{g}"}, 412),
        ({"ifGenerationNotMatch": "0"}, 200),
        ({"ifMetagenerationMatch": "1"}, 200),
        ({"ifMetagenerationNotMatch": "1"}, 412),
    ],
)
@pytest.mark.parametrize("verb", ["insert", "patch", "delete"])
@pytest.mark.asyncio
async def test_conditional_writes(
    client: httpx.AsyncClient, put: Put, parameters: dict[str, str], status: int, verb: str
) -> None:
    generation = (await put("a", b"old"))["generation"]
    asked = {name: value.format(g=generation) for name, value in parameters.items()}
    if verb == "insert":
        answer = await client.post(UPLOADS, params={**asked, "uploadType": "media", "name": "a"}, content=b"new")
    elif verb == "patch":
        answer = await client.patch(f"{OBJECTS}/a", params=asked, json={"metadata": {"k": "v"}})
    else:
        answer = await client.delete(f"{OBJECTS}/a", params=asked)
    assert answer.status_code == (204 if verb == "delete" and status == 200 else status)
    if status == 412:
        assert_error(answer, 412, "conditionNotMet")
        assert (await client.get(f"{OBJECTS}/a?alt=media")).content == b"old"


@pytest.mark.asyncio
async def test_conditions_on_a_missing_object(client: httpx.AsyncClient, bucket: str) -> None:
    asked = {"uploadType": "media", "name": "a"}
    assert (await client.post(UPLOADS, params={**asked, "ifGenerationMatch": 5})).status_code == 412
    assert (await client.post(UPLOADS, params={**asked, "ifGenerationNotMatch": 0})).status_code == 412
    assert (await client.post(UPLOADS, params={**asked, "ifGenerationMatch": 0})).status_code == 200
    assert (await client.post(UPLOADS, params={**asked, "ifGenerationMatch": 0})).status_code == 412
    assert (await client.post(UPLOADS, params={**asked, "ifGenerationMatch": "x"})).status_code == 400


@pytest.mark.asyncio
async def test_etags_in_headers(client: httpx.AsyncClient, put: Put) -> None:
    etag = (await put("a", b"x"))["etag"]
    path = f"{OBJECTS}/a"
    assert (await client.get(path, headers={"If-None-Match": etag})).status_code == 304
    assert (await client.get(path, headers={"If-Match": etag})).status_code == 200
    assert (await client.get(path, headers={"If-Match": "other"})).status_code == 412
    changed = (await client.patch(path, json={"cacheControl": "no-store"})).json()["etag"]
    assert changed != etag


@pytest.mark.asyncio
async def test_patch_merges_metadata_and_null_removes(client: httpx.AsyncClient, put: Put) -> None:
    before = await put("a", b"x")
    path = f"{OBJECTS}/a"
    await client.patch(path, json={"metadata": {"one": "1", "two": "2"}, "contentLanguage": "en"})
    after = (await client.patch(path, json={"metadata": {"one": None, "three": "3"}, "contentType": None})).json()
    assert after["metadata"] == {"two": "2", "three": "3"}
    assert after["contentLanguage"] == "en"
    assert "contentType" not in after
    assert (after["generation"], after["metageneration"]) == (before["generation"], "3")
    assert "metadata" not in (await client.patch(path, json={"metadata": None})).json()


@pytest.mark.asyncio
async def test_update_replaces_all_writable_fields(client: httpx.AsyncClient, put: Put) -> None:
    await put("a", b"x")
    await client.patch(f"{OBJECTS}/a", json={"metadata": {"one": "1"}, "storageClass": "ARCHIVE"})
    after = (await client.put(f"{OBJECTS}/a", json={"contentType": "image/png"})).json()
    assert after["contentType"] == "image/png"
    assert "metadata" not in after
    assert after["storageClass"] == "STANDARD"


@pytest.mark.asyncio
async def test_custom_metadata_has_a_limit(client: httpx.AsyncClient, bucket: str) -> None:
    body, headers = related({"name": "a", "metadata": {"k": "v" * 8191}}, b"x")
    assert (await client.post(f"{UPLOADS}?uploadType=multipart", content=body, headers=headers)).status_code == 200
    body, headers = related({"name": "a", "metadata": {"k": "v" * 8192}}, b"x")
    answer = await client.post(f"{UPLOADS}?uploadType=multipart", content=body, headers=headers)
    assert_error(answer, 400, "invalid", "metadata")


@pytest.mark.parametrize(
    "fields",
    [
        {"contentType": "a\r\nb: c"},
        {"contentEncoding": 5},
        {"metadata": {"k": 5}},
        {"metadata": "k"},
        {"metadata": {"k": "\ud800"}},
    ],
    ids=ascii,
)
@pytest.mark.asyncio
async def test_properties_that_are_refused(client: httpx.AsyncClient, put: Put, fields: dict[str, object]) -> None:
    await put("a")
    assert_error(await client.patch(f"{OBJECTS}/a", content=json.dumps(fields)), 400, "invalid")


@pytest.mark.asyncio
async def test_custom_time_does_not_go_back(client: httpx.AsyncClient, put: Put) -> None:
    await put("a")
    path = f"{OBJECTS}/a"
    assert (await client.patch(path, json={"customTime": "2024-01-02T00:00:00Z"})).status_code == 200
    assert (await client.patch(path, json={"customTime": "2024-01-01T00:00:00Z"})).status_code == 400
    assert (await client.patch(path, json={"customTime": None})).status_code == 400
    assert (await client.patch(path, json={"customTime": "2024-01-03T00:00:00Z"})).status_code == 200


@pytest.mark.parametrize(("hold", "named"), [("temporaryHold", "Temporary"), ("eventBasedHold", "Event-Based")])
@pytest.mark.asyncio
async def test_a_hold_keeps_an_object(client: httpx.AsyncClient, put: Put, hold: str, named: str) -> None:
    await put("a", b"kept")
    await client.patch(f"{OBJECTS}/a", json={hold: True})
    assert_error(await client.delete(f"{OBJECTS}/a"), 403, "forbidden", f"under active {named} hold")
    replaced = await client.post(UPLOADS, params={"uploadType": "media", "name": "a"}, content=b"new")
    assert_error(replaced, 403, "forbidden", "cannot be deleted, overwritten or archived")
    await client.patch(f"{OBJECTS}/a", json={hold: False})
    assert (await client.delete(f"{OBJECTS}/a")).status_code == 204


@pytest.mark.asyncio
async def test_without_versioning_no_generation_is_kept(server: GCSServer, client: httpx.AsyncClient, put: Put) -> None:
    first = await put("a", b"1")
    await put("a", b"2")
    assert len(server.objects("my-bucket", versions=True)) == 1
    old = await client.get(f"{OBJECTS}/a", params={"generation": first["generation"]})
    assert_error(old, 404, "notFound", "No such object: my-bucket/a")


@pytest.mark.asyncio
async def test_versioning_keeps_what_is_replaced_and_deleted(
    server: GCSServer, client: httpx.AsyncClient, put: Put
) -> None:
    await versioned(client)
    first, second = await put("a", b"1"), await put("a", b"2")
    path = f"{OBJECTS}/a"
    assert (await client.get(path, params={"generation": first["generation"], "alt": "media"})).content == b"1"
    assert "timeDeleted" in (await client.get(path, params={"generation": first["generation"]})).json()
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
    assert (await client.get(OBJECTS)).json() == {"kind": "storage#objects"}
    listed = (await client.get(OBJECTS, params={"versions": "true"})).json()["items"]
    assert [item["generation"] for item in listed] == [first["generation"], second["generation"]]
    assert server.objects("my-bucket") == []
    gone = await client.delete(path, params={"generation": first["generation"]})
    assert gone.status_code == 204
    assert len(server.objects("my-bucket", versions=True)) == 1
    assert (await client.delete(path, params={"generation": first["generation"]})).status_code == 404


@pytest.mark.asyncio
async def test_deleting_the_live_generation_by_number_is_permanent(client: httpx.AsyncClient, put: Put) -> None:
    await versioned(client)
    generation = (await put("a", b"1"))["generation"]
    await client.delete(f"{OBJECTS}/a", params={"generation": generation})
    assert "items" not in (await client.get(OBJECTS, params={"versions": "true"})).json()


@pytest.mark.asyncio
async def test_a_rewrite_restores_a_generation(client: httpx.AsyncClient, put: Put) -> None:
    await versioned(client)
    first, second = await put("a", b"1"), await put("a", b"2")
    path = f"{OBJECTS}/a/rewriteTo/b/my-bucket/o/a"
    made = (await client.post(path, params={"sourceGeneration": first["generation"]})).json()["resource"]
    assert int(made["generation"]) > int(second["generation"])
    assert (await client.get(f"{OBJECTS}/a?alt=media")).content == b"1"
