"""Foreign clients against the example server, on each HTTP server: what they upload arrives."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.payload import pattern
from tests.uploads.foreign import ForeignClient, browser, page_serving, terminate, tus_js, tuspy
from tests.uploads.processes import ServerProcess
from tests.uploads.serving import ServerName, tus_server_process

pytestmark = pytest.mark.asyncio

SERVERS: Final[Sequence[ServerName]] = ("uvicorn", "hypercorn", "granian", "aiohttp")
FEW: Final[Sequence[ServerName]] = ("uvicorn", "aiohttp")
"""Servers of the tests in Chromium; a long run has all."""

SIZE = 3_000_000
MIB = 1 << 20
QUICK = [100, 300, 1000, 1000]
"""Milliseconds between the attempts of tus-js-client."""

TUS_JS: Final[Mapping[str, Mapping[str, Any]]] = {
    "one request": {},
    "chunks": {"chunkSize": MIB, "metadata": {"filename": "ä.bin", "filetype": "image/png"}},
    "in parts": {"parallelUploads": 3},
    "in parts of chunks": {"parallelUploads": 2, "chunkSize": MIB // 2},
    "deferred length": {"uploadLengthDeferred": True, "chunkSize": MIB},
    "bytes in the creation": {"uploadDataDuringCreation": True, "chunkSize": MIB},
    "bytes in the creation, deferred length": {
        "uploadDataDuringCreation": True,
        "uploadLengthDeferred": True,
        "chunkSize": MIB,
    },
    "POST for PATCH": {"overridePatchMethod": True, "chunkSize": MIB},
    "ids of requests": {"addRequestId": True},
    "draft 03": {"protocol": "ietf-draft-03", "chunkSize": MIB},
    "draft 05": {"protocol": "ietf-draft-05", "chunkSize": MIB},
    "draft 05, one request": {"protocol": "ietf-draft-05", "uploadDataDuringCreation": True},
}
CREATIONS: Final = {"in parts": 4, "in parts of chunks": 3}
"""Creations of an upload of which there is more than one: the parts, and the upload that they make."""

IN_BROWSER: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "tus-js-client": ("tus", {}),
    "tus-js-client, in parts": ("tus", {"parallelUploads": 2}),
    "tus-js-client, POST for PATCH": ("tus", {"overridePatchMethod": True, "addRequestId": True, "chunkSize": MIB}),
    "tus-js-client, draft 05": ("tus", {"protocol": "ietf-draft-05", "chunkSize": MIB}),
    "Uppy": ("uppy", {"chunkSize": MIB}),
}

TUSPY: Final[Mapping[str, Mapping[str, Any]]] = {
    "chunks": {"chunk_size": MIB},
    "checksums": {"chunk_size": MIB, "upload_checksum": True, "metadata": {"filename": "ä.bin"}},
    "asynchronous": {"chunk_size": MIB, "asynchronous": True},
    "asynchronous, checksums": {"chunk_size": MIB, "asynchronous": True, "upload_checksum": True},
    "one request": {},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path, SIZE)


def write(folder: Path, size: int) -> Path:
    path = folder / f"{size}.bin"
    path.write_bytes(pattern(size))
    return path


@asynccontextmanager
async def example(server: ServerName, folder: Path) -> AsyncIterator[ServerProcess]:
    dsn = f"local://{folder}/store?create=1&fsync=0"
    async with tus_server_process(server, dsn, folder / "log") as process:
        yield process


def chosen(
    server: ServerName,
    cases: Mapping[str, Any],
    request: pytest.FixtureRequest,
    among: Sequence[ServerName] = SERVERS,
) -> list[str]:
    """Return the names of all cases in a long run; otherwise those of one of these servers: each case runs on one."""
    if request.config.getoption("trove_long"):
        return list(cases)
    return list(cases)[among.index(server) :: len(among)]


async def digest(url: str) -> bytes:
    found = hashlib.sha256()
    async with httpx.AsyncClient() as client, client.stream("GET", url) as answer:
        assert answer.status_code == 200
        async for chunk in answer.aiter_raw():
            found.update(chunk)
    return found.digest()


async def check(client: ForeignClient, file: Path, case: str, creations: int | None = 1) -> str:
    """Wait until a client has uploaded a file, compare the digest, and return the URL."""
    result = await client.result()
    assert result["ok"], (case, result, client.events[-5:])
    url: str = result["url"]
    assert creations is None or client.creations == creations, (case, client.events)
    assert await digest(url) == hashlib.sha256(file.read_bytes()).digest(), case
    return url


@pytest.mark.parametrize("server", SERVERS)
async def test_tus_js_client_in_node(
    server: ServerName, file: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = ""
    async with example(server, tmp_path) as process:
        for case in chosen(server, TUS_JS, request):
            async with tus_js(file, f"{process.url}/files/", retryDelays=QUICK, **TUS_JS[case]) as client:
                url = await check(client, file, case, CREATIONS.get(case, 1))
        async with terminate(url) as client:
            assert (await client.result())["ok"]
        async with httpx.AsyncClient() as client:
            assert (await client.get(url)).status_code == 404


async def test_tus_js_client_resumes_after_it_was_killed(file: Path, tmp_path: Path) -> None:
    previous = tmp_path / "uploads.json"
    async with example("uvicorn", tmp_path) as process:
        endpoint = f"{process.url}/files/"
        async with tus_js(file, endpoint, chunkSize=MIB, previous=previous) as client:
            await client.progress(MIB)
            await client.kill()
        async with tus_js(file, endpoint, chunkSize=MIB, previous=previous) as client:
            await check(client, file, "resumed", creations=0)


@pytest.mark.parametrize(
    "server", [pytest.param(each, marks=[] if each in FEW else pytest.mark.long) for each in SERVERS]
)
async def test_clients_in_chromium_on_a_page_of_another_origin(
    server: ServerName, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    file = write(tmp_path, 20_000_000 if server == "uvicorn" else SIZE)
    async with example(server, tmp_path) as process, page_serving() as origin, browser() as page:
        endpoint = f"{process.url}/files/"
        await page.call("goto", origin)
        for case in chosen(server, IN_BROWSER, request, FEW):
            name, options = IN_BROWSER[case]
            await page.call("evaluate", "localStorage.clear()")
            await page.upload(name, file, endpoint, **options)
            await check(page, file, case, 3 if "parallelUploads" in options else None)
        # Scripts may read an answer that refuses, too.
        refused = f"fetch('{endpoint}x', {{headers: {{'Tus-Resumable': '1.0.0'}}}}).then((answer) => answer.status)"
        assert await page.call("evaluate", refused) == 404
        await page.call("evaluate", "localStorage.clear()")
        await page.upload("tus", file, endpoint, chunkSize=MIB)
        await page.until(lambda event: event["event"] == "response" and event["method"] == "PATCH")
        await page.reload()
        await page.upload("tus", file, endpoint, chunkSize=MIB)
        await check(page, file, "after a reload", creations=0)


@pytest.mark.parametrize("server", SERVERS)
async def test_tuspy(server: ServerName, file: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    async with example(server, tmp_path) as process:
        endpoint = f"{process.url}/files/"
        for case in chosen(server, TUSPY, request):
            async with tuspy(file, endpoint, **TUSPY[case]) as client:
                await check(client, file, case)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_tuspy_resumes_after_it_was_killed(file: Path, tmp_path: Path, asynchronous: bool) -> None:
    upload = partial(tuspy, previous=tmp_path / "uploads.json", chunk_size=MIB // 4, asynchronous=asynchronous)
    async with example("uvicorn", tmp_path) as process:
        async with upload(file, f"{process.url}/files/") as client:
            await client.until(lambda event: event["event"] == "chunk")
            await client.kill()
        async with upload(file, f"{process.url}/files/") as client:
            await check(client, file, "resumed", creations=0)
