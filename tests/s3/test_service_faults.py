"""Failures and redirects of the service: answers of a proxy in front of real servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

import trove_async as trove
from tests.s3.stores import PART, ServerName, address, busy, opened, pattern, scratch
from tests.s3.test_session import Issuer
from trove_async.drivers.s3.driver import S3Driver
from trove_async.testing.answers import Answer, AnsweringProxy, SeenRequest, s3_error
from trove_async.wire import clock as clock_module

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("delays")]


# A service that is busy


async def test_the_requested_wait_is_kept(
    server: ServerName, bucket: str, service: AnsweringProxy, delays: list[float]
) -> None:
    service.answer(s3_error(503, "SlowDown", headers={"Retry-After": "7"}), method="PUT", times=2)
    async with opened(server, service.url()) as store:
        await store.put(bucket, "key", b"data")
    assert service.count("PUT") == 3
    assert [7 <= delay <= 7 + 2**number for number, delay in enumerate(delays)] == [True, True]


async def test_waits_grow_up_to_a_limit(
    server: ServerName, bucket: str, service: AnsweringProxy, delays: list[float]
) -> None:
    service.answer(s3_error(503, "SlowDown"), method="GET", times=None)
    async with opened(server, service.url(), attempts=12, retry_budget=11) as store:
        with pytest.raises(trove.ThrottledError):
            await store.read(bucket, "key")
    assert len(delays) == 11
    assert all(0 <= delay <= min(60, 2**number) for number, delay in enumerate(delays))


async def test_a_service_that_stays_busy_is_given_up(
    server: ServerName, bucket: str, service: AnsweringProxy, delays: list[float]
) -> None:
    answer = s3_error(503, "SlowDown", "please", headers={"Retry-After": "2"}, request_id="id-7")
    service.answer(answer, method="PUT", times=None)
    async with opened(server, service.url(), attempts=4) as store:
        with pytest.raises(trove.ThrottledError) as caught:
            await store.put(bucket, "key", b"data")
    error = caught.value
    assert (error.status, error.request_id, error.retry_after, error.retryable) == (503, "id-7", 2, True)
    assert error.ambiguous  # a gateway may answer so while the request is being carried out; a HEAD found nothing
    assert "SlowDown: please" in str(error)
    assert service.count("PUT") == 4
    assert [2 <= delay <= 2 + 2**number for number, delay in enumerate(delays)] == [True] * 3


async def test_a_request_to_wait_for_more_than_a_minute_is_an_error(
    server: ServerName, bucket: str, service: AnsweringProxy, delays: list[float]
) -> None:
    service.answer(s3_error(503, "SlowDown", headers={"Retry-After": "61"}), times=None)
    async with opened(server, service.url()) as store:
        with pytest.raises(trove.ThrottledError) as caught:
            await store.read(bucket, "key")
    assert caught.value.retry_after == 61
    assert (service.count(), delays) == (1, [])


async def test_a_write_that_reportedly_failed_is_settled_by_a_head(
    server: ServerName, bucket: str, service: AnsweringProxy
) -> None:
    service.answer(s3_error(500, "InternalError"), method="PUT", when="after", times=2)
    async with opened(server, service.url(), attempts=2) as store:
        info = await store.put(bucket, "key", b"data")
        assert info == await store.head(bucket, "key")


@pytest.mark.parametrize("server", ["moto"])  # Ceph carries out a conditional put in two steps
async def test_a_conditional_write_that_reportedly_failed_is_ambiguous(
    server: ServerName, bucket: str, service: AnsweringProxy
) -> None:
    service.answer(s3_error(500, "InternalError"), method="PUT", when="after", times=2)
    async with opened(server, service.url(), attempts=2) as store:
        with pytest.raises(trove.TransientError) as caught:
            await store.put(bucket, "key", b"data", if_none_match="*")
        assert caught.value.ambiguous
        assert await store.read(bucket, "key") == b"data"


# Errors with the status 200


def late_error() -> Answer:
    """Return the answer of a service that first keeps the connection alive and then fails."""
    body = (
        b'<?xml version="1.0" encoding="UTF-8"?>\n' + b" " * 3000 + b"\n<Error><Code>InternalError</Code>"
        b"<Message>late</Message><RequestId>id-9</RequestId></Error>"
    )
    return Answer(200, {"Content-Type": "application/xml"}, body)


def half_an_answer() -> Answer:
    return Answer(200, {"Transfer-Encoding": "chunked"}, b"40\r\n<CompleteMultipart", close=True)


ERRORS: dict[str, Callable[[], Answer]] = {
    "plain": lambda: s3_error(200, "InternalError"),
    "late": late_error,
    "broken": half_an_answer,
    "short": lambda: Answer(200, {"Content-Type": "application/xml"}, b"<Comple", content_length=200),
}


@pytest.mark.parametrize("how", ERRORS)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_completion_answered_with_200_and_an_error(
    server: ServerName, bucket: str, service: AnsweringProxy, when: Any, how: str
) -> None:
    data = pattern(3 * PART)
    service.answer(ERRORS[how](), method="POST", path="uploadId=", when=when)
    async with opened(server, service.url()) as store:
        info = await store.put(bucket, "key", data)
        assert info.size == len(data)
        assert service.count("POST", "uploadId=") == (1 if when == "after" else 2)
        assert await store.read(bucket, "key") == data
        assert (await store.head(bucket, "key")).etag == info.etag
        assert service.count("DELETE") == 0


@pytest.mark.parametrize("carried_out", [True, False])
async def test_an_upload_that_is_gone_after_a_lost_answer_is_settled_by_the_etag(
    server: ServerName, bucket: str, service: AnsweringProxy, carried_out: bool
) -> None:
    data = pattern(3 * PART)
    first: Any = "after" if carried_out else "before"
    service.answer(s3_error(200, "InternalError"), method="POST", path="uploadId=", when=first)
    service.answer(s3_error(404, "NoSuchUpload"), method="POST", path="uploadId=")
    async with opened(server, service.url()) as store:
        await store.put(bucket, "key", b"old")
        if carried_out:
            info = await store.put(bucket, "key", data)
            assert info.etag == (await store.head(bucket, "key")).etag
            assert await store.read(bucket, "key") == data
        else:
            with pytest.raises(trove.UploadNotFoundError) as caught:
                await store.put(bucket, "key", data)
            assert caught.value.ambiguous
            assert await store.read(bucket, "key") == b"old"


async def test_a_completion_that_never_succeeds(server: ServerName, bucket: str, service: AnsweringProxy) -> None:
    async with opened(server, service.url(), attempts=3) as store:
        await store.put(bucket, "key", b"old")
        service.answer(s3_error(200, "InternalError"), method="POST", path="uploadId=", times=None)
        with pytest.raises(trove.TransientError) as caught:
            await store.put(bucket, "key", pattern(3 * PART))
        assert caught.value.ambiguous
        assert service.count("POST", "uploadId=") == 3
        assert await store.list_multipart_uploads(bucket) == []
        assert await store.read(bucket, "key") == b"old"


async def test_a_completion_that_is_refused_permanently(
    server: ServerName, bucket: str, service: AnsweringProxy
) -> None:
    service.answer(s3_error(200, "AccessDenied", request_id="id-3"), method="POST", path="uploadId=", times=None)
    async with opened(server, service.url()) as store:
        with pytest.raises(trove.AccessDeniedError) as caught:
            await store.put(bucket, "key", pattern(3 * PART))
        assert caught.value.request_id == "id-3"
        assert not caught.value.ambiguous
        assert service.count("POST", "uploadId=") == 1
        assert await store.list_multipart_uploads(bucket) == []


@pytest.mark.parametrize("how", ERRORS)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_copy_answered_with_200_and_an_error(
    server: ServerName, bucket: str, service: AnsweringProxy, when: Any, how: str
) -> None:
    service.answer(ERRORS[how](), method="PUT", path="/copy", when=when)
    async with opened(server, service.url()) as store:
        source = await store.put(bucket, "key", b"data", metadata={"a": "b"})
        if when == "before":
            with pytest.raises(trove.TransientError) as caught:
                await store.copy(bucket, "key", bucket, "copy")
            assert caught.value.ambiguous  # it may still be under way
        else:
            copied = await store.copy(bucket, "key", bucket, "copy")
            assert copied.etag == source.etag
            assert await store.read(bucket, "copy") == b"data"
            assert (await store.head(bucket, "copy")).metadata == {"a": "b"}
        assert service.count("PUT", "/copy") == 1


async def test_a_copy_that_the_service_has_refused_to_be_spared_is_sent_again(
    server: ServerName, bucket: str, service: AnsweringProxy
) -> None:
    service.answer(s3_error(503, "SlowDown", request_id="1"), method="PUT", path="/copy")
    async with opened(server, service.url()) as store:
        await store.put(bucket, "key", b"data")
        await store.copy(bucket, "key", bucket, "copy")
        assert service.count("PUT", "/copy") == 2
        assert await store.read(bucket, "copy") == b"data"


async def test_a_create_only_copy_whose_answer_was_an_error_is_ambiguous(
    server: ServerName, bucket: str, service: AnsweringProxy
) -> None:
    service.answer(s3_error(200, "InternalError"), method="PUT", path="/copy", when="after")
    service.answer(s3_error(412, "PreconditionFailed"), method="PUT", path="/copy")
    async with opened(server, service.url(), conditions="all") as store:
        await store.put(bucket, "key", b"data")
        with pytest.raises(trove.ObjectAlreadyExistsError) as caught:
            await store.copy(bucket, "key", bucket, "copy", if_none_match="*")
        assert caught.value.ambiguous


async def test_a_bulk_delete_reports_each_key(server: ServerName, bucket: str, service: AnsweringProxy) -> None:
    document = (
        b'<?xml version="1.0"?><DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Error><Key>a</Key>'
        b"<Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>"
    )
    service.answer(Answer(200, {"Content-Type": "application/xml"}, document), method="POST", path="delete")
    async with opened(server, service.url()) as store:
        with pytest.raises(trove.BulkError) as caught:
            await store.delete_many(bucket, ["a", "b"])
        assert [(failed.key, type(failed.error)) for failed in caught.value.failed] == [("a", trove.AccessDeniedError)]
        assert caught.value.deleted_count == 1


@pytest.mark.parametrize("operation", ["put", "part", "delete"])
async def test_an_unread_answer_releases_its_connection(
    server: ServerName, bucket: str, service: AnsweringProxy, operation: str
) -> None:
    async with opened(server, service.url()) as store:
        upload = await store.initiate_multipart(bucket, "key")
        service.answer(Answer(200, {"ETag": '"one"'}, bytes(200_000)), path="/key")
        if operation == "put":
            assert (await store.put(bucket, "key", b"data")).etag == "one"
        elif operation == "part":
            assert (await store.upload_part(bucket, "key", upload, 1, b"data")).etag == "one"
        else:
            await store.delete(bucket, "key")
        assert busy(store) == 0
        await store.abort_multipart(bucket, "key", upload)


# Credentials that expire


@pytest.fixture
def issuer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Issuer:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return Issuer(tmp_path)


def signed_with(request: SeenRequest) -> str:
    return (request.header("authorization") or "").partition("Credential=")[2].partition("/")[0]


async def test_one_renewal_serves_a_hundred_requests(issuer: Issuer) -> None:
    issuer.issue("old", 60)
    async with (
        scratch("moto") as bucket,
        AnsweringProxy(*address("moto")) as service,
        opened("moto", service.url(), access_key=None, secret_key=None) as store,
    ):
        await store.put(bucket, "key", b"data")
        assert issuer.calls == 1
        issuer.issue("new", 60)
        for number in range(100):
            service.answer(s3_error(400, "ExpiredToken"), method="PUT", path=f"/key-{number:03}")
        await asyncio.gather(*(store.put(bucket, f"key-{number:03}", b"data") for number in range(100)))
        assert issuer.calls == 2
        assert busy(store) == 0
        puts = [signed_with(request) for request in service.requests if "/key-" in request.target]
        assert (puts.count("old"), puts.count("new"), len(puts)) == (100, 100, 200)
        assert len([found async for found in store.list(bucket)]) == 101


async def test_a_head_refused_without_a_code_renews_as_well(issuer: Issuer) -> None:
    issuer.issue("old", 60)
    async with (
        scratch("moto") as bucket,
        AnsweringProxy(*address("moto")) as service,
        opened("moto", service.url(), access_key=None, secret_key=None) as store,
    ):
        await store.put(bucket, "key", b"data")
        issuer.issue("new", 60)
        service.answer(Answer(400), method="HEAD")
        assert (await store.head(bucket, "key")).size == 4
        assert [signed_with(request) for request in service.requests] == ["old", "old", "new"]
        service.answer(Answer(400), method="HEAD", times=None)
        with pytest.raises(trove.BackendError):
            await store.head(bucket, "key")
        assert service.count("HEAD") == 3  # the same credentials are not a renewal


async def test_renewed_credentials_that_are_refused_as_well(issuer: Issuer) -> None:
    issuer.issue("old", 60)
    async with scratch("moto") as bucket, AnsweringProxy(*address("moto")) as service:
        service.answer(s3_error(400, "ExpiredToken", request_id="id-4"), times=None)
        async with opened("moto", service.url(), access_key=None, secret_key=None) as store:
            await trove.unwrap(store.driver, S3Driver)._session.credentials()
            issuer.issue("new", 60)
            with pytest.raises(trove.UnauthenticatedError, match="ExpiredToken") as caught:
                await store.read(bucket, "key")
            assert caught.value.request_id == "id-4"
            assert [signed_with(request) for request in service.requests] == ["old", "new"]


# A clock that is wrong


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Give the client a clock that is five hours slow."""
    wrong = SimpleNamespace(time=lambda: time.time() - 5 * 3600)
    monkeypatch.setattr(clock_module, "time", wrong)
    return wrong


