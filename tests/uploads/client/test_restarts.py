"""A server that is killed in the middle of an upload, and started again."""

from __future__ import annotations

import asyncio
import hashlib
import math
from pathlib import Path
from random import Random
from urllib.request import urlopen

import pytest

from tests.uploads.client.serving import HOST
from tests.uploads.serving import tus_server_process
from trove_async.driver.retry import Backoff, Budget, RetryPolicy
from trove_async.testing.answers import AnsweringProxy
from trove_async.testing.proxy import ConnectionFault, FaultProxy
from trove_async.uploads import Client

pytestmark = pytest.mark.asyncio

SIZE = 12_000_000
CUT = 7_000_000

PATIENT = RetryPolicy(
    attempts=1000, transport=Backoff(0.01, 0.05), throttled=Backoff(0.01, 0.05), budget=Budget(math.inf)
)


def digest_at(url: str) -> str:
    with urlopen(url) as answer:
        return hashlib.sha256(answer.read()).hexdigest()


async def test_the_client_waits_for_the_server_and_continues(tmp_path: Path, protocol: str) -> None:
    data = Random(5).randbytes(SIZE)
    file = tmp_path / "file"
    file.write_bytes(data)
    root = tmp_path / "store"
    root.mkdir()
    seen: list[int] = []
    async with (
        tus_server_process("uvicorn", f"local://{root}", tmp_path / "log") as server,
        FaultProxy(HOST, server.port) as network,
        AnsweringProxy(HOST, network.port) as proxy,
        Client(
            f"{proxy.url()}/files/",
            protocol=protocol,  # type: ignore[arg-type]
            fingerprints=None,
            retries=PATIENT,
            proxy="none",
        ) as client,
    ):
        network.inject(ConnectionFault(stall_up_after=CUT))
        upload = asyncio.create_task(client.upload(file, on_progress=lambda done, size: seen.append(done)))
        await network.until(lambda network: any(strike.kind == "stall" for strike in network.strikes))
        await server.kill()
        network.break_open("reset")
        await server.start()
        found = await upload
        assert await asyncio.to_thread(digest_at, found.url) == hashlib.sha256(data).hexdigest()
        assert proxy.count("POST") == 1
        assert seen == sorted(seen)
        last = [request for request in proxy.requests if request.method == "PATCH"][-1]
        assert int(last.header("upload-offset") or 0) + last.body_size == SIZE
