"""Each verb over a driver with answers from the test: the requests to the driver, and the results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import trove_async
from trove_async import PartInfo
from trove_async.driver import CAPABILITIES, CopyOptions, Features, GetOptions, HeadOptions, Limits, VersioningDriver
from trove_async.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    BulkError,
    InvalidArgumentError,
    InvalidKeyError,
    ObjectChangedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    UnavailableError,
    UnsupportedError,
)
from trove_async.listing import ListPage
from trove_async.reader import ObjectReader
from trove_async.testing.mock import MockDriver
from trove_async.types import DeleteResult, LifecycleRule, ObjectInfo, VersioningStatus

pytestmark = pytest.mark.asyncio

INFO = ObjectInfo("k", 5, "etag")
NOW = datetime(2024, 5, 6, tzinfo=UTC)
RULE = LifecycleRule("r", expiration_days=1)


def everything(**answers: Any) -> MockDriver:
    return MockDriver(capabilities=CAPABILITIES, **answers)


# Reading


async def test_reading_an_empty_range_makes_no_request_and_opening_one_makes_a_head() -> None:
    mock = MockDriver(head=INFO)
    async with trove_async.open(mock) as t:
        assert await t.read("b", "k", (3, 0)) == b""
        assert mock.calls == []
        async with t.get("b", "k", range=(3, 0), if_match="etag") as reader:
            assert (await reader.read(), reader.info) == (b"", INFO)
    assert mock.calls_to("head")[0].arguments["options"] == HeadOptions(if_match="etag")


async def test_get_returns_the_reader_of_the_driver() -> None:
    async with trove_async.open(MockDriver(get=b"hello")) as t:
        async with t.get("b", "k") as reader:
            assert await reader.read() == b"hello"
        assert await t.read("b", "k", (1, 3)) == b"ell"
        assert await t.read("b", "k", (-2, None)) == b"lo"


async def fetched(ranges: list[tuple[int, int | None]], gap: int, size: int = 1000) -> tuple[list[bytes], MockDriver]:
    data = bytes(number % 251 for number in range(size))
    mock = MockDriver(get=data)
    async with trove_async.open(mock) as t:
        result = await t.read_ranges("b", "k", ranges, coalesce_gap=gap)
    assert result == [data[offset:][:length] for offset, length in ranges]
    return result, mock


@pytest.mark.parametrize(
    ("ranges", "gap", "requests"),
    [
        ([], 0, 0),
        ([(5, 0), (900, 0)], 0, 0),
        ([(0, 10)], 0, 1),
        ([(0, 10), (10, 10)], 0, 1),
        ([(0, 10), (11, 10)], 0, 2),
        ([(0, 10), (11, 10)], 1, 1),
        ([(500, 10), (0, 10), (5, 10), (500, 3)], 0, 2),
        ([(0, 10), (900, 500)], 890, 1),
        ([(0, None), (900, 5), (3, 0)], 0, 1),
        ([(-10, None), (0, 5)], 1000, 2),
        ([(n * 100, 10) for n in range(10)], 10, 10),
        ([(n * 100, 10) for n in range(10)], 90, 1),
    ],
)
async def test_near_ranges_are_read_together(ranges: list[tuple[int, int | None]], gap: int, requests: int) -> None:
    _, mock = await fetched(ranges, gap)
    assert len(mock.calls_to("get")) == requests


async def test_all_ranges_are_read_from_the_object_of_the_first_range() -> None:
    _, mock = await fetched([(0, 10), (100, 10), (200, 10)], 0)
    assert [call.arguments["options"].if_match for call in mock.calls_to("get")] == [None, "mock", "mock"]


@pytest.mark.parametrize("honours", [True, False])
async def test_an_object_that_changes_between_two_ranges_raises(honours: bool) -> None:
    etags = iter(["one", "two"])

    def get(bucket: str, key: str, options: GetOptions) -> ObjectReader:
        etag = next(etags)
        if options.if_match is not None and options.if_match != etag:
            raise PreconditionFailedError
        assert options.range is not None
        start, stop = options.range.resolve(1000)
        return ObjectReader(ObjectInfo("k", 1000, etag), bytes(stop - start), start=start, stop=stop)

    features = Features(conditions=frozenset({"get"}) if honours else frozenset())
    async with trove_async.open(MockDriver(get=get, features=features)) as t:
        with pytest.raises(ObjectChangedError):
            await t.read_ranges("b", "k", [(0, 1), (500, 1)], coalesce_gap=0)


async def test_one_failing_range_raises_its_error_and_no_exception_group() -> None:
    async with trove_async.open(MockDriver(get=bytes(100))) as t:
        with pytest.raises(trove_async.RangeNotSatisfiableError):
            await t.read_ranges("b", "k", [(0, 1), (50, 1), (200, 1), (300, 1)], coalesce_gap=0)


async def test_at_most_ten_ranges_are_read_concurrently() -> None:
    running = most = 0

    async def get(bucket: str, key: str, options: GetOptions) -> ObjectReader:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        assert options.range is not None
        start, stop = options.range.resolve(10_000)
        return ObjectReader(ObjectInfo("k", 10_000, "e"), bytes(stop - start), start=start, stop=stop)

    async with trove_async.open(MockDriver(get=get)) as t:
        await t.read_ranges("b", "k", [(n * 100, 1) for n in range(100)], coalesce_gap=0)
    assert most == 10


# Copy and move


async def test_a_copy_keeps_the_properties_of_the_source_unless_it_replaces_them() -> None:
    mock = MockDriver(capabilities=[VersioningDriver], copy=INFO)
    async with trove_async.open(mock) as t:
        await t.copy("b", "k", "b", "l.json")
        await t.copy("b", "k", "b", "l.json", replace=True, metadata={"A": "1"})
        await t.copy("b", "k", "b", "l", source_version_id="v", source_if_match='"s"', if_none_match="*")
    plain, replaced, conditional = (call.arguments["options"] for call in mock.calls_to("copy"))
    assert plain == CopyOptions()
    assert replaced.replace.content_type == "application/json"
    assert replaced.replace.metadata == {"a": "1"}
    assert conditional == CopyOptions(source_version_id="v", source_if_match="s", if_none_match="*")


@pytest.mark.parametrize(
    "described", [{"metadata": {"a": "1"}}, {"tags": {"a": "1"}}, {"content_type": "x/y"}, {"storage_class": "COLD"}]
)
async def test_a_copy_with_properties_and_without_replace_is_refused(described: dict[str, Any]) -> None:
    mock = MockDriver(copy=INFO)
    async with trove_async.open(mock) as t:
        with pytest.raises(InvalidArgumentError, match="replace=True"):
            await t.copy("b", "k", "b", "l", **described)
        assert mock.calls == []


async def test_a_missing_source_is_named_and_not_the_destination() -> None:
    async with trove_async.open(MockDriver(copy=ObjectNotFoundError(), head=INFO)) as t:
        for use in (t.copy, t.move):
            with pytest.raises(ObjectNotFoundError) as caught:
                await use("src", "a", "dst", "b")
            assert (caught.value.bucket, caught.value.key) == ("src", "a")


async def test_a_move_deletes_exactly_the_object_that_it_copied() -> None:
    mock = MockDriver(head=INFO, copy=replace(INFO, etag="new"), delete=None)
    async with trove_async.open(mock) as t:
        assert (await t.move("b", "k", "c", "l")).etag == "new"
    assert [call.name for call in mock.calls] == ["head", "copy", "delete", "close"]
    assert mock.calls[1].arguments["options"].source_if_match == "etag"
    assert mock.calls[2].arguments["options"].if_match == "etag"
    assert (mock.calls[2].arguments["bucket"], mock.calls[2].arguments["key"]) == ("b", "k")


async def test_a_move_uses_no_conditions_if_the_driver_has_none() -> None:
    mock = MockDriver(head=INFO, copy=INFO, delete=None, features=Features())
    async with trove_async.open(mock) as t:
        await t.move("b", "k", "c", "l")
    assert mock.calls[1].arguments["options"].source_if_match is None
    assert mock.calls[2].arguments["options"].if_match is None


async def test_a_move_onto_itself_changes_nothing() -> None:
    mock = MockDriver(head=INFO)
    async with trove_async.open(mock) as t:
        assert await t.move("b", "k", "b", "k") == INFO
    assert [call.name for call in mock.calls] == ["head", "close"]


async def test_a_move_deletes_nothing_if_its_copy_fails() -> None:
    mock = MockDriver(head=INFO, copy=UnavailableError("no"))
    async with trove_async.open(mock) as t:
        with pytest.raises(UnavailableError):
            await t.move("b", "k", "c", "l")
    assert mock.calls_to("delete") == []


# Deleting many


def bulk(bucket: str, keys: list[str]) -> list[DeleteResult]:
    return [DeleteResult(key, AccessDeniedError("no") if key.startswith("x") else None) for key in keys]


@pytest.mark.parametrize("native", [True, False])
async def test_every_key_is_tried_and_the_failures_are_raised_together(native: bool) -> None:
    def delete(bucket: str, key: str, options: object) -> None:
        if key.startswith("x"):
            raise AccessDeniedError("no")

    mock = MockDriver(delete_many=bulk) if native else MockDriver(delete=delete)
    async with trove_async.open(mock) as t:
        with pytest.raises(BulkError) as caught:
            await t.delete_many("b", ["a", "", "x1", "b", "x2", "c"])
    error = caught.value
    assert [result.key for result in error.failed] == ["", "x1", "x2"]
    assert error.deleted_count == 3
    assert [type(result.error) for result in error.failed] == [InvalidKeyError, AccessDeniedError, AccessDeniedError]
    for result in error.failed[1:]:
        assert result.error is not None
        assert (result.error.operation, result.error.bucket, result.error.key) == ("delete_many", "b", result.key)
    asked = mock.calls_to("delete_many" if native else "delete")
    keys = asked[0].arguments["keys"] if native else sorted(call.arguments["key"] for call in asked)
    assert keys == (["a", "x1", "b", "x2", "c"] if native else ["a", "b", "c", "x1", "x2"])


async def test_the_number_of_deletions_is_returned_and_nothing_happens_before_the_await() -> None:
    mock = MockDriver(delete_many=bulk)
    async with trove_async.open(mock) as t:
        deletion = t.delete_many("b", ["a", "b"])
        await asyncio.sleep(0)
        assert mock.calls == []
        assert await deletion == 2


async def test_results_can_be_iterated_one_by_one() -> None:
    async with trove_async.open(MockDriver(delete_many=bulk)) as t:
        deletion = t.delete_many("b", ["a", "x", "b"], raise_errors=False)
        results = [(result.key, result.error is None) async for result in deletion]
    assert results == [("a", True), ("x", False), ("b", True)]


async def test_keys_of_any_iterable_are_sent_in_chunks() -> None:
    features = Features(protocols=frozenset(CAPABILITIES), limits=Limits(max_bulk_delete=2))

    async def keys() -> AsyncIterator[str]:
        for key in "abcde":
            yield key

    for source in (list("abcde"), iter("abcde"), keys()):
        mock = MockDriver(delete_many=bulk, features=features)
        async with trove_async.open(mock) as t:
            assert await t.delete_many("b", source) == 5
        assert [call.arguments["keys"] for call in mock.calls_to("delete_many")] == [["a", "b"], ["c", "d"], ["e"]]


async def test_a_bulk_delete_that_cannot_begin_raises_its_own_error() -> None:
    async with trove_async.open(MockDriver(delete_many=BucketNotFoundError())) as t:
        with pytest.raises(BucketNotFoundError) as caught:
            await t.delete_many("b", ["a"])
    assert (caught.value.operation, caught.value.bucket) == ("delete_many", "b")


# Listing


async def test_pages_are_requested_with_the_options_of_the_listing() -> None:
    pages = {None: ListPage([ObjectInfo("a/1", 1, "e")], cursor="next"), "next": ListPage([ObjectInfo("a/2", 1, "e")])}
    mock = MockDriver(list_page=lambda bucket, options: pages[options.cursor])
    async with trove_async.open(mock) as t:
        found = await t.list("b", "a/", start_after="a/0", page_size=7).all()
    assert [item.key for item in found] == ["a/1", "a/2"]
    options = [call.arguments["options"] for call in mock.calls_to("list_page")]
    assert [o.cursor for o in options] == [None, "next"]
    assert {(o.prefix, o.delimiter, o.start_after, o.page_size) for o in options} == {("a/", None, "a/0", 7)}


async def test_no_more_than_max_keys_are_requested() -> None:
    mock = MockDriver(list_page=ListPage())
    async with trove_async.open(mock) as t:
        await t.list("b", max_keys=3).all()
        await t.list("b", max_keys=300, page_size=10).all()
    assert [call.arguments["options"].page_size for call in mock.calls_to("list_page")] == [3, 10]


# Uploads, signed URLs, ranges


async def test_a_part_number_above_the_backends_limit_is_refused() -> None:
    features = Features(protocols=frozenset(CAPABILITIES), limits=Limits(max_part_size=4, max_parts=2))
    mock = everything(upload_part=PartInfo(1, "e", 4), features=features)
    async with trove_async.open(mock) as t:
        assert await t.upload_part("b", "k", "u", 2, b"1234") == PartInfo(1, "e", 4)
        with pytest.raises(trove_async.InvalidPartError):
            await t.upload_part("b", "k", "u", 1, b"12345")
        with pytest.raises(trove_async.InvalidPartError):
            await t.upload_part("b", "k", "u", 3, b"1")
    assert len(mock.calls_to("upload_part")) == 1


async def test_a_method_that_cannot_be_signed_is_refused() -> None:
    features = Features(protocols=frozenset(CAPABILITIES), presign_methods=frozenset({"GET"}))
    mock = everything(presign_get="http://signed", features=features)
    async with trove_async.open(mock) as t:
        assert await t.presign_get("b", "k", expires=timedelta(minutes=1)) == "http://signed"
        for use in (t.presign_put, t.presign_head, t.presign_delete):
            with pytest.raises(UnsupportedError, match="cannot sign"):
                await use("b", "k")
    assert mock.calls_to("presign_get")[0].arguments["options"].expires == 60
    assert [call.name for call in mock.calls] == ["presign_get", "close"]


async def test_lists_of_the_driver_are_copied() -> None:
    mock = everything(
        list_parts=(), list_multipart_uploads=(), list_versions=(), get_lifecycle=(RULE,),
        get_versioning=VersioningStatus.ENABLED,
    )  # fmt: skip
    async with trove_async.open(mock) as t:
        assert await t.list_parts("b", "k", "u") == []
        assert await t.list_multipart_uploads("b") == []
        assert await t.list_versions("b", "k") == []
        assert await t.get_lifecycle("b") == [RULE]
        assert await t.get_versioning("b") is VersioningStatus.ENABLED


async def test_the_verbs_of_a_bucket_are_those_of_the_store_with_its_name() -> None:
    mock = everything(put=INFO, get=b"hello", head=INFO, delete=None, copy=INFO, get_tags={"a": "1"})
    async with trove_async.open(mock) as t:
        bucket = t.bucket("b")
        assert await bucket.put("k", b"x") == INFO
        assert await bucket.read("k") == b"hello"
        assert await bucket.head("k") == INFO
        assert await bucket.exists("k")
        await bucket.delete("k")
        await bucket.copy("k", "l", dst_bucket="c")
        assert await bucket.get_tags("k") == {"a": "1"}
    assert mock.calls_to("copy")[0].arguments["dst_bucket"] == "c"
    assert {call.arguments["bucket"] for call in mock.calls if "bucket" in call.arguments} == {"b"}


async def test_get_range_falls_back_to_get() -> None:
    mock = everything(get_range=b"hello")
    async with trove_async.open(mock) as t:
        reader = await t.get_range("b", "k", 1, 3)
        assert (await reader.read(), reader.start, reader.stop) == (b"ell", 1, 4)
        reader = await t.get_range("b", "k", 2)
        assert await reader.read() == b"llo"


async def test_a_feature_that_needs_a_missing_capability_is_refused() -> None:
    mock = MockDriver(put=INFO, head=INFO, get=b"", copy=INFO, delete=None)
    async with trove_async.open(mock) as t:
        for call in (
            lambda: t.put("b", "k", b"", tags={"a": "b"}),
            lambda: t.copy("b", "k", "b", "l", replace=True, tags={"a": "b"}),
            lambda: t.copy("b", "k", "b", "l", source_version_id="v"),
            lambda: t.head("b", "k", version_id="v"),
            lambda: t.read("b", "k", version_id="v"),
            lambda: t.delete("b", "k", version_id="v"),
        ):
            with pytest.raises(UnsupportedError):
                await call()
        assert mock.calls == []
