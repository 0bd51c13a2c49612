"""Credentials of Microsoft Entra ID, and shared access signatures: the requests, and renewals.

Azurite accepts tokens only over TLS and has no user delegation keys: a proxy gives those answers.
"""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

import trove_async as trove
from tests.azure.stores import azure_error, driver_of, opened, pattern, through
from tests.servers import running
from trove_async.testing.answers import Answer, AnsweringProxy

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("delays")]

STORED = Answer(201, {"ETag": '"0x1"', "x-ms-request-id": "1"})


class Issuer:
    """Issues tokens as a blocking credential does, and counts them."""

    def __init__(self, lasting: float = 3600, *, different: bool = True) -> None:
        self.given = 0
        self._lasting = lasting
        self._different = different

    def get_token(self, scope: str) -> Any:
        assert scope == "https://storage.azure.com/.default"
        self.given += 1
        time.sleep(0.02)
        return SimpleNamespace(
            token=f"token-{self.given if self._different else 1}", expires_on=time.time() + self._lasting
        )


class AsyncIssuer(Issuer):
    async def get_token(self, scope: str) -> Any:
        return super().get_token(scope)


def bearers(service: AnsweringProxy) -> list[str | None]:
    return [seen.header("authorization") for seen in service.requests]


@pytest.mark.parametrize("kind", [Issuer, AsyncIssuer])
async def test_one_token_serves_all_waiting_requests(service: AnsweringProxy, kind: type[Issuer]) -> None:
    service.answer(STORED, times=None)
    issuer = kind()
    async with opened(through(service), account_key=None, credential=issuer) as store:
        await asyncio.gather(*(store.put("bucket", f"key-{n}", b"x") for n in range(100)))
    assert issuer.given == 1
    assert set(bearers(service)) == {"Bearer token-1"}


async def test_a_refused_token_is_renewed_once_for_all(service: AnsweringProxy) -> None:
    class Patient(Issuer):
        def get_token(self, scope: str) -> Any:
            # Only after all have been refused, so that none is refused twice.
            while self.given and service.count("PUT") < 50:
                time.sleep(0.005)
            return super().get_token(scope)

    service.answer(azure_error(401, "InvalidAuthenticationInfo"), times=50)
    service.answer(STORED, times=None)
    issuer = Patient()
    async with opened(through(service), account_key=None, credential=issuer, connections=50) as store:
        await asyncio.gather(*(store.put("bucket", f"key-{n}", b"x") for n in range(50)))
    assert issuer.given == 2
    assert set(bearers(service)) == {"Bearer token-1", "Bearer token-2"}


async def test_a_token_that_stays_refused_is_reported(service: AnsweringProxy) -> None:
    service.answer(azure_error(401, "InvalidAuthenticationInfo"), times=None)
    issuer = Issuer(different=False)
    async with opened(through(service), account_key=None, credential=issuer) as store:
        for _ in range(3):
            with pytest.raises(trove.UnauthenticatedError, match="token"):
                await store.put("bucket", "key", b"x")
    assert issuer.given == 2
    assert service.count("PUT") == 3


async def test_a_token_is_renewed_before_its_end(service: AnsweringProxy) -> None:
    service.answer(STORED, times=None)
    issuer = Issuer(lasting=100)
    async with opened(through(service), account_key=None, credential=issuer) as store:
        await store.put("bucket", "key", b"x")
        await store.put("bucket", "key", b"x")
    assert bearers(service) == ["Bearer token-1", "Bearer token-2"]


async def test_a_failing_credential_is_reported(service: AnsweringProxy) -> None:
    class Failing:
        def get_token(self, scope: str) -> Any:
            raise RuntimeError("no account\nwas found")

    async with opened(through(service), account_key=None, credential=Failing()) as store:
        with pytest.raises(trove.UnauthenticatedError, match="no account was found") as caught:
            await store.put("bucket", "key", b"x")
        assert isinstance(caught.value.__cause__, RuntimeError)
    assert service.requests == []


