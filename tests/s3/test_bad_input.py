"""Mistakes of users: each has its error class and the service's own words, and reveals no secret."""

from __future__ import annotations

import asyncio
import base64
import re
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import pytest_asyncio

import trove_async as trove
from tests.s3.stores import PART, ServerName, address, busy, opened, pattern, scratch
from tests.servers import running
from trove_async.testing.answers import Answer, AnsweringProxy, s3_error

pytestmark = pytest.mark.asyncio

SECRET = "wrong-secret-4711"
TOKEN = "wrong-token-4712"

Call = Callable[[trove.Trove, str], Awaitable[object]]

CALLS: dict[str, Call] = {
    "put": lambda store, bucket: store.put(bucket, "key", b"data"),
    "large put": lambda store, bucket: store.put(bucket, "key", pattern(3 * PART)),
    "get": lambda store, bucket: store.read(bucket, "key"),
    "head": lambda store, bucket: store.head(bucket, "key"),
    "delete": lambda store, bucket: store.delete(bucket, "key"),
    "delete_many": lambda store, bucket: store.delete_many(bucket, ["key"]),
    "copy": lambda store, bucket: store.copy(bucket, "key", bucket, "copy"),
    "list": lambda store, bucket: store.list(bucket).all(),
    "tags": lambda store, bucket: store.get_tags(bucket, "key"),
    "versioning": lambda store, bucket: store.get_versioning(bucket),
    "uploads": lambda store, bucket: store.list_multipart_uploads(bucket),
}

BARE = {"head", "copy"}
"""Calls that begin with a HEAD, whose error answer has no code and no message."""


@pytest_asyncio.fixture
async def bucket() -> AsyncIterator[str]:
    """Yield a bucket with an object."""
    async with scratch("ceph") as name, opened("ceph") as store:
        await store.put(name, "key", b"data")
        yield name


def assert_no_secret(error: BaseException, *secrets: str) -> None:
    """Assert that neither the error nor its causes nor the traceback contain a secret."""
    text = "".join(traceback.format_exception(error))
    seen: BaseException | None = error
    while seen is not None:
        text += str(seen) + repr(seen) + repr(vars(seen).get("message"))
        seen = seen.__cause__ or seen.__context__
    for secret in secrets:
        assert secret not in text


async def failure(call: Awaitable[object]) -> trove.TroveError:
    with pytest.raises(trove.TroveError) as caught:
        await call
    return caught.value


# Credentials


@pytest.mark.parametrize("name", CALLS)
async def test_a_wrong_secret(bucket: str, name: str) -> None:
    async with opened("ceph", secret_key=SECRET) as store:
        error = await failure(CALLS[name](store, bucket))
        assert isinstance(error, trove.AccessDeniedError)
        assert isinstance(error, PermissionError)
        assert (error.status, error.retryable, error.ambiguous, error.driver) == (403, False, False, "s3")
        assert error.request_id
        if name not in BARE:
            assert type(error) is trove.UnauthenticatedError
            assert "SignatureDoesNotMatch" in str(error)
            assert "secret key" in str(error)
        assert_no_secret(error, SECRET)
        assert SECRET not in repr(store) + repr(store.driver) + repr(vars(store.driver))
        assert busy(store) == 0


@pytest.mark.parametrize("name", CALLS)
async def test_an_unknown_access_key(bucket: str, name: str) -> None:
    async with opened("ceph", access_key="nobody", secret_key=SECRET) as store:
        error = await failure(CALLS[name](store, bucket))
        assert isinstance(error, trove.AccessDeniedError)
        assert (error.status, error.retryable) == (403, False)
        assert error.request_id
        if name not in BARE:
            assert type(error) is trove.UnauthenticatedError
            assert "InvalidAccessKeyId" in str(error)
        assert_no_secret(error, SECRET)


