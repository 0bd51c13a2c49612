"""The photo service of the examples: tenants, deduplication, and proofs in place of photos."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI

from examples import photo_service
from examples.photo_service import send

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
