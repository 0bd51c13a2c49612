"""`Transport`: HTTP/1.1 for asyncio, with a pool of connections and without retries.

::

    transport = Transport(connections=100)
    response = await transport.send(Origin("http", "localhost", 7480), "GET", "/bucket/key", [])
    data = await response.read_all(8 << 20)

A body is a sequence of buffers, so the caller can send it again; the caller knows whether that is safe. An error with
``ambiguous=True`` came after the whole request was sent and before `Transport.send` returned the response, so the
request may have been carried out.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterable, Iterable, Sequence
from typing import TYPE_CHECKING

from trove_async.cancellation import SHIELD
from trove_async.errors import InvalidArgumentError
from trove_async.wire.connect import Connector
from trove_async.wire.origin import Origin
from trove_async.wire.pool import Pool
from trove_async.wire.protocol import OnInterim
from trove_async.wire.proxies import Proxies
from trove_async.wire.request import encode_head, full_user_agent
from trove_async.wire.response import Response

if TYPE_CHECKING:
    from trove_async.body import Chunk, Piece

__all__ = ["Origin", "Response", "Transport"]


class Transport:
    """Sends requests over connections that are kept and used again.

    It belongs to the event loop in which it is made. A cancellation drops the connection and frees its place at once.

    Args:
        connections: the maximum of open connections, to all origins together; further requests wait in a queue.
        pool_timeout: seconds that requests wait in the queue while no connection becomes free for any of them.
        connect_timeout: seconds for a new connection, its TLS handshake included.
        idle_timeout: seconds without progress, of the request or the response, after which it fails. There is no
            timeout for the whole.
        keep_alive: seconds after which an idle connection is closed instead of used again.
        tls: for https origins; None for one that trusts the system's authorities.
        proxy: ``http://[user:password@]host[:port]``, or a choice by origin; https origins are reached through
            ``CONNECT``.
        user_agent: put before the name and version of this library in ``User-Agent``.

    Raises:
        InvalidArgumentError: a number is not greater than 0, or the proxy is not such a URL.
    """

    def __init__(
        self,
        *,
        connections: int = 100,
        pool_timeout: float = 60,
        connect_timeout: float = 10,
        idle_timeout: float = 60,
        keep_alive: float = 15,
        tls: ssl.SSLContext | None = None,
        proxy: str | Proxies | None = None,
        user_agent: str | None = None,
    ) -> None:
        if min(connections, pool_timeout, connect_timeout, idle_timeout, keep_alive) <= 0:
            raise InvalidArgumentError("the number of connections and the timeouts must be greater than 0")
        self._proxies = Proxies.given(proxy) if isinstance(proxy, str) else proxy
        self._fixed = f"User-Agent: {full_user_agent(user_agent)}\r\n"
        connector = Connector(timeout=connect_timeout, tls=tls, proxies=self._proxies)
        self._pool = Pool(connector, size=connections, timeout=pool_timeout, keep_alive=keep_alive)
        self._idle_timeout = idle_timeout

    @property
    def open_connections(self) -> int:
        """How many connections are open."""
        return self._pool.open

    @property
    def idle_connections(self) -> int:
        """How many of them are idle."""
        return self._pool.idle

    async def send(
        self,
        origin: Origin,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]],
        body: Sequence[Piece] = (),
        *,
        idle_timeout: float | None = None,
    ) -> Response:
        """Send a request; return when the head of the response has arrived, and its body too if that is small.

        A server may answer before it has received the whole request; the remainder is not sent then.

        Args:
            origin: the server.
            method: such as ``GET``.
            target: path and query, percent-encoded; it is sent exactly as given.
            headers: ``Host`` and ``Content-Length`` are added unless they are given.
            body: buffers that must not change before the call returns.
            idle_timeout: replaces the transport's, for this request and its response.

        Raises:
            UnavailableError: the connection cannot be made (refused, reset, unknown name, certificate or proxy
                credentials refused), or it broke before the response, or within a small one.
            OperationTimeoutError: there was no progress for the idle timeout, no connection within its timeout, or
                none became free within the pool's.
            BackendError: the response is not HTTP/1.1, or exceeds the bounds of a head.
            InvalidArgumentError: the target or a header holds a line break.
            ClosedError: the transport is closed.
        """
        size = 0
        for chunk in body:
            size += len(chunk)
        return await self._send(origin, method, target, headers, body, size, idle_timeout, None)

    async def send_stream(
        self,
        origin: Origin,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]],
        body: AsyncIterable[Chunk],
        size: int,
        *,
        on_interim: OnInterim | None = None,
    ) -> Response:
        """Send a request whose body is made while it is sent; otherwise as `send`.

        The time that the body takes to yield a chunk is no idle time.

        Args:
            origin, method, target, headers: as for `send`.
            body: chunks, each of which is taken when the connection has room for it; it may not be taken to its end.
            size: the bytes of all chunks.
            on_interim: gets the interim responses.

        Raises:
            BodySizeError: the body has another size; the server has not received the whole request.
            TroveError: as in `send`; and what the body raises, unchanged.
        """
        return await self._send(origin, method, target, headers, body, size, None, on_interim)

    async def _send(
        self,
        origin: Origin,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]],
        body: Sequence[Piece] | AsyncIterable[Chunk],
        size: int,
        idle_timeout: float | None,
        on_interim: OnInterim | None,
    ) -> Response:
        head = self._encode(origin, method, target, headers, size)
        connection = self._pool.take(origin) or await self._pool.acquire(origin)
        if (shield := SHIELD.get()) is not None and not shield.may_send():
            self._pool.release(connection)
            raise asyncio.CancelledError
        response = await connection.exchange(
            method, head, body, size, self._idle_timeout if idle_timeout is None else idle_timeout, on_interim
        )
        if response.status == 407:
            self._refused_by_proxy(origin, response)
        return response

    async def aclose(self) -> None:
        """Drop all connections; readers of those in use get a `ClosedError`. It may be called again."""
        await self._pool.aclose()

    def _encode(self, origin: Origin, method: str, target: str, headers: Iterable[tuple[str, str]], size: int) -> bytes:
        fixed = self._fixed
        if self._proxies is not None and origin.scheme == "http":
            proxy = self._proxies.find(origin)
            if proxy is not None:
                target = f"{origin}{target}"
                if proxy.authorization is not None:
                    fixed += f"Proxy-Authorization: {proxy.authorization}\r\n"
        return encode_head(method, target, origin.authority, headers, size, fixed)

    def _refused_by_proxy(self, origin: Origin, response: Response) -> None:
        """Raise the error of a proxy that wants credentials, if there is a proxy."""
        proxy = None if self._proxies is None else self._proxies.find(origin)
        if proxy is not None:
            response.abort()
            raise proxy.authentication_error()
