"""Functions for ASGI apps and responses (ASGI 3, https://asgi.readthedocs.io/en/stable/specs/www.html)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from trove_async.web.http import join_headers
from trove_async.web.objects import Answer
from trove_async.web.streaming import transmit

__all__ = [
    "ASGIApp",
    "ClientGoneError",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "body_of",
    "headers_of",
    "raise_when_gone",
    "respond",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An ASGI 3 application."""


class ClientGoneError(Exception):
    """The client disconnected before its request was answered."""


def headers_of(scope: Scope) -> dict[str, str]:
    """Return a request's headers."""
    return join_headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])


async def body_of(receive: Receive) -> AsyncIterator[bytes]:
    """Yield a request's body as it arrives; the server reads from the client no faster than this is iterated.

    Raises:
        ClientGoneError: the client disconnected before the body was complete.
    """
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        if chunk := message.get("body", b""):
            yield chunk
        more = message.get("more_body", False)


async def respond(
    answer: Answer,
    method: str,
    receive: Receive,
    send: Send,
    *,
    before_end: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Send an answer. Its body is closed when this returns or raises, also if the client disconnects meanwhile.

    Args:
        answer: what to send.
        method: of the request.
        receive, send: of the request.
        before_end: called when a body that is no stream was given to the server, before that is told that the answer
            is complete: then the server would let nothing more of the request through.

    Raises:
        TroveError: the body failed. The server then closes the connection, so the client sees an incomplete answer.
    """
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    start = {"type": "http.response.start", "status": answer.status, "headers": headers}
    if isinstance(answer.body, bytes):
        whole_body = b"" if method == "HEAD" else answer.body
        await send(start)
        if before_end is not None:
            await send({"type": "http.response.body", "body": whole_body, "more_body": True})
            await before_end()
            whole_body = b""
        await send({"type": "http.response.body", "body": whole_body})
        return

    async def write(chunk: bytes) -> None:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})

    async with answer.body as body:
        await send(start)
        whole = await transmit(aiter(body), write, _gone(receive))
    if whole:
        await send({"type": "http.response.body", "body": b""})


async def raise_when_gone(receive: Receive) -> None:
    """Wait until the client has disconnected, after its body was read.

    Raises:
        ClientGoneError: it has.
    """
    await _gone(receive)
    raise ClientGoneError


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
