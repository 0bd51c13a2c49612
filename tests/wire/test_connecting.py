"""Connecting: several addresses, cancellation, the queue, proxies, and certificates that Python 3.13 refuses."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import trove_async
from tests.wire.serving import Peer, answering, get, not_of_servers, ok, serving, sockets, transporting
from trove_async.errors import InvalidArgumentError, OperationTimeoutError, UnavailableError
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere
from trove_async.wire import race
from trove_async.wire.protocol import Connection
from trove_async.wire.proxies import Proxies
from trove_async.wire.tls import tls_context
from trove_async.wire.transport import Origin

pytestmark = [pytest.mark.asyncio, pytest.mark.every_loop, pytest.mark.timeout(20)]

Resolve = Callable[..., None]


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Resolve all names to the addresses that a test gives."""

    def give(*addresses: tuple[str, int]) -> None:
        real = asyncio.get_running_loop().getaddrinfo

        async def getaddrinfo(host: str, port: int, **options: Any) -> list[Any]:
            if host[0].isdecimal():
                return await real(host, port, **options)  # uvloop resolves addresses too
            families = [socket.AF_INET6 if ":" in address[0] else socket.AF_INET for address in addresses]
            return [
                (family, socket.SOCK_STREAM, 6, "", address)
                for family, address in zip(families, addresses, strict=True)
            ]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)

    return give


