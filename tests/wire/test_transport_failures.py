from __future__ import annotations

import asyncio
import base64
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.wire.serving import Clock, Peer, answering, get, ok, proxied, serving, transporting
from trove_async.errors import BackendError, InvalidArgumentError, OperationTimeoutError, UnavailableError
from trove_async.testing.proxy import ConnectionFault
from trove_async.wire.protocol import Connection
from trove_async.wire.tls import tls_context
from trove_async.wire.transport import Origin, Transport

pytestmark = [pytest.mark.asyncio, pytest.mark.every_loop, pytest.mark.timeout(10)]

MIB = 1 << 20
BODY = bytes(16 * MIB)
REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\nConnection: close\r\n\r\ndenied"


# Timeouts


async def received(server: socket.socket, size: int) -> None:
    """Receive up to ``size`` bytes, until the client closes the connection."""
    while size > 0 and (data := await asyncio.get_running_loop().sock_recv(server, MIB)):
        size -= len(data)


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_request_that_is_given_up_is_reset_though_the_server_does_not_read(cancelled: bool) -> None:
    """Nothing that the system still holds of it is sent, and no socket waits for the server."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        origin = Origin("http", "127.0.0.1", listener.getsockname()[1])
        async with transporting(idle_timeout=60 if cancelled else 0.05) as transport:
            put = asyncio.create_task(transport.send(origin, "PUT", "/", (), body=(BODY,)))
            server, _ = await loop.sock_accept(listener)
            with server:
                await loop.sock_recv(server, 1)
                if cancelled:
                    put.cancel()
                with pytest.raises(asyncio.CancelledError if cancelled else OperationTimeoutError):
                    await put
                with pytest.raises(ConnectionResetError):
                    await received(server, len(BODY))


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_no_answer_within_the_idle_timeout(answer: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        await peer.gone()

    async with serving(script) as server, transporting(idle_timeout=0.05) as transport:
        with pytest.raises(OperationTimeoutError, match="answered nothing") as caught:
            await get(transport, server.origin)
        assert caught.value.ambiguous
        assert transport.open_connections == 0
        await server.all_gone()


async def test_a_request_can_set_its_own_idle_timeout() -> None:
    hold = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok())
        await peer.request()
        await hold.wait()
        await peer.send(ok())
        await peer.gone()

    async with serving(script) as server, transporting(idle_timeout=30) as transport:
        await get(transport, server.origin)
        with pytest.raises(OperationTimeoutError, match=r"for 0.05 s"):
            await get(transport, server.origin, idle_timeout=0.05)


async def test_a_stalled_body_times_out_only_while_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok(bytes(100_000))[:-1])
        await peer.gone()

    clock = Clock(monkeypatch)
    async with serving(script) as server, transporting(idle_timeout=30) as transport:
        response = await get(transport, server.origin)
        clock.advance(100)
        got = 0
        while got < 99_999:
            got += len(await response.read(MIB))
        reading = asyncio.create_task(response.read(1))
        await asyncio.sleep(0)
        clock.advance(30)
        with pytest.raises(OperationTimeoutError) as caught:
            await reading
        assert not caught.value.ambiguous
        assert transport.open_connections == 0


async def test_slow_progress_does_not_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        for count, byte in enumerate(ok(bytes(10)), 1):
            clock.advance(20)
            await peer.send(bytes([byte]))
            while clock.received < count:  # noqa: ASYNC110 - a connection announces nothing; the test has a timeout
                await asyncio.sleep(0)
        await peer.gone()

    # The complete answer takes longer than the timeout, each byte less.
    clock = Clock(monkeypatch)
    async with serving(script) as server, transporting(idle_timeout=30) as transport:
        assert (await get(transport, server.origin)).content == bytes(10)


async def test_a_request_that_the_server_does_not_read_times_out() -> None:
    async def script(peer: Peer) -> None:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    async with serving(script) as server, transporting(idle_timeout=0.05) as transport:
        with pytest.raises(OperationTimeoutError, match="took nothing") as caught:
            await transport.send(server.origin, "PUT", "/", [], [BODY])
        assert not caught.value.ambiguous
        assert transport.open_connections == 0


async def test_a_request_that_the_server_reads_slowly_does_not_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(peer: Peer) -> None:
        # The system's buffers hold less than the client could send within the timeout.
        peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        await peer.head()
        taken = 0
        while taken < len(BODY):
            taken += (count := len(await peer.reader.read(MIB)))
            clock.advance(4 * count / MIB)
        await peer.send(ok())

    # All of it takes twice as long as the timeout.
    clock = Clock(monkeypatch)
    async with serving(script) as server, transporting(idle_timeout=30) as transport:
        assert (await transport.send(server.origin, "PUT", "/", [], [BODY])).status == 200


async def test_the_connect_timeout_includes_the_tls_handshake() -> None:
    async def script(peer: Peer) -> None:
        await peer.gone()

    async with serving(script) as server, transporting(connect_timeout=0.05) as transport:
        with pytest.raises(OperationTimeoutError, match=r"within 0.05 s") as caught:
            await get(transport, Origin("https", "127.0.0.1", server.port))
        assert not caught.value.ambiguous
        await server.all_gone()


# Answers before the end of the request


@pytest.mark.parametrize("how", ["end", "reset", "stay"])
@pytest.mark.parametrize("read_first", [0, MIB])
async def test_an_answer_before_the_end_of_the_request_is_the_answer(how: str, read_first: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.reader.readexactly(read_first)
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await peer.send(REFUSAL)
        if how == "reset":
            await asyncio.sleep(0.01)
            peer.reset()
        elif how == "stay":
            await asyncio.Event().wait()

    async with serving(script) as server, transporting() as transport:
        for _ in range(10):
            response = await transport.send(server.origin, "PUT", "/", [], [BODY])
            assert (response.status, response.content) == (403, b"denied")
            assert transport.open_connections == 0


async def test_an_answer_is_read_although_a_reset_followed_it() -> None:
    body_begun, answered = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        body_begun.set()
        await peer.send(REFUSAL)
        peer.writer.close()  # with unread bytes of the request: the kernel sends a reset
        answered.set()

    async with serving(script) as server, transporting() as transport:
        # The write fails before the loop looks at the socket.
        pool = transport._pool
        connection = await pool.acquire(server.origin)
        sending = asyncio.ensure_future(
            connection.exchange(
                "PUT", b"PUT / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n", [bytes(500_000)], 500_000, 5
            )
        )
        await body_begun.wait()
        connection._transport.pause_reading()  # type: ignore[union-attr]
        await answered.wait()
        while not sending.done():
            connection._transport.write(bytes(1000))  # type: ignore[union-attr]
            await asyncio.sleep(0.001)
        assert (await sending).content == b"denied"


async def test_a_connection_with_an_incomplete_request_is_not_reused() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n")
        await peer.gone()

    async with serving(script) as server, transporting() as transport:
        response = await transport.send(server.origin, "PUT", "/", [], [BODY])
        assert response.status == 503
        assert transport.open_connections == 0


@pytest.mark.parametrize("kind", ["cut", "reset"])
async def test_a_connection_that_breaks_during_the_request_is_unavailable(kind: str) -> None:
    async with serving(answering(ok())) as server, proxied(server) as (proxy, origin), transporting() as transport:
        proxy.inject(ConnectionFault(**{f"{kind}_up_after": 3 * MIB}))  # type: ignore[arg-type]
        with pytest.raises(UnavailableError) as caught:
            await transport.send(origin, "PUT", "/", [], [BODY])
        assert not caught.value.ambiguous
        assert transport.open_connections == 0
        assert (await transport.send(origin, "PUT", "/", [], [BODY])).status == 200


@pytest.mark.parametrize("kind", ["cut", "reset"])
async def test_a_connection_that_breaks_before_the_answer_is_ambiguous(kind: str) -> None:
    async with serving(answering(ok())) as server, proxied(server) as (proxy, origin), transporting() as transport:
        proxy.inject(ConnectionFault(**{f"{kind}_down_after": 0}))  # type: ignore[arg-type]
        with pytest.raises(UnavailableError) as caught:
            await transport.send(origin, "PUT", "/", [], [b"x" * 1000])
        assert caught.value.ambiguous
        assert len(server.requests) == 1


async def test_an_idle_connection_that_ends_when_it_is_used_is_an_error_that_says_so() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok())
        await peer.reader.readexactly(1)
        peer.reset()

    async with serving(script) as server, transporting() as transport:
        await get(transport, server.origin)
        with pytest.raises(UnavailableError) as caught:
            await get(transport, server.origin)
        assert caught.value.ambiguous
        assert caught.value.retryable
        assert (await get(transport, server.origin)).status == 200


@pytest.mark.parametrize("turns", range(4))
async def test_a_connection_that_ends_immediately_frees_its_slot(turns: int) -> None:
    async def script(peer: Peer) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        if peer.server.accepted <= 20:
            peer.reset() if peer.server.accepted % 2 else peer.writer.close()
            return
        await answering(ok())(peer)

    async with serving(script) as server, transporting(connections=1) as transport:
        for _ in range(20):
            with pytest.raises(UnavailableError):
                await get(transport, server.origin)
            assert transport.open_connections == 0
        assert (await get(transport, server.origin)).status == 200


async def test_a_connection_that_is_lost_before_its_task_resumes_frees_its_slot() -> None:
    async with serving(answering(ok())) as server, transporting(connections=1) as transport:
        made = transport._pool.made

        def made_for_a_moment(connection: Connection) -> None:
            made(connection)
            asyncio.get_running_loop().call_soon(connection.eof_received)

        transport._pool.made = made_for_a_moment  # type: ignore[method-assign]
        with pytest.raises(UnavailableError, match="immediately"):
            await get(transport, server.origin)
        transport._pool.made = made  # type: ignore[method-assign]
        assert transport.open_connections == transport._pool._connecting == 0
        assert (await get(transport, server.origin)).status == 200


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, which is its own authority, with its key."""
    folder = tmp_path_factory.mktemp("tls")
    names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:bucket.localhost", "-subj", "/CN=tests"]
    usage = ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(["openssl", "req", "-x509", *curve, *names, *usage, *files], check=True, capture_output=True)
    (folder / "both.pem").write_bytes((folder / "cert.pem").read_bytes() + (folder / "key.pem").read_bytes())
    return folder / "both.pem"


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_requests_over_tls(certificate: Path, server_tls: ssl.SSLContext) -> None:
    context = await tls_context(True, str(certificate))
    script = answering(ok(b"a"), ok(bytes(5 * MIB)), ok(b"b"))
    async with serving(script, tls=server_tls) as server, transporting(tls=context) as transport:
        assert (await get(transport, server.origin)).content == b"a"
        assert len(await (await get(transport, server.origin)).read_all(5 * MIB)) == 5 * MIB
        response = await transport.send(server.origin, "PUT", "/", [], [BODY])
        assert response.content == b"b"
        assert server.requests[-1].body == BODY
        assert server.accepted == transport.idle_connections == 1


