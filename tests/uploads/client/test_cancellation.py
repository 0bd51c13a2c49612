"""Uploads that are cancelled wherever they wait: nothing is left open, and the upload is continued."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.uploads.client.serving import AT_ONCE
from tests.uploads.serving import app_process
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere
from trove_async.uploads import Client, RemoteUpload

pytestmark = pytest.mark.asyncio


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def downloaded(url: str) -> bytes:
    def read() -> bytes:
        with urlopen(url) as answer:
            return bytes(answer.read())

    return await asyncio.to_thread(read)


@pytest.mark.parametrize("parallel", [1, 2])
async def test_cancelled_everywhere(tmp_path: Path, data: bytes, parallel: int, await_point_step: int) -> None:
    """The server is another process: no task of it runs in this loop."""
    folder = tmp_path / "state"
    file = tmp_path / "file"
    file.write_bytes(data[:600_000])

    async with (
        app_process("uvicorn", "tests.uploads.web.apps:asgi_app", tmp_path / "log", arguments=[]) as server,
        Client(
            f"{server.url}/files/", fingerprints=folder, parallel=parallel, chunk_size=200_000, retries=AT_ONCE
        ) as client,
    ):
        await client.upload(file)
        opened = descriptors()

        async def prepare() -> None:
            for left in folder.glob("*"):
                left.unlink()

        async def check(outcome: Outcome[RemoteUpload]) -> None:
            assert not outcome.left_running
            assert descriptors() <= opened
            if not outcome.cancelled:
                return
            noted = [url for record in folder.glob("*.json") for url in json.loads(record.read_text())["urls"]]
            found = await client.upload(file)
            assert await downloaded(found.url) == data[:600_000]
            assert list(folder.glob("*")) == []
            if noted and parallel == 1:
                assert [found.url] == noted

        for delivery in Delivery:
            await cancel_everywhere(
                lambda: client.upload(file), delivery, prepare=prepare, check=check, step=await_point_step
            )
