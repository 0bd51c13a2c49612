"""`Transport`: HTTP/1.1 for asyncio, with a pool of connections, and never a second try.

::

    transport = Transport(connections=100)
    response = await transport.send(Origin("http", "localhost", 7480), "GET", "/bucket/key", [])
    data = await response.read_all(8 << 20)

What is sent are buffers, so a caller can send them again; whether that is safe is the caller's to know. An error
with ``ambiguous=True`` came after the whole request was sent and before `Transport.send` returned its answer, so it may
have been carried out.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from trove_async.errors import InvalidArgumentError
from trove_async.wire.connect import Connector
from trove_async.wire.origin import Origin, Proxy
from trove_async.wire.pool import Pool
from trove_async.wire.request import encode_head
from trove_async.wire.response import Response

if TYPE_CHECKING:
    from trove_async.body import Chunk

__all__ = ["Origin", "Response", "Transport"]


class Transport:
    """Sends requests over connections that are kept for the next ones.

    It belongs to the event loop in which it is made. A cancellation drops the connection and frees its place at once.

    Args:
        connections: how many there may be at a time, to all origins together; further requests wait in line.
        pool_timeout: seconds that a request waits in line.
        connect_timeout: seconds for a new connection, its TLS handshake included.
        idle_timeout: seconds without progress, of the request or of the answer, after which it fails. There is no
            timeout for the whole.
        keep_alive: seconds after which an idle connection is closed instead of used again.
        tls: for https origins; None for one that trusts the authorities that the system trusts.
        proxy: ``http://[user:password@]host[:port]``; https origins are reached through ``CONNECT``.

    Raises:
        InvalidArgumentError: a number is not more than 0, or the proxy is no such URL.
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
        proxy: str | None = None,
    ) -> None:
        if min(connections, pool_timeout, connect_timeout, idle_timeout, keep_alive) <= 0:
            raise InvalidArgumentError("the number of connections and the timeouts are more than 0")
        self._proxy = None if proxy is None else Proxy.parse(proxy)
        connector = Connector(timeout=connect_timeout, tls=tls, proxy=self._proxy)
        self._pool = Pool(connector, size=connections, timeout=pool_timeout, keep_alive=keep_alive)
        self._idle_timeout = idle_timeout

    @property
    def open_connections(self) -> int:
        """How many connections are open."""
        return self._pool.open

    @property
    def idle_connections(self) -> int:
        """How many of them wait to be used again."""
        return self._pool.idle

    async def send(
        self,
        origin: Origin,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]],
        body: Sequence[Chunk] = (),
        *,
        idle_timeout: float | None = None,
    ) -> Response:
        """Send a request; return when the head of the answer is there, and all of it if it is small.

        A server may answer before it has the whole request: that is the answer, and the rest is not sent.

        Args:
            origin: where to.
            method: such as ``GET``.
            target: path and query, percent-encoded; it is sent exactly as given.
            headers: ``Host`` and ``Content-Length`` are added unless they are given.
            body: buffers that may not be changed before the call returns.
            idle_timeout: another than the transport's, for this request and its answer.

        Raises:
            UnavailableError: no connection (refused, reset, no such name, certificate refused), or it broke before the
                answer, or within a small one.
            OperationTimeoutError: nothing moved for the idle timeout, no connection within its timeout, or none came
                free within the pool's.
            BackendError: what answers is no HTTP/1.1.
            InvalidArgumentError: the target or a header holds a line break.
            ClosedError: the transport is closed.
        """
        size = 0
        for chunk in body:
            size += len(chunk)
        head = self._encode(origin, method, target, headers, size)
        connection = self._pool.take(origin) or await self._pool.acquire(origin)
        return await connection.exchange(
            method, head, body, size, self._idle_timeout if idle_timeout is None else idle_timeout
        )

    async def aclose(self) -> None:
        """Drop all connections, also those in use, whose readers get a `ClosedError`; it may be called again."""
        await self._pool.aclose()

    def _encode(self, origin: Origin, method: str, target: str, headers: Iterable[tuple[str, str]], size: int) -> bytes:
        proxy = self._proxy
        if proxy is None or origin.scheme == "https":
            return encode_head(method, target, origin.authority, headers, size)
        more = "" if proxy.authorization is None else f"Proxy-Authorization: {proxy.authorization}\r\n"
        return encode_head(method, f"{origin}{target}", origin.authority, headers, size, more)
