"""The commands of the foreign clients, with the reference server in Node."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.payload import pattern
from tests.servers import running
from tests.uploads.foreign import browser, page_serving, terminate, tus_js, tuspy

pytestmark = pytest.mark.asyncio

DATA = pattern(3_000_000)
CHUNK = 1 << 20


@pytest.fixture(scope="module")
def endpoint() -> str:
    return running("tus_node").endpoint


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data.bin"
    path.write_bytes(DATA)
    return path


async def content(url: str) -> bytes:
    async with httpx.AsyncClient() as client:
        return (await client.get(url)).content


async def test_tus_js_client_uploads_and_terminates(endpoint: str, file: Path) -> None:
    async with tus_js(file, endpoint, chunkSize=CHUNK, metadata={"filename": "ä.bin"}) as client:
        result = await client.result()
    assert result["ok"]
    assert client.creations == 1
    assert [event["accepted"] for event in client.events if event["event"] == "chunk"] == [CHUNK, 2 * CHUNK, len(DATA)]
    assert await content(result["url"]) == DATA
    async with terminate(result["url"]) as client:
        assert (await client.result())["ok"]
    async with terminate(result["url"], retryDelays=[]) as client:
        assert (await client.result())["status"] in (404, 410)


async def test_tus_js_client_resumes_after_it_was_killed(endpoint: str, file: Path, tmp_path: Path) -> None:
    previous = tmp_path / "uploads.json"
    async with tus_js(file, endpoint, chunkSize=CHUNK, previous=previous) as client:
        await client.until(lambda event: event["event"] == "chunk")
        await client.kill()
    async with tus_js(file, endpoint, chunkSize=CHUNK, previous=previous) as client:
        result = await client.result()
    assert result["ok"]
    assert client.creations == 0
    assert await content(result["url"]) == DATA


async def test_a_failure_is_reported(file: Path) -> None:
    async with page_serving() as url:  # it allows no POST
        async with tus_js(file, url, retryDelays=[]) as client:
            result = await client.result()
        assert (result["ok"], result["status"]) == (False, 405)
        async with tuspy(file, url) as client:
            result = await client.result()
        assert (result["ok"], result["status"]) == (False, 405)
    assert client.creations == 1


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_tuspy_uploads_and_resumes(endpoint: str, file: Path, tmp_path: Path, asynchronous: bool) -> None:
    previous = tmp_path / "uploads.json"
    # With no metadata it sends an empty Upload-Metadata, which the server in Node refuses.
    upload = partial(tuspy, file, endpoint, chunk_size=CHUNK, metadata={"filename": "a"}, asynchronous=asynchronous)
    async with upload(previous=previous) as client:
        await client.until(lambda event: event["event"] == "chunk")
        await client.kill()
    async with upload(previous=previous) as client:
        result = await client.result()
    assert result["ok"]
    assert client.creations == 0
    assert await content(result["url"]) == DATA


async def test_a_page_of_another_origin_uploads_in_chromium(endpoint: str, file: Path) -> None:
    async with page_serving() as url, browser() as page:
        await page.call("goto", url)
        await page.upload("tus", file, endpoint, chunkSize=CHUNK)
        await page.until(lambda event: event["event"] == "response" and event["method"] == "PATCH")
        await page.reload()
        await page.upload("tus", file, endpoint, chunkSize=CHUNK)
        result = await page.result()
        assert result["ok"]
        assert page.creations == 0
        assert await content(result["url"]) == DATA

        await page.call("evaluate", "localStorage.clear()")
        await page.upload("uppy", file, endpoint, chunkSize=CHUNK)
        result = await page.result()
        assert result["ok"]
        assert page.creations == 1
        assert await content(result["url"]) == DATA
        assert await page.call("text", "title") == "uploads"
        with pytest.raises(AssertionError, match="evaluate"):
            await page.call("evaluate", "nothing.there")
