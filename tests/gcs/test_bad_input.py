"""Invalid DSNs, names and endpoints: the error messages, and that no request is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from tests.gcs.stores import busy, json_error, opened
from trove_async.drivers.gcs.settings import MIN_PART_SIZE
from trove_async.testing.answers import Answer, AnsweringProxy
from trove_async.testing.gcs import GCSServer

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("delays")]


# DSNs


@pytest.mark.parametrize(
    ("dsn", "project", "bucket", "prefix"),
    [
        ("gcs://project/bucket?anonymous=1", "project", "bucket", ""),
        ("gcs://project/?anonymous=1", "project", None, ""),
        ("gcs://project?anonymous=1", "project", None, ""),
        ("gcs:///bucket?anonymous=1", None, "bucket", ""),
        ("gs://bucket?anonymous=1", None, "bucket", ""),
        ("gs://bucket/?anonymous=1&project=p", "p", "bucket", ""),
        ("gs://my_bucket.example.com?anonymous=1", None, "my_bucket.example.com", ""),
        ("gcs://project/bucket/some/folder?anonymous=1", "project", "bucket", "some/folder/"),
        ("gcs:///bucket/folder/?anonymous=1", None, "bucket", "folder/"),
        ("gs://bucket/a%20b/../c?anonymous=1", None, "bucket", "a b/../c/"),
    ],
)
async def test_the_project_the_bucket_and_the_prefix_of_a_dsn(
    dsn: str, project: str | None, bucket: str | None, prefix: str
) -> None:
    from tests.gcs.stores import driver_of

    async with trove.open(dsn) as store:
        driver = driver_of(store)
        assert (driver._settings.project, driver.default_bucket) == (project, bucket)
        assert driver.default_prefix == prefix


@pytest.mark.parametrize(
    ("dsn", "words"),
    [
        ("gcs://user@project/bucket", ["no user", "the parameter credentials"]),
        ("gcs://user:secret@project/bucket", ["no user"]),
        ("gcs://localhost:8080/bucket", ["no port", "endpoint="]),
        ("gcs://project//key", ["a prefix and no bucket"]),
        ("gs:///key", ["a prefix and no bucket"]),
        ("gcs://project/Bucket", ["Bucket", "lower-case"]),
        ("gcs://project/ab", ["3 to 63"]),
        ("gcs://project/192.168.5.4", ["IP address"]),
        ("gcs://project/a..b", ["between dots"]),
        ("gcs://project/?endpoint=ftp://host", ["endpoint", "http://"]),
        ("gcs://project/?endpoint=http://user:secret@host", ["endpoint", "user"]),
        ("gcs://project/?endpoint=http://host?a=b", ["endpoint"]),
        ("gcs://project/?part_size=1000000", ["part_size", "262144"]),
        ("gcs://project/?part_size=262144", ["part_size", str(MIN_PART_SIZE)]),
        ("gcs://project/?part_size=1", ["part_size"]),
        ("gcs://project/?min_part_size=1", ["min_part_size", "endpoint"]),
        ("gcs://project/?watch=carrier-pigeon", ["watch", "poll", "pubsub"]),
        ("gcs://project/?watch=pubsub", ["subscription="]),
        ("gcs://project/?subscription=s", ["subscription", "watch=pubsub"]),
        ("gcs://project/?watch=poll&pubsub_endpoint=http://h", ["pubsub_endpoint", "watch=pubsub"]),
        ("gcs://project/?anonymous=1&access_token=t", ["access_token", "anonymous"]),
        ("gcs://project/?credentials=/a&access_token=t", ["credentials", "access_token"]),
        ("gcs://project/?uploads=carrier-pigeon", ["uploads", "parts", "resumable"]),
        ("gcs://project/?api=grpc", ["api", "xml", "json"]),
        ("gcs://project/?hold=tight", ["hold", "temporary", "event_based"]),
        ("gcs://project/?verify_reads=maybe", ["verify_reads"]),
        ("gcs://project/?regoin=eu", ["regoin", "location"]),
        ("gs://bucket?project=", ["project"]),
    ],
)
async def test_invalid_dsns(dsn: str, words: list[str]) -> None:
    with pytest.raises(trove.InvalidDSNError) as caught:
        await trove.open(dsn)
    for word in words:
        assert word in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_an_invalid_url_in_an_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "ftp://host")
    with pytest.raises(trove.InvalidDSNError, match="STORAGE_EMULATOR_HOST"):
        await trove.open("gcs://project/")


# Names


@pytest.mark.parametrize("name", ["ab", "Upper", "-ab", "ab-", "a" * 64, "a.b..c", "1.2.3.4", "a b", "ä-ä"])
async def test_names_that_no_bucket_can_have(server: GCSServer, name: str) -> None:
    async with opened(server) as store:
        with pytest.raises(trove.InvalidBucketNameError):
            await store.create_bucket(name)
    assert server.requests.count() == 0


@pytest.mark.parametrize("name", ["goog-bucket", "my-google-bucket", "g00gle-bucket"])
async def test_names_that_google_reserves(server: GCSServer, name: str) -> None:
    async with opened(server) as store:
        with pytest.raises(trove.InvalidBucketNameError, match="Google"):
            await store.create_bucket(name)
    assert server.requests.count() == 0


@pytest.mark.parametrize("key", [".", "..", "a\nb", "a\rb", ".well-known/acme-challenge/x"])
async def test_names_that_no_object_can_have(server: GCSServer, bucket: str, key: str) -> None:
    async with opened(server) as store:
        before = server.requests.count()
        for call in (store.put(bucket, key, b"data"), store.read(bucket, key), store.delete(bucket, key)):
            with pytest.raises(trove.InvalidKeyError):
                await call
        assert server.requests.count() == before


async def test_a_missing_project(server: GCSServer) -> None:
    async with trove.open("gcs:///", endpoint=server.url, access_token=server.issue_token()) as store:
        for call in (store.create_bucket("bucket"), store.list_buckets()):
            with pytest.raises(trove.InvalidArgumentError, match="GOOGLE_CLOUD_PROJECT"):
                await call


async def test_a_project_that_does_not_exist(server: GCSServer, service: AnsweringProxy) -> None:
    answer = json_error(400, "invalid", "Unknown project id: nobody")
    service.answer(answer, path="project=nobody", times=None)
    token = server.issue_token()
    async with trove.open("gcs://nobody/", endpoint=service.url(), access_token=token) as store:
        for call in (store.create_bucket("bucket"), store.list_buckets(), store.ping()):
            with pytest.raises(trove.InvalidArgumentError, match="Unknown project id: nobody"):
                await call


async def test_a_bucket_of_another_user(server: GCSServer, service: AnsweringProxy) -> None:
    message = "me@example.com does not have storage.objects.get access to the Google Cloud Storage object."
    service.answer(json_error(403, "forbidden", message), times=None)
    async with opened(server, service.url()) as store:
        with pytest.raises(trove.AccessDeniedError, match=r"storage\.objects\.get") as caught:
            await store.head("bucket", "key")
        assert not isinstance(caught.value, trove.UnauthenticatedError)


async def test_a_requester_pays_bucket(server: GCSServer, bucket: str, service: AnsweringProxy) -> None:
    service.answer(json_error(400, "userProjectMissing", "Bucket is requester pays bucket"))
    async with opened(server, service.url()) as store:
        with pytest.raises(trove.AccessDeniedError, match="user_project"):
            await store.head(bucket, "key")
    async with opened(server, service.url(), user_project="payer") as store:
        await store.put(bucket, "key", b"data")
        await store.read(bucket, "key")
        await store.head(bucket, "key")
        await store.delete_many(bucket, ["key"])
    [_, put, read, head, batch] = service.requests
    assert [request.header("x-goog-user-project") for request in (put, read)] == ["payer"] * 2
    assert "userProject=payer" in head.target
    assert "userProject=payer" in batch.target


# Endpoints that are not Cloud Storage


PAGES: dict[str, Callable[[], Answer]] = {
    "a web site": lambda: Answer(404, {"Content-Type": "text/html"}, b"<!doctype html><p>nothing here"),
    "plain text": lambda: Answer(404, {"Content-Type": "text/plain", "Server": "aiohttp"}, b"404: Not Found"),
    "other JSON": lambda: Answer(400, {"Content-Type": "application/json"}, b'{"detail": "no"}'),
    "welcome": lambda: Answer(200, {"Content-Type": "text/html"}, b"<html>welcome</html>"),
    "welcome in JSON": lambda: Answer(200, {"Content-Type": "application/json"}, b"[]"),
    "nothing": lambda: Answer(200),
}


@pytest.mark.parametrize("page", PAGES)
async def test_an_endpoint_that_is_not_cloud_storage(server: GCSServer, service: AnsweringProxy, page: str) -> None:
    service.answer(PAGES[page](), times=None)
    calls: dict[str, Callable[[trove.Trove], Any]] = {
        "get": lambda store: store.read("bucket", "key"),
        "head": lambda store: store.head("bucket", "key"),
        "put": lambda store: store.put("bucket", "key", b"data"),
        "list": lambda store: store.list("bucket").all(),
        "multipart": lambda store: store.initiate_multipart("bucket", "key"),
        "copy": lambda store: store.copy("bucket", "key", "bucket", "copy"),
        "delete_many": lambda store: store.delete_many("bucket", ["key"]),
    }
    async with opened(server, service.url()) as store:
        for name, call in calls.items():
            with pytest.raises((trove.BackendError, trove.CopyError)) as caught:
                await call(store)
            assert not caught.value.retryable, name
            assert "\n" not in str(caught.value)
        assert busy(store) == 0


@pytest.mark.parametrize(
    "greeting", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x15\x03\x01\x00\x02\x02\x16", b"220 mail ESMTP\r\n"]
)
async def test_an_endpoint_that_does_not_speak_http(server: GCSServer, greeting: bytes) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    try:
        async with opened(server, f"http://127.0.0.1:{port}", attempts=2) as store:
            with pytest.raises((trove.BackendError, trove.UnavailableError)):
                await store.read("bucket", "key")
    finally:
        listener.close()
        await listener.wait_closed()


async def test_an_endpoint_where_nobody_listens(server: GCSServer) -> None:
    async with opened(server, "http://127.0.0.1:1", attempts=2) as store:
        with pytest.raises(trove.UnavailableError, match=r"127\.0\.0\.1:1"):
            await store.ping()


async def test_an_endpoint_with_a_path(server: GCSServer, service: AnsweringProxy) -> None:
    """For example that of a gateway: all requests go below the path."""
    service.answer(json_error(404, "notFound", "The specified bucket does not exist."), times=None)
    async with opened(server, f"{service.url()}/gateway/") as store:
        for call in (store.list("bucket").all(), store.read("bucket", "key"), store.put("bucket", "key", b"")):
            with pytest.raises(trove.BucketNotFoundError):
                await call
    assert all(request.target.startswith("/gateway/") for request in service.requests)


@pytest.mark.parametrize("content", [None, b"no certificate"])
async def test_an_invalid_ca_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(trove.InvalidArgumentError, match="CA file"):
        await trove.open(f"gcs://project/?anonymous=1&ca_file={path}")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"error": null}', b'{"error": {"errors": "x"}}', b"<Error>", b"<Error/>", b"\xff\xfe", b"[" * 500],
)
async def test_malformed_error_answers(server: GCSServer, bucket: str, service: AnsweringProxy, body: bytes) -> None:
    service.answer(Answer(403, {"X-GUploader-UploadID": "id"}, body), times=None)
    async with opened(server, service.url()) as store:
        for call in (store.head(bucket, "key"), store.read(bucket, "key")):
            with pytest.raises(trove.AccessDeniedError) as caught:
                await call
            assert caught.value.request_id == "id"


async def test_a_message_of_the_service_that_repeats_a_secret(
    server: GCSServer, bucket: str, service: AnsweringProxy
) -> None:
    service.answer(json_error(400, "invalid", "what is access_token=ya29.secret for"), times=None)
    async with opened(server, service.url()) as store:
        with pytest.raises(trove.InvalidArgumentError) as caught:
            await store.head(bucket, "key")
    assert "ya29.secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["a?b=c", "a#b", "a%2Fb", "a&b"])
async def test_names_that_would_change_the_meaning_of_a_url(server: GCSServer, name: str) -> None:
    async with opened(server) as store:
        await store.create_bucket("abc")
        for call in (store.put(name, "key", b"data"), store.head(name, "key"), store.list(name).all()):
            with pytest.raises((trove.BucketNotFoundError, trove.InvalidArgumentError)):
                await call
    assert server.objects("abc") == []
