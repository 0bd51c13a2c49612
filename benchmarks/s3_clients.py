"""The compared clients on S3, under the same conditions.

Each may open the same number of connections, signs the hash of every body, sends no checksum, uses path-style
addressing, and stores a stream in parts of the same size with the same concurrency.
"""

from __future__ import annotations

import asyncio
import hashlib
from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import trove_async
from benchmarks.client import CONNECTIONS, PART_CONCURRENCY, PART_SIZE, Bucket, Client
from benchmarks.clients import ObstoreClient, TroveClient
from benchmarks.s3_signing import EMPTY, signed_headers

__all__ = ["AiobotocoreClient", "AiohttpClient", "ObstoreS3Client", "S3fsClient", "TroveS3Client"]

_READ = 1024 * 1024


def _bucket(client: Client) -> Bucket:
    bucket = client.target.bucket
    assert bucket is not None
    return bucket


class TroveS3Client(TroveClient):
    """This library."""

    async def open(self) -> None:
        bucket = _bucket(self)
        self.bucket = bucket.name
        self._trove = await trove_async.open(
            f"s3://{bucket.access_key}:{bucket.secret_key}@{bucket.region}/",
            endpoint=bucket.endpoint,
            connections=CONNECTIONS,
            payload="signed",
            checksum="none",
            part_size=PART_SIZE,
            part_concurrency=PART_CONCURRENCY,
        )


class ObstoreS3Client(ObstoreClient):
    """obstore: the object_store crate, from Rust. Its idle connections can be limited, not its open ones."""

    async def open(self) -> None:
        from obstore.store import S3Store

        bucket = _bucket(self)
        self._store = S3Store(
            bucket.name,
            endpoint=bucket.endpoint,
            region=bucket.region,
            access_key_id=bucket.access_key,
            secret_access_key=bucket.secret_key,
            virtual_hosted_style_request=False,
            unsigned_payload=False,
            client_options={"allow_http": True, "pool_max_idle_per_host": str(CONNECTIONS)},
        )

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        import obstore

        await obstore.put_async(self._store, key, chunks, chunk_size=PART_SIZE, max_concurrency=PART_CONCURRENCY)


class _PartsClient(Client):
    """A library without a call that stores a stream: the benchmark divides it into parts."""

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        upload_id = await self.begin(key)
        etags: dict[int, str] = {}
        failures: list[Exception] = []
        free = asyncio.Semaphore(PART_CONCURRENCY)

        async def send(number: int, data: bytes) -> None:
            try:
                etags[number] = await self.send_part(key, upload_id, number, data)
            except Exception as error:  # noqa: BLE001 - raised below, when the others have ended
                failures.append(error)
            finally:
                free.release()

        async with asyncio.TaskGroup() as group:
            number = 0
            async for part in _cut(chunks):
                await free.acquire()
                if failures:
                    break
                number += 1
                group.create_task(send(number, part))
        if failures:
            raise failures[0]
        await self.complete(key, upload_id, dict(sorted(etags.items())))

    @abstractmethod
    async def begin(self, key: str) -> str:
        """Initiate an upload and return its id."""

    @abstractmethod
    async def send_part(self, key: str, upload_id: str, number: int, data: bytes) -> str:
        """Store a part and return its ETag, in quotes."""

    @abstractmethod
    async def complete(self, key: str, upload_id: str, etags: dict[int, str]) -> None:
        """Complete the upload with its parts."""


async def _cut(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    pieces: list[bytes] = []
    size = 0
    async for chunk in chunks:  # the chunk size divides the part size
        pieces.append(chunk)
        size += len(chunk)
        if size >= PART_SIZE:
            yield b"".join(pieces)
            pieces, size = [], 0
    if pieces:
        yield b"".join(pieces)


class AiobotocoreClient(_PartsClient):
    """aiobotocore, called directly."""

    async def open(self) -> None:
        from aiobotocore.config import AioConfig
        from aiobotocore.session import get_session

        bucket = _bucket(self)
        self._name = bucket.name
        self._stack = AsyncExitStack()
        self._client: Any = await self._stack.enter_async_context(
            get_session().create_client(
                "s3",
                region_name=bucket.region,
                endpoint_url=bucket.endpoint,
                aws_access_key_id=bucket.access_key,
                aws_secret_access_key=bucket.secret_key,
                config=AioConfig(max_pool_connections=CONNECTIONS, **botocore_options()),
            )
        )

    async def close(self) -> None:
        await self._stack.aclose()

    async def put(self, key: str, data: bytes) -> None:
        await self._client.put_object(Bucket=self._name, Key=key, Body=data)

    async def get(self, key: str) -> bytes:
        answer = await self._client.get_object(Bucket=self._name, Key=key)
        async with answer["Body"] as body:
            return bytes(await body.read())

    async def begin(self, key: str) -> str:
        answer = await self._client.create_multipart_upload(Bucket=self._name, Key=key)
        return str(answer["UploadId"])

    async def send_part(self, key: str, upload_id: str, number: int, data: bytes) -> str:
        answer = await self._client.upload_part(
            Bucket=self._name, Key=key, UploadId=upload_id, PartNumber=number, Body=data
        )
        return str(answer["ETag"])

    async def complete(self, key: str, upload_id: str, etags: dict[int, str]) -> None:
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in etags.items()]
        await self._client.complete_multipart_upload(
            Bucket=self._name, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
        )

    async def get_stream(self, key: str) -> int:
        total = 0
        answer = await self._client.get_object(Bucket=self._name, Key=key)
        async with answer["Body"] as body:
            async for chunk in body.iter_chunks(_READ):
                total += len(chunk)
        return total

    async def list(self) -> int:
        total = 0
        async for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name):
            total += len([item["Size"] for item in page.get("Contents", ())])
        return total