@pytest.mark.parametrize("operation", ["read", "put", "head"])
async def test_a_wrong_clock_is_corrected_once(clock: SimpleNamespace, operation: str) -> None:
    async with scratch("ceph") as bucket, AnsweringProxy(*address("ceph")) as service, opened("ceph") as direct:
        await direct.put(bucket, "key", b"data")  # it corrects its own
        async with opened("ceph", service.url()) as store:
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "read": lambda: store.read(bucket, "key"),
                "put": lambda: store.put(bucket, "key", b"data"),
                "head": lambda: store.head(bucket, "key"),
            }
            await calls[operation]()
            assert [request.status for request in service.requests] == [403, 200]
            await store.read(bucket, "key")
            assert service.count() == 3
            url = await store.presign_get(bucket, "key")
            assert datetime.now(UTC).strftime("X-Amz-Date=%Y%m%dT") in url


async def test_both_planes_sign_with_the_service_s_clock(clock: SimpleNamespace) -> None:
    async with scratch("ceph") as bucket, AnsweringProxy(*address("ceph")) as service:
        service.answer(
            s3_error(403, "RequestTimeTooSkewed", headers={"Date": format_datetime(datetime.now(UTC), usegmt=True)})
        )
        async with opened("ceph", service.url()) as store:
            assert bucket in [found.name for found in await store.list_buckets()]
            assert [request.status for request in service.requests] == [403, 200]
            await store.put(bucket, "key", b"data")
            assert await store.get_tags(bucket, "key") == {}
            assert [request.status for request in service.requests][2:] == [200, 200]


