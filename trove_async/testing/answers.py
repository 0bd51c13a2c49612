"""`AnsweringProxy`: an HTTP proxy that gives answers that a healthy server does not give.

::

    async with AnsweringProxy("127.0.0.1", 9000) as proxy:
        proxy.answer(s3_error(503, "SlowDown", headers={"Retry-After": "1"}), method="PUT", path="/bucket/key")
        proxy.answer(s3_error(200, "InternalError"), path="uploadId=", method="POST", when="after")
        ...  # the code under test connects to proxy.url()
        assert proxy.count("PUT", "/bucket/key") == 2

For faults below HTTP combine it with a `FaultProxy`. It needs the extra ``testing``.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from types import ModuleType
from typing import Any, Final, Literal, get_args
from xml.sax.saxutils import escape

from trove_async.errors import InvalidArgumentError, MissingDependencyError
from trove_async.testing.sockets import CHUNK, HangUp, Listener, Turns, connect, finish, reset

__all__ = ["Answer", "AnsweringProxy", "SeenRequest", "s3_error"]

When = Literal["before", "after"]

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that a client gets instead of the server's.

    Attributes:
        status: the status code.
        headers: the headers to send. If ``Content-Length`` and ``Transfer-Encoding`` are absent, Content-Length is
            added, except to a 204 or 304.
        body: the body to send; not sent after HEAD.
        reason: the reason phrase; default: the usual one for the status.
        content_length: the declared length, if it differs from the length of ``body``. If it is larger, the body is
            truncated: the connection ends after ``body``.
        close: send ``Connection: close`` and close the connection after the answer.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    reason: str | None = None
    content_length: int | None = None
    close: bool = False

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 999:
            raise InvalidArgumentError("an answer has a final status of three digits")
        if self.content_length is not None and self.content_length < len(self.body):
            raise InvalidArgumentError("content_length must not be less than the length of the body")

    @property
    def truncated(self) -> bool:
        """Whether the declared length is larger than the body."""
        return self.content_length is not None and self.content_length > len(self.body)

    def encode(self, method: str = "GET", *, close: bool = False) -> bytes:
        """Return the bytes of the answer to a request.

        Args:
            method: the request's method.
            close: send ``Connection: close`` even if the answer does not have it.
        """
        lines = [
            f"HTTP/1.1 {self.status} {self._phrase}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        names = {name.lower() for name in self.headers}
        if not names & {"content-length", "transfer-encoding"} and self.status not in (204, 304):
            lines.append(f"Content-Length: {len(self.body) if self.content_length is None else self.content_length}")
        if (close or self.close) and "connection" not in names:
            lines.append("Connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        return head if method == "HEAD" else head + self.body

    @property
    def _phrase(self) -> str:
        if self.reason is not None:
            return self.reason
        return HTTPStatus(self.status).phrase if self.status in HTTPStatus._value2member_map_ else "Unknown"


def s3_error(
    status: int,
    code: str,
    message: str = "injected",
    *,
    headers: Mapping[str, str] | None = None,
    request_id: str = "injected",
) -> Answer:
    """Return an error as S3 sends it: an XML document with the code, the message and the request's id.

    With the status 200 it is an answer that CompleteMultipartUpload and CopyObject may give after they have started it
    (https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html).
    """
    document = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
        f"<RequestId>{escape(request_id)}</RequestId></Error>"
    )
    named = {"Content-Type": "application/xml", "x-amz-request-id": request_id, **(headers or {})}
    return Answer(status, named, document.encode())


@dataclass(slots=True)
class SeenRequest:
    """A request whose head has arrived.

    Attributes:
        method, target: of the request line; the target is path and query.
        headers: names in lower case, and values, in order.
        connection: the number of the client's connection, from 1.
        body_size: the number of bytes of its body that have arrived, without the framing of chunks.
        complete: True when all of it has arrived.
        forwarded: True if any of it was sent to the server.
        answer: the answer that the client got instead of the server's; None for the server's.
        status: the status that was sent to the client; None if none was sent.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    connection: int
    body_size: int = 0
    complete: bool = False
    forwarded: bool = False
    answer: Answer | None = None
    status: int | None = None

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def header(self, name: str) -> str | None:
        """Return the first value of a header, or None."""
        return next((value for known, value in self.headers if known == name.lower()), None)


@dataclass(slots=True)
class _Rule:
    answer: Answer
    method: str | None
    path: str
    when: When
    turns: Turns

    def takes(self, request: SeenRequest) -> bool:
        return self.method in (None, request.method) and self.path in request.target and self.turns.take()


