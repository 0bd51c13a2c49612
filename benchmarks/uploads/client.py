"""A client of tus 1.0 on plain sockets: what it does for a request is the same for every server, and little."""

from __future__ import annotations

import asyncio
import socket
from base64 import b64encode
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

__all__ = ["Connection", "Response", "ResponseError", "create", "offset_of", "patch_head"]

_HOST: Final = "127.0.0.1"
_READ: Final = 64 * 1024


class ResponseError(Exception):
    """A server answered otherwise than the protocol says."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer of a server; names of headers are in lower case."""

    status: int
    headers: dict[str, str]

    def expect(self, *statuses: int) -> Self:
        """Return the answer if it has one of these statuses.

        Raises:
            ResponseError: it has another.
        """
        if self.status not in statuses:
            raise ResponseError(f"the answer is {self.status}, not {' or '.join(map(str, statuses))}")
        return self


class Connection:
    """A connection to a server of this machine, opened by ``async with``, and again after the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._received = b""

    async def __aenter__(self) -> Self:
        await self._connected()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._received = b""

    async def request(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | memoryview = b""
    ) -> Response:
        """Send a request and return the answer."""
        length = {"Content-Length": str(len(body))} if method in ("POST", "PATCH") else {}
        await self.send(head_of(method, path, {**(headers or {}), **length}))
        if body:
            await self.send(body)
        return await self.response(has_body=method != "HEAD")

    async def send(self, data: bytes | memoryview) -> None:
        """Send bytes."""
        await asyncio.get_running_loop().sock_sendall(await self._connected(), data)

    async def response(self, *, has_body: bool = True) -> Response:
        """Wait for the final answer, and drop its body."""
        status, headers = await self._head()
        while status < 200:
            status, headers = await self._head()
        if has_body and status not in (204, 304):
            if headers.get("transfer-encoding") == "chunked":
                await self._until(b"0\r\n\r\n")
            else:
                await self._take(int(headers.get("content-length", "0")))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Response(status, headers)

    async def _head(self) -> tuple[int, dict[str, str]]:
        first, *lines = (await self._until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in lines)
        return int(first.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in fields}

    async def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(self._socket, (_HOST, self._port))
        return self._socket

    async def _until(self, end: bytes) -> bytes:
        while (at := self._received.find(end)) < 0:
            await self._more()
        found, self._received = self._received[:at], self._received[at + len(end) :]
        return found

    async def _take(self, size: int) -> None:
        while len(self._received) < size:
            await self._more()
        self._received = self._received[size:]

    async def _more(self) -> None:
        data = await asyncio.get_running_loop().sock_recv(await self._connected(), _READ)
        if not data:
            self.close()
            raise ConnectionResetError("the server has closed the connection without an answer")
        self._received += data


def head_of(method: str, path: str, headers: dict[str, str]) -> bytes:
    """Return the head of a request."""
    fields = {"Host": _HOST, "Tus-Resumable": "1.0.0", **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")


async def create(connection: Connection, path: str, number: int, size: int) -> str:
    """Create an upload and return its path."""
    # aiohttp-tus stores an upload under its filename; tuspyserver answers no HEAD without a filetype.
    metadata = {"filename": f"upload-{number}", "filetype": "application/octet-stream"}
    pairs = ",".join(f"{name} {b64encode(value.encode()).decode()}" for name, value in metadata.items())
    headers = {"Upload-Length": str(size), "Upload-Metadata": pairs}
    response = (await connection.request("POST", path, headers)).expect(201)
    return urlsplit(response.headers["location"]).path


async def offset_of(connection: Connection, path: str) -> int:
    """Return the offset of an upload."""
    return int((await connection.request("HEAD", path)).expect(200, 204).headers["upload-offset"])


def patch_head(offset: int) -> dict[str, str]:
    """Return the headers of a PATCH at an offset."""
    return {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
