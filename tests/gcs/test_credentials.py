"""Credentials: where they are found, when a token is requested, and the errors without any."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from tests.gcs.stores import busy, driver_of, opened
from trove_async.drivers.gcs import credentials as credentials_module
from trove_async.testing.answers import Answer, AnsweringProxy
from trove_async.testing.gcs import GCSServer

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("delays")]


def write(path: Path, data: Any) -> str:
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return str(path)


async def test_a_key_file(server: GCSServer, bucket: str, key_file: str) -> None:
    async with opened(server, access_token=None, credentials=key_file) as store:
        await asyncio.gather(*(store.put(bucket, f"key-{number}", b"data") for number in range(20)))
        assert server.requests.count("POST", "/token") == 1


async def test_a_users_credentials(server: GCSServer, bucket: str, tmp_path: Path) -> None:
    path = write(tmp_path / "user.json", server.authorized_user_info)
    async with opened(server, access_token=None, credentials=path) as store:
        await store.put(bucket, "key", b"data")
        assert not store.supports(trove.PresignDriver)
        with pytest.raises(trove.UnsupportedError):
            await store.presign_get(bucket, "key")


async def test_the_file_named_by_the_environment(
    server: GCSServer, bucket: str, key_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", key_file)
    async with opened(server, access_token=None) as store:
        await store.put(bucket, "key", b"data")


async def test_the_file_of_gcloud(
    server: GCSServer, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "application_default_credentials.json", server.authorized_user_info)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    async with opened(server, access_token=None) as store:
        await store.put(bucket, "key", b"data")


async def test_the_metadata_server(server: GCSServer, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from gcloud.aio.auth import token

    base = f"{server.url}/computeMetadata/v1"
    monkeypatch.setattr(token, "GCE_ENDPOINT_TOKEN", f"{base}/instance/service-accounts/default/token?recursive=true")
    monkeypatch.setattr(token, "GCE_ENDPOINT_PROJECT", f"{base}/project/project-id")
    async with trove.open("gcs:///", endpoint=server.url) as store:
        await store.put(bucket, "key", b"data")
        assert [found.name for found in await store.list_buckets()] == [bucket]


async def test_no_credentials_anywhere(bucket: str, server: GCSServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from gcloud.aio.auth import token

    monkeypatch.setattr(token, "GCE_ENDPOINT_TOKEN", "http://127.0.0.1:1/token")
    async with opened(server, access_token=None) as store:
        with pytest.raises(trove.UnauthenticatedError, match="as credentials"):
            await store.read(bucket, "key")


async def test_an_emulator_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with GCSServer(anonymous=True) as server:
        for value in (server.url, server.url.removeprefix("http://")):
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", value)
            async with trove.open(f"gcs://{server.project}/") as store:
                await store.create_bucket(f"bucket-{len(value)}")
                await store.put(f"bucket-{len(value)}", "key", b"data")
        assert server.tokens_issued == 0


async def test_anonymous_access(server: GCSServer, bucket: str) -> None:
    async with opened(server, access_token=None, anonymous=True) as store:
        issued = server.tokens_issued
        with pytest.raises(trove.UnauthenticatedError):
            await store.read(bucket, "key")
        assert server.tokens_issued == issued


async def test_tokens_are_requested_through_the_proxy_of_the_environment(
    server: GCSServer, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://tokens.example.invalid/token"
    path = write(tmp_path / "key.json", {**server.service_account_info, "token_uri": url})
    answer = json.dumps({"access_token": server.issue_token(), "expires_in": 3600, "token_type": "Bearer"}).encode()
    async with AnsweringProxy("127.0.0.1", 9) as proxy:
        proxy.answer(Answer(200, {"Content-Type": "application/json"}, answer))
        monkeypatch.setenv("https_proxy", proxy.url())
        monkeypatch.setenv("http_proxy", proxy.url())
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with opened(server, access_token=None, credentials=path) as store:
            await store.put(bucket, "key", b"data")
    assert [(request.method, request.target) for request in proxy.requests] == [("POST", url)]


# When a token is requested


async def test_one_renewal_serves_a_hundred_refused_requests(server: GCSServer, bucket: str, key_file: str) -> None:
    async with opened(server, access_token=None, credentials=key_file) as store:
        await store.put(bucket, "key", b"data")
        issued = server.tokens_issued
        server.revoke_tokens()
        read = await asyncio.gather(*(store.read(bucket, "key") for _ in range(100)))
        assert read == [b"data"] * 100
        assert server.tokens_issued == issued + 1
        assert busy(store) == 0


async def test_a_token_that_is_refused_again_is_reported(
    server: GCSServer, bucket: str, key_file: str, service: AnsweringProxy
) -> None:
    service.answer(Answer(401, {"X-GUploader-UploadID": "x"}), times=None)
    async with opened(server, service.url(), access_token=None, credentials=key_file) as store:
        with pytest.raises(trove.UnauthenticatedError):
            await store.read(bucket, "key")
    assert service.count("GET") == 2


async def test_a_given_token_is_not_renewed(server: GCSServer, bucket: str, service: AnsweringProxy) -> None:
    async with opened(server, service.url(), access_token="wrong") as store:
        with pytest.raises(trove.UnauthenticatedError):
            await store.read(bucket, "key")
        assert service.count("GET") == 1


async def test_a_token_is_renewed_before_it_expires(
    server: GCSServer, bucket: str, key_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request renews it early, and the others use the old one meanwhile; a failed early renewal is survived."""
    async with opened(server, access_token=None, credentials=key_file) as store:
        await store.put(bucket, "key", b"data")
        issued = server.tokens_issued
        found = driver_of(store)._credentials
        now = asyncio.get_running_loop().time()
        found._ends, found._next = now + 100, 0.0  # it is valid for a while, and about to expire
        await asyncio.gather(*(store.read(bucket, "key") for _ in range(20)))
        assert server.tokens_issued == issued + 1

        found._ends, found._next = now + 100, 0.0
        monkeypatch.setattr(found._token, "token_uri", "http://127.0.0.1:1/token")
        assert await store.read(bucket, "key") == b"data"
        assert await store.read(bucket, "key") == b"data"
        assert server.tokens_issued == issued + 1


