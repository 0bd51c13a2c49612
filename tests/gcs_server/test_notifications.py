from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.gcs_server.conftest import Put
from tests.gcs_server.requests import OBJECTS, assert_error

BUCKET = "/storage/v1/b/my-bucket"
CONFIGS = f"{BUCKET}/notificationConfigs"
TOPIC = "projects/p/topics/changes"
SUBSCRIPTION = "/v1/projects/p/subscriptions/seen"
SETTINGS = {"topic": f"//pubsub.googleapis.com/{TOPIC}", "payload_format": "JSON_API_V1"}


@pytest_asyncio.fixture
async def topic(client: httpx.AsyncClient, bucket: str) -> str:
    await client.put(f"/v1/{TOPIC}", json={})
    assert (await client.put(SUBSCRIPTION, json={"topic": TOPIC})).status_code == 200
    return TOPIC


async def configured(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await client.post(CONFIGS, json={**SETTINGS, **changes})
    assert answer.status_code == 200, answer.text
    resource: dict[str, Any] = answer.json()
    return resource


async def seen(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    """Pull all messages."""
    body = {"maxMessages": 100, "returnImmediately": True}
    received = (await client.post(f"{SUBSCRIPTION}:pull", json=body)).json().get("receivedMessages", [])
    return [item["message"] for item in received]


@pytest.mark.asyncio
async def test_configurations(client: httpx.AsyncClient, topic: str) -> None:
    first = await configured(client, event_types=["OBJECT_FINALIZE"], object_name_prefix="in/")
    second = await configured(client, payload_format="NONE", custom_attributes={"a": "b"})
    assert (first["kind"], first["id"], second["id"]) == ("storage#notification", "1", "2")
    assert first["topic"] == SETTINGS["topic"]
    assert (await client.get(f"{CONFIGS}/1")).json() == first
    assert (await client.get(CONFIGS)).json() == {"kind": "storage#notifications", "items": [first, second]}
    assert (await client.delete(f"{CONFIGS}/1")).status_code == 204
    assert_error(await client.delete(f"{CONFIGS}/1"), 404, "notFound")
    assert_error(await client.get(f"{CONFIGS}/1"), 404, "notFound")
    assert (await configured(client))["id"] == "3"


@pytest.mark.parametrize(
    "changes",
    [
        {"topic": "projects/p/topics/changes"},
        {"topic": "//pubsub.googleapis.com/projects/p/topics/none"},
        {"payload_format": "XML"},
        {"event_types": ["OBJECT_READ"]},
        {"topic": None},
    ],
)
@pytest.mark.asyncio
async def test_configurations_that_are_refused(client: httpx.AsyncClient, topic: str, changes: dict[str, Any]) -> None:
    assert (await client.post(CONFIGS, json={**SETTINGS, **changes})).status_code == 400


@pytest.mark.asyncio
async def test_at_most_ten_configurations_for_an_event(client: httpx.AsyncClient, topic: str) -> None:
    for _ in range(10):
        await configured(client, event_types=["OBJECT_DELETE"])
    await configured(client, event_types=["OBJECT_FINALIZE"])
    assert_error(await client.post(CONFIGS, json=SETTINGS), 400, "invalid")


@pytest.mark.asyncio
async def test_the_message_of_a_new_object(client: httpx.AsyncClient, topic: str, put: Put) -> None:
    await configured(client, custom_attributes={"team": "a"})
    resource = await put("dir/a", b"content")
    (message,) = await seen(client)
    attributes = message["attributes"]
    assert attributes.pop("eventTime").endswith("Z")
    assert attributes == {
        "notificationConfig": "projects/_/buckets/my-bucket/notificationConfigs/1",
        "eventType": "OBJECT_FINALIZE",
        "payloadFormat": "JSON_API_V1",
        "bucketId": "my-bucket",
        "objectId": "dir/a",
        "objectGeneration": resource["generation"],
        "team": "a",
    }
    assert json.loads(base64.b64decode(message["data"])) == resource
    assert message["messageId"]
    assert message["publishTime"].endswith("Z")


@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.asyncio
async def test_events_of_replaced_and_deleted_objects(
    client: httpx.AsyncClient, topic: str, put: Put, versioned: bool
) -> None:
    await client.patch(BUCKET, json={"versioning": {"enabled": versioned}})
    await configured(client, payload_format="NONE")
    first, second = await put("a", b"1"), await put("a", b"2")
    await client.delete(f"{OBJECTS}/a")
    messages = await seen(client)
    assert all("data" not in message for message in messages)
    published = [
        (
            it["attributes"]["eventType"],
            it["attributes"]["objectGeneration"],
            it["attributes"].get("overwroteGeneration"),
            it["attributes"].get("overwrittenByGeneration"),
        )
        for it in messages
    ]
    gone = "OBJECT_ARCHIVE" if versioned else "OBJECT_DELETE"
    assert sorted(published, key=str) == sorted(
        [
            ("OBJECT_FINALIZE", first["generation"], None, None),
            (gone, first["generation"], None, second["generation"]),
            ("OBJECT_FINALIZE", second["generation"], first["generation"], None),
            (gone, second["generation"], None, None),
        ],
        key=str,
    )


@pytest.mark.asyncio
async def test_metadata_and_noncurrent_generations(client: httpx.AsyncClient, topic: str, put: Put) -> None:
    await client.patch(BUCKET, json={"versioning": {"enabled": True}})
    first = await put("a", b"1")
    await put("a", b"2")
    await configured(client, event_types=["OBJECT_METADATA_UPDATE", "OBJECT_DELETE"])
    await client.patch(f"{OBJECTS}/a", json={"metadata": {"k": "v"}})
    await client.delete(f"{OBJECTS}/a", params={"generation": first["generation"]})
    assert [message["attributes"]["eventType"] for message in await seen(client)] == [
        "OBJECT_METADATA_UPDATE",
        "OBJECT_DELETE",
    ]


@pytest.mark.asyncio
async def test_filters(client: httpx.AsyncClient, topic: str, put: Put) -> None:
    await configured(client, event_types=["OBJECT_FINALIZE"], object_name_prefix="in/")
    await put("out/a")
    await put("in/a")
    await client.delete(f"{OBJECTS}/in%2Fa")
    assert [message["attributes"]["objectId"] for message in await seen(client)] == ["in/a"]


@pytest.mark.asyncio
async def test_every_way_to_create_an_object_notifies(client: httpx.AsyncClient, topic: str, put: Put) -> None:
    await put("a", b"x")
    await configured(client, event_types=["OBJECT_FINALIZE"])
    await client.post(f"{OBJECTS}/a/rewriteTo/b/my-bucket/o/rewritten")
    await client.post(f"{OBJECTS}/composed/compose", json={"sourceObjects": [{"name": "a"}]})
    await client.put("/my-bucket/simple", content=b"x")
    location = (await client.post("/upload/storage/v1/b/my-bucket/o?uploadType=resumable&name=resumed")).headers
    await client.put(location["Location"], content=b"x")
    names = {message["attributes"]["objectId"] for message in await seen(client)}
    assert names == {"rewritten", "composed", "simple", "resumed"}