async def test_a_wrong_clock_is_not_mistaken_for_an_existing_bucket(clock: SimpleNamespace) -> None:
    async with scratch("ceph") as bucket:  # which is created and deleted
        assert bucket


async def test_a_clock_that_stays_wrong_is_reported(server: ServerName, bucket: str, service: AnsweringProxy) -> None:
    date = format_datetime(datetime.now(UTC), usegmt=True)
    service.answer(s3_error(403, "RequestTimeTooSkewed", headers={"Date": date}), times=None)
    async with opened(server, service.url()) as store:
        with pytest.raises(trove.UnauthenticatedError, match="clock"):
            await store.read(bucket, "key")
    assert service.count() == 2


@pytest.mark.parametrize("headers", [{}, {"Date": "yesterday"}])
async def test_a_skew_without_a_date_is_reported(
    server: ServerName, bucket: str, service: AnsweringProxy, headers: dict[str, str]
) -> None:
    service.answer(s3_error(403, "RequestTimeTooSkewed", headers=headers), times=None)
    async with opened(server, service.url()) as store:
        with pytest.raises(trove.UnauthenticatedError, match="clock"):
            await store.read(bucket, "key")
    assert service.count() == 1


# A bucket in another place


def scope(request: SeenRequest) -> str:
    return (request.header("authorization") or "").partition("Credential=")[2].split("/")[2]


