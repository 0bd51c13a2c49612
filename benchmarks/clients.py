"""The clients that are compared, each behind the same few calls.

What one of them can do atomically the others do too: a put through aiofiles or fsspec writes a temporary and renames
it, as every store here does by itself. Nothing is synced to the disk unless the run says so.
"""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path
from typing import Any

import trove_async

__all__ = ["BACKENDS", "PEERS", "Client", "make_client"]

BACKENDS = ("memory", "local")
PEERS = ("obstore", "opendal", "aiofiles", "fsspec")


class Client(ABC):
    """One library on one backend."""

    def __init__(self, backend: str, root: Path, fsync: bool) -> None:
        self.backend = backend
        self.root = root
        self.fsync = fsync

    async def open(self) -> None:
        """Get ready."""

    async def close(self) -> None:
        """Let go."""

    @abstractmethod
    async def put(self, key: str, data: bytes) -> None:
        """Store an object, atomically."""

    @abstractmethod
    async def get(self, key: str) -> bytes:
        """Read an object."""

    @abstractmethod
    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        """Store an object that comes in chunks."""

    @abstractmethod
    async def get_stream(self, key: str) -> int:
        """Read an object in chunks; return how many bytes they had."""

    @abstractmethod
    async def list(self) -> int:
        """List everything, with sizes; return how many objects there are."""


class TroveClient(Client):
    """This library."""

    async def open(self) -> None:
        dsn = "memory://" if self.backend == "memory" else f"local://{self.root}?fsync={int(self.fsync)}"
        self._trove = await trove_async.open(dsn)
        await self._trove.create_bucket("bench", exist_ok=True)

    async def close(self) -> None:
        await self._trove.aclose()

    async def put(self, key: str, data: bytes) -> None:
        await self._trove.put("bench", key, data)

    async def get(self, key: str) -> bytes:
        return await self._trove.read("bench", key)

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        await self._trove.put("bench", key, chunks)

    async def get_stream(self, key: str) -> int:
        total = 0
        async with self._trove.get("bench", key) as reader:
            async for chunk in reader:
                total += len(chunk)
        return total

    async def list(self) -> int:
        total = 0
        async for item in self._trove.list("bench"):
            total += item.size >= 0
        return total


class ObstoreClient(Client):
    """obstore: the object_store crate, from Rust."""

    async def open(self) -> None:
        from obstore.store import LocalStore, MemoryStore

        self._store: Any = MemoryStore() if self.backend == "memory" else LocalStore(self.root)

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

        if self.backend == "memory":
            self._operator: Any = opendal.AsyncOperator("memory")
        else:
            data, temporary = self.root / "data", self.root / "tmp"
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
    """aiofiles, as one writes a store with it by hand."""

    _numbers = count()

    async def put(self, key: str, data: bytes) -> None:
        async def one() -> AsyncIterator[bytes]:
            yield data

        await self.put_stream(key, one())

    async def get(self, key: str) -> bytes:
        import aiofiles

        async with aiofiles.open(self.root / key, "rb") as file:
            return await file.read()

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        import aiofiles
        import aiofiles.os

        temporary = self.root / f".{next(self._numbers)}"
        async with aiofiles.open(temporary, "wb") as file:
            async for chunk in chunks:
                await file.write(chunk)
            if self.fsync:
                await file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
        await aiofiles.os.replace(temporary, self.root / key)

    async def get_stream(self, key: str) -> int:
        import aiofiles

        total = 0
        async with aiofiles.open(self.root / key, "rb") as file:
            while chunk := await file.read(1024 * 1024):
                total += len(chunk)
        return total

    async def list(self) -> int:
        def sizes() -> list[int]:
            return [entry.stat().st_size for entry in os.scandir(self.root)]

        return len(await asyncio.to_thread(sizes))


class FsspecClient(Client):
    """fsspec's file systems for memory and local files, which are synchronous: each call in a thread."""

    _numbers = count()

    async def open(self) -> None:
        import fsspec

        self._fs: Any = fsspec.filesystem("memory" if self.backend == "memory" else "file")
        self._base = "/bench" if self.backend == "memory" else str(self.root)
        self._fs.makedirs(self._base, exist_ok=True)

    async def put(self, key: str, data: bytes) -> None:
        def write() -> None:
            if self.backend == "memory":
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


_CLIENTS: dict[str, Callable[[str, Path, bool], Client]] = {
    "trove": TroveClient,
    "obstore": ObstoreClient,
    "opendal": OpendalClient,
    "aiofiles": AiofilesClient,
    "fsspec": FsspecClient,
}


def make_client(name: str, backend: str, root: Path, fsync: bool) -> Client | None:
    """Return a client, or None where it has no such backend or cannot sync to the disk."""
    if (name == "aiofiles" and backend == "memory") or (fsync and name not in ("trove", "aiofiles")):
        return None
    return _CLIENTS[name](backend, root, fsync)
