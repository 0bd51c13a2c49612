"""An ASGI server for one request, for cases that no client can produce."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

from trove_async.web import ASGIApp

BASE = "http://files.test/signed"
DATA = bytes(range(100))


def scope_of(method: str, url: str, headers: dict[str, str]) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "type": "http",
        "method": method,
        "path": unquote(parts.path),
        "query_string": parts.query.encode(),
        "headers": [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()],
    }


class Sent:
    """The server's side of one request: the request body that it supplies, and the messages that it received.

    A None in the body is a client that disconnects; so is a client after ``gone_after`` pieces of the answer.
    """

    def __init__(self, body: list[bytes | None] | None = None, gone_after: int | None = None) -> None:
        self.messages: list[Any] = []
        self._body = body or [b""]
        self._gone_after = gone_after
        self._gone = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        if self._body:
            chunk = self._body.pop(0)
            if chunk is None:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": chunk, "more_body": bool(self._body)}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.messages.append(message)
        if len(self.messages) == self._gone_after:
            self._gone.set()

    def leave(self) -> None:
        """Let the client disconnect."""
        self._gone.set()

    @property
    def status(self) -> int:
        status: int = self.messages[0]["status"]
        return status

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])

    @property
    def whole(self) -> bool:
        """Whether the answer is complete."""
        return not self.messages[-1].get("more_body", False)

    def header(self, name: str) -> str | None:
        return next((value.decode() for found, value in self.messages[0]["headers"] if found.decode() == name), None)

    def json(self) -> Any:
        return httpx.Response(200, content=self.body).json()


async def call(
    app: ASGIApp,
    method: str,
    url: str,
    headers: dict[str, str] | None = None,
    body: list[bytes | None] | None = None,
) -> Sent:
    sent = Sent(body)
    await app(scope_of(method, url, headers or {}), sent.receive, sent.send)
    return sent
