"""Make connections: names, addresses, the proxy, TLS; all of it within one timeout."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import Final

from trove_async.errors import BackendError, OperationTimeoutError, UnavailableError
from trove_async.wire.origin import Origin, Proxy
from trove_async.wire.protocol import Connection, Owner
from trove_async.wire.proxies import Proxies
from trove_async.wire.race import Address, connect_first
from trove_async.wire.tls import handshake_error, tls_context

__all__ = ["Connector"]

_MAX_ANSWER: Final = 64 * 1024


class Connector:
    """Makes connections for a pool.

    Args:
        timeout: seconds for a connection, from looking up the name to the end of the TLS handshake.
        tls: for https origins; None for one that trusts the system's authorities, made when it is first needed.
        proxies: those through which origins are reached; None for none.
    """

    def __init__(self, *, timeout: float, tls: ssl.SSLContext | None, proxies: Proxies | None) -> None:
        self._timeout = timeout
        self._tls = tls
        self._tls_lock = asyncio.Lock()
        self._proxies = proxies
        self._attempts: set[asyncio.Timeout] = set()

    async def connect(self, origin: Origin, pool: Owner) -> Connection:
        """Return an open connection.

        Raises:
            OperationTimeoutError: it took too long.
            UnavailableError: the origin or its proxy has no address, accepts no connection, or is not trusted.
            BackendError: the origin or its proxy does not speak the protocol.
            InvalidArgumentError: the environment names a proxy that is not an HTTP proxy.
        """
        proxy = None if self._proxies is None else self._proxies.find(origin)
        try:
            async with asyncio.timeout(self._timeout) as attempt:
                self._attempts.add(attempt)
                try:
                    return await self._connect(origin, proxy, pool)
                finally:
                    self._attempts.discard(attempt)
        except TimeoutError as error:
            through = "" if proxy is None else f" through the proxy {proxy}"
            raise OperationTimeoutError(f"no connection to {origin}{through} within {self._timeout:g} s") from error

    def interrupt(self) -> None:
        """Let the attempts in progress fail now, as if they had timed out."""
        now = asyncio.get_running_loop().time()
        for attempt in self._attempts:
            attempt.reschedule(now)

    async def _connect(self, origin: Origin, proxy: Proxy | None, pool: Owner) -> Connection:
        loop = asyncio.get_running_loop()
        context = await self._context() if origin.scheme == "https" else None
        sock = await _open_socket(origin, proxy)
        connection = Connection(pool, origin, sock, loop)
        try:
            if proxy is not None and context is not None:
                await _tunnel(sock, origin, proxy)
            await loop.create_connection(
                lambda: connection,
                sock=sock,
                ssl=context,
                server_hostname=origin.host if context else None,
                ssl_handshake_timeout=self._timeout if context else None,
            )
        except BaseException as error:
            connection.drop()
            # In the next turn, when the loop has closed a transport that it has made already.
            loop.call_soon(_forget, sock, connection, pool)
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


def _forget(sock: socket.socket, connection: Connection, pool: Owner) -> None:
    """Clean up after a connection that could not be made: uvloop may close its transport without `connection_lost`."""
    sock.close()
    pool.lost(connection)


async def _open_socket(origin: Origin, proxy: Proxy | None) -> socket.socket:
    """Connect to the origin, or to its proxy."""
    server = origin if proxy is None else proxy
    target = str(origin) if proxy is None else f"the proxy {proxy}"
    addresses = await _resolve(target, server.host, server.port)
    try:
        return await connect_first(addresses)
    except TimeoutError as error:
        if error.errno is None:
            raise
        reason = os.strerror(error.errno)
        raise UnavailableError(f"cannot connect to {target}: {reason}") from error
    except OSError as error:
        # asyncio's own message of a refusal does not say so.
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UnavailableError(f"cannot connect to {target}: {reason}") from error


async def _resolve(target: str, host: str, port: int) -> list[Address]:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return [(family, (host, port))]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a host name"
        raise UnavailableError(f"cannot connect to {target}: no address of {host!r} ({reason})") from error
    if not found:
        raise UnavailableError(f"cannot connect to {target}: no address of {host!r}")
    return [(family, address) for family, _, _, _, address in found]


async def _tunnel(sock: socket.socket, origin: Origin, proxy: Proxy) -> None:
    """Ask the proxy for a connection to the origin."""
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
    if status == 407:
        raise proxy.authentication_error()
    if not 200 <= status < 300:
        raise UnavailableError(
            f"the proxy {proxy} refuses to connect to {origin}: status {status}", retryable=status >= 500
        )
    if not answer.endswith(b"\r\n\r\n"):
        raise BackendError(f"the proxy {proxy} sent data after its answer, before the TLS handshake")
