"""Uploads to @tus/server, the reference server in Node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

import trove_async as trove
from tests.servers import running
from tests.uploads.client.serving import AT_ONCE, HOST
from trove_async.testing.answers import Answer, AnsweringProxy
from trove_async.testing.proxy import ConnectionFault, FaultProxy
from trove_async.uploads import Client

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def proxy() -> AsyncIterator[AnsweringProxy]:
    async with AnsweringProxy(HOST, urlsplit(running("tus_node").endpoint).port or 0) as proxy:
        yield proxy


def client_of(proxy: AnsweringProxy | FaultProxy, folder: Path | None = None, chunk_size: int | None = None) -> Client:
    url = f"{proxy.url()}/files"
    return Client(url, fingerprints=folder, retries=AT_ONCE, proxy="none", chunk_size=chunk_size)


async def test_uploads_of_every_kind(proxy: AnsweringProxy, file: Path, data: bytes) -> None:
    async def generated() -> AsyncIterator[bytes]:
        yield data[:700_000]
        yield data[700_000:]

    async with client_of(proxy, chunk_size=500_000) as client:
        for source, size in ((file, len(data)), (b"", 0), (b"x" * 1000, 1000), (generated(), len(data))):
            found = await client.upload(source, metadata={"owner": "me"})
            info = await client.info(found.url)
            assert (info.offset, info.size, info.is_finished) == (size, size, True)
            assert info.metadata.text("owner") == "me"
            await client.terminate(found.url)
            with pytest.raises(trove.UploadNotFoundError):
                await client.info(found.url)


async def test_a_broken_connection_is_continued(proxy: AnsweringProxy, file: Path, data: bytes) -> None:
    async with FaultProxy(HOST, proxy.port, plan=[ConnectionFault(reset_up_after=700_000)]) as network:
        async with client_of(network) as client:
            found = await client.upload(file)
            info = await client.info(found.url)
        assert [strike.kind for strike in network.strikes] == ["reset"]
    assert info.is_finished
    assert proxy.count("POST") == 1


async def test_another_client_continues(proxy: AnsweringProxy, file: Path, data: bytes, tmp_path: Path) -> None:
    proxy.answer(Answer(403), method="PATCH", skip=1)
    async with client_of(proxy, tmp_path / "state", chunk_size=500_000) as client:
        with pytest.raises(trove.AccessDeniedError):
            await client.upload(file)
        found = await client.upload(file)
    assert found.resumed_at == 500_000
    assert proxy.count("POST") == 1
    assert sum(request.body_size for request in proxy.requests if request.status == 204) == len(data)


async def test_a_lost_last_answer(proxy: AnsweringProxy, file: Path, data: bytes) -> None:
    proxy.answer(Answer(502), method="PATCH", when="after")
    async with client_of(proxy) as client:
        found = await client.upload(file)
    assert (found.is_finished, found.offset) == (True, len(data))
    assert [request.body_size for request in proxy.requests if request.method == "PATCH"] == [len(data), 0]
