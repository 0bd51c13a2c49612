"""Uploads into a store of objects: downloads with ranges, the place of the state, and one process for each place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import trove_async as trove
from tests.uploads.counting import lifespan
from tests.uploads.memory_store import LockingStore, MemoryStore
from tests.uploads.serving import serving
from tests.uploads.web.talking import BYTES, TUS, Peer, peer
from trove_async.errors import BucketNotFoundError, InvalidArgumentError, InvalidBucketNameError
from trove_async.uploads import FileLocker, MemoryLocker, TusApp, TusOptions
from trove_async.uploads.aiohttp import tus_application
from trove_async.web import CORS

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture(params=["memory://", "local"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[trove.Trove]:
    (tmp_path / "root").mkdir()
    dsn = f"local://{tmp_path}/root?fsync=0" if request.param == "local" else request.param
    async with trove.open(dsn) as opened:
        await opened.create_bucket("uploads")
        yield opened


async def upload(client: Peer, data: bytes, **metadata: str) -> str:
    said = await client.ask("POST", "/", {**TUS, "Upload-Length": str(len(data)), **metadata}, b"")
    assert said.status == 201, said
    path = said.headers["location"]
    half = len(data) // 2
    for offset, part in ((0, data[:half]), (half, data[half:])):
        said = await client.ask("PATCH", path, {**BYTES, "Upload-Offset": str(offset)}, part)
        assert said.status == 204, said
    return path


async def test_an_upload_becomes_an_object(store: trove.Trove) -> None:
    async with serving("uvicorn", TusApp(store, bucket="uploads")) as port, peer(port) as client:
        path = await upload(client, b"0123456789", **{"Upload-Metadata": "filename YS5odG1s,filetype dGV4dC9odG1s"})
        assert await store.read("uploads", path[1:]) == b"0123456789"
        whole = await client.ask("GET", path)
        assert (whole.status, whole.body) == (200, b"0123456789")
        assert whole.headers["content-disposition"] == 'attachment; filename="a.html"'
        assert whole.headers["x-content-type-options"] == "nosniff"
        part = await client.ask("GET", path, {"Range": "bytes=2-4"})
        assert (part.status, part.body, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
        same = await client.ask("GET", path, {"If-None-Match": whole.headers["etag"]})
        assert same.status == 304
        assert (await client.ask("GET", path, {"Range": "bytes=10-"})).status == 416
        await store.put("uploads", path[1:], b"of others")
        assert (await client.ask("GET", path)).status == 412


async def test_media_types_are_shown_if_the_application_says_so(store: trove.Trove) -> None:
    image = {"Upload-Metadata": "filename YS5wbmc=,filetype aW1hZ2UvcG5n"}
    for options, disposition in (({}, "inline"), ({"inline_types": ["Text/Plain"]}, "attachment")):
        app = TusApp(store, bucket="uploads", **options)  # type: ignore[arg-type]
        async with serving("uvicorn", app) as port, peer(port) as client:
            said = await client.ask("GET", await upload(client, b"0123456789", **image))
            assert said.headers["content-disposition"] == f'{disposition}; filename="a.png"'
            assert said.headers["content-type"] == "image/png"


async def test_uploads_are_not_read_if_the_application_says_so(store: trove.Trove) -> None:
    async with serving("uvicorn", TusApp(store, bucket="uploads", download=False)) as port, peer(port) as client:
        assert (await client.ask("GET", await upload(client, b"0123456789"))).status == 405


async def test_the_state_may_have_a_place_of_its_own(store: trove.Trove) -> None:
    await store.create_bucket("state")
    app = TusApp(store, bucket="uploads", state="state/of/uploads/")
    async with serving("uvicorn", app) as port, peer(port) as client:
        await client.ask("POST", "/", {**TUS, "Upload-Length": "5"}, b"")
        assert not await store.list("uploads").all()
        assert all(each.key.startswith("of/uploads/") for each in await store.list("state").all())


async def test_aiohttp_takes_a_store_too(store: trove.Trove) -> None:
    async with serving("aiohttp", tus_application(store, bucket="uploads")) as port, peer(port) as client:
        path = await upload(client, b"0123456789")
        part = await client.ask("GET", path, {"Range": "bytes=2-4"})
        assert (part.status, part.body) == (206, b"234")


def without_lifespan(app: TusApp) -> Any:
    """Return an ASGI app that starts the app with its first request, as a framework does that mounts it."""

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await app(scope, receive, send)
        else:
            await lifespan(receive, send)

    return mounted


async def check_refused(client: Peer) -> None:
    refused = await client.ask("HEAD", "/anything", TUS)
    assert refused.status == 423, "clients must not take their uploads for lost"
    assert int(refused.headers["retry-after"]) > 0
    assert (await client.ask("POST", "/", {**TUS, "Upload-Length": "5"}, b"")).status == 503


async def test_a_memory_locker_works_for_one_process(store: trove.Trove) -> None:
    """Two lockers stand for two processes: neither sees the locks of the other."""
    async with TusApp(store, bucket="uploads"):
        with pytest.raises(InvalidArgumentError, match="MemoryLocker"):
            async with TusApp(store, bucket="uploads"):
                pass
        async with TusApp(store, bucket="uploads", state="uploads/elsewhere/"):
            pass
        second = TusApp(store, bucket="uploads")
        async with serving("uvicorn", without_lifespan(second)) as port, peer(port) as client:
            await check_refused(client)
        await second.aclose()
    async with TusApp(store, bucket="uploads"):
        pass


async def test_lockers_of_several_processes_are_shared(store: trove.Trove, tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    locker = FileLocker(tmp_path / "locks")
    async with TusApp(store, bucket="uploads", locker=locker), TusApp(store, bucket="uploads", locker=locker):
        pass
    await locker.aclose()


async def test_a_missing_bucket_is_noticed_at_the_start(store: trove.Trove) -> None:
    with pytest.raises(BucketNotFoundError):
        async with TusApp(store, bucket="missing"):
            pass
    app = TusApp(store, bucket="late")
    async with serving("uvicorn", without_lifespan(app)) as port, peer(port) as client:
        await check_refused(client)
        await store.create_bucket("late")
        assert (await client.ask("POST", "/", {**TUS, "Upload-Length": "5"}, b"")).status == 201
    await app.aclose()


async def test_expiration_is_announced_where_uploads_expire(store: trove.Trove) -> None:
    apps = [
        (TusApp(store, bucket="uploads"), True),
        (TusApp(store, bucket="uploads", expires=None), False),
        (TusApp(MemoryStore()), False),
        (TusApp(MemoryStore(), expires=60), True),
    ]
    for app, expires in apps:
        async with serving("uvicorn", app) as port, peer(port) as client:
            said = await client.ask("OPTIONS", "/")
            assert ("expiration" in said.headers["tus-extension"].split(",")) is expires


async def test_the_locks_of_a_data_store_are_used() -> None:
    store = LockingStore()
    async with serving("uvicorn", TusApp(store)) as port, peer(port) as client:
        said = await client.ask("POST", "/", {**TUS, "Upload-Length": "5"}, b"")
        assert (
            await client.ask("PATCH", said.headers["location"], {**BYTES, "Upload-Offset": "0"}, b"01234")
        ).status == 204
    assert "lock_upload" in store.calls
    assert not store.locked


@pytest.mark.parametrize(
    "options",
    [
        {"bucket": "uploads"},
        {"state": "uploads/x/"},
        {"part_size": 1},
        {"locker": MemoryLocker(), "database": "postgresql://localhost/x"},
        {"database": "sqlite:///x"},
        {"trusted_proxies": "10.0.0.1"},
        {"cors": "*"},
        {"max_size": 0},
        {"chunk_size": -1},
        {"idle_timeout": 0},
        {"hook_timeout": True},
    ],
)
async def test_options_are_checked(options: TusOptions) -> None:
    with pytest.raises(InvalidArgumentError):
        TusApp(MemoryStore(), **options)


async def test_a_store_needs_a_bucket(store: trove.Trove) -> None:
    with pytest.raises(InvalidBucketNameError):
        TusApp(store)
    with pytest.raises(InvalidArgumentError):
        TusApp(store, bucket="uploads", cors=CORS(("*",)), memory=0)
