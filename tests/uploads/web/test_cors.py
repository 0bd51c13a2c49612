"""Uploads from pages of other origins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest

from tests.uploads.memory_store import MemoryStore
from tests.uploads.serving import ServerName
from tests.uploads.web.apps import served
from tests.uploads.web.talking import BYTES, TUS, peer
from trove_async.errors import InvalidArgumentError
from trove_async.uploads import Changes, Hooks, UploadEvent
from trove_async.uploads.asgi import TusApp
from trove_async.web import CORS

pytestmark = pytest.mark.asyncio

PAGE: Final = "https://app.example.com"
OTHER: Final = "https://evil.example.com"
ORIGIN: Final = {"Origin": PAGE}
ASKED: Final = "tus-resumable,upload-length,upload-metadata,x-custom"


class Naming(Hooks):
    async def before_create(self, event: UploadEvent) -> Changes | None:
        return Changes(headers=(("X-Job", "7"),))


# A request, and headers of its answer that a page's script must be able to read; the upload has 4 of 10 bytes.
ROWS: Final[Mapping[str, tuple[str, str, Mapping[str, str], bytes | None, int, set[str]]]] = {
    "options": ("OPTIONS", "/files/", {}, None, 204, {"Tus-Version", "Tus-Extension", "Tus-Max-Size", "Upload-Limit"}),
    "create": ("POST", "/files/", {**TUS, "Upload-Length": "5"}, b"", 201, {"Location", "Tus-Resumable", "X-Job"}),
    "too large": ("POST", "/files/", {**TUS, "Upload-Length": "101"}, b"", 413, {"Tus-Resumable"}),
    "head": ("HEAD", "{upload}", TUS, None, 200, {"Upload-Offset", "Upload-Length", "Upload-Metadata"}),
    "missing": ("HEAD", "/files/nothing", TUS, None, 404, {"Tus-Resumable"}),
    "append": ("PATCH", "{upload}", {**BYTES, "Upload-Offset": "4"}, b"4", 204, {"Upload-Offset"}),
    "refused": ("PATCH", "{upload}", {**BYTES, "Upload-Offset": "5"}, b"4", 409, {"Tus-Resumable"}),
    "too much": ("PATCH", "{upload}", {**BYTES, "Upload-Offset": "4"}, bytes(100), 413, {"Tus-Resumable"}),
    "read": ("GET", "{done}", {}, None, 200, {"ETag", "Content-Disposition"}),
    "not readable": ("GET", "{upload}", {}, None, 400, set()),
    "remove": ("DELETE", "{upload}", TUS, None, 204, {"Tus-Resumable"}),
    "draft": (
        *("POST", "/files/", {"Upload-Draft-Interop-Version": "8", "Upload-Complete": "?0"}, b"abc", 201),
        {"Location", "Upload-Offset", "Upload-Complete", "Upload-Limit", "Upload-Draft-Interop-Version"},
    ),
}


@pytest.mark.parametrize("server", ["uvicorn", "aiohttp"])
@pytest.mark.parametrize("origins", [("*",), (PAGE,)])
async def test_a_page_reads_every_answer(server: ServerName, origins: tuple[str, ...]) -> None:
    allowed = "*" if origins == ("*",) else PAGE
    async with served(server, max_size=100, cors=CORS(origins), hooks=Naming()) as port:
        for name, (method, path, headers, body, status, exposed) in ROWS.items():
            async with peer(port) as client:
                upload = await client.create(10, **{"Upload-Metadata": "filename YS50eHQ="})
                done = await client.create(0)
                assert (await client.ask("PATCH", upload, {**BYTES, "Upload-Offset": "0"}, b"0123")).status == 204
                path = path.format(upload=upload, done=done)
                said = await client.ask(method, path, {**headers, **ORIGIN}, body)
            assert said.status == status, name
            assert said.headers["access-control-allow-origin"] == allowed, name
            assert exposed <= set(said.headers["access-control-expose-headers"].split(", ")), name


@pytest.mark.parametrize("server", ["uvicorn", "aiohttp"])
@pytest.mark.parametrize("path", ["/files/", "/files/nothing"])
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE", "HEAD"])
async def test_a_preflight_allows_what_clients_send(server: ServerName, path: str, method: str) -> None:
    asked = {**ORIGIN, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": ASKED}
    async with served(server) as port, peer(port) as client:
        said = await client.ask("OPTIONS", path, asked)
    assert said.status == 204
    assert said.headers["access-control-allow-origin"] == "*"
    assert method in said.headers["access-control-allow-methods"].split(", ")
    assert said.headers["access-control-allow-headers"] == ASKED


async def test_another_origin_is_allowed_nothing() -> None:
    asked = {"Origin": OTHER, "Access-Control-Request-Method": "POST"}
    async with served("uvicorn", cors=CORS((PAGE,))) as port, peer(port) as client:
        for said in (
            await client.ask("OPTIONS", "/files/", asked),
            await client.ask("HEAD", "/files/x", {"Origin": OTHER}),
        ):
            assert "access-control-allow-origin" not in said.headers
            assert "Origin" in said.headers["vary"]


async def test_without_cors_an_app_serves_its_own_origin() -> None:
    asked = {**ORIGIN, "Access-Control-Request-Method": "POST"}
    async with served("uvicorn", cors=None) as port, peer(port) as client:
        said = await client.ask("OPTIONS", "/files/", asked)
        assert said.headers["tus-version"] == "1.0.0"
        assert not any(name.startswith("access-control") for name in said.headers)


@pytest.mark.parametrize("cors", ["*", ("*",), True])
async def test_cors_is_checked(cors: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="cors"):
        TusApp(MemoryStore(), cors=cors)
