"""The ASGI app that serves signed URLs."""

from __future__ import annotations

from functools import partial
from typing import Final
from urllib.parse import quote

from trove_async.errors import AccessDeniedError, InvalidArgumentError, TroveError, UnsupportedError
from trove_async.signing import SignedRequest, URLSigner, find_signer
from trove_async.store import Trove
from trove_async.types import ObjectRef
from trove_async.web.asgi import ClientGoneError, Receive, Scope, Send, body_of, headers_of, raise_when_gone, respond
from trove_async.web.cors import CORS
from trove_async.web.http import Headers, content_length
from trove_async.web.objects import (
    Answer,
    ObjectSource,
    Overrides,
    delete_object,
    error_answer,
    get_object,
    head_object,
    put_object,
)

__all__ = ["SignedURLApp", "signed_urls"]

_METHODS: Final = ("GET", "HEAD", "PUT", "DELETE")


def signed_urls(store: Trove, *, signer: URLSigner | None = None, cors: CORS | None = None) -> SignedURLApp:
    """Return an ASGI app that serves the URLs that a store signs; mount it at the store's ``presign_url``.

    Args:
        store: an open store. Reads and writes go through it and its layers; the app does not close it.
        signer: verifies the URLs; default: the signer of the store's driver.
        cors: which pages' scripts may use the URLs in a browser; default: only those of the app's own origin.

    Raises:
        InvalidArgumentError: ``cors`` is of a wrong type.
        UnsupportedError: the store does not sign URLs, or its backend serves them itself.
    """
    if not (cors is None or isinstance(cors, CORS)):
        raise InvalidArgumentError(f"cors is a CORS, as in CORS(('https://app.example.com',)), or None, not {cors!r}")
    found = signer or find_signer(store.driver)
    if found is None:
        raise UnsupportedError(
            "the store does not sign URLs that this app can serve; open it with presign_url=", driver=store.driver.name
        )
    return SignedURLApp(store, found, cors)


class SignedURLApp:
    """Serves GET, HEAD, PUT and DELETE requests to URLs that are signed for that method; see `signed_urls`.

    Errors are JSON with ``code`` and ``message``. A client that disconnects during an upload leaves nothing behind; one
    that disconnects during a download releases its resources.
    """

    def __init__(self, store: Trove, signer: URLSigner, cors: CORS | None = None) -> None:
        self._store = store
        self._signer = signer
        self._cors = cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan, which does nothing."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            try:
                answer = await self._answer(scope, receive)
            except ClientGoneError:
                return
            await respond(answer, scope["method"], receive, send)
        else:
            raise ValueError(f"signed URLs are served over HTTP, not {scope['type']!r}")

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        headers = headers_of(scope)
        if self._cors is None:
            return await self._answer_same_origin(scope, headers, receive)
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            return self._cors.preflight(headers, _METHODS)
        return self._cors.allow(await self._answer_same_origin(scope, headers, receive), headers)

    async def _answer_same_origin(self, scope: Scope, headers: Headers, receive: Receive) -> Answer:
        method = scope["method"]
        if method not in _METHODS:
            error = UnsupportedError(f"the method {method} is not allowed")
            return error_answer(error, ("Allow", ", ".join(_METHODS)), status=405)
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
                return await get_object(ObjectSource(self._store, ref), headers, overrides)
            case "HEAD":
                return await head_object(ObjectSource(self._store, ref), headers, overrides)
            case "DELETE":
                return await delete_object(self._store, ref, headers)
            case _:
                refusal = _refuse_unbound(request, headers)
                return refusal or await put_object(
                    self._store, ref, headers, body_of(receive), partial(raise_when_gone, receive)
                )


def _refuse_unbound(request: SignedRequest, headers: Headers) -> Answer | None:
    """Return the error answer for an upload without a length if a length is signed; None if the upload is valid.

    Raises:
        AccessDeniedError: its content type or length is not the signed one.
    """
    if request.content_type is not None and headers.get("content-type") != request.content_type:
        raise AccessDeniedError(f"the URL is signed for the content type {request.content_type!r}; send the same one")
    if request.content_length is None:
        return None
    length = content_length(headers)
    if length is None:
        error = InvalidArgumentError(f"the URL is signed for {request.content_length} bytes; send Content-Length")
        return error_answer(error, status=411)
    if length != request.content_length:
        raise AccessDeniedError(f"the URL is signed for a body of {request.content_length} bytes, not {length}")
    return None


def _url(scope: Scope) -> str:
    return f"{quote(scope['path'], safe='/')}?{scope['query_string'].decode('latin-1')}"


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
