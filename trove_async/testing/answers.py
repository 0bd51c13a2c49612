"""`AnsweringProxy`: an HTTP proxy that gives answers that a healthy server does not give, or gives them late.

::

    async with AnsweringProxy("127.0.0.1", 9000) as proxy:
        proxy.answer(s3_error(503, "SlowDown", headers={"Retry-After": "1"}), method="PUT", path="/bucket/key")
        proxy.answer(s3_error(200, "InternalError"), path="uploadId=", method="POST", when="after")
        ...  # the code under test connects to proxy.url()
        assert proxy.count("PUT", "/bucket/key") == 2
        proxy.answer(s3_error(503, "SlowDown"), above=100, times=None)  # what exceeds 100 requests a second
        proxy.delay(0.5, method="GET", every=20, times=None)  # 5 % of the reads are slow

For faults below HTTP combine it with a `FaultProxy`. It needs the extra ``testing``.
"""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from trove_async.errors import InvalidArgumentError
from trove_async.jitter import jitter
from trove_async.layers.rates import TokenBucket
from trove_async.testing.http_messages import (
    Answer,
    BadRequestError,
    RequestParser,
    ResponseParser,
    SeenRequest,
    load_parsers,
    s3_error,
)
from trove_async.testing.sockets import CHUNK, HangUp, Listener, Turns, connect, finish, reset

__all__ = ["Answer", "AnsweringProxy", "SeenRequest", "s3_error"]

When = Literal["before", "after"]

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(slots=True, kw_only=True)
class _Rule:
    """Which requests something happens to."""

    method: str | None
    path: str
    turns: Turns
    allowed: TokenBucket | None = None

    def takes(self, request: SeenRequest) -> bool:
        if self.method not in (None, request.method) or self.path not in request.target:
            return False
        if self.allowed is not None and self.allowed.take(1):
            return False
        return self.turns.take()


@dataclass(slots=True, kw_only=True)
class _AnswerRule(_Rule):
    answer: Answer
    when: When


@dataclass(slots=True, kw_only=True)
class _DelayRule(_Rule):
    seconds: float
    jitter: float


