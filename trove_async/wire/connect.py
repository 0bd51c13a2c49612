"""Make connections: names, addresses, the proxy, TLS; all of it within one timeout."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import TYPE_CHECKING, Any, Final

from trove_async.errors import BackendError, OperationTimeoutError, UnavailableError
from trove_async.wire.origin import Origin, Proxy
from trove_async.wire.protocol import Connection
from trove_async.wire.tls import handshake_error, tls_context

if TYPE_CHECKING:
    from trove_async.wire.pool import Pool

__all__ = ["Connector"]

_MAX_ANSWER: Final = 64 * 1024
_Address = tuple[int, Any]  # family, socket address


class Connector:
    """Makes connections for a pool.

    Args:
        timeout: seconds for a connection, from the look-up of the name to the end of the TLS handshake.
        tls: for https origins; None for one that trusts the system's authorities, made when it is first needed.
        proxy: through which all of them go.
    """

    def __init__(self, *, timeout: float, tls: ssl.SSLContext | None, proxy: Proxy | None) -> None:
        self._timeout = timeout
        self._tls = tls
        self._tls_lock = asyncio.Lock()
        self._proxy = proxy
        self._attempts: set[asyncio.Timeout] = set()

    async def connect(self, origin: Origin, pool: Pool) -> Connection:
        """Return a connection that is open.

        Raises:
            OperationTimeoutError: it took too long.
            UnavailableError: no address of the origin, or no connection to it, or no trust in it.
            BackendError: it, or the proxy, does not speak the protocol.
        """
        try:
            async with asyncio.timeout(self._timeout) as attempt:
                self._attempts.add(attempt)
                try:
                    return await self._connect(origin, pool)
                finally:
                    self._attempts.discard(attempt)
        except TimeoutError as error:
            raise OperationTimeoutError(f"no connection to {origin} within {self._timeout:g} s") from error

    def interrupt(self) -> None:
        """Have the attempts that are under way fail now, as if their time were over."""
        now = asyncio.get_running_loop().time()
        for attempt in self._attempts:
            attempt.reschedule(now)

    async def _connect(self, origin: Origin, pool: Pool) -> Connection:
        loop = asyncio.get_running_loop()
        context = await self._context() if origin.scheme == "https" else None
        via = self._proxy
        sock = await self._open_socket(origin, *((via.host, via.port) if via else (origin.host, origin.port)))
        connection = Connection(pool, origin, sock, loop)
        try:
            if via is not None and context is not None:
                await _tunnel(sock, origin, via)
            await loop.create_connection(
                lambda: connection,
                sock=sock,
                ssl=context,
                server_hostname=origin.host if context else None,
                ssl_handshake_timeout=self._timeout if context else None,
            )
        except BaseException as error:
            connection.drop()
            # After the transport, which may have it already, has let go of it.
            loop.call_soon(sock.close)
            if isinstance(error, ssl.SSLError):
                raise handshake_error(origin, error) from error
            if isinstance(error, OSError) and not isinstance(error, TimeoutError | UnavailableError):
                raise UnavailableError(f"the connection to {origin} broke: {error}") from error
            raise
        return connection

    async def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            async with self._tls_lock:
                if self._tls is None:
                    self._tls = await tls_context()
        return self._tls

    async def _open_socket(self, origin: Origin, host: str, port: int) -> socket.socket:
        """Connect to the first address that answers; each has an equal share of the time that is left."""
        loop = asyncio.get_running_loop()
        addresses = await _resolve(origin, host, port)
        deadline = loop.time() + self._timeout
        failure: OSError | None = None
        for place, (family, address) in enumerate(addresses):
            share = (deadline - loop.time()) / (len(addresses) - place)
            try:
                async with asyncio.timeout(share):
                    return await _connect_socket(family, address)
            except OSError as error:
                failure = error
        if isinstance(failure, TimeoutError) and failure.errno is None:
            raise failure
        # asyncio's own message of a refusal does not say so.
        reason = os.strerror(failure.errno) if failure is not None and failure.errno else failure
        raise UnavailableError(f"cannot connect to {origin}: {reason or 'it has no address'}") from failure


async def _connect_socket(family: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _resolve(origin: Origin, host: str, port: int) -> list[_Address]:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return [(family, (host, port))]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no host name"
        raise UnavailableError(f"cannot connect to {origin}: no address of {host!r} ({reason})") from error
    return [(family, address) for family, _, _, _, address in found]


async def _tunnel(sock: socket.socket, origin: Origin, proxy: Proxy) -> None:
    """Have the proxy connect us to the origin."""
    loop = asyncio.get_running_loop()
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    head = f"CONNECT {host}:{origin.port} HTTP/1.1\r\nHost: {host}:{origin.port}\r\n"
    if proxy.authorization is not None:
        head += f"Proxy-Authorization: {proxy.authorization}\r\n"
    await loop.sock_sendall(sock, f"{head}\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = await loop.sock_recv(sock, _MAX_ANSWER)
        if not data:
            raise UnavailableError(f"the proxy {proxy} closed the connection instead of connecting to {origin}")
        answer += data
        if len(answer) > _MAX_ANSWER:
            break
    version, _, rest = answer.partition(b" ")
    status = int(rest[:3]) if rest[:3].isdigit() else 0
    if not version.startswith(b"HTTP/1.") or not status:
        raise BackendError(f"the proxy {proxy} answered with something that is not HTTP/1.1")
    if not 200 <= status < 300:
        raise UnavailableError(
            f"the proxy {proxy} refuses to connect to {origin}: status {status}", retryable=status >= 500
        )
    if not answer.endswith(b"\r\n\r\n"):
        raise BackendError(f"the proxy {proxy} sent more than an answer")
