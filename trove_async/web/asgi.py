"""The ASGI app that serves signed URLs (ASGI 3, https://asgi.readthedocs.io/en/stable/specs/www.html)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, Final
from urllib.parse import quote

from trove_async.errors import AccessDeniedError, InvalidArgumentError, TroveError, UnsupportedError
from trove_async.reader import ObjectReader
from trove_async.signing import SignedRequest, URLSigner, find_signer
from trove_async.store import Trove
from trove_async.types import ObjectRef
from trove_async.web.http import Headers, content_length
from trove_async.web.objects import (
    Answer,
    Overrides,
    delete_object,
    error_answer,
    get_object,
    head_object,
    put_object,
)

__all__ = ["ASGIApp", "SignedURLApp", "signed_urls"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An ASGI 3 application."""

_METHODS: Final = ("GET", "HEAD", "PUT", "DELETE")


class _ClientGoneError(Exception):
    """The client went away before its request was complete."""


def signed_urls(store: Trove, *, signer: URLSigner | None = None) -> SignedURLApp:
    """Return an ASGI app that serves the URLs that a store signs; mount it at the store's ``presign_url``.

    Args:
        store: an open store. Reads and writes go through it, layers and all; the app does not close it.
        signer: what verifies; default the one of the store's driver.

    Raises:
        UnsupportedError: the store signs no URLs, or its backend serves them itself.
    """
    found = signer or find_signer(store.driver)
    if found is None:
        raise UnsupportedError(
            "the store signs no URLs that could be served here; open it with presign_url=", driver=store.driver.name
        )
    return SignedURLApp(store, found)


class SignedURLApp:
    """Serves GET, HEAD, PUT and DELETE of URLs that are signed for just that; see `signed_urls`.

    Errors are JSON with ``code`` and ``message``. A client that goes away while it uploads leaves
    nothing behind; one that goes away while it downloads frees what the download holds.
    """

    def __init__(self, store: Trove, signer: URLSigner) -> None:
        self._store = store
        self._signer = signer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; or the lifespan, in which there is nothing to do."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            try:
                answer = await self._answer(scope, receive)
            except _ClientGoneError:
                return
            await _respond(answer, scope["method"], receive, send)
        else:
            raise ValueError(f"signed URLs are served over HTTP, not {scope['type']!r}")

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        method = scope["method"]
        if method not in _METHODS:
            error = UnsupportedError(f"the method {method} is not allowed")
            return error_answer(error, ("Allow", ", ".join(_METHODS)), status=405)
        headers = _headers(scope)
        try:
            request = self._signer.verify(method, _url(scope))
            return await self._carry_out(request, headers, receive)
        except TroveError as error:
            return error_answer(error)

    async def _carry_out(self, request: SignedRequest, headers: Headers, receive: Receive) -> Answer:
        ref = ObjectRef(request.bucket, request.key, request.version_id)
        overrides = Overrides(request.response_content_type, request.response_content_disposition)
        match request.method:
            case "GET":
                return await get_object(self._store, ref, headers, overrides)
            case "HEAD":
                return await head_object(self._store, ref, headers, overrides)
            case "DELETE":
                return await delete_object(self._store, ref, headers)
            case _:
                refusal = _refuse_unbound(request, headers)
                return refusal or await put_object(self._store, ref, headers, _body(receive))


def _refuse_unbound(request: SignedRequest, headers: Headers) -> Answer | None:
    """Return the refusal of an upload that says no length where one is signed; None if it keeps to what is signed.

    Raises:
        AccessDeniedError: it has another content type or length.
    """
    if request.content_type is not None and headers.get("content-type") != request.content_type:
        raise AccessDeniedError(f"the URL is signed for the content type {request.content_type!r}; send just that")
    if request.content_length is None:
        return None
    length = content_length(headers)
    if length is None:
        error = InvalidArgumentError(f"the URL is signed for a body of {request.content_length} bytes; say so")
        return error_answer(error, status=411)
    if length != request.content_length:
        raise AccessDeniedError(f"the URL is signed for a body of {request.content_length} bytes, not {length}")
    return None


def _headers(scope: Scope) -> dict[str, str]:
    """Return the request's headers; those that come several times are joined (RFC 9110, section 5.3)."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip()
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _url(scope: Scope) -> str:
    return f"{quote(scope['path'], safe='/')}?{scope['query_string'].decode('latin-1')}"


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    """Yield the request's body as it arrives; the server reads no more from the client than is taken here."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGoneError
        if chunk := message.get("body", b""):
            yield chunk
        more = message.get("more_body", False)


async def _respond(answer: Answer, method: str, receive: Receive, send: Send) -> None:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    start = {"type": "http.response.start", "status": answer.status, "headers": headers}
    if isinstance(answer.body, ObjectReader):
        async with answer.body as reader:
            await send(start)
            await _until_gone(_stream(reader, send), receive)
    else:
        await send(start)
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answer.body})


async def _stream(reader: ObjectReader, send: Send) -> None:
    async for chunk in reader:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _until_gone(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Carry out a download, and give it up when the client goes away."""
    download = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({download, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended = download if download.done() else gone
        download.cancel()
        gone.cancel()
        await asyncio.gather(download, gone, return_exceptions=True)
    ended.result()  # raises what broke the download, so that the server cuts the answer off


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