MOVED = {
    "301": s3_error(301, "PermanentRedirect", headers={"x-amz-bucket-region": "eu-west-1"}),
    "400": s3_error(
        400,
        "AuthorizationHeaderMalformed",
        "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'",
    ),
    "307": s3_error(307, "TemporaryRedirect", headers={"x-amz-bucket-region": "eu-west-1"}),
}


@pytest.mark.parametrize("how", MOVED)
async def test_the_redirect_of_a_bucket_in_another_region_is_followed_once(
    server: ServerName, bucket: str, service: AnsweringProxy, how: str
) -> None:
    service.answer(MOVED[how])
    async with opened(server, service.url()) as store:
        await store.put(bucket, "key", b"data")
        assert await store.read(bucket, "key") == b"data"
    assert [scope(request) for request in service.requests] == ["us-east-1", "eu-west-1", "eu-west-1"]


@pytest.mark.parametrize("status", [301, 400])
async def test_the_region_in_an_answer_to_head(
    server: ServerName, bucket: str, service: AnsweringProxy, status: int
) -> None:
    async with opened(server, service.url()) as store:
        async with opened(server) as direct:
            await direct.put(bucket, "key", b"data")
        service.answer(Answer(status, {"x-amz-bucket-region": "eu-west-1"}), method="HEAD")
        assert (await store.head(bucket, "key")).size == 4
    assert [scope(request) for request in service.requests] == ["us-east-1", "eu-west-1"]


async def test_redirects_in_a_circle_are_reported(server: ServerName, bucket: str, service: AnsweringProxy) -> None:
    service.answer(s3_error(301, "PermanentRedirect", headers={"x-amz-bucket-region": "eu-west-1"}))
    service.answer(s3_error(301, "PermanentRedirect", headers={"x-amz-bucket-region": "us-east-1"}), times=None)
    async with opened(server, service.url()) as store:
        with pytest.raises(trove.BackendError, match="us-east-1"):
            await store.read(bucket, "key")
    assert service.count() == 2


async def test_a_redirect_to_another_host_is_not_followed(
    server: ServerName, bucket: str, service: AnsweringProxy
) -> None:
    answer = s3_error(307, "TemporaryRedirect", headers={"Location": "http://127.0.0.1:1/"})
    service.answer(answer, times=None)
    async with opened(server, service.url()) as store:
        with pytest.raises(trove.BackendError):
            await store.read(bucket, "key")
    assert service.count() == 1
    assert urlsplit(service.url()).port == service.port
