"""Requests byte by byte over a socket, and their answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from tests.web.serving import SECONDS

__all__ = ["BYTES", "TUS", "Peer", "Said", "peer"]

TUS: Final[Mapping[str, str]] = {"Tus-Resumable": "1.0.0"}
BYTES: Final[Mapping[str, str]] = {**TUS, "Content-Type": "application/offset+octet-stream"}


@dataclass
class Said:
    """An answer; the names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    interim: list[Said] = field(default_factory=list)


class Peer:
    """A client on one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> None:
        """Send a request; with a body that has its length, unless the headers say otherwise."""
        said = {"Host": "example.com", **(headers or {})}
        names = {name.lower() for name in said}
        if body is not None and not names & {"content-length", "transfer-encoding"}:
            said["Content-Length"] = str(len(body))
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in said.items()), "", ""]
        await self.send_bytes("\r\n".join(lines).encode("latin-1") + (body or b""))

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *, of_head: bool = False) -> Said:
        """Return the next answer, with the interim answers before it."""
        interim: list[Said] = []
        async with asyncio.timeout(SECONDS):
            while True:
                said = await self.head()
                if said.status >= 200:
                    break
                interim.append(said)
            said.interim = interim
            if not of_head:
                said.body = await self.reader.readexactly(int(said.headers.get("content-length", "0")))
        return said

    async def head(self) -> Said:
        """Return the next answer, interim ones too, without its body."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        pairs = (line.partition(": ") for line in lines[1:])
        return Said(int(lines[0].split(" ")[1]), {name.lower(): value for name, _, value in pairs})

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Said:
        """Send a request and return its answer."""
        await self.send(method, path, headers, body)
        return await self.answer(of_head=method == "HEAD")

    async def create(self, size: int, **headers: str) -> str:
        """Create an upload and return its path."""
        said = await self.ask("POST", "/files/", {**TUS, "Upload-Length": str(size), **headers}, b"")
        assert said.status == 201, said
        return said.headers["location"]

    async def offset(self, path: str) -> int:
        """Return the offset of an upload."""
        return int((await self.ask("HEAD", path, TUS)).headers["upload-offset"])

    async def until_offset(self, path: str, offset: int) -> None:
        """Wait until an upload has this offset."""
        async with asyncio.timeout(SECONDS):
            while await self.offset(path) != offset:  # noqa: ASYNC110 - another process has no event
                await asyncio.sleep(0.005)

    async def rest(self) -> bytes:
        """Wait until the server closes the connection, and return what it sends before."""
        async with asyncio.timeout(SECONDS):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


@asynccontextmanager
async def peer(port: int) -> AsyncIterator[Peer]:
    """Connect to a server; the connection is reset at the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.transport.abort()
