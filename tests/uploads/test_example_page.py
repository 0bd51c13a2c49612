"""The page of the example server, in headless Chromium, over connections that stall and break."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from examples.tus_server import Options, create_asgi_app
from tests.payload import pattern
from tests.uploads.foreign import Browser, browser
from tests.uploads.serving import serving
from tests.web.serving import SECONDS
from trove_async.testing.proxy import ConnectionFault, FaultProxy

pytestmark = pytest.mark.asyncio(loop_scope="module")

TUS = {"Tus-Resumable": "1.0.0"}
SIZE = 8_000_000


@asynccontextmanager
async def proxied(folder: Path, token: str = "", max_size: int | None = None) -> AsyncIterator[FaultProxy]:
    app = create_asgi_app(Options(f"local://{folder}?fsync=0&create=1", max_size=max_size, token=token))
    async with serving("uvicorn", app) as port, FaultProxy("127.0.0.1", port) as proxy:
        yield proxy


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def page() -> AsyncIterator[Browser]:
    async with browser() as started:
        yield started


def write(path: Path, size: int = SIZE) -> Path:
    path.write_bytes(pattern(size))
    return path


async def open_page(page: Browser, proxy: FaultProxy) -> None:
    page.events.clear()
    await page.call("goto", proxy.url())


async def until_state(page: Browser, state: str, count: int = 1) -> None:
    """Wait until this number of rows is in a state."""
    try:
        async with asyncio.timeout(SECONDS):
            await page.call("until", f"document.querySelectorAll('li[data-state={state}]').length === {count}")
    except TimeoutError:
        raise AssertionError(f"{await page.call('text', 'main')} {page.events[-5:]}") from None


async def downloaded(page: Browser) -> bytes:
    """Return what is behind the link of the only row."""
    url = await page.call("evaluate", "document.querySelector('li a').href")
    async with httpx.AsyncClient() as client:
        answer = await client.get(url)
    assert answer.status_code == 200
    return answer.content


def is_same(content: bytes) -> bool:
    return hashlib.sha256(content).digest() == hashlib.sha256(pattern(SIZE)).digest()


async def stall(proxy: FaultProxy, page: Browser, file: Path) -> None:
    """Choose a file, and return when half of it has been sent and nothing more passes."""
    fault = ConnectionFault(stall_up_after=SIZE // 2)
    proxy.inject_open(fault)
    proxy.inject(fault, times=None)
    await page.call("choose", "#files", str(file))
    async with asyncio.timeout(SECONDS):
        await proxy.until(lambda proxy: any(strike.kind == "stall" for strike in proxy.strikes))


def release(proxy: FaultProxy) -> None:
    """Break the connections that are stalled, with the bytes that wait in them, and let new ones pass."""
    proxy.break_open("reset")
    proxy.clear()


async def url_of(page: Browser) -> str:
    """Return the URL of the upload that the page has sent bytes of."""
    url: str = (await page.until(lambda event: event.get("method") == "PATCH"))["url"]
    return url


async def until_durable(url: str) -> None:
    """Wait until the server has noticed that a client is gone, and has bytes of its upload."""
    async with httpx.AsyncClient() as client, asyncio.timeout(SECONDS):
        while (await client.head(url, headers=TUS)).headers["upload-offset"] == "0":  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.005)


async def test_an_upload_is_paused_and_resumed(page: Browser, tmp_path: Path) -> None:
    async with proxied(tmp_path / "store") as proxy:
        await open_page(page, proxy)
        await stall(proxy, page, write(tmp_path / "ä b.bin"))
        await page.call("click", "[data-action=pause]")
        await until_state(page, "paused")
        release(proxy)
        await until_durable(await url_of(page))
        await page.call("click", "[data-action=wait]")
        await until_state(page, "done")
        assert is_same(await downloaded(page))
        assert await page.call("text", "#summary") == "1 done"
        assert page.creations == 1
        assert proxy.bytes_up < 1.2 * SIZE


async def test_an_unfinished_upload_is_found_again_after_a_reload(page: Browser, tmp_path: Path) -> None:
    file = write(tmp_path / "data.bin")
    (tmp_path / "other").mkdir()
    other = write(tmp_path / "other" / "data.bin", SIZE - 1)
    async with proxied(tmp_path / "store") as proxy:
        await open_page(page, proxy)
        await stall(proxy, page, file)
        await page.reload()
        release(proxy)
        await until_durable(await url_of(page))
        await page.reload()
        await page.call("until", "document.querySelector('.state').textContent.includes('the server has')")
        assert 0 < await page.call("evaluate", "document.querySelector('progress').value") < 1
        await page.call("choose", "#uploads input", str(other))
        assert "another file" in await page.call("text", ".state")
        assert await page.call("text", "#summary") == "1 unfinished"
        page.events.clear()
        await page.call("choose", "#uploads input", str(file))
        await until_state(page, "done")
        assert page.creations == 0
        assert is_same(await downloaded(page))
        assert proxy.bytes_up < 1.2 * SIZE
        await page.reload()
        assert await page.call("evaluate", "localStorage.length") == 0


async def test_the_file_of_an_unfinished_upload_may_be_chosen_with_others(page: Browser, tmp_path: Path) -> None:
    file, small = write(tmp_path / "data.bin"), write(tmp_path / "small.bin", 10)
    async with proxied(tmp_path / "store") as proxy:
        await open_page(page, proxy)
        await stall(proxy, page, file)
        await page.reload()
        release(proxy)
        await until_state(page, "found")
        page.events.clear()
        await page.call("choose", "#files", str(small), str(file))
        await until_state(page, "done", 2)
        assert page.creations == 1  # of the small file
        names = await page.call("evaluate", "[...document.querySelectorAll('.name')].map((each) => each.textContent)")
        assert names == ["data.bin", "small.bin"]
        assert is_same(await downloaded(page))


async def test_an_upload_goes_on_after_the_connection_broke(page: Browser, tmp_path: Path) -> None:
    async with proxied(tmp_path / "store") as proxy:
        await open_page(page, proxy)
        await stall(proxy, page, write(tmp_path / "data.bin"))
        release(proxy)
        await until_state(page, "done")
        assert page.creations == 1
        assert is_same(await downloaded(page))


async def test_a_file_that_changes_meanwhile_is_not_continued(page: Browser, tmp_path: Path) -> None:
    file = write(tmp_path / "data.bin")
    async with proxied(tmp_path / "store") as proxy:
        await open_page(page, proxy)
        await stall(proxy, page, file)
        write(file, SIZE + 1)
        release(proxy)
        await until_state(page, "failed")
        assert "could not be read" in await page.call("text", ".state")
        await page.call("click", "[data-action=skip]")


async def test_an_unfinished_upload_is_discarded(page: Browser, tmp_path: Path) -> None:
    async with proxied(tmp_path / "store") as proxy:
        await open_page(page, proxy)
        await stall(proxy, page, write(tmp_path / "data.bin"))
        url = await url_of(page)
        await page.reload()
        release(proxy)
        await until_state(page, "found")
        await page.call("click", "[data-action=discard]")
        await until_state(page, "found", 0)
        async with httpx.AsyncClient() as client:
            assert (await client.head(url, headers=TUS)).status_code == 404
        assert await page.call("evaluate", "localStorage.length") == 0


async def test_files_that_fail_are_named_with_the_reason_and_retried_or_skipped(page: Browser, tmp_path: Path) -> None:
    files = [write(tmp_path / f"{number}.bin", 2000) for number in range(2)]
    async with proxied(tmp_path / "store", max_size=1000) as proxy:
        await open_page(page, proxy)
        await page.call("choose", "#files", *map(str, files), str(write(tmp_path / "small.bin", 1000)))
        await until_state(page, "failed", 2)
        await until_state(page, "done")
        assert "at most 1000" in await page.call("text", "[data-state=failed] .state")
        page.events.clear()
        await page.call("click", "#retry-all")
        await page.until(lambda event: event["event"] == "response" and event["status"] == 413)
        await until_state(page, "failed", 2)
        await page.call("click", "[data-action=skip]")
        await until_state(page, "failed")
        await page.call("click", "[data-action=skip]")
        await until_state(page, "failed", 0)
        assert await page.call("text", "#summary") == "1 done"


async def test_the_page_shows_the_token_of_its_address(page: Browser, tmp_path: Path) -> None:
    file = write(tmp_path / "data.bin")
    async with proxied(tmp_path / "store", token="secret") as proxy:
        await open_page(page, proxy)
        await page.call("choose", "#files", str(file))
        await until_state(page, "failed")
        assert "at the address" in await page.call("text", ".state")
        await page.call("goto", "about:blank")
        await page.call("goto", f"{proxy.url()}/#secret")
        await page.call("choose", "#files", str(file))
        await until_state(page, "done")
        assert await page.call("evaluate", "location.hash") == ""
        url = await page.call("evaluate", "document.querySelector('li a').href")
        assert await page.call("evaluate", f"fetch('{url}').then((answer) => answer.status)") == 200
        async with httpx.AsyncClient() as client:
            assert (await client.get(url)).status_code == 401
            assert (await client.get(url, headers={"Authorization": "Bearer secret"})).status_code == 200