async def test_an_early_answer_over_tls(certificate: Path, server_tls: ssl.SSLContext) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(REFUSAL)

    context = await tls_context(True, str(certificate))
    async with serving(script, tls=server_tls) as server, transporting(tls=context) as transport:
        response = await transport.send(server.origin, "PUT", "/", [], [BODY])
        assert (response.status, response.content) == (403, b"denied")


async def test_an_untrusted_certificate_is_refused(server_tls: ssl.SSLContext) -> None:
    async with serving(answering(ok()), tls=server_tls) as server, transporting() as transport:
        with pytest.raises(UnavailableError, match=r"self-signed certificate.*ca_file") as caught:
            await get(transport, server.origin)
        assert not caught.value.retryable
        assert not caught.value.ambiguous
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        assert transport.open_connections == 0
        assert not server.requests


async def test_a_certificate_for_another_host_is_refused(certificate: Path, server_tls: ssl.SSLContext) -> None:
    context = await tls_context(True, str(certificate))
    async with serving(answering(ok()), tls=server_tls) as server, transporting(tls=context) as transport:
        with pytest.raises(UnavailableError, match="not valid for 'localhost'") as caught:
            await get(transport, Origin("https", "localhost", server.port))
        assert not caught.value.retryable


async def test_verification_of_certificates_can_be_switched_off(server_tls: ssl.SSLContext) -> None:
    context = await tls_context(False)
    async with serving(answering(ok()), tls=server_tls) as server, transporting(tls=context) as transport:
        assert (await get(transport, server.origin)).status == 200


