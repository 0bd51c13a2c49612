"""Partial responses: the parameter ``fields``."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.gcs_server.conftest import Put
from tests.gcs_server.requests import OBJECTS, UPLOADS, assert_error
from trove_async.testing.gcs import GCSServer

BUCKET = "/storage/v1/b/my-bucket"
REWRITE = f"{OBJECTS}/a/rewriteTo/b/my-bucket/o/b"


@pytest.mark.asyncio
async def test_parts_of_a_resource(client: httpx.AsyncClient, put: Put) -> None:
    await put("a", b"x")
    await client.patch(f"{OBJECTS}/a", json={"metadata": {"k": "v", "l": "w"}})

    async def fields(path: str, fields: str) -> object:
        return (await client.get(path, params={"fields": fields})).json()

    assert await fields(f"{OBJECTS}/a", "name,size") == {"name": "a", "size": "1"}
    assert await fields(f"{OBJECTS}/a", "metadata/k") == {"metadata": {"k": "v"}}
    assert await fields(OBJECTS, "items(name,metadata(l)),nextPageToken") == {
        "items": [{"name": "a", "metadata": {"l": "w"}}]
    }
    assert await fields(OBJECTS, "items/name") == {"items": [{"name": "a"}]}
    assert await fields(OBJECTS, "*/name") == {"items": [{"name": "a"}], "kind": "storage#objects"}
    assert set(dict(await fields(OBJECTS, "*"))) == {"kind", "items"}  # type: ignore[call-overload]
    assert await fields(BUCKET, "name,lifecycle/rule(action/type),labels/a,acl(entity)") == {"name": "my-bucket"}
    assert await fields(f"{OBJECTS}/a", "contexts/custom/*/value,retention,owner/entity") == {}


@pytest.mark.parametrize(
    ("method", "path", "selection", "fault"),
    [
        ("GET", f"{OBJECTS}/a", "nam", "nam"),
        ("GET", f"{OBJECTS}/a", "name,siz", "siz"),
        ("GET", f"{OBJECTS}/a", "name/first", "first"),
        ("GET", f"{OBJECTS}/a", "items(name)", "items"),
        ("GET", f"{OBJECTS}/a", "owner(nobody)", "nobody"),
        ("GET", f"{OBJECTS}/a", "contexts/custom/key/colour", "colour"),
        ("GET", OBJECTS, "name", "name"),
        ("GET", OBJECTS, "items(name,colour)", "colour"),
        ("GET", f"{OBJECTS}/a", "acl/*/colour", "colour"),
        ("GET", OBJECTS, "items(name", "items(name"),
        ("GET", OBJECTS, "items()", "items()"),
        ("GET", OBJECTS, "items,,kind", "items,,kind"),
        ("PATCH", f"{OBJECTS}/a", "colour", "colour"),
        ("POST", UPLOADS, "colour", "colour"),
        ("POST", REWRITE, "name", "name"),
        ("POST", REWRITE, "resource(name,colour)", "colour"),
        ("GET", BUCKET, "size", "size"),
        ("PATCH", BUCKET, "lifecycle/rule/colour", "colour"),
        ("GET", f"{BUCKET}/notificationConfigs", "items(colour)", "colour"),
        ("GET", "/storage/v1/projects/p/serviceAccount", "name", "name"),
    ],
)
@pytest.mark.asyncio
async def test_selections_that_are_refused(
    server: GCSServer, client: httpx.AsyncClient, put: Put, method: str, path: str, selection: str, fault: str
) -> None:
    await put("a")
    parameters = {"fields": selection, **({"uploadType": "media", "name": "b"} if path == UPLOADS else {})}
    body = json.dumps({"metadata": {"k": "v"}}) if method == "PATCH" else None
    answer = await client.request(method, path, params=parameters, content=body)
    assert_error(answer, 400, "invalidParameter", f"Invalid field selection {fault}")
    assert answer.json()["error"]["errors"][0]["location"] == "fields"
    # refused before anything is done
    assert [(item.name, item.metageneration) for item in server.objects("my-bucket")] == [("a", 1)]
    assert (await client.get(BUCKET)).json()["metageneration"] == "1"