class AnsweringProxy(Listener):
    """Forwards HTTP/1.1 requests to a server, and answers some of them itself.

    Use it in ``async with`` in the loop of the test; it listens on a free port of 127.0.0.1. Requests that it does not
    answer are forwarded unchanged, including ``100 Continue`` and chunks. Pipelined requests, upgrades and bytes that
    are not HTTP are answered with 400. If a client closes its side while it waits for an answer, so does the proxy.

    Args:
        host, port: the server.
        clock: seconds of a monotonic clock, for rates of requests.

    Attributes:
        requests: all requests whose head has arrived, in order.
        accepted: the number of accepted connections.

    Raises:
        MissingDependencyError: httptools is not installed.
    """

    def __init__(self, host: str, port: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.server = (host, port)
        self.requests: list[SeenRequest] = []
        self.accepted = 0
        self._parsers = load_parsers()
        self._clock = clock
        self._answers: list[_AnswerRule] = []
        self._delays: list[_DelayRule] = []
        self._delayed: dict[asyncio.Event, SeenRequest] = {}

    def answer(
        self,
        answer: Answer,
        *,
        method: str | None = None,
        path: str = "",
        when: When = "before",
        skip: int = 0,
        times: int | None = 1,
        above: float | None = None,
    ) -> None:
        """Answer requests that arrive from now on.

        If several answers match a request, the first is given, and the others do not count it.

        Args:
            answer: the answer for the client.
            method: only requests of this method; None for all.
            path: only requests with this text in their path or query.
            when: ``before``: the server never sees the request. It is answered when all of it has arrived; a request
                with ``Expect: 100-continue`` is answered after its head, and its connection is then closed.
                ``after``: the server carries out the request, and its answer is dropped.
            skip: the number of matching requests to forward first.
            times: the number of requests to answer then; None for all.
            above: requests a second. Only matching requests that exceed it are answered, skipped or counted; the others
                are forwarded. Those of a second, at least one, may come at once.
        """
        if above is not None and not above > 0:
            raise InvalidArgumentError(f"above is a number of requests a second, more than 0, not {above!r}")
        if when not in get_args(When):
            raise InvalidArgumentError(f"when is {' or '.join(map(repr, get_args(When)))}, not {when!r}")
        allowed = None if above is None else TokenBucket(above, saving=1, clock=self._clock)
        turns = Turns(skip, times)
        self._answers.append(
            _AnswerRule(method=method, path=path, turns=turns, answer=answer, when=when, allowed=allowed)
        )

    def delay(
        self,
        seconds: float,
        *,
        jitter: float = 0.0,
        method: str | None = None,
        path: str = "",
        skip: int = 0,
        times: int | None = 1,
        every: int = 1,
    ) -> None:
        """Delay requests that arrive from now on, before they are forwarded or answered.

        If several delays match a request, the first applies, and the others do not count it.

        Args:
            seconds: how long; ``math.inf`` for until `clear` is called, or the client disconnects.
            jitter: the maximum of a random additional delay in seconds.
            method: only requests of this method; None for all.
            path: only requests with this text in their path or query.
            skip: the number of matching requests to let pass first.
            times: the number of requests to delay then; None for all.
            every: 20 to delay each 20th of the matching requests only.
        """
        if not (seconds >= 0 and 0 <= jitter < math.inf):
            raise InvalidArgumentError(f"delay and jitter are 0 seconds or more, not {seconds!r} and {jitter!r}")
        if every < 1:
            raise InvalidArgumentError(f"every is 1 or more, not {every!r}")
        turns = Turns(skip, times, every)
        self._delays.append(_DelayRule(method=method, path=path, turns=turns, seconds=seconds, jitter=jitter))

    def clear(self) -> None:
        """Remove all answers and delays; delayed requests go on, and `requests` stays."""
        self._answers.clear()
        self._delays.clear()
        for over in self._delayed:
            over.set()

    def count(self, method: str | None = None, path: str = "") -> int:
        """Return the number of requests with a method (None for any) and with a text in their path or query."""
        return sum(method in (None, request.method) and path in request.target for request in self.requests)

    @property
    def delayed(self) -> list[SeenRequest]:
        """The requests that are delayed now, in order."""
        return [*self._delayed.values()]

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """The number of requests by method and path."""
        return Counter((request.method, request.path) for request in self.requests)

    def _note(self, request: SeenRequest) -> tuple[float, tuple[Answer, When] | None]:
        """Take in a request; return the seconds of its delay, and what it is answered with."""
        self.requests.append(request)
        delay = next((rule for rule in self._delays if rule.takes(request)), None)
        seconds = 0.0 if delay is None else delay.seconds + jitter.uniform(0, delay.jitter)
        rule = next((rule for rule in self._answers if rule.takes(request)), None)
        if rule is None:
            return seconds, None
        request.answer = rule.answer
        return seconds, (rule.answer, rule.when)

    def _admit(self, client: socket.socket) -> tuple[Coroutine[Any, Any, None], Callable[[], None]]:
        self.accepted += 1
        session = _Session(self, client, self.accepted)
        return session.run(), session.close


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
        except BadRequestError as error:
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
        parser = RequestParser(self._proxy._parsers, self._number)
        head = b""
        while parser.request is None:
            data = await self._receive(self._client)
            if not data:
                self._ended = True
                return
            head += data
            parser.feed(data)
        self._ended = not parser.keeps_alive
        seconds, rule = self._proxy._note(parser.request)
        if seconds > 0:
            await self._delay(parser.request, seconds)
        if rule is not None and rule[1] == "before":
            await self._answer_before(parser, parser.request, rule[0])
        else:
            await self._forward(parser, parser.request, head, None if rule is None else rule[0])

    async def _delay(self, request: SeenRequest, seconds: float) -> None:
        over, gone = asyncio.Event(), False

        def disconnected() -> None:
            nonlocal gone
            gone = True
            over.set()

        hang_up = HangUp(self._client, disconnected)
        self._proxy._delayed[over] = request
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(None if seconds == math.inf else seconds):
                    await over.wait()
        finally:
            del self._proxy._delayed[over]
            hang_up.close()
        if gone:
            raise ConnectionAbortedError("the client has disconnected")

    async def _answer_before(self, parser: RequestParser, request: SeenRequest, answer: Answer) -> None:
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

    async def _forward(self, parser: RequestParser, request: SeenRequest, head: bytes, answer: Answer | None) -> None:
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
        self, parser: RequestParser, request: SeenRequest, server: socket.socket, data: bytes
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
        except BadRequestError:
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

    async def _pass_response(self, server: socket.socket, request: SeenRequest, *, drop: bool) -> ResponseParser:
        response = ResponseParser(self._proxy._parsers, request.method)
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