@pytest.mark.parametrize("name", CALLS)
async def test_a_bucket_of_another_user(bucket: str, name: str) -> None:
    handle = running("ceph")
    async with opened("ceph", access_key=handle.other_access_key, secret_key=handle.other_secret_key) as store:
        error = await failure(CALLS[name](store, bucket))
        if isinstance(error, trove.BulkError):
            assert {type(failed.error) for failed in error.failed} == {trove.AccessDeniedError}
            return
        assert type(error) is trove.AccessDeniedError
        assert error.status == 403
        assert error.request_id


@pytest.mark.parametrize("name", CALLS)
async def test_an_expired_token(bucket: str, name: str) -> None:
    async with AnsweringProxy(*address("ceph")) as service:
        answer = s3_error(400, "ExpiredToken", "The provided token has expired.", request_id="id-5")
        service.answer(answer, times=None)
        async with opened("ceph", service.url(), session_token=TOKEN) as store:
            error = await failure(CALLS[name](store, bucket))
            assert service.count() == 1  # there is nothing to renew them from
            assert error.status == 400
            assert error.request_id == "id-5"
            if name not in BARE:
                assert type(error) is trove.UnauthenticatedError
                assert "ExpiredToken: The provided token has expired." in str(error)
            assert_no_secret(error, TOKEN, running("ceph").secret_key)


