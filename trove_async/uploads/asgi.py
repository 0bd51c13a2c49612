"""Resumable uploads as an ASGI app."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Self, Unpack

from trove_async.errors import TroveError
from trove_async.store import Trove
from trove_async.types import EMPTY
from trove_async.uploads.datastore import DataStore
from trove_async.uploads.receiving import RequestBody
from trove_async.uploads.server import Arrival, TusOptions, UploadServer
from trove_async.web.asgi import ClientGoneError, Message, Receive, Scope, Send, headers_of, respond
from trove_async.web.http import join_headers

__all__ = ["INFORMATIONAL", "TRAILERS", "TusApp"]

TRAILERS: Final = "http.request.trailers"
"""An extension of a server that delivers the trailers of requests.

After the last ``http.request`` message of each request it sends one message of this type, with ``headers`` (empty if
the request has no trailers) and ``more_trailers`` as in ASGI's response trailers.
"""

INFORMATIONAL: Final = "http.response.informational"
"""An extension of a server that sends interim answers: messages of this type, with ``status`` and ``headers``, before
``http.response.start``."""


class TusApp:
    """Serves resumable uploads over HTTP: tus 1.0, and Resumable Uploads for HTTP. An ASGI app.

    ::

        app.mount("/files", TusApp(store, bucket="uploads"))  # Starlette and FastAPI

    Uploads are created by POST at the path where it is mounted, with a slash at its end. Served alone, it starts and
    ends with the server (ASGI's lifespan). Mounted, it starts with its first request; leave ``async with app:``, or
    call `aclose`, before the store is closed.

    Args:
        store: an open store, or a `DataStore`. The app does not close it.
        options: see `TusOptions`.

    Raises:
        InvalidArgumentError: an option is invalid.
        UnsupportedError: the store has no multipart uploads.
    """

    def __init__(self, store: Trove | DataStore, **options: Unpack[TusOptions]) -> None:
        self._server = UploadServer(store, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            raise ValueError(f"uploads are served over HTTP, not {scope['type']!r}")

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop the requests that write, which makes durable what they have received, and release the locks.

        A request that comes later is answered as one that may succeed on another server.
        """
        await self._server.aclose()

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._server.start()
        except TroveError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        extensions = scope.get("extensions") or {}
        headers = headers_of(scope)
        root, path = split_path(scope)
        client = scope.get("client")
        arrival = Arrival(
            method=scope["method"],
            headers=headers,
            root=root,
            path=path,
            peer=client[0] if client and client[0] else None,
            scheme=scope.get("scheme", "http"),
            http1=scope["http_version"].startswith("1"),
            trailers=TRAILERS in extensions,
            native=scope,
        )

        async def inform(status: int, headers: Iterable[tuple[str, str]]) -> None:
            encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
            await send({"type": INFORMATIONAL, "status": status, "headers": encoded})

        body = RequestBody(
            _Messages(receive, trailers=arrival.trailers),
            idle_timeout=self._server.idle_timeout,
            held_back="expect" in headers,
        )
        try:
            answer = await self._server.answer(arrival, body, inform if INFORMATIONAL in extensions else None)
        finally:
            body.close()
        drain = body.drain if arrival.precedes_end(body) else None
        await respond(answer, arrival.method, receive, send, before_end=drain)


def split_path(scope: Scope) -> tuple[str, str]:
    """Return the path where an app is mounted and the path below it, both decoded; the first has no slash at its end.

    In ASGI ``path`` begins with ``root_path``. In Starlette before 0.33 it does not, and it has never the part of it
    that a proxy has removed, which Starlette calls ``app_root_path``.
    """
    root, path = scope.get("root_path", "").rstrip("/"), scope["path"]
    for mounted in (root, root.removeprefix(scope.get("app_root_path", "").rstrip("/"))):
        below = path.removeprefix(mounted)
        if path.startswith(mounted) and below[:1] in ("", "/"):
            return root, below
    return root, path


class _Messages:
    """A `BodySource` of ASGI messages."""

    def __init__(self, receive: Receive, *, trailers: bool) -> None:
        self.trailers: Mapping[str, str] = EMPTY
        self._receive = receive
        self._awaits_trailers = trailers
        self._more = True

    async def read(self) -> bytes:
        while self._more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            self._more = message.get("more_body", False)
            if chunk := message.get("body", b""):
                return bytes(chunk)
        if self._awaits_trailers:
            await self._read_trailers()
        return b""

    async def _read_trailers(self) -> None:
        found: list[tuple[bytes, bytes]] = []
        message: Message = {"more_trailers": True}
        while message.get("more_trailers", False):
            message = await self._receive()
            if message["type"] != TRAILERS:
                raise ClientGoneError
            found += message["headers"]
        self._awaits_trailers = False
        self.trailers = join_headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in found)