async def test_plain_http_on_a_tls_connection_is_reported(server_tls: ssl.SSLContext) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(script) as server, transporting() as transport:
        with pytest.raises(BackendError, match="http://"):
            await get(transport, Origin("https", "127.0.0.1", server.port))


async def test_an_end_during_the_handshake_is_unavailable() -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)

    async with serving(script) as server, transporting() as transport:
        with pytest.raises(UnavailableError):
            await get(transport, Origin("https", "127.0.0.1", server.port))


async def test_an_unusable_ca_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    for name in ("missing.pem", "empty.pem"):
        with pytest.raises(InvalidArgumentError, match=name):
            await tls_context(True, str(tmp_path / name))
    with pytest.raises(InvalidArgumentError, match="contradict"):
        await tls_context(False, str(tmp_path / "empty.pem"))


# Proxies


@pytest.mark.parametrize(
    "url", ["https://a", "a:80", "http://", "http://a:b", "http://a/path", "socks5://a", "http://[a"]
)
async def test_an_invalid_proxy_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgumentError, match="http://"):
        Transport(proxy=url)


async def test_plain_requests_are_sent_to_the_proxy_with_the_full_url() -> None:
    async with serving(answering(ok())) as server:
        async with transporting(proxy=f"http://us%40er:p%3Aw@127.0.0.1:{server.port}") as transport:
            await get(transport, Origin("http", "bucket.example", 8080), "/a?b")
        request = server.requests[0]
        assert (request.target, request.headers["host"]) == ("http://bucket.example:8080/a?b", "bucket.example:8080")
        assert request.headers["proxy-authorization"] == "Basic " + base64.b64encode(b"us@er:p:w").decode()


