"""Failures of the service: answers of a proxy in front of the server."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest

import trove_async as trove
from tests.azure.stores import ACCOUNT, PART, azure_error, busy, opened, pattern, through
from trove_async.drivers.azure.driver import AzureDriver
from trove_async.testing.answers import Answer, AnsweringProxy
from trove_async.wire import clock as clock_module

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("delays")]


async def test_the_requested_wait_is_kept(bucket: str, service: AnsweringProxy, delays: list[float]) -> None:
    service.answer(azure_error(503, "ServerBusy", headers={"Retry-After": "7"}), method="PUT", times=2)
    async with opened(through(service)) as store:
        await store.put(bucket, "key", b"data")
    assert service.count("PUT") == 3
    assert [7 <= delay <= 7 + 2**number for number, delay in enumerate(delays)] == [True, True]


async def test_a_service_that_stays_busy_is_given_up(bucket: str, service: AnsweringProxy, delays: list[float]) -> None:
    service.answer(azure_error(503, "ServerBusy", headers={"Retry-After": "2"}, request_id="id-7"), times=None)
    async with opened(through(service), attempts=4, retry_budget=6) as store:
        with pytest.raises(trove.ThrottledError) as caught:
            await store.put(bucket, "key", b"data")
    error = caught.value
    assert (error.status, error.request_id, error.retry_after, error.retryable) == (503, "id-7", 2, True)
    assert error.ambiguous
    assert len(delays) == 3 + 3  # the look-up of the stored blob is refused as well


async def test_only_the_failed_block_is_sent_again(bucket: str, service: AnsweringProxy) -> None:
    service.answer(azure_error(500, "InternalError"), method="PUT", path="blockid=")
    async with opened(through(service)) as store:
        await store.put(bucket, "key", pattern(3 * PART))
        assert await store.read(bucket, "key") == pattern(3 * PART)
    assert service.count("PUT", "blockid=") == 4


async def test_a_wrong_clock_is_corrected_once(
    bucket: str, service: AnsweringProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock_module, "time", SimpleNamespace(time=lambda: time.time() - 3600))
    date = {"Date": format_datetime(datetime.now(UTC), usegmt=True)}
    service.answer(azure_error(403, "AuthenticationFailed", headers=date))
    async with opened(through(service)) as store:
        await store.put(bucket, "key", b"data")
        await store.read(bucket, "key")
    assert service.count("PUT") == 2
    assert service.count("GET") == 1


async def test_a_wrong_key_is_not_retried(bucket: str, service: AnsweringProxy) -> None:
    async with opened(through(service), account_key="d3Jvbmc=") as store:
        with pytest.raises(trove.AccessDeniedError):
            await store.put(bucket, "key", b"data")
        service.answer(azure_error(403, "AuthenticationFailed"))
        with pytest.raises(trove.UnauthenticatedError, match="account key"):
            await store.put(bucket, "key", b"data")
    assert service.count("PUT") == 2


async def test_a_broken_listing_is_requested_again(bucket: str, service: AnsweringProxy) -> None:
    service.answer(Answer(200, body=b"<EnumerationResults>", content_length=500), method="GET", path="comp=list")
    async with opened(through(service)) as store:
        await store.put(bucket, "key", b"data")
        assert [found.key for found in await store.list(bucket).all()] == ["key"]


async def test_an_endpoint_that_is_not_azure(bucket: str, service: AnsweringProxy) -> None:
    page = Answer(404, {"Content-Type": "text/html", "Server": "nginx"}, b"<html>not here</html>")
    service.answer(page, times=None)
    async with opened(through(service)) as store:
        for call in (store.head(bucket, "key"), store.put(bucket, "key", b"x"), store.list(bucket).all()):
            with pytest.raises(trove.BackendError, match="does not speak Azure"):
                await call
    service.clear()
    service.answer(Answer(200, {"Content-Type": "text/html"}, b"<html></html>"), times=None)
    async with opened(through(service)) as store:
        calls: list[Any] = [store.head(bucket, "key"), store.put(bucket, "key", b"x"), store.list(bucket).all()]
        for call in (*calls, store.ping()):
            with pytest.raises(trove.BackendError, match=r"(?:check|is) the endpoint"):
                await call


async def test_a_pending_copy_is_not_mistaken_for_a_finished_one(bucket: str, service: AnsweringProxy) -> None:
    pending = Answer(202, {"x-ms-copy-status": "pending", "ETag": '"0x1"', "x-ms-request-id": "1"})
    service.answer(pending, method="PUT", path="/copy")
    async with opened(through(service)) as store:
        await store.put(bucket, "key", b"data")
        with pytest.raises(trove.CopyError, match="pending"):
            await store.copy(bucket, "key", bucket, "copy")


@pytest.mark.parametrize("described", [{}, {"replace": True, "metadata": {"new": "1"}}], ids=["kept", "replaced"])
async def test_a_source_that_the_service_cannot_read_is_read_and_written(
    bucket: str, service: AnsweringProxy, described: dict[str, Any]
) -> None:
    """A firewall of the account may keep the service, and not the caller, from reading the source."""
    async with opened(through(service)) as store:
        await store.put(bucket, "key", b"data", metadata={"a": "b"}, tags={"c": "d"})
        service.answer(azure_error(403, "CannotVerifyCopySource"), method="PUT", times=1)
        await store.copy(bucket, "key", bucket, "copy", **described)
        assert (await store.head(bucket, "copy")).metadata == described.get("metadata", {"a": "b"})
        assert await store.get_tags(bucket, "copy") == ({} if described else {"c": "d"})
        assert await store.read(bucket, "copy") == b"data"
        assert await trove.unwrap(store.driver, AzureDriver).leftovers(bucket) == []


async def test_the_source_of_a_copy_that_is_gone_is_named(bucket: str, service: AnsweringProxy) -> None:
    async with opened(through(service)) as store:
        await store.put(bucket, "key", b"data")
        service.answer(azure_error(404, "CannotVerifyCopySource"), method="PUT", times=1)
        service.answer(azure_error(404, "BlobNotFound"), method="GET", path="/key", times=None)
        with pytest.raises(trove.ObjectNotFoundError) as caught:
            await store.copy(bucket, "key", bucket, "copy")
        assert (caught.value.key, caught.value.copy_phase) == ("key", trove.CopyPhase.READ)


async def test_a_large_copy_uses_blocks(bucket: str, service: AnsweringProxy) -> None:
    """Azurite cannot copy blocks: the requests are checked, and their result is stored by the test."""
    service.answer(Answer(201, {"x-ms-request-id": "1"}), method="PUT", path="blockid=", times=None)
    service.answer(
        Answer(201, {"ETag": '"0x77"', "x-ms-request-id": "1"}), method="PUT", path="comp=blocklist", times=None
    )
    async with opened(through(service), max_copy_size=PART, part_size=8 * PART) as store:
        await store.put(
            bucket, "key", pattern(3 * PART + 1), metadata={"a-b": "ü"}, tags={"t": "1"}, content_type="a/b"
        )
        info = await store.copy(bucket, "key", bucket, "copy", if_none_match="*")
    assert (info.etag, info.size, info.content_type, dict(info.metadata)) == ("0x77", 3 * PART + 1, "a/b", {"a-b": "ü"})
    blocks = [seen for seen in service.requests if "blockid=" in seen.target]
    ranges = sorted(str(seen.header("x-ms-source-range")) for seen in blocks)
    assert ranges == ["bytes=0-65535", "bytes=131072-196607", "bytes=196608-196608", "bytes=65536-131071"]
    assert all(f"/{ACCOUNT}/{bucket}/key?" in str(seen.header("x-ms-copy-source")) for seen in blocks)
    assert all("sig=" in str(seen.header("x-ms-copy-source")) for seen in blocks)
    assert all(seen.header("x-ms-source-if-match") for seen in blocks)
    [commit] = [seen for seen in service.requests if "comp=blocklist" in seen.target]
    assert (commit.header("if-none-match"), commit.header("x-ms-tags")) == ("*", "t=1")
    assert commit.header("x-ms-blob-content-type") == "a/b"


async def test_a_replaced_source_is_not_reported_as_an_existing_target(bucket: str, service: AnsweringProxy) -> None:
    service.answer(azure_error(412, "SourceConditionNotMet"), method="PUT", path="/copy")
    async with opened(through(service)) as store:
        await store.put(bucket, "key", b"data")
        with pytest.raises(trove.ObjectChangedError, match="source"):
            await store.copy(bucket, "key", bucket, "copy", if_none_match="*")


async def test_a_large_copy_whose_blocks_were_discarded_is_reported(bucket: str, service: AnsweringProxy) -> None:
    service.answer(Answer(201, {"x-ms-request-id": "1"}), method="PUT", path="blockid=", times=None)
    service.answer(azure_error(400, "InvalidBlockList"), method="PUT", path="comp=blocklist")
    async with opened(through(service), max_copy_size=PART, part_size=8 * PART) as store:
        await store.put(bucket, "key", pattern(3 * PART))
        with pytest.raises(trove.TransientError, match="discarded"):
            await store.copy(bucket, "key", bucket, "copy")
        assert not await store.exists(bucket, "copy")


async def test_a_failed_block_cancels_the_others(bucket: str, service: AnsweringProxy) -> None:
    service.answer(azure_error(403, "AuthorizationPermissionMismatch"), method="PUT", path="blockid=", times=None)
    async with opened(through(service)) as store:
        with pytest.raises(trove.AccessDeniedError):
            await store.put(bucket, "key", pattern(40 * PART))
        assert busy(store) == 0
    assert service.count("PUT", "blockid=") < 20
    assert service.count("PUT", "comp=blocklist") == 0


async def test_errors_have_the_request_id(bucket: str, service: AnsweringProxy) -> None:
    service.answer(azure_error(403, "AuthorizationFailure", request_id="id-9"))
    async with opened(through(service)) as store:
        with pytest.raises(trove.AccessDeniedError, match="AuthorizationFailure: reason") as caught:
            await store.read(bucket, "key")
    error: Any = caught.value
    assert (error.status, error.request_id, error.operation, error.driver) == (403, "id-9", "read", "azure")
    assert "\n" not in str(error)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_completion_whose_copy_lost_its_answer_is_not_sent_again(
    bucket: str, service: AnsweringProxy, when: Any
) -> None:
    """The parts are in a hidden blob, which is copied to the key once; a look tells whether it was."""
    async with opened(through(service)) as store:
        upload = await store.initiate_multipart(bucket, "key", metadata={"a": "b"}, tags={"c": "d"})
        part = await store.upload_part(bucket, "key", upload, 1, b"data")
        service.answer(azure_error(500, "InternalError"), method="PUT", path=f"/{bucket}/key", when=when)
        if when == "after":
            info = await store.complete_multipart(bucket, "key", upload, [part])
            assert info == await store.head(bucket, "key")
            assert await store.list_multipart_uploads(bucket) == []
        else:
            with pytest.raises(trove.TransientError) as caught:
                await store.complete_multipart(bucket, "key", upload, [part])
            assert caught.value.ambiguous
            assert not await store.exists(bucket, "key")
            await store.complete_multipart(bucket, "key", upload, [part])  # the upload is still open
        assert await store.read(bucket, "key") == b"data"
        assert service.count("PUT", f"/{bucket}/key") == (1 if when == "after" else 2)
