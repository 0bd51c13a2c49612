"""The photo service of the examples: tenants, deduplication, and proofs in place of photos."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI

from examples import photo_service
from examples.photo_service import send
from tests.web.asgi import Sent, scope_of
from tests.web.serving import held

pytestmark = pytest.mark.asyncio


class Counting(httpx.ASGITransport):
    """Counts the bytes of request bodies."""

    sent = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent += len(await request.aread())
        return await super().handle_async_request(request)


@pytest_asyncio.fixture
async def app(tmp_path: Path) -> AsyncIterator[FastAPI]:
    app = photo_service.create_app("memory://", f"sqlite:///{tmp_path}/photos.db?synchronous=0")
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "holiday.jpg"
    path.write_bytes(os.urandom(300_000))
    return path


def client(app: FastAPI, tenant: str, transport: httpx.ASGITransport | None = None) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer token-of-{tenant}"}
    return httpx.AsyncClient(transport=transport or Counting(app), base_url="http://photos", headers=headers)


async def test_a_known_photo_is_not_sent_again(app: FastAPI, photo: Path) -> None:
    transport = Counting(app)
    async with client(app, "anna") as anna, client(app, "bert", transport) as bert:
        assert await send(anna, photo)
        assert not await send(bert, photo)
        assert transport.sent < 1000
        for one in (anna, bert):
            answer = await one.get("/photos/holiday.jpg")
            assert answer.content == photo.read_bytes()
            assert answer.headers["content-type"] == "image/jpeg"
        await anna.delete("/photos/holiday.jpg")
        assert (await anna.get("/photos/holiday.jpg")).status_code == 404
        assert (await bert.get("/photos/holiday.jpg")).content == photo.read_bytes()
        assert [one["size"] for one in (await bert.get("/photos")).json()] == [300_000]


async def test_a_photo_without_names_is_sent_again(app: FastAPI, photo: Path) -> None:
    async with client(app, "anna") as anna:
        assert await send(anna, photo)
        await anna.delete("/photos/holiday.jpg")
        await send(anna, photo)
        assert (await anna.get("/photos/holiday.jpg")).content == photo.read_bytes()


async def test_the_digest_alone_gives_nothing(app: FastAPI, photo: Path) -> None:
    async with client(app, "anna") as anna, client(app, "bert") as bert:
        await send(anna, photo)
        sha384 = (await anna.get("/photos")).json()[0]["sha384"]
        asked = (await bert.post("/requests/mine.jpg", json={"sha384": sha384})).json()
        proof = {"request_id": asked["request_id"], "proof": "0" * 96}
        assert (await bert.post("/proofs", json=proof)).status_code == 403
        assert (await bert.get("/photos/mine.jpg")).status_code == 404


async def test_strangers_are_refused(app: FastAPI) -> None:
    async with client(app, "nobody") as nobody:
        assert (await nobody.get("/photos")).status_code == 401


async def test_a_download_has_ranges_and_conditions(app: FastAPI, photo: Path) -> None:
    async with client(app, "anna") as anna:
        await send(anna, photo)
        url, data = "/photos/holiday.jpg", photo.read_bytes()
        part = await anna.get(url, headers={"Range": "bytes=-100"})
        assert (part.status_code, part.content) == (206, data[-100:])
        etag = part.headers["etag"]
        assert (await anna.get(url, headers={"If-None-Match": etag})).status_code == 304
        head = await anna.head(url)
        assert (head.status_code, head.headers["etag"], head.headers["content-length"]) == (200, etag, "300000")
        assert head.headers["content-disposition"] == 'attachment; filename="holiday.jpg"'


async def test_a_photo_that_is_too_long_is_refused(app: FastAPI, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo_service, "MAX_SIZE", 299_999)

    async def unsized() -> AsyncIterator[bytes]:
        yield photo.read_bytes()

    async with client(app, "anna") as anna:
        for body in (photo.read_bytes(), unsized()):
            assert (await anna.put("/photos/a.jpg", content=body)).status_code == 413
        assert (await anna.put("/photos/a.jpg", content=b"a", headers={"Content-Length": "-1"})).status_code == 400
        assert (await anna.get("/photos")).json() == []


async def test_photos_are_listed_in_pages(app: FastAPI) -> None:
    async with client(app, "anna") as anna:
        for name in ("a", "b", "c"):
            await anna.put(f"/photos/{name}", content=name.encode())
        pages = [
            [one["name"] for one in (await anna.get("/photos", params={"after": after, "limit": 2})).json()]
            for after in ("", "b", "c")
        ]
        assert pages == [["a", "b"], ["c"], []]
        assert (await anna.get("/photos", params={"limit": 0})).status_code == 422


async def test_a_client_that_leaves_before_the_first_chunk_leaves_no_reader_open(tmp_path: Path) -> None:
    root = tmp_path / "store"
    app = photo_service.create_app(f"local://{root}?create=1", f"sqlite:///{tmp_path}/photos.db?synchronous=0")
    token = {"authorization": "Bearer token-of-anna"}
    async with app.router.lifespan_context(app):
        async with client(app, "anna") as anna:
            await anna.put("/photos/a.jpg", content=os.urandom(300_000))

        async def send_nothing(message: Any) -> None:
            """As a server may do it whose client has disconnected: see ASGI 2.4."""
            raise OSError

        scope = {**scope_of("GET", "/photos/a.jpg", token), "asgi": {"spec_version": "2.4"}}
        with contextlib.suppress(Exception):
            await app(scope, Sent().receive, send_nothing)
        assert held(root).files == []
