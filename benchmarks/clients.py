"""The compared clients on memory and on local files, behind one interface.

The puts of all clients are atomic: a put with aiofiles or fsspec writes a temporary file and renames it, as the
stores do by themselves. Nothing is synced to the disk unless the run requires it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import trove_async
from benchmarks.client import Client

__all__ = ["AiofilesClient", "FsspecClient", "ObstoreClient", "OpendalClient", "TroveClient"]


class TroveClient(Client):
    """This library."""

    bucket = "bench"

    async def open(self) -> None:
        target = self.target
        dsn = "memory://" if target.backend == "memory" else f"local://{target.root}?fsync={int(target.fsync)}"
        self._trove = await trove_async.open(dsn)
        await self._trove.create_bucket(self.bucket, exist_ok=True)

    async def close(self) -> None:
        await self._trove.aclose()

    async def put(self, key: str, data: bytes) -> None:
        await self._trove.put(self.bucket, key, data)

    async def get(self, key: str) -> bytes:
        return await self._trove.read(self.bucket, key)

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        await self._trove.put(self.bucket, key, chunks)

    async def get_stream(self, key: str) -> int:
        total = 0
        async with self._trove.get(self.bucket, key) as reader:
            async for chunk in reader:
                total += len(chunk)
        return total

    async def list(self) -> int:
        total = 0
        async for item in self._trove.list(self.bucket):
            total += item.size >= 0
        return total


class ObstoreClient(Client):
    """obstore: the object_store crate, from Rust."""

    async def open(self) -> None:
        from obstore.store import LocalStore, MemoryStore

        self._store: Any = MemoryStore() if self.target.backend == "memory" else LocalStore(self.target.root)

    async def put(self, key: str, data: bytes) -> None:
        import obstore

        await obstore.put_async(self._store, key, data)

    async def get(self, key: str) -> bytes:
        import obstore

        answer = await obstore.get_async(self._store, key)
        return bytes(await answer.bytes_async())

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        import obstore

        await obstore.put_async(self._store, key, chunks)

    async def get_stream(self, key: str) -> int:
        import obstore

        answer = await obstore.get_async(self._store, key)
        total = 0
        async for chunk in answer.stream(min_chunk_size=1024 * 1024):
            total += len(chunk)
        return total

    async def list(self) -> int:
        import obstore

        total = 0
        async for chunk in obstore.list(self._store, chunk_size=1000):
            total += len([item["size"] for item in chunk])
        return total


class OpendalClient(Client):
    """opendal, from Rust; its local files are atomic with a directory for temporaries."""

    async def open(self) -> None:
        import opendal

        if self.target.backend == "memory":
            self._operator: Any = opendal.AsyncOperator("memory")
        else:
            data, temporary = self.target.root / "data", self.target.root / "tmp"
            self._operator = opendal.AsyncOperator("fs", root=str(data), atomic_write_dir=str(temporary))

    async def put(self, key: str, data: bytes) -> None:
        await self._operator.write(key, data)

    async def get(self, key: str) -> bytes:
        return bytes(await self._operator.read(key))

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        async with await self._operator.open(key, "wb") as file:
            async for chunk in chunks:
                await file.write(chunk)

    async def get_stream(self, key: str) -> int:
        total = 0
        async with await self._operator.open(key, "rb") as file:
            while chunk := await file.read(1024 * 1024):
                total += len(chunk)
        return total

    async def list(self) -> int:
        total = 0
        async for entry in await self._operator.scan(""):
            total += not entry.path.endswith("/")  # the directory itself is listed as well
        return total


class AiofilesClient(Client):
    """aiofiles, used as in a simple hand-written store."""

    _numbers = count()

    async def put(self, key: str, data: bytes) -> None:
        async def one() -> AsyncIterator[bytes]:
            yield data

        await self.put_stream(key, one())

    async def get(self, key: str) -> bytes:
        import aiofiles

        async with aiofiles.open(self.target.root / key, "rb") as file:
            return await file.read()

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        import aiofiles
        import aiofiles.os

        temporary = self.target.root / f".{next(self._numbers)}"
        async with aiofiles.open(temporary, "wb") as file:
            async for chunk in chunks:
                await file.write(chunk)
            if self.target.fsync:
                await file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
        await aiofiles.os.replace(temporary, self.target.root / key)

    async def get_stream(self, key: str) -> int:
        import aiofiles

        total = 0
        async with aiofiles.open(self.target.root / key, "rb") as file:
            while chunk := await file.read(1024 * 1024):
                total += len(chunk)
        return total

    async def list(self) -> int:
        def sizes() -> list[int]:
            return [entry.stat().st_size for entry in os.scandir(self.target.root)]

        return len(await asyncio.to_thread(sizes))


class FsspecClient(Client):
    """fsspec's file systems for memory and local files, which are synchronous: each call in a thread."""

    _numbers = count()

    async def open(self) -> None:
        import fsspec

        self._fs: Any = fsspec.filesystem("memory" if self.target.backend == "memory" else "file")
        self._base = "/bench" if self.target.backend == "memory" else str(self.target.root)
        self._fs.makedirs(self._base, exist_ok=True)

    async def put(self, key: str, data: bytes) -> None:
        def write() -> None:
            if self.target.backend == "memory":
                self._fs.pipe_file(f"{self._base}/{key}", data)
                return
            temporary = f"{self._base}/.{next(self._numbers)}"
            self._fs.pipe_file(temporary, data)
            os.replace(temporary, f"{self._base}/{key}")

        await asyncio.to_thread(write)

    async def get(self, key: str) -> bytes:
        return bytes(await asyncio.to_thread(self._fs.cat_file, f"{self._base}/{key}"))

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        path = f"{self._base}/{key}"
        file = await asyncio.to_thread(self._fs.open, path, "wb")
        try:
            async for chunk in chunks:
                await asyncio.to_thread(file.write, chunk)
        finally:
            await asyncio.to_thread(file.close)

    async def get_stream(self, key: str) -> int:
        total = 0
        file = await asyncio.to_thread(self._fs.open, f"{self._base}/{key}", "rb")
        try:
            while chunk := await asyncio.to_thread(file.read, 1024 * 1024):
                total += len(chunk)
        finally:
            await asyncio.to_thread(file.close)
        return total

    async def list(self) -> int:
        found = await asyncio.to_thread(self._fs.ls, self._base, detail=True)
        return len([item["size"] for item in found])
