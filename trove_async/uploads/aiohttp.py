"""Resumable uploads as an application of aiohttp."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Final, Unpack
from urllib.parse import unquote

from trove_async.errors import InvalidArgumentError, MissingDependencyError, UploadRejectedError
from trove_async.store import Trove
from trove_async.types import EMPTY
from trove_async.uploads.datastore import DataStore
from trove_async.uploads.receiving import RequestBody
from trove_async.uploads.server import Arrival, TusOptions, UploadServer
from trove_async.web.asgi import ClientGoneError
from trove_async.web.http import join_headers
from trove_async.web.objects import Answer

try:
    from aiohttp import HttpVersion11, web
    from aiohttp.abc import AbstractStreamWriter
except ModuleNotFoundError as error:
    if error.name != "aiohttp":
        raise
    raise MissingDependencyError("trove_async.uploads.aiohttp needs: pip install 'trove-async[aiohttp]'") from error

from trove_async.web.aiohttp import DECODED, AnswerResponse

__all__ = ["tus_application"]

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def tus_application(store: Trove | DataStore, **options: Unpack[TusOptions]) -> web.Application:
    """Return an application that serves resumable uploads; `TusApp` for aiohttp.

    ::

        app.add_subapp("/files", tus_application(store, bucket="uploads"))

    Uploads are created by POST at ``/files/`` and ``/files``. It starts and ends with the application. A body is
    received only when its request is accepted, and clients of Resumable Uploads for HTTP get interim answers (104).
    A body with a Content-Encoding is refused with 415: aiohttp would decode it, which changes offsets.

    Args:
        store: an open store, or a `DataStore`. The application does not close it.
        options: see `TusOptions`.

    Raises:
        InvalidArgumentError: an option is invalid.
        UnsupportedError: the store has no multipart uploads.
    """
    server = UploadServer(store, **options)

    async def serve(request: web.Request) -> web.StreamResponse:
        return await _serve(server, request)

    async def start(_: web.Application) -> None:
        await server.start()

    async def stop(_: web.Application) -> None:
        await server.aclose()

    app = web.Application()
    app.on_startup.append(start)
    app.on_shutdown.append(stop)  # unlike on_cleanup, it comes before aiohttp waits for the requests
    for path in ("", "/{path:.*}"):
        app.router.add_route("*", path, serve, expect_handler=_expect)
    return app


async def _expect(request: web.Request) -> None:
    """Send no 100 (Continue) yet, as aiohttp would."""
    if request.headers.get("Expect", "").lower() != "100-continue":
        raise web.HTTPExpectationFailed


async def _serve(server: UploadServer, request: web.Request) -> web.StreamResponse:
    headers = join_headers(request.headers.items())
    resource = request.match_info.route.resource
    arrival = Arrival(
        method=request.method,
        headers=headers,
        root=unquote(resource.canonical.removesuffix("/{path}")) if resource is not None else "",
        path=request.match_info.get("path", ""),
        peer=request.remote or None,
        scheme=request.scheme,
        http1=True,
        trailers=False,
        native=request,
    )

    async def inform(status: int, headers: Iterable[tuple[str, str]]) -> None:
        if request.transport is not None:
            lines = [f"HTTP/1.1 {status} {_phrase(status)}", *(f"{name}: {value}" for name, value in headers), "", ""]
            request.transport.write("\r\n".join(lines).encode("latin-1"))

    body = RequestBody(_Content(request), idle_timeout=server.idle_timeout, held_back="expect" in headers)
    if headers.get("content-encoding", "").lower() in DECODED:
        error = UploadRejectedError("send the body without Content-Encoding", status_code=415)
        return _UploadResponse(server.refuse(arrival, body, error), body, precedes_end=arrival.precedes_end(body))
    try:
        answer = await server.answer(arrival, body, inform if request.version >= HttpVersion11 else None)
    finally:
        body.close()
    return _UploadResponse(answer, body, precedes_end=arrival.precedes_end(body))


def _phrase(status: int) -> str:
    return "Upload Resumption Supported" if status == 104 else HTTPStatus(status).phrase


class _UploadResponse(AnswerResponse):
    """The response of a server of uploads, which may come before the end of the body."""

    def __init__(self, answer: Answer, body: RequestBody, *, precedes_end: bool) -> None:
        super().__init__()
        self._said = answer
        self._received = body
        self._precedes_end = precedes_end
        if precedes_end:
            self.force_close()

    async def _answer(self, request: web.BaseRequest) -> Answer:
        return self._said

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        if self.prepared:
            return await super().prepare(request)
        writer = await super().prepare(request)
        if self._precedes_end:
            await self._received.drain()
            request.protocol.force_close()  # aiohttp would go on to read the body for 10 seconds
        return writer


class _Content:
    """A `BodySource` of aiohttp."""

    trailers: Mapping[str, str] = EMPTY

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._continues = "Expect" in request.headers and request.version >= HttpVersion11

    async def read(self) -> bytes:
        try:
            if self._continues:
                self._continues = False
                await self._request.writer.write(_CONTINUE)
                self._request.writer.output_size = 0  # the size of the answer alone
            # As it was received: readany() would copy what has arrived during a write into one chunk.
            content = self._request.content
            chunk, ends_chunk = await content.readchunk()
            # In chunked encoding a chunk may end without bytes. After the end of an empty body this is always so.
            while not chunk and ends_chunk and not content.at_eof():
                chunk, ends_chunk = await content.readchunk()
            return chunk
        except OSError as error:
            # aiohttp raises this before what has arrived was read.
            if left := self._request.content._read_nowait(-1):
                return left
            raise ClientGoneError from error
        except web.RequestPayloadError as error:
            raise InvalidArgumentError("the body is malformed") from error