class AnsweringProxy(Listener):
    """Forwards HTTP/1.1 requests to a server, and answers some of them itself.

    Use it in ``async with`` in the loop of the test; it listens on a free port of 127.0.0.1. Requests that it does not
    answer are forwarded unchanged, including ``100 Continue`` and chunks. Pipelined requests, upgrades and bytes that
    are not HTTP are answered with 400. If a client closes its side while it waits for an answer, so does the proxy.

    Args:
        host, port: the server.

    Attributes:
        requests: all requests whose head has arrived, in order.
        accepted: the number of accepted connections.

    Raises:
        MissingDependencyError: httptools is not installed.
    """

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self.server = (host, port)
        self.requests: list[SeenRequest] = []
        self.accepted = 0
        self._parsers = _load_parsers()
        self._rules: list[_Rule] = []

    def answer(
        self,
        answer: Answer,
        *,
        method: str | None = None,
        path: str = "",
        when: When = "before",
        skip: int = 0,
        times: int | None = 1,
    ) -> None:
        """Answer requests that arrive from now on.

        If several rules match a request, the first answers it, and the others do not count it.

        Args:
            answer: the answer for the client.
            method: only requests of this method; None for all.
            path: only requests with this text in their path or query.
            when: ``before``: the server never sees the request. It is answered when all of it has arrived; a request
                with ``Expect: 100-continue`` is answered after its head, and its connection is then closed.
                ``after``: the server carries out the request, and its answer is dropped.
            skip: the number of matching requests to forward first.
            times: the number of requests to answer then; None for all.
        """
        if when not in get_args(When):
            raise InvalidArgumentError(f"when is {' or '.join(map(repr, get_args(When)))}, not {when!r}")
        self._rules.append(_Rule(answer, method, path, when, Turns(skip, times)))

    def clear(self) -> None:
        """Remove all answers; `requests` stays."""
        self._rules.clear()

    def count(self, method: str | None = None, path: str = "") -> int:
        """Return the number of requests with a method (None for any) and with a text in their path or query."""
        return sum(method in (None, request.method) and path in request.target for request in self.requests)

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """The number of requests by method and path."""
        return Counter((request.method, request.path) for request in self.requests)

    def _rule_for(self, request: SeenRequest) -> tuple[Answer, When] | None:
        self.requests.append(request)
        for rule in self._rules:
            if rule.takes(request):
                request.answer = rule.answer
                return rule.answer, rule.when
        return None

    def _admit(self, client: socket.socket) -> tuple[Coroutine[Any, Any, None], Callable[[], None]]:
        self.accepted += 1
        session = _Session(self, client, self.accepted)
        return session.run(), session.close


def _load_parsers() -> ModuleType:
    try:
        import httptools
    except ImportError as error:
        raise MissingDependencyError("AnsweringProxy needs: pip install 'trove-async[testing]'") from error
    return httptools


class _BadRequestError(Exception):
    """The request is not supported; the message says why."""


class _RequestParser:
    """Parses one request as it arrives; the methods ``on_…`` are the callbacks of httptools."""

    def __init__(self, httptools: ModuleType, connection: int) -> None:
        self._errors = (httptools.HttpParserError, httptools.HttpParserUpgrade)
        self._parser = httptools.HttpRequestParser(self)
        self._connection = connection
        self._target = b""
        self._headers: list[tuple[str, str]] = []
        self._begun = 0
        self.request: SeenRequest | None = None
        self.keeps_alive = True

    def feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except self._errors as error:
            raise _BadRequestError(f"not valid HTTP: {error!r}") from error
        if self._begun > 1:
            raise _BadRequestError("this proxy does not support pipelined requests")

    def on_message_begin(self) -> None:
        self._begun += 1

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        if self._begun == 1:
            method = self._parser.get_method().decode("latin-1")
            target = self._target.decode("latin-1")
            self.request = SeenRequest(method, target, tuple(self._headers), self._connection)
            self.keeps_alive = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        if self.request is not None and self._begun == 1:
            self.request.body_size += len(body)

    def on_message_complete(self) -> None:
        if self.request is not None:
            self.request.complete = True


class _ResponseParser:
    """Finds the end of the response to one request."""

    def __init__(self, httptools: ModuleType, method: str) -> None:
        self._errors = (httptools.HttpParserError, httptools.HttpParserUpgrade)
        self._parser = httptools.HttpResponseParser(self)
        self._bodiless = method == "HEAD"
        self.status: int | None = None
        self.complete = False
        self.keeps_alive = False
        self.continues = 0

    def feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except self._errors as error:
            raise ConnectionAbortedError(f"the server's response is not valid: {error!r}") from error

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:
            self.status = status
            self.keeps_alive = self._parser.should_keep_alive()
            self.complete = self._bodiless

    def on_message_complete(self) -> None:
        if self.status is not None:
            self.complete = True
        elif self._parser.get_status_code() == HTTPStatus.CONTINUE:
            self.continues += 1