async def test_tls_uses_a_tunnel(certificate: Path, server_tls: ssl.SSLContext) -> None:
    async with serving(answering(ok(b"inside")), tls=server_tls) as server:

        async def script(peer: Peer) -> None:
            await peer.head()
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            await peer.send(b"HTTP/1.1 200 Connection established\r\nVia: tests\r\n\r\n")

            async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                while data := await source.read(65536):
                    sink.write(data)
                sink.close()

            try:
                await asyncio.gather(pump(peer.reader, writer), pump(reader, peer.writer))
            finally:
                writer.transport.abort()

        context = await tls_context(True, str(certificate))
        async with serving(script) as proxy:
            async with transporting(tls=context, proxy=f"http://u:p@127.0.0.1:{proxy.port}") as transport:
                for _ in range(3):
                    assert (await get(transport, server.origin)).content == b"inside"
                assert proxy.accepted == 1
            request = proxy.requests[0]
            assert (request.method, request.target) == ("CONNECT", f"127.0.0.1:{server.port}")
            assert request.headers["proxy-authorization"].startswith("Basic ")
        assert "proxy-authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("answer", "error", "retryable"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", UnavailableError, False),
        (b"HTTP/1.1 503 Unavailable\r\n\r\n", UnavailableError, True),
        (b"SSH-2.0-OpenSSH\r\n\r\n", BackendError, False),
        (b"", UnavailableError, True),
    ],
)
async def test_a_refused_tunnel_is_an_error(answer: bytes, error: type[Exception], retryable: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer)

    async with serving(script) as proxy, transporting(proxy=f"http://u:secret@127.0.0.1:{proxy.port}") as transport:
        with pytest.raises(error, match="proxy") as caught:
            await get(transport, Origin("https", "example.invalid", 443))
        assert caught.value.retryable is retryable  # type: ignore[attr-defined]
        assert "secret" not in str(caught.value)
        assert transport.open_connections == 0