async def test_no_credentials_anywhere(bucket: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    async with opened("ceph", access_key=None, secret_key=None) as store:
        error = await failure(store.put(bucket, "other", b"data"))
        assert type(error) is trove.UnauthenticatedError
        assert "anonymous=1" in str(error)


async def test_anonymous_writes_are_refused(bucket: str) -> None:
    async with opened("ceph", access_key=None, secret_key=None, anonymous=True) as store:
        error = await failure(store.put(bucket, "key", b"mine"))
        assert type(error) is trove.AccessDeniedError
        assert (error.status, error.operation, error.bucket, error.key) == (403, "put", bucket, "key")
        assert "AccessDenied" in str(error)
        assert error.request_id
    async with opened("ceph") as owner:
        assert await owner.read(bucket, "key") == b"data"


# Buckets


@pytest.mark.parametrize("name", CALLS)
async def test_a_missing_bucket(server: ServerName, name: str) -> None:
    async with opened(server) as store:
        missing = "there-is-no-such-bucket"
        error = await failure(CALLS[name](store, missing))
        assert type(error) is trove.BucketNotFoundError
        assert isinstance(error, FileNotFoundError)
        assert (error.status, error.bucket, error.retryable) == (404, missing, False)
        assert error.request_id or (server == "moto" and name in BARE)
        assert busy(store) == 0


@pytest.mark.parametrize("bad", ["A_B", "ab", "a..b", "-a-b", "192.168.0.1", "a/b", "a b", "ü" * 5, "x" * 64])
async def test_names_that_amazon_s_buckets_cannot_have(bad: str) -> None:
    async with trove.open("s3://k:s@us-east-1/") as store:
        error = await failure(store.create_bucket(bad))
        assert type(error) is trove.InvalidBucketNameError


@pytest.mark.parametrize("server", ["moto"])
async def test_a_missing_object(server: ServerName) -> None:
    async with scratch(server) as bucket, opened(server) as store:
        for name in ("get", "head", "copy"):
            error = await failure(CALLS[name](store, bucket))
            assert type(error) is trove.ObjectNotFoundError
            assert (error.status, error.bucket, error.key) == (404, bucket, "key")


# Regions


async def test_a_wrong_region_that_cannot_be_corrected(bucket: str) -> None:
    message = "the region 'us-east-1' is wrong"
    async with AnsweringProxy(*address("ceph")) as service:
        answer = s3_error(400, "AuthorizationHeaderMalformed", message, request_id="id-6")
        service.answer(answer, times=None)
        async with opened("ceph", service.url()) as store:
            error = await failure(store.read(bucket, "key"))
        assert type(error) is trove.UnauthenticatedError
        assert message in str(error)
        assert (error.status, error.request_id) == (400, "id-6")
        assert service.count() == 1


async def test_the_error_for_a_bucket_in_another_region_gives_the_dsn(bucket: str) -> None:
    async with AnsweringProxy(*address("ceph")) as service:
        answer = s3_error(301, "PermanentRedirect", headers={"x-amz-bucket-region": "eu-west-1"}, request_id="id-8")
        service.answer(answer, times=None)
        async with opened("ceph", service.url()) as store:
            error = await failure(store.read(bucket, "key"))
        assert type(error) is trove.BackendError
        assert "s3://eu-west-1/" in str(error)
        assert error.request_id == "id-8"
        assert service.count() == 2


# Endpoints


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    """Serve the same answer to every request, as a server that is not S3."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError, asyncio.LimitOverrunError):
            asked = await reader.read(65536)
            writer.write(answer.partition(b"<")[0] if asked.startswith(b"HEAD ") else answer)
            await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"


def page(status: str) -> bytes:
    body = f"<html><head><title>{status}</title></head><body><h1>{status}</h1><hr>tiny</body></html>".encode()
    head = f"HTTP/1.1 {status}\r\nServer: tiny/1.0\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def tidy_page(status: str) -> bytes:
    """Return a page that is also valid XML."""
    return page(status).replace(b"<hr>", b"<hr/>").replace(b"Content-Length: ", b"X-Length: ")


@pytest.mark.parametrize("name", [name for name in CALLS if name not in BARE])
@pytest.mark.parametrize("page", [page, tidy_page])
@pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found", "405 Not Allowed", "302 Found"])
async def test_an_endpoint_that_is_a_web_site(name: str, status: str, page: Callable[[str], bytes]) -> None:
    await use_web_site_as_endpoint(name, page(status))


@pytest.mark.parametrize("status", ["200 OK", "302 Found"])
@pytest.mark.parametrize("name", ["put", "large put", "get", "delete_many", "list"])
async def test_an_endpoint_that_answers_200_to_everything(name: str, status: str) -> None:
    await use_web_site_as_endpoint(name, page(status))


async def use_web_site_as_endpoint(name: str, page: bytes) -> None:
    async with answering(page) as url, opened("ceph", url, attempts=2) as store:
        error = await failure(CALLS[name](store, "bucket"))
        assert type(error) is trove.BackendError
        assert re.search("S3|XML", str(error))
        assert not error.retryable
        assert busy(store) == 0


ALIENS = {
    "ssh": b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
    "smtp": b"220 mail.example ESMTP\r\n",
    "tls": b"\x15\x03\x03\x00\x02\x02\x46",
}


@pytest.mark.parametrize("what", ALIENS)
async def test_an_endpoint_that_does_not_speak_http(what: str) -> None:
    async with answering(ALIENS[what]) as url, opened("ceph", url, attempts=2) as store:
        error = await failure(store.read("bucket", "key"))
        assert type(error) is trove.BackendError
        assert "not HTTP" in str(error)
        assert url.removeprefix("http://") in str(error)


async def test_an_endpoint_where_nobody_listens(server: ServerName) -> None:
    async with opened(server, "http://127.0.0.1:1", attempts=1) as store:
        for name, call in CALLS.items():
            error = await failure(call(store, "bucket"))
            assert type(error) is trove.UnavailableError, name
            assert isinstance(error, ConnectionError)
            assert error.retryable
            assert not error.ambiguous


async def test_http_to_an_https_port_and_the_reverse() -> None:
    handle = running("ceph")
    plain, secure = handle.endpoint, handle.https_endpoint
    async with opened("ceph", plain.replace("http:", "https:"), attempts=1, verify=False) as store:
        error = await failure(store.read("bucket", "key"))
        assert type(error) is trove.BackendError
        assert "http://" in str(error)
    async with opened("ceph", secure.replace("https:", "http:"), attempts=1) as store:
        error = await failure(store.read("bucket", "key"))
        assert isinstance(error, trove.BackendError | trove.UnavailableError)


async def test_an_untrusted_certificate() -> None:
    async with opened("ceph", running("ceph").https_endpoint) as store:
        error = await failure(store.read("bucket", "key"))
        assert type(error) is trove.UnavailableError
        assert not error.retryable
        assert re.search("certificate .* is refused: self.signed certificate", str(error))
        assert "ca_file" in str(error)


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
async def test_an_invalid_ca_file(tmp_path: Any, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(trove.InvalidArgumentError, match=re.escape(str(path))):
        async with opened("ceph", running("ceph").https_endpoint, ca_file=str(path)):
            pass


@pytest.mark.parametrize("status", [400, 403, 409, 500, 501])
@pytest.mark.parametrize("body", [b"", b"oops", b"<Error>", b"<Error></Error>", b"<Error><Code/></Error>", b"\x00" * 9])
async def test_malformed_error_answers(bucket: str, status: int, body: bytes) -> None:
    async with AnsweringProxy(*address("ceph")) as service:
        service.answer(Answer(status, {"x-amz-request-id": "id-2"}, body), times=None)
        async with opened("ceph", service.url(), attempts=1) as store:
            error = await failure(store.read(bucket, "key"))
            assert (error.status, error.request_id) == (status, "id-2")
            assert error.message


async def test_a_service_s_message_that_repeats_a_secret(bucket: str) -> None:
    secret = running("ceph").secret_key
    message = f"GET s3://key:{secret}@host/ ?X-Amz-Signature=0123456789abcdef"
    async with AnsweringProxy(*address("ceph")) as service:
        service.answer(s3_error(403, "AccessDenied", message), times=None)
        async with opened("ceph", service.url()) as store:
            assert_no_secret(await failure(store.read(bucket, "key")), secret, "0123456789abcdef")


# DSNs


KEY = base64.b64encode(bytes(32)).decode()

WRONG = [
    ("s3://k:SECRET@us-east-1/b?colour=red", ["colour", "endpoint"]),
    ("s3://k:SECRET@us-east-1/b?anonymous=1", ["anonymous", "access_key"]),
    ("s3://k:SECRET@us-east-1/b?access_key=other", ["access_key", "user"]),
    ("s3://k:SECRET@us-east-1/b?secret_key=SECRET", ["secret_key", "user"]),
    ("s3://k:SECRET@us-east-1/b?aws_profile=work", ["aws_profile", "access_key"]),
    ("s3://k@us-east-1/b", ["secret key"]),
    ("s3://us-east-1/b?access_key=k", ["access_key", "secret_key"]),
    ("s3://us-east-1/b?session_token=SECRET", ["session_token", "access_key"]),
    ("s3://us-east-1/b?anonymous=1&session_token=SECRET", ["anonymous", "session_token"]),
    ("s3://k:SECRET@us-east-1/b?endpoint=ftp://host", ["endpoint", "https://"]),
    ("s3://k:SECRET@us-east-1/b?endpoint=http://u:SECRET@host", ["endpoint"]),
    ("s3://k:SECRET@us-east-1/b?proxy=https://u:SECRET@host", ["proxy", "http://"]),
    ("s3://k:SECRET@host:9000/b", ["host:9000", "endpoint=http://host:9000"]),
    ("s3://k:SECRET@b/", ["region"]),
    ("s3://k:SECRET@us-east-1/b/c", ["bucket"]),
    ("s3://k:SECRET@us-east-1/B", ["B"]),
    ("s3://k:SECRET@us-east-1/b1b?part_size=1", ["part_size"]),
    ("s3://k:SECRET@us-east-1/b1b?part_size=many", ["part_size"]),
    ("s3://k:SECRET@us-east-1/b1b?attempts=0", ["attempts"]),
    ("s3://k:SECRET@us-east-1/b1b?idle_timeout=0", ["idle_timeout"]),
    ("s3://k:SECRET@us-east-1/b1b?connections=0", ["connections"]),
    ("s3://k:SECRET@us-east-1/b1b?verify=perhaps", ["verify"]),
    ("s3://k:SECRET@us-east-1/b1b?verify=0&ca_file=/x", ["ca_file", "verify"]),
    ("s3://k:SECRET@us-east-1/b1b?sse=rot13", ["sse", "AES256"]),
    (f"s3://k:SECRET@us-east-1/b1b?sse=AES256&sse_customer_key={KEY}", ["sse", "sse_customer_key"]),
    ("s3://k:SECRET@us-east-1/b1b?sse_kms_key=a", ["sse_kms_key", "aws:kms"]),
    ("s3://k:SECRET@us-east-1/b1b?sse_customer_key=SECRET", ["sse_customer_key"]),
    ("s3://k:SECRET@us-east-1/b1b?profile=nobody", ["nobody", "ceph"]),
    ("s3://k:SECRET@us-east-1/b1b?profile=ceph", ["profile=ceph", "endpoint"]),
    ("s3://k:SECRET@us-east-1/b1b?conditions=some", ["some", "put_if_match"]),
    ("s3://k:SECRET@us-east-1/b1b?checksum=crc8", ["checksum", "crc32c"]),
    ("s3://k:SECRET@us-east-1/b1b?addressing=dns", ["addressing", "virtual"]),
    ("s3://k:SECRET@us-east-1/b1b?payload=hidden", ["payload", "unsigned"]),
    ("s3://k:SECRET@us-east-1/b1b?accelerate=1&endpoint=http://h", ["accelerate", "endpoint"]),
    ("s3://k:SECRET@us-east-1/b1b?accelerate=1&addressing=path", ["accelerate", "addressing=path"]),
    ("s3://k:SECRET@us-east-1/b1b?watch=sqs", ["watch=sqs", "queue"]),
    ("s3://k:SECRET@us-east-1/b1b?queue=q", ["queue", "watch"]),
    ("s3://k:SECRET@us-east-1/b1b?watch=poll&queue=q", ["queue", "watch=poll"]),
    ("s3://k:SECRET@us-east-1/b1b?part_size=8388608&part_size=8388608", ["part_size", "twice"]),
]


@pytest.mark.parametrize(("dsn", "words"), WRONG)
async def test_invalid_dsns(dsn: str, words: list[str]) -> None:
    dsn = dsn.replace("SECRET", SECRET)
    with pytest.raises(trove.InvalidDSNError) as caught:
        await trove.open(dsn)
    for word in words:
        assert word in str(caught.value)
    assert caught.value.operation == "open"
    assert_no_secret(caught.value, SECRET, KEY)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"colour": "red"}, "colour"),
        ({"part_size": "x"}, "part_size"),
        ({"endpoint": "http://other"}, "endpoint"),
        ({"secret_key": SECRET}, "secret_key"),
        ({"session_token": ""}, "session_token"),
        ({"session_token": 7}, "session_token"),
    ],
)
async def test_invalid_arguments(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(trove.InvalidDSNError, match=word) as caught:
        await trove.open(f"s3://k:{SECRET}@us-east-1/?endpoint=http://h", **settings)
    assert_no_secret(caught.value, SECRET)


async def test_a_store_reveals_no_secret_of_its_dsn() -> None:
    dsn = (
        f"s3://key:{SECRET}@us-east-1/b1b?endpoint=http://h&session_token={TOKEN}&sse_customer_key={KEY}"
        f"&proxy=http://u:{SECRET}@p:1"
    )
    async with trove.open(dsn) as store:
        shown = repr(store) + str(store) + repr(store.driver) + repr(list(vars(store.driver).values()))
        for secret in (SECRET, TOKEN, KEY):
            assert secret not in shown
