"""An HTTP/1.1 server for ASGI apps that delivers request trailers and sends interim answers; the stock ones do neither.

ASGI has no standard for either (https://asgi.readthedocs.io/en/latest/extensions.html). The scope's extensions here:

``http.request.trailers``
    After the last ``http.request`` message of every request comes exactly one message ``{"type":
    "http.request.trailers", "headers": [...], "more_trailers": False}``, shaped like ASGI's response trailers. Its
    headers are empty if the request had none. It is not sent to a client that has disconnected before its body's end.

``http.response.informational``
    The app may send any number of messages ``{"type": "http.response.informational", "status": 104, "headers": [...]}``
    before ``http.response.start``.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeAlias
from urllib.parse import unquote_to_bytes

import h11

from trove_async.testing.sockets import CHUNK, Listener, finish, reset

__all__ = ["EXTENSIONS", "trailer_serving"]

_Message: TypeAlias = dict[str, Any]

EXTENSIONS: Final = ("http.request.trailers", "http.response.informational")


@asynccontextmanager
async def trailer_serving(app: Any) -> AsyncIterator[int]:
    """Serve an ASGI app, including its lifespan, and yield the port.

    Raises:
        BaseExceptionGroup: the app raised errors, which its clients saw as 500 or as a reset.
    """
    async with _lifespan(app), _TrailerServer(app) as server:
        yield server.port
    if server.failures:
        raise BaseExceptionGroup("the app failed", server.failures)


@asynccontextmanager
async def _lifespan(app: Any) -> AsyncIterator[None]:
    """Send an app the events of its lifespan, which it must support."""
    events: asyncio.Queue[_Message] = asyncio.Queue()
    answers: asyncio.Queue[_Message] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
    running = asyncio.ensure_future(app(scope, events.get, answers.put))

    async def tell(event: str) -> None:
        events.put_nowait({"type": f"lifespan.{event}"})
        answer = asyncio.ensure_future(answers.get())
        await asyncio.wait({running, answer}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            await running
        assert answer.done(), "the app ended without an answer"
        assert answer.result()["type"] == f"lifespan.{event}.complete", answer.result()

    try:
        await tell("startup")
        yield
        await tell("shutdown")
        await running
    finally:
        running.cancel()
        await asyncio.wait({running})


class _TrailerServer(Listener):
    def __init__(self, app: Any) -> None:
        super().__init__()
        self.app = app
        self.failures: list[BaseException] = []

    def _admit(self, client: socket.socket) -> tuple[Coroutine[Any, Any, None], Callable[[], None]]:
        return _Connection(self, client).run(), client.close


class _Connection:
    """One connection: its requests, one after another."""

    def __init__(self, server: _TrailerServer, client: socket.socket) -> None:
        self._server = server
        self.client = client
        self.http = h11.Connection(h11.SERVER)

    async def run(self) -> None:
        with suppress(ConnectionError):
            while await self._serve_one():
                self.http.start_next_cycle()
            # A socket that is closed with unread bytes sends a reset, which could destroy the answer.
            await finish(self.client)

    async def _serve_one(self) -> bool:
        """Serve one request, and return whether another may follow."""
        try:
            request = await self.next_event()
        except h11.RemoteProtocolError as error:
            await self.transmit(h11.Response(status_code=error.error_status_hint, headers=[(b"connection", b"close")]))
            await self.transmit(h11.EndOfMessage())
            return False
        if not isinstance(request, h11.Request):
            return False
        exchange = _Exchange(self, request)
        try:
            await self._server.app(_scope(request, self.client), exchange.receive, exchange.send)
        except Exception as error:  # noqa: BLE001 - as a server does
            # An app that finds its client gone may fail.
            if not exchange.gone:
                self._server.failures.append(error)
        if self.http.our_state is h11.SEND_RESPONSE and not exchange.gone:
            await exchange.send({"type": "http.response.start", "status": 500, "headers": [(b"connection", b"close")]})
            await exchange.send({"type": "http.response.body"})
        if self.http.our_state is h11.SEND_BODY:
            reset(self.client)
            raise ConnectionResetError("the app did not complete its answer")
        with suppress(h11.RemoteProtocolError):
            while self.http.their_state is h11.SEND_BODY and self.http.next_event() is not h11.NEED_DATA:
                """Skip what has arrived of a body that the app did not read."""
        return self.http.our_state is self.http.their_state is h11.DONE

    async def next_event(self) -> Any:
        """Return what the client has sent next.

        Raises:
            h11.RemoteProtocolError: it is not HTTP, or the client has disconnected in the middle of a request.
        """
        while (event := self.http.next_event()) is h11.NEED_DATA:
            if self.http.they_are_waiting_for_100_continue:
                await self.transmit(h11.InformationalResponse(status_code=100, headers=[]))
            await self.take_in()
        return event

    async def take_in(self) -> bool:
        """Take in what arrives next, and return whether the client is still there."""
        try:
            data = await asyncio.get_running_loop().sock_recv(self.client, CHUNK)
        except ConnectionError:
            data = b""
        self.http.receive_data(data)
        return bool(data)

    async def transmit(self, event: h11.Event) -> None:
        """Send a part of the answer. Raises `ConnectionError` if the client is gone."""
        if data := self.http.send(event):
            await asyncio.get_running_loop().sock_sendall(self.client, data)


class _Exchange:
    """One request and its answer, as messages of ASGI."""

    def __init__(self, connection: _Connection, request: h11.Request) -> None:
        self.gone = False
        self._connection = connection
        self._head = request.method == b"HEAD"
        self._read = False
        self._answered = False
        self._trailers: list[tuple[bytes, bytes]] | None = None

    async def receive(self) -> _Message:
        if self._trailers is not None:
            headers, self._trailers = self._trailers, None
            return {"type": "http.request.trailers", "headers": headers, "more_trailers": False}
        if not (self.gone or self._answered):
            if self._read:
                while await self._connection.take_in():
                    """Keep the requests that follow."""
                self.gone = True
            else:
                return await self._receive_body()
        return {"type": "http.disconnect"}

    async def _receive_body(self) -> _Message:
        try:
            event = await self._connection.next_event()
        except h11.RemoteProtocolError:
            self.gone = True
            return {"type": "http.disconnect"}
        if isinstance(event, h11.Data):
            return {"type": "http.request", "body": bytes(event.data), "more_body": True}
        self._read = True
        self._trailers = list(event.headers)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: _Message) -> None:
        try:
            await self._send(message)
        except ConnectionError:
            self.gone = True
            raise

    async def _send(self, message: _Message) -> None:
        transmit = self._connection.transmit
        kind, headers = message["type"], message.get("headers", ())
        if kind == "http.response.informational":
            await transmit(h11.InformationalResponse(status_code=message["status"], headers=list(headers)))
        elif kind == "http.response.start":
            await transmit(h11.Response(status_code=message["status"], headers=list(headers)))
        else:
            assert kind == "http.response.body", kind
            await transmit(h11.Data(data=b"" if self._head else message.get("body", b"")))
            if not message.get("more_body", False):
                await transmit(h11.EndOfMessage())
                self._answered = True


def _scope(request: h11.Request, client: socket.socket) -> _Message:
    path, _, query = request.target.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": request.http_version.decode("ascii"),
        "method": request.method.decode("ascii"),
        "scheme": "http",
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [(bytes(name), bytes(value)) for name, value in request.headers],
        "client": client.getpeername(),
        "server": client.getsockname(),
        "extensions": {name: {} for name in EXTENSIONS},
        "state": {},
    }
