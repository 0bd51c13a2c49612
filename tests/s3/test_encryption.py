"""Settings of a DSN for encryption, payment, storage classes, credentials and connections, on real servers."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

import trove_async as trove
from tests.s3.stores import PART, ServerName, address, busy, opened, pattern, scratch
from tests.servers import running
from trove_async.drivers.s3.driver import S3Driver
from trove_async.testing.answers import AnsweringProxy, SeenRequest

pytestmark = pytest.mark.asyncio

KEY = base64.b64encode(bytes(range(32))).decode()
OTHER_KEY = base64.b64encode(bytes(32)).decode()


@pytest_asyncio.fixture
async def ceph_bucket() -> AsyncIterator[str]:
    async with scratch("ceph") as name:
        yield name


# Customer-provided keys


@pytest.mark.parametrize("size", [0, 100, PART, 3 * PART + 5])
async def test_objects_with_a_customer_provided_key(ceph_bucket: str, size: int) -> None:
    data = pattern(size)
    async with opened("ceph", sse_customer_key=KEY) as store:
        info = await store.put(ceph_bucket, "key", data, metadata={"a": "b"})
        assert await store.read(ceph_bucket, "key") == data
        found = await store.head(ceph_bucket, "key")
        assert (found.size, found.etag, dict(found.metadata)) == (size, info.etag, {"a": "b"})
        if size:
            assert await store.read(ceph_bucket, "key", range=(size // 2, 10)) == data[size // 2 : size // 2 + 10]


@pytest.mark.parametrize("other", [None, OTHER_KEY], ids=["none", "another"])
async def test_reading_without_the_key_is_refused(ceph_bucket: str, other: str | None) -> None:
    async with opened("ceph", sse_customer_key=KEY) as store, opened("ceph", sse_customer_key=other) as stranger:
        await store.put(ceph_bucket, "key", b"secret")
        for read in (stranger.read, stranger.head):
            with pytest.raises(trove.TroveError) as caught:
                await read(ceph_bucket, "key")
            assert caught.value.status in (400, 403)
            assert not caught.value.retryable
            assert_no_secret(caught.value, KEY, OTHER_KEY)
        await stranger.delete(ceph_bucket, "key")


@pytest.mark.parametrize("limit", [None, PART], ids=["whole", "parts"])
async def test_copies_with_a_customer_provided_key(limit: int | None) -> None:
    """Moto ignores the key, but the requests to it are visible."""
    async with (
        scratch("moto") as bucket,
        AnsweringProxy(*address("moto")) as service,
        opened("moto", service.url(), sse_customer_key=KEY, max_copy_size=limit) as store,
    ):
        await store.put(bucket, "key", pattern(2 * PART))
        service.requests.clear()
        await store.copy(bucket, "key", bucket, "copy")
        copies = [request for request in service.requests if request.header("x-amz-copy-source")]
        assert len(copies) == (1 if limit is None else 2)
        for request in copies:
            assert request.header("x-amz-copy-source-server-side-encryption-customer-key") == KEY
            assert request.header("x-amz-server-side-encryption-customer-key") == KEY


async def test_every_request_that_needs_the_key_has_it(
    service: AnsweringProxy, server: ServerName, bucket: str
) -> None:
    async with opened(server, service.url(), sse_customer_key=KEY) as store:
        await store.put(bucket, "key", pattern(2 * PART))
        await store.read(bucket, "key")
        await store.head(bucket, "key")
    needing = [request for request in service.requests if needs_key(request)]
    assert len(needing) == 5
    assert {request.header("x-amz-server-side-encryption-customer-key") for request in needing} == {KEY}


def needs_key(request: SeenRequest) -> bool:
    return "uploadId=" not in request.target or "partNumber=" in request.target


# Keys of the service


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        ({"sse": "AES256"}, {"x-amz-server-side-encryption": "AES256"}),
        ({"sse": "aws:kms"}, {"x-amz-server-side-encryption": "aws:kms"}),
        (
            {"sse": "aws:kms", "sse_kms_key": "alias/one"},
            {"x-amz-server-side-encryption": "aws:kms", "x-amz-server-side-encryption-aws-kms-key-id": "alias/one"},
        ),
    ],
)
async def test_writes_declare_encryption_at_rest(settings: dict[str, str], headers: dict[str, str]) -> None:
    async with (
        scratch("moto") as bucket,
        AnsweringProxy(*address("moto")) as service,
        opened("moto", service.url(), **settings) as store,
    ):
        await store.put(bucket, "small", b"data")
        await store.put(bucket, "large", pattern(2 * PART))
        await store.copy(bucket, "small", bucket, "copy")
        await store.read(bucket, "small")
        client = await trove.unwrap(store.driver, S3Driver).sdk_client()
        for key in ("small", "large", "copy"):
            described = await client.head_object(Bucket=bucket, Key=key)
            assert described["ServerSideEncryption"] == settings["sse"]
    for request in service.requests:
        writes = request.method in ("PUT", "POST") and "uploadId=" not in request.target
        found = {name: value for name, value in request.headers if name.startswith("x-amz-server-side")}
        assert found == (headers if writes else {})


# Who pays, and the storage class


async def test_every_request_declares_that_the_requester_pays(
    server: ServerName, bucket: str, service: AnsweringProxy
) -> None:
    async with opened(server, service.url(), requester_pays=True) as store:
        await store.put(bucket, "key", pattern(2 * PART), tags={"a": "b"})
        await store.read(bucket, "key")
        await store.head(bucket, "key")
        await store.copy(bucket, "key", bucket, "copy")
        await store.list(bucket).all()
        await store.set_tags(bucket, "key", {"a": "b"})
        await store.delete_many(bucket, ["key", "copy"])
    assert service.count() >= 10
    for request in service.requests:
        assert request.header("x-amz-request-payer") == "requester", request.target
        signed = (request.header("authorization") or "").partition("SignedHeaders=")[2].partition(",")[0]
        assert "x-amz-request-payer" in signed.split(";")


async def test_the_store_has_a_storage_class(ceph_bucket: str) -> None:
    other = running("ceph").storage_class
    async with opened("ceph", storage_class=other) as store, opened("ceph") as plain:
        for key, data in (("small", b"data"), ("large", pattern(2 * PART))):
            info = await store.put(ceph_bucket, key, data)
            assert (await plain.head(ceph_bucket, key)).storage_class == other
            assert info.storage_class == other
        await plain.copy(ceph_bucket, "small", ceph_bucket, "copy")
        assert (await plain.head(ceph_bucket, "copy")).storage_class == other  # that of its source
        await store.put(ceph_bucket, "named", b"data", storage_class="STANDARD")
        assert (await plain.head(ceph_bucket, "named")).storage_class is None
        classes = {found.key: found.storage_class async for found in plain.list(ceph_bucket)}
        assert classes == {"small": other, "large": other, "copy": other, "named": None}


# Anonymous access


ANONYMOUS: dict[str, Any] = {"access_key": None, "secret_key": None, "anonymous": True}


async def test_anonymous_users_read_public_objects(ceph_bucket: str) -> None:
    async with AnsweringProxy(*address("ceph")) as service:
        async with opened("ceph") as owner, opened("ceph", service.url(), **ANONYMOUS) as nobody:
            await owner.put(ceph_bucket, "public", b"data")
            await owner.put(ceph_bucket, "private", b"data")
            client = await trove.unwrap(owner.driver, S3Driver).sdk_client()
            await client.put_object_acl(Bucket=ceph_bucket, Key="public", ACL="public-read")
            assert await nobody.read(ceph_bucket, "public") == b"data"
            for attempt in (
                nobody.read(ceph_bucket, "private"),
                nobody.head(ceph_bucket, "private"),
                nobody.put(ceph_bucket, "public", b"mine"),
                nobody.delete(ceph_bucket, "public"),
                nobody.list(ceph_bucket).all(),
                nobody.get_tags(ceph_bucket, "private"),
            ):
                with pytest.raises(trove.AccessDeniedError):
                    await attempt
            assert not nobody.supports(trove.PresignDriver)
            with pytest.raises(trove.UnsupportedError):
                await nobody.presign_get(ceph_bucket, "public")
        for request in service.requests:
            assert request.header("authorization") is None
            assert "X-Amz-Signature" not in request.target


# TLS


async def test_a_certificate_of_a_private_authority(ceph_bucket: str) -> None:
    handle = running("ceph")
    data = pattern(3 * PART)
    async with opened("ceph", handle.https_endpoint, ca_file=handle.ca_file) as store:
        await store.put(ceph_bucket, "key", data)
        assert await store.read(ceph_bucket, "key") == data
        assert await store.list_multipart_uploads(ceph_bucket) == []  # by the SDK
        assert await (await store.get(ceph_bucket, "key", range=(5, 10))).read() == data[5:15]


async def test_verification_of_the_certificate_can_be_switched_off(ceph_bucket: str) -> None:
    async with opened("ceph", running("ceph").https_endpoint, verify=False) as store:
        await store.put(ceph_bucket, "key", b"data")
        assert await store.read(ceph_bucket, "key") == b"data"
        assert await store.list_multipart_uploads(ceph_bucket) == []  # by the SDK


async def test_an_untrusted_certificate(ceph_bucket: str) -> None:
    async with opened("ceph", running("ceph").https_endpoint, attempts=2) as store:
        for attempt in (
            store.put(ceph_bucket, "key", b"data"),
            store.read(ceph_bucket, "key"),
            store.set_versioning(ceph_bucket, True),
        ):
            with pytest.raises(trove.UnavailableError, match="certificate") as caught:
                await attempt
            assert not caught.value.retryable
            assert not caught.value.ambiguous


async def test_bodies_are_signed_over_http_only(ceph_bucket: str) -> None:
    handle = running("ceph")
    async with opened("ceph", handle.https_endpoint, ca_file=handle.ca_file, payload="signed") as store:
        await store.put(ceph_bucket, "key", b"data")
    async with AnsweringProxy(*address("ceph")) as service:
        async with opened("ceph", service.url()) as store:
            await store.put(ceph_bucket, "key", b"data")
        async with opened("ceph", service.url(), payload="unsigned") as store:
            await store.put(ceph_bucket, "key", b"data")
        hashes = [request.header("x-amz-content-sha256") for request in service.requests]
        assert hashes[0] == "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7"
        assert hashes[1] == "UNSIGNED-PAYLOAD"


# Proxies


@dataclass
class Forwarder:
    """A proxy for http (with full URLs) and https (with CONNECT)."""

    port: int = 0
    requests: list[str] = field(default_factory=list)
    users: set[str] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, EOFError):
                await self._pass(reader, writer)
        finally:
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, _, rest = head.partition("\r\n")
        method, target, _ = line.split(" ")
        self.requests.append(f"{method} {target}")
        headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in rest.split("\r\n"))}
        self.users.add(headers.pop("proxy-authorization", ""))
        authority, _, path = target.removeprefix("http://").partition("/")
        host, port = authority.rsplit(":", 1)
        there, back = await asyncio.open_connection(host, int(port))
        try:
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                await asyncio.gather(_pipe(reader, back), _pipe(there, writer))
                return
            back.write(f"{method} /{path} HTTP/1.1\r\n{rest}".encode("latin-1"))
            back.write(await reader.readexactly(int(headers.get("content-length", 0))))
            back.write_eof()
            await _pipe(there, writer)
        finally:
            back.close()


async def _pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
        target.write_eof()


@asynccontextmanager
async def forwarding() -> AsyncIterator[Forwarder]:
    forwarder = Forwarder()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await forwarder.serve(reader, writer)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    forwarder.port = listener.sockets[0].getsockname()[1]
    try:
        yield forwarder
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()
        await asyncio.sleep(0)  # turns in which the loop closes the sockets


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_all_requests_go_through_the_proxy(ceph_bucket: str, scheme: str) -> None:
    handle = running("ceph")
    secure = scheme == "https"
    endpoint = handle.https_endpoint if secure else handle.endpoint
    data = pattern(2 * PART)
    async with forwarding() as proxy:
        url = f"http://me:pass%40word@127.0.0.1:{proxy.port}"
        more = {"ca_file": handle.ca_file} if secure else {}
        async with opened("ceph", endpoint, proxy=url, **more) as store:
            await store.put(ceph_bucket, "key", data)
            assert await store.read(ceph_bucket, "key") == data
            assert "pass" not in repr(store)
            assert busy(store) == 0
        authority = endpoint.partition("//")[2]
        wanted = f"CONNECT {authority}" if secure else f"PUT http://{authority}/{ceph_bucket}/key"
        assert any(request.startswith(wanted) for request in proxy.requests)
        assert proxy.users == {"Basic " + base64.b64encode(b"me:pass@word").decode()}


async def test_an_unreachable_proxy(ceph_bucket: str) -> None:
    async with opened("ceph", proxy="http://me:hidden@127.0.0.1:1", attempts=1) as store:
        with pytest.raises(trove.UnavailableError) as caught:
            await store.read(ceph_bucket, "key")
        assert_no_secret(caught.value, "hidden")


def assert_no_secret(error: BaseException, *secrets: str) -> None:
    """Assert that neither the error nor its causes contain a secret."""
    seen: BaseException | None = error
    while seen is not None:
        for secret in secrets:
            assert secret not in str(seen)
            assert secret not in repr(seen)
        seen = seen.__cause__ or seen.__context__


async def test_an_endpoint_whose_host_has_an_underscore(ceph_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *arguments: Any, **options: Any) -> Any:
        return real("127.0.0.1" if host == "minio_server" else host, *arguments, **options)

    async def of_loop(*arguments: Any, **options: Any) -> Any:
        return getaddrinfo(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", of_loop)  # uvloop's does not ask the socket module
    _, port = address("ceph")
    async with opened("ceph", f"http://minio_server:{port}") as store:
        await store.put(ceph_bucket, "key", b"data")
        assert await store.read(ceph_bucket, "key") == b"data"
        await store.set_tags(ceph_bucket, "key", {"a": "b"})  # by the SDK
        assert await store.get_tags(ceph_bucket, "key") == {"a": "b"}