def botocore_options() -> dict[str, Any]:
    """Return the settings with which aiobotocore and s3fs send the same requests as the others."""
    return {
        "s3": {"addressing_style": "path", "payload_signing_enabled": True},
        "signature_version": "s3v4",
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }


class S3fsClient(Client):
    """s3fs, called from the event loop; its files, which are synchronous, from a thread."""

    async def open(self) -> None:
        bucket = _bucket(self)
        self._name = bucket.name
        self._fs = self._open(asynchronous=True, loop=asyncio.get_running_loop())
        self._session = await self._fs.set_session()

    def _open(self, **more: Any) -> Any:
        import s3fs

        bucket = _bucket(self)
        return s3fs.S3FileSystem(
            key=bucket.access_key,
            secret=bucket.secret_key,
            endpoint_url=bucket.endpoint,
            client_kwargs={"region_name": bucket.region},
            config_kwargs={"max_pool_connections": CONNECTIONS, **botocore_options()},
            default_block_size=PART_SIZE,
            max_concurrency=PART_CONCURRENCY,
            skip_instance_cache=True,
            **more,
        )

    async def close(self) -> None:
        await self._session.close()

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
        file = await self._fs.open_async(f"{self._name}/{key}", "rb")
        try:
            while chunk := await file.read(_READ):
                total += len(chunk)
        finally:
            await file.close()
        return total

    async def list(self) -> int:
        found = await self._fs._ls(self._name, detail=True)
        return len([item["size"] for item in found])


class AiohttpClient(_PartsClient):
    """aiohttp, with the signature of `benchmarks.s3_signing`."""

    async def open(self) -> None:
        import aiohttp

        bucket = self._bucket = _bucket(self)
        self._session: Any = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS), cookie_jar=aiohttp.DummyCookieJar()
        )
        self._base = f"/{bucket.name}"

    async def close(self) -> None:
        await self._session.close()

    def send(self, method: str, path: str, query: str = "", data: bytes = b"", **headers: str) -> Any:
        """Start a request; entering the returned context manager yields the response."""
        from yarl import URL

        payload = hashlib.sha256(data).hexdigest() if data else EMPTY
        headers |= signed_headers(self._bucket, method, path, query, payload)
        url = URL(f"{self._bucket.endpoint}{path}?{query}" if query else f"{self._bucket.endpoint}{path}", encoded=True)
        return self._session.request(method, url, data=data or None, headers=headers, raise_for_status=True)

    async def fetch(self, method: str, path: str, query: str = "", data: bytes = b"", **headers: str) -> bytes:
        """Send a request and return the body of the answer."""
        async with self.send(method, path, query, data, **headers) as answer:
            return bytes(await answer.read())

    async def put(self, key: str, data: bytes) -> None:
        await self.fetch("PUT", f"{self._base}/{key}", data=data)

    async def get(self, key: str) -> bytes:
        return await self.fetch("GET", f"{self._base}/{key}")

    async def begin(self, key: str) -> str:
        answer = ElementTree.fromstring(await self.fetch("POST", f"{self._base}/{key}", "uploads="))
        return str(answer.findtext("{*}UploadId"))

    async def send_part(self, key: str, upload_id: str, number: int, data: bytes) -> str:
        query = f"partNumber={number}&uploadId={quote(upload_id, safe='')}"
        async with self.send("PUT", f"{self._base}/{key}", query, data) as answer:
            return str(answer.headers["ETag"])

    async def complete(self, key: str, upload_id: str, etags: dict[int, str]) -> None:
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in etags.items()
        )
        document = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        answer = await self.fetch("POST", f"{self._base}/{key}", f"uploadId={quote(upload_id, safe='')}", document)
        if b"<Error" in answer:
            raise ValueError(answer[:500])

    async def put_in_one(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        """Store a stream with one request, on a server that ignores signatures."""
        url = f"{self._bucket.endpoint}{self._base}/{key}"
        async with self._session.put(url, data=chunks, raise_for_status=True):
            pass

    async def get_stream(self, key: str) -> int:
        total = 0
        async with self.send("GET", f"{self._base}/{key}") as answer:
            async for chunk in answer.content.iter_chunked(_READ):
                total += len(chunk)
        return total

    async def list(self) -> int:
        return len([size async for _, size in self.entries()])

    async def entries(self) -> AsyncIterator[tuple[str, int]]:
        """Yield key and size of every object."""
        token = ""
        while True:
            query = f"continuation-token={quote(token, safe='')}&list-type=2" if token else "list-type=2"
            page = ElementTree.fromstring(await self.fetch("GET", self._base, query))
            for entry in page.iterfind("{*}Contents"):
                yield entry.findtext("{*}Key") or "", int(entry.findtext("{*}Size") or 0)
            token = page.findtext("{*}NextContinuationToken") or ""
            if not token:
                return
