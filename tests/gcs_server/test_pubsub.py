from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest
import pytest_asyncio

from trove_async.testing.gcs import GCSServer

TOPICS = "/v1/projects/p/topics"
SUBSCRIPTIONS = "/v1/projects/p/subscriptions"
TOPIC = "projects/p/topics/my-topic"
SUBSCRIPTION = f"{SUBSCRIPTIONS}/my-sub"


@pytest_asyncio.fixture
async def subscribed(client: httpx.AsyncClient) -> None:
    assert (await client.put(f"/v1/{TOPIC}", json={})).json() == {"name": TOPIC}
    await client.put(SUBSCRIPTION, json={"topic": TOPIC, "ackDeadlineSeconds": 20})


async def publish(client: httpx.AsyncClient, *texts: str) -> list[str]:
    messages = [{"data": base64.b64encode(text.encode()).decode(), "attributes": {"k": text}} for text in texts]
    answer = await client.post(f"/v1/{TOPIC}:publish", json={"messages": messages})
    assert answer.status_code == 200, answer.text
    identities: list[str] = answer.json()["messageIds"]
    return identities


async def pull(client: httpx.AsyncClient, most: int = 10, *, wait: bool = False) -> list[dict[str, Any]]:
    body = {"maxMessages": most, "returnImmediately": not wait}
    answer = await client.post(f"{SUBSCRIPTION}:pull", json=body)
    assert answer.status_code == 200, answer.text
    received: list[dict[str, Any]] = answer.json().get("receivedMessages", [])
    return received


def assert_refused(answer: httpx.Response, code: int, status: str) -> None:
    assert answer.status_code == code, answer.text
    assert (answer.json()["error"]["code"], answer.json()["error"]["status"]) == (code, status)


@pytest.mark.asyncio
async def test_topics_and_subscriptions(client: httpx.AsyncClient, subscribed: None) -> None:
    assert_refused(await client.put(f"/v1/{TOPIC}", json={}), 409, "ALREADY_EXISTS")
    assert_refused(await client.put(SUBSCRIPTION, json={"topic": TOPIC}), 409, "ALREADY_EXISTS")
    assert_refused(await client.put(f"{TOPICS}/1st", json={}), 400, "INVALID_ARGUMENT")
    assert_refused(await client.put(f"{TOPICS}/google", json={}), 400, "INVALID_ARGUMENT")
    assert_refused(await client.get(f"{TOPICS}/none"), 404, "NOT_FOUND")
    assert_refused(await client.put(f"{SUBSCRIPTIONS}/sub", json={"topic": "projects/p/topics/none"}), 404, "NOT_FOUND")
    few = await client.put(f"{SUBSCRIPTIONS}/sub", json={"topic": TOPIC, "ackDeadlineSeconds": 5})
    assert_refused(few, 400, "INVALID_ARGUMENT")
    shown = (await client.get(SUBSCRIPTION)).json()
    assert (shown["topic"], shown["ackDeadlineSeconds"]) == (TOPIC, 20)
    assert (await client.get(f"/v1/{TOPIC}/subscriptions")).json() == {
        "subscriptions": ["projects/p/subscriptions/my-sub"]
    }
    assert (await client.get(SUBSCRIPTIONS)).json()["subscriptions"] == [shown]
    assert (await client.delete(f"/v1/{TOPIC}")).json() == {}
    assert (await client.get(SUBSCRIPTION)).json()["topic"] == "_deleted-topic_"
    assert (await client.delete(SUBSCRIPTION)).json() == {}
    assert_refused(await client.post(f"{SUBSCRIPTION}:pull", json={"maxMessages": 1}), 404, "NOT_FOUND")


@pytest.mark.asyncio
async def test_topics_are_listed_in_pages(client: httpx.AsyncClient) -> None:
    for number in range(3):
        await client.put(f"{TOPICS}/topic-{number}", json={})
    first = (await client.get(TOPICS, params={"pageSize": 2})).json()
    rest = (await client.get(TOPICS, params={"pageSize": 2, "pageToken": first["nextPageToken"]})).json()
    names = [topic["name"].rpartition("/")[2] for topic in first["topics"] + rest["topics"]]
    assert names == ["topic-0", "topic-1", "topic-2"]
    assert "nextPageToken" not in rest


@pytest.mark.asyncio
async def test_published_messages_are_pulled(client: httpx.AsyncClient, subscribed: None) -> None:
    identities = await publish(client, "one", "two", "three")
    received = await pull(client, 2)
    assert [item["message"]["messageId"] for item in received] == identities[:2]
    message = received[0]["message"]
    assert (base64.b64decode(message["data"]), message["attributes"]) == (b"one", {"k": "one"})
    assert [item["message"]["attributes"]["k"] for item in await pull(client)] == ["three"]
    assert await pull(client) == []


@pytest.mark.asyncio
async def test_every_subscription_gets_every_message(client: httpx.AsyncClient, subscribed: None) -> None:
    await client.put(f"{SUBSCRIPTIONS}/other", json={"topic": TOPIC})
    await publish(client, "one")
    for name in ("my-sub", "other"):
        answer = await client.post(f"{SUBSCRIPTIONS}/{name}:pull", json={"maxMessages": 5, "returnImmediately": True})
        assert len(answer.json()["receivedMessages"]) == 1


