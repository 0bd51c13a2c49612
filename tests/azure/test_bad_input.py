"""Mistakes of users: missing, wrong or unsuitable credentials, accounts, containers and endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

import trove_async as trove
from tests.azure.stores import address, opened
from tests.servers import running

pytestmark = pytest.mark.asyncio


async def test_a_wrong_key_is_refused(bucket: str) -> None:
    async with opened(account_key="d3Jvbmc=") as store:
        for call in (store.ping(), store.head(bucket, "key"), store.put(bucket, "key", b"x")):
            with pytest.raises(trove.AccessDeniedError) as caught:
                await call
            assert "d3Jvbmc=" not in str(caught.value)


async def test_an_unknown_account_is_refused(bucket: str) -> None:
    host, port = address()
    async with opened(f"http://{host}:{port}/nobody", account="nobody") as store:
        with pytest.raises((trove.AccessDeniedError, trove.NotFoundError)):
            await store.put(bucket, "key", b"x")


async def test_an_account_without_a_host_name() -> None:
    async with trove.open("azure://no-such-account-anywhere.invalid:a2V5@", attempts=1) as store:
        with pytest.raises(trove.TransientError):
            await store.ping()


async def test_every_call_reports_a_missing_container() -> None:
    async with opened() as store:
        name = "no-such-container"
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.put(name, "key", b"x"),
            lambda: store.put(name, "key", bytes(200_000)),
            lambda: store.head(name, "key"),
            lambda: store.read(name, "key"),
            lambda: store.delete(name, "key"),
            lambda: store.delete_many(name, ["a", "b"]),
            lambda: store.list(name).all(),
            lambda: store.get_tags(name, "key"),
            lambda: store.get_lifecycle(name),
            lambda: store.initiate_multipart(name, "key"),
            lambda: store.list_multipart_uploads(name),
            lambda: store.delete_bucket(name),
        ]
        for call in calls:
            with pytest.raises(trove.BucketNotFoundError) as caught:
                await call()
            assert caught.value.bucket == name
        assert not await store.exists(name, "key")


async def test_an_anonymous_store_may_not_write(bucket: str) -> None:
    async with opened(account_key=None, anonymous=True) as store:
        assert not store.supports(trove.PresignDriver)
        with pytest.raises(trove.TroveError) as caught:
            await store.put(bucket, "key", b"x")
        assert isinstance(caught.value, trove.AccessDeniedError | trove.BucketNotFoundError | trove.ObjectNotFoundError)


async def test_an_expired_signature_is_refused(bucket: str) -> None:
    sas = "sv=2023-11-03&ss=b&srt=sco&sp=rwl&se=2020-01-01T00%3A00%3A00Z&sig=d3Jvbmc%3D"
    async with opened(account_key=None, sas=sas) as store:
        with pytest.raises(trove.AccessDeniedError) as caught:
            await store.read(bucket, "key")
        assert "d3Jvbmc" not in str(caught.value)


async def test_an_endpoint_that_does_not_speak_http_is_reported() -> None:
    async def chatter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(chatter, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, trove.open(f"azure://acct:a2V5@?endpoint=http://127.0.0.1:{port}&attempts=1") as store:
        with pytest.raises(trove.TroveError) as caught:
            await store.ping()
        assert isinstance(caught.value, trove.BackendError | trove.UnavailableError)


async def test_the_queue_service_is_not_a_blob_service() -> None:
    server = running("azurite")
    async with opened(server.queue_endpoint) as store:
        with pytest.raises(trove.TroveError):
            await store.put("bucket", "key", b"x")


async def test_an_existing_container_is_not_created_again(bucket: str) -> None:
    async with opened() as store:
        with pytest.raises(trove.BucketAlreadyExistsError):
            await store.create_bucket(bucket)


async def test_an_unknown_tier_is_refused_before_any_request(bucket: str) -> None:
    async with opened() as store:
        with pytest.raises(trove.InvalidArgumentError, match="HOT"):
            await store.put(bucket, "key", b"x", storage_class="GLACIER")
        with pytest.raises(trove.InvalidArgumentError, match="HOT"):
            await store.put(bucket, "key", bytes(200_000), storage_class="GLACIER")
        assert not await store.exists(bucket, "key")


async def test_an_archived_object_is_reported(bucket: str) -> None:
    async with opened() as store:
        await store.put(bucket, "key", b"x", storage_class="ARCHIVE")
        with pytest.raises(trove.BackendError, match="rehydrate"):
            await store.read(bucket, "key")
        assert (await store.head(bucket, "key")).storage_class == "ARCHIVE"
