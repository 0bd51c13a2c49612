"""The server works with another client, gcloud-aio."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from gcloud.aio.auth import Token
from gcloud.aio.storage import Storage, blob
from yarl import URL

from tests.gcs_server.conftest import Put
from trove_async.testing.gcs import GCSServer

SCOPES = ["https://www.googleapis.com/auth/devstorage.full_control"]


@pytest_asyncio.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
def token(server: GCSServer, session: aiohttp.ClientSession) -> Token:
    info = io.StringIO(json.dumps(server.service_account_info))
    return Token(info, session=session, scopes=SCOPES)  # type: ignore[arg-type]


@pytest.fixture
def storage(server: GCSServer, session: aiohttp.ClientSession, token: Token) -> Storage:
    return Storage(session=session, token=token, api_root=server.url)  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_a_token_for_the_service_account(server: GCSServer, token: Token, session: aiohttp.ClientSession) -> None:
    headers = {"Authorization": f"Bearer {await token.get()}"}
    async with session.get(f"{server.url}/storage/v1/b?project=p", headers=headers) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("resumable", [False, True])
@pytest.mark.asyncio
async def test_objects(server: GCSServer, storage: Storage, token: Token, bucket: str, resumable: bool) -> None:
    bearer = f"Bearer {await token.get()}"

    def headers() -> dict[str, str]:
        return {"Authorization": bearer}  # it writes into what it is given

    metadata = {"metadata": {"k": "v"}}
    made = await storage.upload(
        bucket, "dir/ü", b"content", metadata=metadata, headers=headers(), force_resumable_upload=resumable
    )
    assert made["size"] == "7"
    assert made["metadata"] == {"k": "v"}
    assert await storage.download(bucket, "dir/ü", headers=headers()) == b"content"
    listed: dict[str, Any] = await storage.list_objects(bucket, params={"prefix": "dir/"}, headers=headers())
    assert [item["name"] for item in listed["items"]] == ["dir/ü"]
    assert (await storage.copy(bucket, "dir/ü", bucket, new_name="copy", headers=headers()))["done"]
    await storage.compose(bucket, "both", ["dir/ü", "copy"], headers=headers())
    assert await storage.download(bucket, "both", headers=headers()) == b"contentcontent"
    await storage.delete(bucket, "copy", headers=headers())
    assert [item.name for item in server.objects(bucket)] == ["both", "dir/ü"]


@pytest.mark.asyncio
async def test_signed_urls(
    server: GCSServer, storage: Storage, token: Token, put: Put, session: aiohttp.ClientSession, monkeypatch: Any
) -> None:
    await put("dir/a b", b"content")
    host = server.url.removeprefix("http://")
    monkeypatch.setattr(blob, "HOST", host)
    bucket = storage.get_bucket("my-bucket")
    signed = blob.Blob(bucket, "dir/a b", {"size": "7"})
    url = await signed.get_signed_url(60, token=token, query_params={"response-content-type": "a/b"})
    async with session.get(URL(url.replace("https://", "http://"), encoded=True)) as answer:
        assert (answer.status, await answer.read()) == (200, b"content"), await answer.text()
        assert answer.headers["Content-Type"] == "a/b"
