from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.gcs_server.conftest import Put
from tests.gcs_server.requests import OBJECTS, assert_error
from trove_async.testing.gcs import GCSServer


@pytest.mark.asyncio
async def test_servers_are_independent() -> None:
    async with GCSServer(anonymous=True) as one, GCSServer(anonymous=True) as other, httpx.AsyncClient() as client:
        assert one.port != other.port
        await client.post(f"{one.url}/storage/v1/b?project=p", json={"name": "my-bucket"})
        assert (one.buckets(), other.buckets()) == (["my-bucket"], [])
        with pytest.raises(RuntimeError):
            await one.__aenter__()


@pytest.mark.asyncio
async def test_closing_ends_connections_and_frees_the_port() -> None:
    server = GCSServer(anonymous=True)
    async with server, httpx.AsyncClient(base_url=server.url) as client:
        await client.put("/v1/projects/p/topics/topic", json={})
        await client.put("/v1/projects/p/subscriptions/sub", json={"topic": "projects/p/topics/topic"})
        waiting = asyncio.create_task(client.post("/v1/projects/p/subscriptions/sub:pull", json={"maxMessages": 1}))
        await asyncio.sleep(0.1)  # the request may arrive later than that, which ends the same way
        await server.aclose()
        with pytest.raises(httpx.TransportError):
            await waiting
    await server.aclose()
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", server.port))


def test_it_runs_in_a_thread() -> None:
    with GCSServer(anonymous=True) as server, httpx.Client(base_url=server.url) as client:
        client.post("/storage/v1/b?project=p", json={"name": "my-bucket"})
        client.post("/upload/storage/v1/b/my-bucket/o?uploadType=media&name=a", content=b"x")
        assert [item.data for item in server.objects("my-bucket")] == [b"x"]
        server.expire_ack_deadlines()
        assert server.apply_lifecycle() == 0
    with GCSServer(server.port) as again:
        assert again.buckets() == []


def test_a_port_in_use_raises() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError), GCSServer(taken.getsockname()[1]):
            pass


@pytest.mark.asyncio
async def test_requests_are_recorded(server: GCSServer, client: httpx.AsyncClient, put: Put) -> None:
    await put("a", b"12345")
    await client.get(f"{OBJECTS}/none")
    assert server.requests.count("POST", "/upload/") == 1
    assert server.requests.count(status=404) == 1
    last = list(server.requests)[-1]
    assert (last.method, last.path, last.status) == ("GET", f"{OBJECTS}/none", 404)
    assert [seen.body_size for seen in server.requests if seen.path.startswith("/upload/")] == [5]
    server.requests.clear()
    assert (server.requests.total, len(server.requests)) == (0, 0)


@pytest.mark.asyncio
async def test_the_log_is_bounded() -> None:
    async with GCSServer(log_size=3) as server, httpx.AsyncClient(base_url=server.url) as client:
        for _ in range(5):
            await client.get("/storage/v1/b")
        assert (server.requests.total, len(server.requests)) == (5, 3)


@pytest.mark.asyncio
async def test_invalid_http(server: GCSServer) -> None:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"hello\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400 Bad Request")
    writer.close()
    await writer.wait_closed()


@pytest.mark.asyncio
async def test_a_bug_of_the_server_is_a_500(
    server: GCSServer, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server._storage, "bucket", None)
    assert_error(await client.get("/storage/v1/b/my-bucket"), 500, "backendError")
    assert "/storage/v1/b/my-bucket" in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "document"),
    [
        ("POST", f"/upload{OBJECTS}?uploadType=resumable", {"name": 5}),
        ("POST", f"/upload{OBJECTS}?uploadType=resumable&name=a", {"metadata": 5}),
        ("POST", f"/upload{OBJECTS}?uploadType=resumable&name=a", {"storageClass": []}),
        ("POST", f"{OBJECTS}/a/compose", {"sourceObjects": [5]}),
        ("POST", f"{OBJECTS}/a/compose", {"sourceObjects": [{"name": 5}]}),
        ("POST", f"{OBJECTS}/a/compose", {"sourceObjects": [{"name": "a"}], "destination": 5}),
        ("POST", f"{OBJECTS}/a/compose", {"sourceObjects": [{"name": "a", "objectPreconditions": 5}]}),
        ("PATCH", "/storage/v1/b/my-bucket", {"labels": 5}),
        ("PATCH", "/storage/v1/b/my-bucket", {"versioning": 5}),
        ("PATCH", "/storage/v1/b/my-bucket", {"lifecycle": {"rule": 5}}),
        ("PATCH", "/storage/v1/b/my-bucket", {"lifecycle": {"rule": [{"action": 5, "condition": {}}]}}),
        ("POST", "/storage/v1/b/my-bucket/notificationConfigs", {"topic": 5}),
        ("PATCH", "/storage/v1/b/my-bucket", []),
    ],
)
@pytest.mark.asyncio
async def test_documents_with_another_structure_are_400(
    client: httpx.AsyncClient, put: Put, method: str, path: str, document: object
) -> None:
    await put("a")
    assert (await client.request(method, path, json=document)).status_code == 400


@pytest.mark.asyncio
async def test_a_json_document_has_a_maximum_size(client: httpx.AsyncClient, bucket: str) -> None:
    try:
        answer = await client.patch("/storage/v1/b/my-bucket", content=bytes(11 << 20))
    except httpx.TransportError:
        return  # the connection was closed while the client was still sending
    assert answer.status_code == 413


@pytest.mark.asyncio
async def test_chunked_requests(client: httpx.AsyncClient, bucket: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for number in range(3):
            yield bytes([number]) * 70_000

    answer = await client.post(f"/upload{OBJECTS}?uploadType=media&name=a", content=chunks())
    assert answer.json()["size"] == "210000"


def test_the_command_serves_until_a_signal() -> None:
    command = [sys.executable, "-m", "trove_async.testing.gcs", "--project", "mine"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["project"] == "mine"
        assert ready["service_account"]["token_uri"] == f"{ready['endpoint']}/token"
        assert httpx.get(f"{ready['endpoint']}/storage/v1/b?project=p").status_code == 401
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.communicate()
