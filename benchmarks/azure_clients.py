"""The compared clients on Azure Blob Storage, under the same conditions, on Microsoft's emulator.

Each signs with the account's key, may open the same number of connections, and stores streams in blocks of the same
size with the same concurrency, without checksums.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from benchmarks.client import CONNECTIONS, PART_CONCURRENCY, PART_SIZE, Account, Client
from benchmarks.clients import ObstoreClient
from benchmarks.remote import Remote, RemoteTroveClient

__all__ = ["AZURE"]


def _dsn(server: Any) -> str:
    return (
        f"azure://{server.account}:{quote(server.account_key, safe='')}@?endpoint={server.blob_endpoint}"
        f"&connections={CONNECTIONS}&part_size={PART_SIZE}&part_concurrency={PART_CONCURRENCY}&checksum=none"
    )


def _account(client: Client) -> Account:
    account = client.target.account
    assert account is not None
    return account


class ObstoreAzureClient(ObstoreClient):
    """obstore: the object_store crate, from Rust. Its idle connections can be limited, not its open ones."""

    async def open(self) -> None:
        from obstore.store import AzureStore

        account = _account(self)
        self._store = AzureStore(
            account.bucket,
            account_name=account.server["account"],
            account_key=account.server["account_key"],
            endpoint=account.server["blob_endpoint"],
            client_options={"allow_http": True, "pool_max_idle_per_host": str(CONNECTIONS)},
        )

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        import obstore

        await obstore.put_async(self._store, key, chunks, chunk_size=PART_SIZE, max_concurrency=PART_CONCURRENCY)


class AzureSDKClient(Client):
    """azure-storage-blob, called directly."""

    async def open(self) -> None:
        import aiohttp
        from azure.core.pipeline.transport import AioHttpTransport
        from azure.storage.blob.aio import ContainerClient

        account = _account(self)
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS), auto_decompress=False)
        self._container: Any = ContainerClient(
            account.server["blob_endpoint"],
            account.bucket,
            credential=account.server["account_key"],
            transport=AioHttpTransport(session=session),
            max_block_size=PART_SIZE,
            max_single_put_size=PART_SIZE,
        )

    async def close(self) -> None:
        await self._container.close()

    async def put(self, key: str, data: bytes) -> None:
        await self._container.upload_blob(key, data, overwrite=True)

    async def get(self, key: str) -> bytes:
        downloader = await self._container.download_blob(key)
        data: bytes = await downloader.readall()
        return data

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        await self._container.upload_blob(key, chunks, overwrite=True, max_concurrency=PART_CONCURRENCY)

    async def get_stream(self, key: str) -> int:
        size = 0
        downloader = await self._container.download_blob(key, max_concurrency=PART_CONCURRENCY)
        async for chunk in downloader.chunks():
            size += len(chunk)
        return size

    async def list(self) -> int:
        return sum([blob.size async for blob in self._container.list_blobs()])


class AdlfsClient(Client):
    """adlfs: fsspec's file system for Azure, on the SDK."""

    async def open(self) -> None:
        from adlfs import AzureBlobFileSystem

        account = _account(self)
        self._bucket = account.bucket
        server = account.server
        self._files: Any = AzureBlobFileSystem(
            connection_string=server["connection_string"],
            asynchronous=True,
            loop=asyncio.get_running_loop(),
            blocksize=PART_SIZE,
            skip_instance_cache=True,
        )

    async def close(self) -> None:
        await self._files.service_client.close()
        # Its finalizer at the end of the process needs a loop that has ended by then.
        for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
            found = finalizer.peek()
            if found is not None and found[0] is self._files:
                finalizer.detach()

    async def put(self, key: str, data: bytes) -> None:
        await self._files._pipe_file(f"{self._bucket}/{key}", data)

    async def get(self, key: str) -> bytes:
        data: bytes = await self._files._cat_file(f"{self._bucket}/{key}")
        return data

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        async with self._files.service_client.get_blob_client(self._bucket, key) as blob:
            # Its files are written in its own threads; this is the call below them.
            await blob.upload_blob(chunks, overwrite=True, max_concurrency=PART_CONCURRENCY)

    async def get_stream(self, key: str) -> int:
        # It has no files for asynchronous reads, but ranges.
        path = f"{self._bucket}/{key}"
        end = (await self._files._info(path))["size"]
        size = 0
        for start in range(0, end, PART_SIZE):
            size += len(await self._files._cat_file(path, start, min(start + PART_SIZE, end)))
        return size

    async def list(self) -> int:
        found = await self._files._find(self._bucket, detail=True)
        return sum(entry["size"] or 0 for entry in found.values())


AZURE = Remote(
    server="azurite",
    dsn=_dsn,
    clients={
        "trove": RemoteTroveClient,
        "obstore": ObstoreAzureClient,
        "adlfs": AdlfsClient,
        "azure-sdk": AzureSDKClient,
    },
)
"""Azure Blob Storage, on Azurite."""
