"""The compared clients on Cloud Storage, under the same conditions, on the project's own server.

None sends a token. Each may open the same number of connections; streams are stored in parts or chunks of one size.
Checksums are those of each client's default: this library sends crc32c with every put and checks it on every read.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from benchmarks.client import CONNECTIONS, PART_CONCURRENCY, PART_SIZE, Account, Client
from benchmarks.clients import ObstoreClient
from benchmarks.remote import Remote, RemoteTroveClient

__all__ = ["GCS"]

_READ = 1024 * 1024


def _dsn(server: Any) -> str:
    return (
        f"gcs://{server.project}/?endpoint={server.open_endpoint}&anonymous=1"
        f"&connections={CONNECTIONS}&part_size={PART_SIZE}&part_concurrency={PART_CONCURRENCY}"
    )


def _account(client: Client) -> Account:
    account = client.target.account
    assert account is not None
    return account


class ObstoreGCSClient(ObstoreClient):
    """obstore: the object_store crate, from Rust. Its idle connections can be limited, not its open ones."""

    async def open(self) -> None:
        from obstore.store import GCSStore

        account = _account(self)
        key = {
            "gcs_base_url": account.server["open_endpoint"],
            "disable_oauth": True,
            "client_email": "",
            "private_key": "",
            "private_key_id": "",
        }
        self._store = GCSStore(
            account.bucket,
            service_account_key=json.dumps(key),
            client_options={"allow_http": True, "pool_max_idle_per_host": str(CONNECTIONS)},
        )

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        import obstore

        await obstore.put_async(self._store, key, chunks, chunk_size=PART_SIZE, max_concurrency=PART_CONCURRENCY)


class GcloudAioClient(Client):
    """gcloud-aio-storage, called directly. It can store only files as streams, and sends them in one request."""

    async def open(self) -> None:
        import aiohttp
        from gcloud.aio.storage import Storage

        account = _account(self)
        self._bucket = account.bucket
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS))
        session: Any = self._session
        self._storage: Any = Storage(session=session, api_root=account.server["open_endpoint"])

    async def close(self) -> None:
        await self._session.close()

    async def put(self, key: str, data: bytes) -> None:
        await self._storage.upload(self._bucket, key, data, force_resumable_upload=False)

    async def get(self, key: str) -> bytes:
        return bytes(await self._storage.download(self._bucket, key))

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        data = b"".join([chunk async for chunk in chunks])
        await self._storage.upload(self._bucket, key, data, timeout=600)

    async def get_stream(self, key: str) -> int:
        total = 0
        answer = await self._storage.download_stream(self._bucket, key, timeout=600)
        while chunk := await answer.read(_READ):
            total += len(chunk)
        return total

    async def list(self) -> int:
        total = 0
        params = {"pageToken": "", "maxResults": "1000"}
        while True:
            page = await self._storage.list_objects(self._bucket, params=params)
            total += len([item["size"] for item in page.get("items", ())])
            if not page.get("nextPageToken"):
                return total
            params["pageToken"] = page["nextPageToken"]


class GcsfsClient(Client):
    """gcsfs, called from the event loop; its files, which are synchronous, from a thread."""

    async def open(self) -> None:
        account = _account(self)
        self._name = account.bucket
        self._endpoint = account.server["open_endpoint"]
        self._fs = self._open(asynchronous=True, loop=asyncio.get_running_loop())
        await self._fs._set_session()

    def _open(self, **options: Any) -> Any:
        # The default first asks by gRPC what kind of bucket it is, which only Google's servers answer.
        from gcsfs.core import GCSFileSystem

        return GCSFileSystem(
            token="anon", endpoint_url=self._endpoint, skip_instance_cache=True, use_listings_cache=False, **options
        )

    async def close(self) -> None:
        await self._fs.session.close()

    async def put(self, key: str, data: bytes) -> None:
        await self._fs._pipe_file(f"{self._name}/{key}", data)

    async def get(self, key: str) -> bytes:
        return bytes(await self._fs._cat_file(f"{self._name}/{key}"))

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        fs = await asyncio.to_thread(self._open)
        file = await asyncio.to_thread(fs.open, f"{self._name}/{key}", "wb", block_size=PART_SIZE)
        try:
            async for chunk in chunks:
                await asyncio.to_thread(file.write, chunk)
        finally:
            await asyncio.to_thread(file.close)

    async def get_stream(self, key: str) -> int:
        total = 0
        fs = await asyncio.to_thread(self._open)
        file = await asyncio.to_thread(fs.open, f"{self._name}/{key}", "rb", block_size=PART_SIZE)
        try:
            while chunk := await asyncio.to_thread(file.read, _READ):
                total += len(chunk)
        finally:
            await asyncio.to_thread(file.close)
        return total

    async def list(self) -> int:
        found = await self._fs._find(self._name, detail=True)
        return len([item["size"] for item in found.values()])


GCS = Remote(
    server="gcs",
    dsn=_dsn,
    clients={
        "trove": RemoteTroveClient,
        "obstore": ObstoreGCSClient,
        "gcsfs": GcsfsClient,
        "gcloud-aio": GcloudAioClient,
    },
)
