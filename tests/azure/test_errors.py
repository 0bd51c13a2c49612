"""The error classes of error answers."""

from __future__ import annotations

import pytest

import trove_async as trove
from tests.azure.stores import azure_error, opened, through
from trove_async.drivers.azure.errors import read_error
from trove_async.errors import ConflictError, ThrottledError
from trove_async.testing.answers import Answer, AnsweringProxy

HEADERS = {"x-ms-request-id": "id-1", "x-ms-version": "2023-11-03"}


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (409, "PendingCopyOperation", ConflictError),
        (409, "BlobOverwritten", ConflictError),
        (409, "ContainerBeingDeleted", trove.TransientError),
        (409, "AccountBeingCreated", trove.TransientError),
        (409, "SnapshotOperationRateExceeded", ThrottledError),
        (409, "LeaseAlreadyPresent", trove.AccessDeniedError),
        (409, "LeaseIdMismatchWithBlobOperation", trove.AccessDeniedError),
        (412, "LeaseIdMissing", trove.AccessDeniedError),
        (409, "InvalidBlobType", trove.UnsupportedError),
        (409, "SnapshotsPresent", trove.BackendError),
        (409, None, ConflictError),
        (412, "SourceConditionNotMet", trove.ObjectChangedError),
        (404, "ResourceNotFound", trove.ObjectNotFoundError),
        (404, None, trove.ObjectNotFoundError),
        (503, "ServerBusy", ThrottledError),
        (500, "Unheard", trove.TransientError),
        (400, "Unheard", trove.BackendError),
    ],
)
def test_codes(status: int, code: str | None, kind: type[trove.TroveError]) -> None:
    """Every answer has the code in a header, also answers without a body."""
    headers = HEADERS if code is None else {**HEADERS, "x-ms-error-code": code}
    error, found = read_error("bucket", "key", status, headers, b"")
    assert (type(error), found, error.status, error.request_id) == (kind, code, status, "id-1")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<",
        b"<Error",
        b"<html></html>",
        b"not XML",
        b"<Error><Code/></Error>",
        b"<Error>" * 500,
        b"\xff\xfe<\0E\0",
    ],
)
def test_bodies_that_are_not_error_documents(content: bytes) -> None:
    error, code = read_error("bucket", "key", 403, HEADERS, content)
    assert (type(error), code) == (trove.AccessDeniedError, None)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(408, trove.OperationTimeoutError), (429, ThrottledError), (502, trove.UnavailableError)],
)
def test_an_answer_of_a_proxy_is_retried_whatever_its_body(status: int, kind: type[trove.TroveError]) -> None:
    error, _ = read_error("bucket", "key", status, {"content-type": "text/html"}, b"<html>")
    assert type(error) is kind
    assert error.retryable


@pytest.mark.asyncio
async def test_a_write_that_conflicts_with_another_is_retried(
    bucket: str, service: AnsweringProxy, delays: list[float]
) -> None:
    service.answer(azure_error(409, "PendingCopyOperation"), method="PUT", times=2)
    async with opened(through(service)) as store:
        await store.put(bucket, "key", b"data")
        assert await store.read(bucket, "key") == b"data"
    assert (service.count("PUT"), len(delays)) == (3, 2)


@pytest.mark.asyncio
async def test_a_put_whose_answer_has_no_etag_is_ambiguous(bucket: str, service: AnsweringProxy) -> None:
    service.answer(Answer(201, {"x-ms-request-id": "1"}), method="PUT")
    async with opened(through(service)) as store:
        with pytest.raises(trove.BackendError, match="etag") as caught:
            await store.put(bucket, "key", b"data")
    assert caught.value.ambiguous