@contextmanager
def dead_address() -> Iterator[tuple[str, int]]:
    """Yield an address that neither accepts nor refuses connections: the backlog of its listener is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()


def refusing_address() -> tuple[str, int]:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address: tuple[str, int] = unused.getsockname()
        return address


# Several addresses


async def test_an_unresponsive_address_does_not_delay_the_next(resolve: Resolve) -> None:
    with dead_address() as dead:
        async with serving(answering(ok(b"here"))) as server:
            resolve(dead, dead, ("127.0.0.1", server.port))
            before = sockets()
            # If the addresses were tried one after the other, the test would time out.
            async with transporting(connect_timeout=600) as transport:
                assert (await get(transport, Origin("http", "name", 1))).content == b"here"
                assert server.accepted == 1
                assert sockets() == before + 2  # both ends of the one connection


async def test_a_refusing_address_is_skipped_immediately(resolve: Resolve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "_ATTEMPT_DELAY", 3600)
    async with serving(answering(ok(b"here"))) as server, transporting() as transport:
        resolve(refusing_address(), refusing_address(), ("127.0.0.1", server.port))
        assert (await get(transport, Origin("http", "name", 1))).content == b"here"


async def test_address_families_alternate() -> None:
    four = [(socket.AF_INET, ("127.0.0.1", port)) for port in range(3)]
    six = [(socket.AF_INET6, ("::1", port)) for port in range(2)]
    assert race._interleave([*six, *four]) == [six[0], four[0], six[1], four[1], four[2]]
    assert race._interleave([*four, *six]) == [four[0], six[0], four[1], six[1], four[2]]


async def test_the_error_is_that_of_the_last_address(resolve: Resolve) -> None:
    resolve(refusing_address(), refusing_address())
    async with transporting() as transport:
        with pytest.raises(UnavailableError, match="cannot connect to http://name:1: Connection refused") as caught:
            await get(transport, Origin("http", "name", 1))
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)
        assert caught.value.retryable


async def test_unresponsive_addresses_time_out(resolve: Resolve) -> None:
    with dead_address() as dead:
        resolve(dead, dead)
        before = sockets()
        async with transporting(connect_timeout=0.4) as transport:
            with pytest.raises(OperationTimeoutError, match=r"within 0\.4 s"):
                await get(transport, Origin("http", "name", 1))
            assert sockets() == before


@pytest.mark.parametrize("delivery", Delivery)
async def test_a_cancelled_race_leaves_nothing(
    resolve: Resolve, monkeypatch: pytest.MonkeyPatch, delivery: Delivery
) -> None:
    monkeypatch.setattr(race, "_ATTEMPT_DELAY", 0)
    with dead_address() as dead:
        async with serving(answering(ok())) as server, transporting(connections=1) as transport:
            resolve(dead, refusing_address(), ("127.0.0.1", server.port), dead)

            async def prepare() -> None:
                for connection in list(transport._pool._connections):
                    connection.drop()

            async def check(outcome: Outcome[object]) -> None:
                assert outcome.error is None
                assert not not_of_servers(outcome.left_running)
                assert not transport._pool._connecting
                assert transport.open_connections == transport.idle_connections <= 1

            origin = Origin("http", "name", 1)
            await cancel_everywhere(lambda: get(transport, origin), delivery, prepare=prepare, check=check)


# Cancellation


async def test_a_connect_that_is_cancelled_when_the_connection_is_made_does_not_hang() -> None:
    """uvloop closes the transport then, and never calls `connection_lost`."""
    async with serving(answering(ok())) as server, transporting() as transport:
        made = transport._pool.made
        asking: list[asyncio.Task[Any]] = []

        def made_and_cancelled(connection: Connection) -> None:
            made(connection)
            asking[0].cancel()

        transport._pool.made = made_and_cancelled  # type: ignore[method-assign]
        asking.append(asyncio.ensure_future(get(transport, server.origin)))
        with pytest.raises(asyncio.CancelledError):
            await asking[0]
        transport._pool.made = made  # type: ignore[method-assign]
        async with asyncio.timeout(5):
            await transport.aclose()
        assert not transport._pool._transports


# The queue


async def test_a_request_times_out_in_the_queue_only_while_no_other_is_served() -> None:
    turns = asyncio.Semaphore(0)

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await turns.acquire()
            await peer.send(ok())

    async with serving(script) as server, transporting(connections=1, pool_timeout=3600) as transport:
        pool, loop = transport._pool, asyncio.get_running_loop()
        tasks = [asyncio.ensure_future(get(transport, server.origin)) for _ in range(3)]
        while len(pool._waiters) < 2:  # noqa: ASYNC110 - the test has a timeout
            await asyncio.sleep(0)
        last = pool._waiters[-1]

        def hour_passes() -> None:
            last.since -= 3600
            last.due -= 3600
            pool._progress -= 3601
            pool._watch(last, loop)  # its timer

        turns.release()
        await tasks[0]
        pool._progress += 3600  # the second was served just now, a full timeout after the third began to wait
        hour_passes()
        assert not last.turn.done()
        hour_passes()
        with pytest.raises(OperationTimeoutError, match="none of 1 connections became free for 3600 s"):
            await tasks[2]
        turns.release()
        assert (await tasks[1]).status == 200


# Proxies


async def test_an_unreachable_proxy_is_named() -> None:
    host, port = refusing_address()
    for origin in (Origin("http", "example.invalid", 80), Origin("https", "example.invalid", 443)):
        async with transporting(proxy=f"http://u:secret@{host}:{port}") as transport:
            with pytest.raises(UnavailableError, match=f"cannot connect to the proxy http://{host}:{port}: ") as caught:
                await get(transport, origin)
            assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("user", "words"), [("", "requires a user"), ("u:secret@", "refuses the user")])
@pytest.mark.parametrize("origin", [Origin("http", "example.invalid", 80), Origin("https", "example.invalid", 443)])
async def test_a_proxy_that_requires_credentials_is_named(origin: Origin, user: str, words: str) -> None:
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 4\r\n\r\nno! "

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(refusal)
        await peer.gone()

    async with serving(script) as server, transporting(proxy=f"http://{user}127.0.0.1:{server.port}") as transport:
        with pytest.raises(
            UnavailableError, match=f"the proxy http://127.*{words}.*; give them in the URL of the proxy"
        ) as caught:
            await get(transport, origin)
        assert (caught.value.status, caught.value.retryable) == (407, False)
        assert "secret" not in str(caught.value)


async def test_the_environment_selects_the_proxy_by_the_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answering(ok(b"direct"))) as server, serving(answering(ok(b"proxied"))) as proxy:
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "internal.example,127.0.0.1")
        async with transporting(proxy=Proxies.of_environment()) as transport:
            assert (await get(transport, Origin("http", "bucket.example", 80), "/k")).content == b"proxied"
            assert (await get(transport, server.origin, "/k")).content == b"direct"
        assert [request.target for request in proxy.requests] == ["http://bucket.example/k"]
        assert [request.target for request in server.requests] == ["/k"]


@pytest.mark.parametrize("url", ["socks5://127.0.0.1:1", "https://127.0.0.1:1"])
async def test_an_invalid_proxy_of_the_environment_is_an_error(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("ALL_PROXY", url)
    async with transporting(proxy=Proxies.of_environment()) as transport:
        for scheme in ("http", "https"):
            with pytest.raises(InvalidArgumentError, match="proxy=none"):
                await get(transport, Origin(scheme, "example.invalid", 80))


# User-Agent


async def test_the_user_agent_of_the_application_precedes_that_of_the_library() -> None:
    library = f"trove-async/{trove_async.__version__}"
    for given, sent in ((None, library), ("my-service/1.2", f"my-service/1.2 {library}")):
        async with serving(answering(ok())) as server, transporting(user_agent=given) as transport:
            await get(transport, server.origin)
        assert server.requests[0].headers["user-agent"] == sent
    with pytest.raises(InvalidArgumentError, match="my-service"):
        trove_async.wire.transport.Transport(user_agent="a\r\nb")


# Certificates


@pytest.fixture(scope="module")
def bare_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority and a server certificate without the extensions that RFC 5280 requires, as old tools make them."""
    folder = tmp_path_factory.mktemp("bare")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    (folder / "ca.cnf").write_text(
        "[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN=private\n[ext]\nbasicConstraints=CA:TRUE\n"
    )
    (folder / "server.ext").write_text("subjectAltName=IP:127.0.0.1\n")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl(
        "req",
        "-x509",
        *curve,
        "-days",
        "2",
        "-config",
        "ca.cnf",
        "-extensions",
        "ext",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
    )
    openssl("req", *curve, "-subj", "/CN=server", "-keyout", "server.key", "-out", "server.csr")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "server.ext", "-out", "server.pem")  # fmt: skip
    return folder


async def test_a_certificate_without_required_extensions_is_refused_with_advice_or_accepted(
    bare_certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = ssl.create_default_context

    def strict(**options: Any) -> ssl.SSLContext:
        """Make the context as Python does from 3.13 on."""
        context = default(**options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_tls.load_cert_chain(bare_certificate / "server.pem", bare_certificate / "server.key")
    ca_file = str(bare_certificate / "ca.pem")
    async with serving(answering(ok()), tls=server_tls) as server:
        async with transporting(tls=await tls_context(ca_file=ca_file)) as transport:
            with pytest.raises(UnavailableError, match=r"refused: .*; .*RFC 5280.*tls_strict=0") as caught:
                await get(transport, server.origin)
            assert not caught.value.retryable
        async with transporting(tls=await tls_context(ca_file=ca_file, strict=False)) as transport:
            assert (await get(transport, server.origin)).status == 200


async def test_a_host_name_may_have_an_underscore(resolve: Resolve) -> None:
    async with serving(answering(ok())) as server, transporting() as transport:
        resolve(("127.0.0.1", server.port))
        assert (await get(transport, Origin("http", "minio_server", server.port))).status == 200
        assert server.requests[0].headers["host"] == f"minio_server:{server.port}"