async def test_a_token_that_is_always_near_expiry_is_not_requested_repeatedly(
    server: GCSServer, bucket: str, key_file: str
) -> None:
    """A metadata server returns the token that it has: a request for each operation would change nothing."""
    async with opened(server, access_token=None, credentials=key_file) as store:
        found = driver_of(store)._credentials
        await store.put(bucket, "key", b"data")
        issued = server.tokens_issued
        for _ in range(20):
            found._ends = asyncio.get_running_loop().time() + credentials_module._EARLY - 1
            await store.read(bucket, "key")
        assert server.tokens_issued == issued


async def test_waiting_for_a_token_can_be_cancelled(server: GCSServer, bucket: str, key_file: str) -> None:
    """The task that requests the token is cancelled: the next task requests one, and nothing keeps running."""
    async with opened(server, access_token=None, credentials=key_file) as store:
        tasks = [asyncio.create_task(store.exists(bucket, "key")) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        tasks[0].cancel()
        assert await asyncio.gather(*tasks[1:]) == [False, False]
        assert tasks[0].cancelled() or tasks[0].done()


async def test_a_transient_failure_of_the_token_service(
    server: GCSServer, bucket: str, tmp_path: Path, service: AnsweringProxy, delays: list[float]
) -> None:
    path = write(tmp_path / "key.json", {**server.service_account_info, "token_uri": f"{service.url()}/token"})
    service.answer(Answer(503), path="/token", times=2)
    async with opened(server, access_token=None, credentials=path) as store:
        assert not await store.exists(bucket, "key")
    assert service.count("POST", "/token") == 3
    assert len(delays) == 2


# Invalid credentials


async def test_an_unknown_account(server: GCSServer, bucket: str, tmp_path: Path) -> None:
    vectors = json.loads((Path(__file__).parent / "vectors" / "account.json").read_text(encoding="utf-8"))
    path = write(tmp_path / "key.json", {**vectors, "token_uri": f"{server.url}/token"})
    async with opened(server, access_token=None, credentials=path) as store:
        with pytest.raises(trove.UnauthenticatedError, match="refuses") as caught:
            await store.read(bucket, "key")
    assert "PRIVATE" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "does not hold JSON"),
        ("{", "does not hold JSON"),
        ("[]", "type"),
        ({"client_email": "a"}, "type"),
        ({"type": "surprise"}, "cannot be used"),
        ({"type": "service_account"}, "client_email"),
        ({"type": "service_account", "client_email": "a", "private_key": "no"}, "private_key"),
        ({"type": "external_account"}, "missing"),
    ],
)
async def test_a_file_without_credentials(tmp_path: Path, content: Any, words: str) -> None:
    path = write(tmp_path / "key.json", content)
    with pytest.raises(trove.InvalidDSNError, match=words) as caught:
        await trove.open(f"gcs://project/?credentials={path}")
    assert "\n" not in str(caught.value)


async def test_a_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(trove.InvalidDSNError, match="cannot be read"):
        await trove.open(f"gcs://project/?credentials={tmp_path}/none.json")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(trove.InvalidDSNError, match="cannot be read"):
        await trove.open("gcs://project/")


async def test_an_endpoint_that_is_not_a_token_service(
    server: GCSServer, bucket: str, tmp_path: Path, service: AnsweringProxy
) -> None:
    path = write(tmp_path / "key.json", {**server.service_account_info, "token_uri": f"{service.url()}/token"})
    service.answer(Answer(200, {"Content-Type": "text/html"}, b"<html>"), path="/token", times=None)
    async with opened(server, access_token=None, credentials=path) as store:
        with pytest.raises(trove.TroveError, match=r"token|credentials") as caught:
            await store.read(bucket, "key")
        assert not caught.value.retryable


async def test_a_store_shows_no_secret(server: GCSServer, bucket: str) -> None:
    token = server.issue_token()
    async with opened(server, access_token=token) as store:
        shown = [repr(store), repr(store.driver), repr(driver_of(store)._settings), str(driver_of(store)._credentials)]
    assert not any(token in text for text in shown)


# With the SDK


async def test_the_sdk_s_own_client_has_the_store_s_credentials(server: GCSServer, bucket: str, key_file: str) -> None:
    async with opened(server, access_token=None, credentials=key_file) as store:
        await store.put(bucket, "key", b"data")
        storage = await driver_of(store).sdk_client()
        assert await storage.download(bucket, "key") == b"data"
        assert (await storage.download_metadata(bucket, "key"))["size"] == "4"
        assert server.requests.count("POST", "/token") == 1