class _Session:
    """One connection of a client, with its consecutive requests, and its connection to the server."""

    def __init__(self, proxy: AnsweringProxy, client: socket.socket, number: int) -> None:
        self._proxy = proxy
        self._client = client
        self._number = number
        self._server: socket.socket | None = None
        self._hang_up: HangUp | None = None
        self._ended = False  # the connection accepts no further requests

    async def run(self) -> None:
        try:
            while not self._ended:
                await self._exchange()
        except _BadRequestError as error:
            await self._send(Answer(400, {"Content-Type": "text/plain"}, str(error).encode()).encode(close=True))
        except OSError:
            return  # the client left, or the server cannot be reached: the other side is reset
        self._drop_server()
        await finish(self._client)
        self._client.close()

    def close(self) -> None:
        self._drop_server()
        reset(self._client)

    async def _send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._client, data)

    async def _receive(self, source: socket.socket) -> bytes:
        return await asyncio.get_running_loop().sock_recv(source, CHUNK)

    async def _exchange(self) -> None:
        parser = _RequestParser(self._proxy._parsers, self._number)
        head = b""
        while parser.request is None:
            data = await self._receive(self._client)
            if not data:
                self._ended = True
                return
            head += data
            parser.feed(data)
        self._ended = not parser.keeps_alive
        rule = self._proxy._rule_for(parser.request)
        if rule is not None and rule[1] == "before":
            await self._answer_before(parser, parser.request, rule[0])
        else:
            await self._forward(parser, parser.request, head, None if rule is None else rule[0])

    async def _answer_before(self, parser: _RequestParser, request: SeenRequest, answer: Answer) -> None:
        # A client that waits for `100 Continue` sends no body after another answer, so the connection must end.
        at_head = (request.header("expect") or "").lower() == "100-continue" and not request.complete
        while not request.complete and not at_head:
            data = await self._receive(self._client)
            if not data:
                self._ended = True
                return
            parser.feed(data)
        await self._give(request, answer, close=at_head)

    async def _give(self, request: SeenRequest, answer: Answer, *, close: bool = False) -> None:
        announced = close or self._ended
        self._ended = announced or answer.close or answer.truncated
        request.status = answer.status
        await self._send(answer.encode(request.method, close=announced))

    async def _forward(self, parser: _RequestParser, request: SeenRequest, head: bytes, answer: Answer | None) -> None:
        server = await self._connected()
        request.forwarded = True
        body = asyncio.create_task(self._forward_body(parser, request, server, head))
        try:
            response = await self._pass_response(server, request, drop=answer is not None)
            if answer is not None and response.status is not None:
                await self._give(request, answer)
            if not response.keeps_alive:
                self._drop_server()
                self._ended = self._ended or answer is None or not request.complete
            if not self._ended:
                await body
        finally:
            await self._stop(body)

    async def _stop(self, body: asyncio.Task[None]) -> None:
        body.cancel()
        await asyncio.wait({body})
        self._unwatch()
        if not body.cancelled() and (error := body.exception()) is not None:
            raise error

    async def _connected(self) -> socket.socket:
        if self._server is not None and _has_ended(self._server):
            self._drop_server()
        if self._server is None:
            self._server = await connect(*self._proxy.server)
        return self._server

    def _drop_server(self) -> None:
        self._unwatch()
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _forward_body(
        self, parser: _RequestParser, request: SeenRequest, server: socket.socket, data: bytes
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(server, data)
            while not request.complete:
                data = await self._receive(self._client)
                if not data:
                    return self._abandon(server)
                parser.feed(data)
                await loop.sock_sendall(server, data)
        except _BadRequestError:
            self._abandon(server)
            raise
        except OSError:
            # One side has disconnected. The other task reads what the server has sent before.
            return self._abandon(server)
        # If a client disconnects while it waits, the server must see that too.
        self._hang_up = HangUp(self._client, lambda: self._abandon(server))
        return None

    def _unwatch(self) -> None:
        if self._hang_up is not None:
            self._hang_up.close()
            self._hang_up = None

    def _abandon(self, server: socket.socket) -> None:
        self._ended = True
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    async def _pass_response(self, server: socket.socket, request: SeenRequest, *, drop: bool) -> _ResponseParser:
        response = _ResponseParser(self._proxy._parsers, request.method)
        while not response.complete:
            try:
                data = await self._receive(server)
            except OSError:
                data = b""
            if not data:
                self._drop_server()
                self._ended = self._ended or not drop or response.status is None
                response.keeps_alive = False
                break
            response.feed(data)
            if not drop:
                request.status = response.status
                await self._send(data)
            elif response.continues:
                response.continues -= 1
                await self._send(_CONTINUE)
        return response


def _has_ended(server: socket.socket) -> bool:
    try:
        return server.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