@pytest.mark.asyncio
async def test_acknowledged_messages_are_not_redelivered(
    server: GCSServer, client: httpx.AsyncClient, subscribed: None
) -> None:
    await publish(client, "one", "two")
    one, two = await pull(client)
    await client.post(f"{SUBSCRIPTION}:acknowledge", json={"ackIds": [one["ackId"]]})
    assert await pull(client) == []
    server.expire_ack_deadlines()
    (again,) = await pull(client)
    assert again["message"] == two["message"]
    assert again["ackId"] != two["ackId"]
    late = await client.post(f"{SUBSCRIPTION}:acknowledge", json={"ackIds": [two["ackId"]]})
    assert late.json() == {}  # it is of an earlier delivery, and acknowledges nothing
    server.expire_ack_deadlines()
    assert len(await pull(client)) == 1


@pytest.mark.asyncio
async def test_a_deadline_of_0_redelivers_a_message(client: httpx.AsyncClient, subscribed: None) -> None:
    await publish(client, "one")
    (one,) = await pull(client)
    body = {"ackIds": [one["ackId"]], "ackDeadlineSeconds": 0}
    assert (await client.post(f"{SUBSCRIPTION}:modifyAckDeadline", json=body)).json() == {}
    assert [item["message"] for item in await pull(client)] == [one["message"]]
    longer = {"ackIds": [one["ackId"]], "ackDeadlineSeconds": 601}
    assert_refused(await client.post(f"{SUBSCRIPTION}:modifyAckDeadline", json=longer), 400, "INVALID_ARGUMENT")


@pytest.mark.asyncio
async def test_a_pull_waits_for_a_message(client: httpx.AsyncClient, subscribed: None) -> None:
    waiting = asyncio.create_task(pull(client, wait=True))
    await publish(client, "one")
    assert [item["message"]["attributes"]["k"] for item in await waiting] == ["one"]


@pytest.mark.asyncio
async def test_a_pull_waits_at_most_pull_wait() -> None:
    async with GCSServer(anonymous=True, pull_wait=0) as server, httpx.AsyncClient(base_url=server.url) as client:
        await client.put(f"/v1/{TOPIC}", json={})
        await client.put(SUBSCRIPTION, json={"topic": TOPIC})
        assert await pull(client, wait=True) == []


@pytest.mark.asyncio
async def test_an_abandoned_pull_takes_no_message(
    server: GCSServer, client: httpx.AsyncClient, subscribed: None
) -> None:
    with pytest.raises(httpx.ReadTimeout):
        await client.post(f"{SUBSCRIPTION}:pull", json={"maxMessages": 1}, timeout=0.2)
    await publish(client, "one")
    assert len(await pull(client)) == 1


@pytest.mark.asyncio
async def test_requests_that_are_refused(client: httpx.AsyncClient, subscribed: None) -> None:
    empty: list[dict[str, Any]] = [{}, {"data": "%%"}, {"attributes": {}}]
    for message in empty:
        answer = await client.post(f"/v1/{TOPIC}:publish", json={"messages": [message]})
        assert_refused(answer, 400, "INVALID_ARGUMENT")
    assert_refused(await client.post(f"/v1/{TOPIC}:publish", json={"messages": []}), 400, "INVALID_ARGUMENT")
    assert_refused(await client.post(f"{SUBSCRIPTION}:pull", json={}), 400, "INVALID_ARGUMENT")
    assert_refused(await client.post(f"{SUBSCRIPTION}:acknowledge", json={}), 400, "INVALID_ARGUMENT")
    assert_refused(await client.post(f"{SUBSCRIPTION}:unknown", json={}), 404, "NOT_FOUND")


@pytest.mark.asyncio
async def test_the_policy_of_a_topic(client: httpx.AsyncClient, subscribed: None) -> None:
    policy = {"bindings": [{"role": "roles/pubsub.publisher", "members": ["serviceAccount:a@b"]}]}
    assert "bindings" not in (await client.get(f"/v1/{TOPIC}:getIamPolicy")).json()
    assert (await client.post(f"/v1/{TOPIC}:setIamPolicy", json={"policy": policy})).status_code == 200
    assert (await client.get(f"/v1/{TOPIC}:getIamPolicy")).json()["bindings"] == policy["bindings"]
    permissions = {"permissions": ["pubsub.topics.publish"]}
    assert (await client.post(f"/v1/{TOPIC}:testIamPermissions", json=permissions)).json() == permissions


@pytest.mark.asyncio
async def test_a_message_is_pushed_until_it_is_acknowledged(client: httpx.AsyncClient) -> None:
    bodies: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    statuses = iter([500, 204, 204])

    async def endpoint(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-len"))
        bodies.put_nowait({"path": head.split()[1].decode(), **json.loads(await reader.readexactly(length))})
        writer.write(f"HTTP/1.1 {next(statuses)} X\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(endpoint, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        await client.put(f"/v1/{TOPIC}", json={})
        push = {"pushEndpoint": f"http://127.0.0.1:{port}/hook?a=b"}
        await client.put(SUBSCRIPTION, json={"topic": TOPIC, "pushConfig": push})
        (identity,) = await publish(client, "one")
        first, second = await bodies.get(), await bodies.get()
        assert first == second
        assert (first["path"], first["subscription"]) == ("/hook?a=b", "projects/p/subscriptions/my-sub")
        assert (first["message"]["messageId"], first["message"]["attributes"]) == (identity, {"k": "one"})
        await publish(client, "two")
        assert (await bodies.get())["message"]["attributes"] == {"k": "two"}
        refused = await client.post(f"{SUBSCRIPTION}:pull", json={"maxMessages": 1})
        assert refused.status_code == 400