KEY = """<?xml version="1.0" encoding="utf-8"?><UserDelegationKey><SignedOid>oid</SignedOid><SignedTid>tid</SignedTid>
<SignedStart>2026-01-01T00:00:00Z</SignedStart><SignedExpiry>2026-01-02T00:00:00Z</SignedExpiry>
<SignedService>b</SignedService><SignedVersion>2023-11-03</SignedVersion><Value>c2VjcmV0</Value></UserDelegationKey>"""


async def test_urls_are_signed_with_a_user_delegation_key(service: AnsweringProxy) -> None:
    service.answer(Answer(200, {"x-ms-request-id": "1"}, KEY.encode()), method="POST", times=None)
    async with opened(through(service), account_key=None, credential=Issuer()) as store:
        urls = [await store.presign_get("bucket", "key") for _ in range(3)]
        assert all("skoid=oid" in url and "sig=" in url for url in urls)
        assert service.count("POST", "comp=userdelegationkey") == 1
        await store.presign_get("bucket", "key", expires=6 * 24 * 3600)
        assert service.count("POST", "comp=userdelegationkey") == 2


async def test_the_source_of_a_copy_is_read_with_the_token(service: AnsweringProxy) -> None:
    described = {"ETag": '"0x1"', "Content-Length": "4", "x-ms-request-id": "1"}
    service.answer(Answer(200, described, b"data"), method="HEAD")
    service.answer(STORED, method="PUT")
    async with opened(through(service), account_key=None, credential=Issuer()) as store:
        await store.copy("bucket", "key", "bucket", "copy")
    [copied] = [seen for seen in service.requests if seen.method == "PUT"]
    assert copied.header("x-ms-copy-source-authorization") == "Bearer token-1"
    assert copied.header("x-ms-copy-source") == f"{through(service)}/bucket/key"


async def signature(**more: Any) -> str:
    from datetime import UTC, datetime, timedelta

    from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

    server = running("azurite")
    return str(
        generate_account_sas(
            server.account,
            server.account_key,
            resource_types=ResourceTypes(service=True, container=True, object=True),
            permission=AccountSasPermissions.from_string("rwdlacuptf"),  # type: ignore[no-untyped-call]
            expiry=datetime.now(UTC) + timedelta(hours=1),
            **more,
        )
    )


async def test_a_shared_access_signature_is_sufficient(bucket: str) -> None:
    async with opened(account_key=None, sas=await signature()) as store:
        assert not store.supports(trove.PresignDriver)
        await store.put(bucket, "key", pattern(200_000), tags={"a": "1"}, metadata={"m": "ü"})
        assert await store.read(bucket, "key") == pattern(200_000)
        await store.copy(bucket, "key", bucket, "copy")
        assert await store.get_tags(bucket, "copy") == {"a": "1"}
        upload = await store.initiate_multipart(bucket, "upload")
        part = await store.upload_part(bucket, "upload", upload, 1, b"x")
        await store.complete_multipart(bucket, "upload", upload, [part])
        assert [found.key for found in await store.list(bucket).all()] == ["copy", "key", "upload"]
        assert "sig=" not in repr(driver_of(store)._settings)
        with pytest.raises(trove.UnsupportedError):
            await store.presign_get(bucket, "key")


async def test_a_connection_string_is_sufficient(bucket: str) -> None:
    text = running("azurite").connection_string
    async with trove.open("azure://", connection_string=text) as store:
        await store.put(bucket, "key", b"data")
        assert await store.read(bucket, "key") == b"data"


async def test_a_signed_url_needs_a_header_to_put(bucket: str) -> None:
    async with opened() as store, httpx.AsyncClient() as client:
        url = await store.presign_put(bucket, "a b/ü%2F")
        answer = await client.put(url, content=b"data", headers={"x-ms-blob-type": "BlockBlob"})
        assert answer.status_code == 201
        assert await store.read(bucket, "a b/ü%2F") == b"data"
        assert (await client.get(await store.presign_get(bucket, "a b/ü%2F"))).content == b"data"
        with pytest.raises(trove.UnsupportedError, match="neither"):
            await store.presign_put(bucket, "key", content_type="text/plain")
        with pytest.raises(trove.UnsupportedError, match="neither"):
            await store.presign_put(bucket, "key", content_length=1)
