"""The examples of web applications, over real sockets, with clients that disconnect; and the example of a layer."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

import trove_async as trove
from examples import aiohttp_app, fastapi_app
from examples.custom_layer import CREATES, PREPARES, WriteOnce
from tests.test_examples import run_python
from tests.web.serving import (
    SECONDS,
    aiohttp_serving,
    held,
    request,
    until,
    until_no_more_than,
    uvicorn_serving,
)
from trove_async.driver import METHODS, Features
from trove_async.layers import READS
from trove_async.testing.helpers import random_bytes
from trove_async.testing.mock import MockDriver

MIB = 1024 * 1024


@dataclass
class Service:
    port: int
    store: trove.Trove
    root: Path
    client: httpx.AsyncClient


@asynccontextmanager
async def serving(framework: str, dsn: str) -> AsyncIterator[tuple[int, trove.Trove]]:
    if framework == "fastapi":
        asgi_app = fastapi_app.create_app(dsn)
        async with uvicorn_serving(asgi_app) as port:
            yield port, asgi_app.state.store
    else:
        app = aiohttp_app.create_app(dsn)
        async with aiohttp_serving(app) as port:
            yield port, app[aiohttp_app.STORE]


@pytest_asyncio.fixture(params=["fastapi", "aiohttp"])
async def service(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Service]:
    async with (
        serving(request.param, f"local://{tmp_path}?fsync=0") as (port, store),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS) as client,
    ):
        yield Service(port, store, tmp_path, client)


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 64 * 1024):
        yield data[start : start + 64 * 1024]


@pytest.mark.asyncio
async def test_an_uploaded_object_is_downloaded_completely_and_in_ranges(service: Service) -> None:
    data = random_bytes(8 * MIB)
    stored = await service.client.put("/files/big.bin", content=pieces(data))
    assert (stored.status_code, stored.json()["size"]) == (201, len(data))
    digest = hashlib.sha256()
    async with service.client.stream("GET", "/files/big.bin") as answer:
        assert answer.headers["content-length"] == str(len(data))
        assert answer.headers["etag"] == f'"{stored.json()["etag"]}"'
        assert answer.headers["content-disposition"] == 'attachment; filename="big.bin"'
        async for chunk in answer.aiter_raw():
            digest.update(chunk)
    assert digest.digest() == hashlib.sha256(data).digest()
    for asked, expected in (
        (f"bytes=0-{MIB - 1}", data[:MIB]),
        (f"bytes={7 * MIB}-", data[7 * MIB :]),
        ("bytes=-100", data[-100:]),
    ):
        part = await service.client.get("/files/big.bin", headers={"Range": asked})
        assert (part.status_code, part.content == expected) == (206, True)
    several = await service.client.get("/files/big.bin", headers={"Range": "bytes=0-1,5-6"})
    assert (several.status_code, len(several.content)) == (200, len(data))


@pytest.mark.asyncio
async def test_conditions_head_and_refusals(service: Service) -> None:
    client, data = service.client, b"some content"
    created = await client.put("/files/a/b.txt", content=data, headers={"If-None-Match": "*"})
    etag = f'"{created.json()["etag"]}"'

    async def get(**headers: str) -> httpx.Response:
        return await client.get("/files/a/b.txt", headers={n.replace("_", "-"): v for n, v in headers.items()})

    whole = await get()
    head = await client.head("/files/a/b.txt")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(data)))
    assert head.headers["last-modified"] == whole.headers["last-modified"]
    assert (await get(if_none_match=etag)).status_code == 304
    assert (await get(if_modified_since=whole.headers["last-modified"])).status_code == 304
    assert (await get(if_match='"other"')).status_code == 412
    assert (await get(range="bytes=0-3", if_range='"other"')).content == data
    assert (await get(range="bytes=0-3", if_range=etag)).content == data[:4]
    past = await get(range="bytes=100-")
    assert (past.status_code, past.headers["content-range"]) == (416, f"bytes */{len(data)}")
    assert (await client.put("/files/a/b.txt", content=b"new", headers={"If-None-Match": "*"})).status_code == 412
    missing = await client.get("/files/missing")
    assert (missing.status_code, missing.json()["code"]) == (404, "ObjectNotFound")
    assert (await client.delete("/files/a/b.txt")).status_code == 204
    assert not await service.store.exists("files", "a/b.txt")


@pytest.mark.asyncio
async def test_a_listing_continues_from_its_cursor(service: Service) -> None:
    for number in range(7):
        await service.store.put("files", f"a/{number}", b"x")
    await service.store.put("files", "b", b"x")
    keys: list[str] = []
    sizes: list[int] = []
    asked = {"prefix": "a/", "limit": "3"}
    while True:
        page = (await service.client.get("/files", params=asked)).json()
        keys += [found["key"] for found in page["objects"]]
        sizes.append(len(page["objects"]))
        if page["cursor"] is None:
            break
        asked["cursor"] = page["cursor"]
    assert keys == [f"a/{number}" for number in range(7)]
    assert sizes[:2] == [3, 3]
    assert (await service.client.get("/files", params={"cursor": "nonsense"})).status_code == 400
    assert (await service.client.get("/files", params={"limit": "0"})).status_code in (400, 422)


@pytest.mark.asyncio
async def test_a_put_is_sent_as_an_event_until_the_client_disconnects(service: Service) -> None:
    await service.client.put("/files/warm-up", content=b"x")
    before = held(service.root)
    for _ in range(2):
        async with request(service.port, "GET", "/events?prefix=new/") as (answer, _), asyncio.timeout(SECONDS):
            head = (await answer.readuntil(b"\r\n\r\n")).lower()
            assert b" 200 ok" in head
            assert b"content-type: text/event-stream" in head
            await answer.readuntil(b": subscribed\n\n")
            stored = await service.client.put("/files/new/photo", content=b"12345")
            await answer.readuntil(b"data: ")
            event = json.loads(await answer.readline())
        assert (event["key"], event["size"], event["etag"]) == ("new/photo", 5, stored.json()["etag"])
    await until_no_more_than(before, service.root)


@pytest.mark.asyncio
@pytest.mark.parametrize("framing", ["Content-Length: 8000000\r\n", "Transfer-Encoding: chunked\r\n"])
async def test_an_interrupted_upload_leaves_nothing(service: Service, framing: str) -> None:
    await service.client.put("/files/k", content=b"old")
    await service.client.aclose()
    before = held(service.root)
    chunk = bytes(100_000)
    for _ in range(5):
        async with request(service.port, "PUT", "/files/k", framing) as (_, writer):
            for _ in range(20):
                writer.write(b"186a0\r\n%s\r\n" % chunk if "chunked" in framing else chunk)
            await writer.drain()
            await until(lambda: held(service.root).files, bool)  # the body is being written to the disk
        await until_no_more_than(before, service.root)
    assert [path for path in (service.root / ".trove" / "tmp").rglob("*") if path.is_file()] == []
    assert await service.store.read("files", "k") == b"old"
    assert [info.key async for info in service.store.list("files")] == ["k"]


@pytest.mark.asyncio
async def test_interrupted_downloads_leave_nothing(service: Service) -> None:
    await service.store.put("files", "big", bytes(32 * MIB))
    await service.client.get("/files/big", headers={"Range": "bytes=0-1"})
    await service.client.aclose()
    before = held(service.root)

    async def cut_off() -> None:
        async with request(service.port, "GET", "/files/big") as (answer, _), asyncio.timeout(SECONDS):
            await answer.readexactly(100_000)
            assert any(name.endswith("/files/big") for name in held(service.root).files)

    for _ in range(5):
        await asyncio.gather(*(cut_off() for _ in range(10)))
    await until_no_more_than(before, service.root)


def test_the_resilient_service_stays_useful_through_an_outage() -> None:
    printed = run_python("-m", "examples.resilient_service")
    before, down, cached, repaired, counted = re.split(r"^\S.*:\n", printed, flags=re.MULTILINE)[1:]

    def answers(part: str) -> list[str]:
        """Return requests and statuses, and whether there is a Retry-After."""
        return re.findall(r"^  (\w+ /\S+: \d+(?:, Retry-After)?)", part, flags=re.MULTILINE)

    assert answers(before) == [
        "PUT /files/read.txt: 201",
        "PUT /files/unread.txt: 201",
        "GET /files/read.txt: 200",
        "GET /health: 200",
    ]
    assert answers(down) == [
        *["GET /files/unread.txt: 503, Retry-After"] * 3,
        "PUT /files/new.txt: 503, Retry-After",
    ]
    assert "attempts that have reached the backend: 5\n" in down
    assert answers(cached) == ["GET /files/read.txt: 200", "GET /health: 503, Retry-After"]
    assert '"backend": "open"' in cached
    assert answers(repaired) == ["GET /files/unread.txt: 200", "PUT /files/new.txt: 201", "GET /health: 200"]
    assert 'trove_circuit_transitions_total{name="files",state="closed"} 1.0' in counted


# The layer


def test_custom_layer() -> None:
    content, put, delete = run_python("-m", "examples.custom_layer").splitlines()
    assert content == "b'all is well'"
    assert put.startswith("put 'reports/2024.txt': the object already exists")
    assert delete.startswith("delete 'reports/2024.txt': objects of this store stay as they are")


def test_the_custom_layer_knows_the_operations_by_name() -> None:
    assert METHODS.keys() >= READS | CREATES | PREPARES
    assert all("options" in METHODS[name].parameters for name in CREATES)


@pytest.mark.asyncio
async def test_the_custom_layer_keeps_what_was_written_once() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"again"

    async with trove.open("memory://?presign_url=https://files.test&min_part_size=1", layers=[WriteOnce]) as t:
        await t.create_bucket("b")
        info = await t.put("b", "k", b"once")
        await t.put("b", "other", b"other")
        upload = await t.initiate_multipart("b", "k")
        part = await t.upload_part("b", "k", upload, 1, b"again")
        for replacement in (
            t.put("b", "k", b"again"),
            t.put("b", "k", body()),
            t.put("b", "k", b"again", if_match=info.etag),
            t.copy("b", "other", "b", "k"),
            t.server_copy(trove.ObjectRef("b", "other"), trove.ObjectRef("b", "k")),
            t.complete_multipart("b", "k", upload, [part]),
        ):
            with pytest.raises(trove.ObjectAlreadyExistsError):
                await replacement
        for refused in (
            t.delete("b", "k"),
            t.delete_many("b", ["k"]),
            t.move("b", "k", "b", "l"),
            t.delete_bucket("b"),
            t.set_tags("b", "k", {}),
        ):
            with pytest.raises(trove.AccessDeniedError, match="stay as they are"):
                await refused
        for unsupported in (t.presign_put("b", "k"), t.set_lifecycle("b", [])):
            with pytest.raises(trove.UnsupportedError, match=r"a signed URL for writing|a rule would delete"):
                await unsupported
        await t.abort_multipart("b", "k", upload)
        assert (await t.head("b", "k"), await t.read("b", "k")) == (info, b"once")


@pytest.mark.asyncio
async def test_the_custom_layer_refuses_a_driver_that_would_ignore_it() -> None:
    driver = MockDriver(features=Features(conditions=frozenset({"put_if_none_match"})))
    with pytest.raises(trove.UnsupportedError, match="cannot create only: it has no complete, copy"):
        await trove.open(driver, layers=[WriteOnce])
