"""The servers of these tests: each reads a body, survives being killed, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.process import ProcessId, descendants
from tests.uploads.counting import aiohttp_app, greeting_app
from tests.uploads.processes import ServerProcess
from tests.uploads.serving import IN_LOOP, SERVERS, ServerName, app_process, serving

pytestmark = pytest.mark.asyncio

BODY = bytes(300_000)


async def post(url: str) -> Any:
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{url}/files/", content=BODY)
        assert answer.status_code == 200
        return answer.json()


@pytest.mark.parametrize("server", IN_LOOP)
async def test_an_app_is_served_in_the_loop_of_the_test(server: ServerName) -> None:
    app = aiohttp_app("hello") if server == "aiohttp" else greeting_app("hello")
    tasks = len(asyncio.all_tasks())
    async with serving(server, app) as port:
        answer = await post(f"http://127.0.0.1:{port}")
    assert (answer["size"], answer["greeting"]) == (len(BODY), "hello")
    assert len(asyncio.all_tasks()) == tasks


@pytest.mark.parametrize("server", SERVERS)
async def test_a_server_that_is_killed_starts_again_on_its_port(server: ServerName, tmp_path: Path) -> None:
    app = "aiohttp_app" if server == "aiohttp" else "greeting_app"
    process = app_process(server, f"tests.uploads.counting:{app}", tmp_path / "log", arguments=["hello"])
    async with process:
        first = await post(process.url)
        await process.kill()
        with pytest.raises(httpx.ConnectError):
            await post(process.url)
        await process.start()
        second = await post(process.url)
        processes = [ProcessId.of(process.pid), *descendants(process.pid)]
    assert first["size"] == second["size"] == len(BODY)
    assert second["greeting"] == "hello"
    assert first["pid"] != second["pid"]
    assert second["pid"] in [one.pid for one in processes]
    assert not any(one.alive for one in processes)


async def test_a_server_that_ends_at_its_start_shows_its_log(tmp_path: Path) -> None:
    server = ServerProcess(lambda port: [sys.executable, "-c", "exit('no such store')"], tmp_path / "log")
    with pytest.raises(RuntimeError, match=r"(?s)exit code 1.*no such store"):
        async with server:
            pass
    assert server.log.read_text(encoding="utf-8") == "no such store\n"
