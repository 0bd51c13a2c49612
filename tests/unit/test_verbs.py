"""The portable type over a driver whose answers the test gives: what is checked, filled in, asked and told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

import trove_async
from trove_async import ListPage, ObjectRef, PartInfo, Trove
from trove_async.driver import CAPABILITIES, CopyOptions, DeleteOptions, Features, GetOptions, HeadOptions, Limits
from trove_async.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    BulkError,
    InvalidArgumentError,
    InvalidBucketNameError,
    InvalidKeyError,
    InvalidMetadataError,
    ObjectChangedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    UnavailableError,
    UnsupportedError,
)
from trove_async.reader import ObjectReader
from trove_async.testing.mock import MockDriver
from trove_async.types import BucketInfo, DeleteResult, FrozenDict, LifecycleRule, ObjectInfo, VersioningStatus

pytestmark = pytest.mark.asyncio

INFO = ObjectInfo("k", 5, "etag")
NOW = datetime(2024, 5, 6, tzinfo=UTC)
RULE = LifecycleRule("r", expiration_days=1)

# Every verb that names an object, as a function of bucket and key.
OBJECT_VERBS: dict[str, Callable[[Trove, str, str], Awaitable[object]]] = {
    "put": lambda t, b, k: t.put(b, k, b"data"),
    "get": lambda t, b, k: t.get(b, k),
    "read": lambda t, b, k: t.read(b, k),
    "read_ranges": lambda t, b, k: t.read_ranges(b, k, [(0, 1)]),
    "download": lambda t, b, k: t.download(b, k, "never-written"),
    "download": lambda t, b, k: t.download(b, k, "no-such-folder/file"),
    "head": lambda t, b, k: t.head(b, k),
    "exists": lambda t, b, k: t.exists(b, k),
    "delete": lambda t, b, k: t.delete(b, k),
    "copy": lambda t, b, k: t.copy(b, k, "b", "k"),
    "move": lambda t, b, k: t.move(b, k, "b", "other"),
    "writer": lambda t, b, k: t.writer(b, k).__aenter__(),
    "initiate_multipart": lambda t, b, k: t.initiate_multipart(b, k),
    "upload_part": lambda t, b, k: t.upload_part(b, k, "u", 1, b"data"),
    "complete_multipart": lambda t, b, k: t.complete_multipart(b, k, "u", [PartInfo(1, "e", 1)]),
    "abort_multipart": lambda t, b, k: t.abort_multipart(b, k, "u"),
    "list_parts": lambda t, b, k: t.list_parts(b, k, "u"),
    "presign_get": lambda t, b, k: t.presign_get(b, k),
    "presign_put": lambda t, b, k: t.presign_put(b, k),
    "presign_head": lambda t, b, k: t.presign_head(b, k),
    "presign_delete": lambda t, b, k: t.presign_delete(b, k),
    "list_versions": lambda t, b, k: t.list_versions(b, k),
    "get_version": lambda t, b, k: t.get_version(b, k, "v"),
    "delete_version": lambda t, b, k: t.delete_version(b, k, "v"),
    "restore_version": lambda t, b, k: t.restore_version(b, k, "v"),
    "get_range": lambda t, b, k: t.get_range(b, k, 0),
    "server_copy": lambda t, b, k: t.server_copy(ObjectRef(b, k), ObjectRef("b", "k")),
    "get_tags": lambda t, b, k: t.get_tags(b, k),
    "set_tags": lambda t, b, k: t.set_tags(b, k, {}),
    "delete_tags": lambda t, b, k: t.delete_tags(b, k),
}
# The same of those that name a bucket only, and of the second object of those that name two.
BUCKET_VERBS: dict[str, Callable[[Trove, str], Awaitable[object]]] = {
    "bucket": lambda t, b: t.bucket(b).list().all(),
    "create_bucket": lambda t, b: t.create_bucket(b),
    "delete_bucket": lambda t, b: t.delete_bucket(b),
    "list": lambda t, b: t.list(b).all(),
    "delete_many": lambda t, b: t.delete_many(b, ["k"]),
    "list_multipart_uploads": lambda t, b: t.list_multipart_uploads(b),
    "set_versioning": lambda t, b: t.set_versioning(b, True),
    "get_versioning": lambda t, b: t.get_versioning(b),
    "watch": lambda t, b: t.watch(b).__aenter__(),
    "set_lifecycle": lambda t, b: t.set_lifecycle(b, [RULE]),
    "get_lifecycle": lambda t, b: t.get_lifecycle(b),
    "delete_lifecycle": lambda t, b: t.delete_lifecycle(b),
    "apply_lifecycle": lambda t, b: t.apply_lifecycle(b),
}
SECOND_VERBS: dict[str, Callable[[Trove, str, str], Awaitable[object]]] = {
    "copy": lambda t, b, k: t.copy("b", "k", b, k),
    "move": lambda t, b, k: t.move("b", "k", b, k),
    "server_copy": lambda t, b, k: t.server_copy(ObjectRef("b", "k"), ObjectRef(b, k)),
}
OTHERS = {"ping", "list_buckets", "supports", "aclose"}


def everything(**answers: Any) -> MockDriver:
    return MockDriver(capabilities=CAPABILITIES, **answers)


async def test_the_tables_name_every_verb() -> None:
    public = {name for name in dir(Trove) if not name.startswith("_") and callable(getattr(Trove, name))}
    assert public == {*OBJECT_VERBS, *BUCKET_VERBS, *OTHERS}


@pytest.mark.parametrize("key", ["", "a\0", "k" * 1025, "\ud800"])
@pytest.mark.parametrize("verb", sorted(OBJECT_VERBS))
async def test_a_bad_key_is_refused_before_the_driver_is_asked(verb: str, key: str) -> None:
    mock = everything()
    async with trove_async.open(mock) as t:
        with pytest.raises(InvalidKeyError) as caught:
            await OBJECT_VERBS[verb](t, "b", key)
        assert mock.calls == []
    assert (caught.value.operation, caught.value.driver) == (verb, "mock")


@pytest.mark.parametrize("bucket", ["", "a/b", "..", ".trove"])
@pytest.mark.parametrize("verb", sorted({*OBJECT_VERBS, *BUCKET_VERBS}))
async def test_a_bad_bucket_is_refused_before_the_driver_is_asked(verb: str, bucket: str) -> None:
    mock = everything()
    async with trove_async.open(mock) as t:
        with pytest.raises(InvalidBucketNameError) as caught:
            await (OBJECT_VERBS[verb](t, bucket, "k") if verb in OBJECT_VERBS else BUCKET_VERBS[verb](t, bucket))
        assert mock.calls == []
    assert (caught.value.operation, caught.value.driver) == (verb, "mock")


@pytest.mark.parametrize("verb", sorted(SECOND_VERBS))
async def test_a_bad_destination_is_refused_before_the_driver_is_asked(verb: str) -> None:
    mock = everything()
    async with trove_async.open(mock) as t:
        with pytest.raises(InvalidKeyError):
            await SECOND_VERBS[verb](t, "b", "")
        with pytest.raises(InvalidBucketNameError):
            await SECOND_VERBS[verb](t, "a/b", "k")
        assert mock.calls == []


@pytest.mark.parametrize("verb", sorted({*OBJECT_VERBS} - {"writer"}))
async def test_what_the_driver_cannot_hold_is_refused_before_it_is_asked(verb: str) -> None:
    mock = everything(check_key=InvalidKeyError("no colons here"))
    async with trove_async.open(mock) as t:
        with pytest.raises(InvalidKeyError, match="no colons here"):
            await OBJECT_VERBS[verb](t, "b", "a:b")
        assert mock.calls == []


def with_options(**cases: Callable[[Trove], Awaitable[object]]) -> list[Any]:
    return [pytest.param(name.partition("__")[0], use, id=name) for name, use in cases.items()]


@pytest.mark.parametrize(
    ("verb", "use"),
    with_options(
        put__content_type=lambda t: t.put("b", "k", b"", content_type="nonsense"),
        put__metadata=lambda t: t.put("b", "k", b"", metadata={"": ""}),
        put__tags=lambda t: t.put("b", "k", b"", tags={"": ""}),
        put__header=lambda t: t.put("b", "k", b"", cache_control="a\nb"),
        put__both=lambda t: t.put("b", "k", b"", if_match="a", if_none_match="*"),
        put__etags=lambda t: t.put("b", "k", b"", if_match="a, b"),
        put__checksum=lambda t: t.put("b", "k", b"", checksum="nonsense"),
        put__size=lambda t: t.put("b", "k", b"", size=-1),
        get__range=lambda t: t.get("b", "k", range=(0, -1)),
        get__naive=lambda t: t.get("b", "k", if_modified_since=datetime(2024, 1, 1)),  # noqa: DTZ001
        read__range=lambda t: t.read("b", "k", (-1, 1)),
        read_ranges__range=lambda t: t.read_ranges("b", "k", [(0, 1), (1, -1)]),
        read_ranges__gap=lambda t: t.read_ranges("b", "k", [(0, 1)], coalesce_gap=-1),
        head__etag=lambda t: t.head("b", "k", if_match=""),
        delete__etag=lambda t: t.delete("b", "k", if_match='"'),
        delete_many__str=lambda t: t.delete_many("b", "keys"),
        copy__content_type=lambda t: t.copy("b", "k", "b", "l", content_type="text/plain"),
        copy__both=lambda t: t.copy("b", "k", "b", "l", if_match="a", if_none_match="*"),
        list__prefix=lambda t: t.list("b", "\0").all(),
        list__start_after=lambda t: t.list("b", start_after="\0").all(),
        list__delimiter=lambda t: t.list("b", delimiter="").all(),
        list__max_keys=lambda t: t.list("b", max_keys=-1).all(),
        list__page_size=lambda t: t.list("b", page_size=0).all(),
        list__page_size_too_large=lambda t: t.list("b", page_size=1001).all(),
        list__cursor=lambda t: t.list("b", cursor="nonsense").all(),
        initiate_multipart__tags=lambda t: t.initiate_multipart("b", "k", tags={"": ""}),
        upload_part__number=lambda t: t.upload_part("b", "k", "u", 0, b""),
        upload_part__size=lambda t: t.upload_part("b", "k", "u", 1, b"", size=-1),
        complete_multipart__none=lambda t: t.complete_multipart("b", "k", "u", []),
        complete_multipart__order=lambda t: t.complete_multipart(
            "b", "k", "u", [PartInfo(2, "e", 1), PartInfo(1, "e", 1)]
        ),
        complete_multipart__both=lambda t: t.complete_multipart(
            "b", "k", "u", [PartInfo(1, "e", 1)], if_match="a", if_none_match="*"
        ),
        list_multipart_uploads__prefix=lambda t: t.list_multipart_uploads("b", "\0"),
        presign_get__expires=lambda t: t.presign_get("b", "k", expires=0),
        presign_get__too_long=lambda t: t.presign_get("b", "k", expires=timedelta(days=8)),
        presign_put__length=lambda t: t.presign_put("b", "k", content_length=-1),
        watch__event=lambda t: t.watch("b", events=["object.renamed"]).__aenter__(),
        watch__buffer=lambda t: t.watch("b", buffer_size=0).__aenter__(),
        watch__interval=lambda t: t.watch("b", poll_interval=0).__aenter__(),
        watch__prefix=lambda t: t.watch("b", prefix="\0").__aenter__(),
        set_lifecycle__nothing=lambda t: t.set_lifecycle("b", [LifecycleRule("r")]),
        set_lifecycle__twice=lambda t: t.set_lifecycle("b", [RULE, RULE]),
        set_lifecycle__days=lambda t: t.set_lifecycle("b", [LifecycleRule("r", expiration_days=0)]),
        set_lifecycle__half=lambda t: t.set_lifecycle("b", [LifecycleRule("r", transition_days=1)]),
        set_lifecycle__order=lambda t: t.set_lifecycle(
            "b", [LifecycleRule("r", expiration_days=1, transition_days=2, transition_storage="COLD")]
        ),
        get_range__offset=lambda t: t.get_range("b", "k", -1),
        get_range__length=lambda t: t.get_range("b", "k", 0, -2),
        set_tags__tags=lambda t: t.set_tags("b", "k", {"": ""}),
    ),
)
async def test_a_bad_argument_is_refused_before_the_driver_is_asked(
    verb: str, use: Callable[[Trove], Awaitable[object]]
) -> None:
    mock = everything()
    async with trove_async.open(mock) as t:
        with pytest.raises(InvalidArgumentError) as caught:
            await use(t)
        assert mock.calls == []
    assert (caught.value.operation, caught.value.driver) == (verb, "mock")
    assert caught.value.bucket == "b"


@pytest.mark.parametrize("verb", sorted({*OBJECT_VERBS, *BUCKET_VERBS} - {"writer", "bucket", "watch", "exists"}))
async def test_an_error_of_the_driver_is_told_where_it_happened(verb: str) -> None:
    names = everything()._answers.keys()
    failing = {name: UnavailableError("gone") for name in mock_methods() if name not in names}
    if verb == "delete_many":
        failing["delete_many"] = UnavailableError("gone")
    async with trove_async.open(everything(**failing)) as t:
        with pytest.raises(UnavailableError) as caught:
            await (OBJECT_VERBS[verb](t, "b", "k") if verb in OBJECT_VERBS else BUCKET_VERBS[verb](t, "b"))
    error = caught.value
    assert (error.operation, error.bucket, error.driver) == (verb, "b", "mock")
    assert error.key == ("k" if verb in OBJECT_VERBS else None)


def mock_methods() -> frozenset[str]:
    from trove_async.testing import mock

    return mock._METHODS - {"watch"}


async def test_what_the_driver_said_of_the_place_stays() -> None:
    error = BucketNotFoundError("no such bucket", bucket="other", key="")
    async with trove_async.open(MockDriver(copy=error)) as t:
        with pytest.raises(BucketNotFoundError) as caught:
            await t.copy("b", "k", "other", "l")
    assert (caught.value.operation, caught.value.bucket) == ("copy", "other")


@pytest.mark.parametrize(
    "verb", sorted({*OBJECT_VERBS, *BUCKET_VERBS}.intersection(*[set(mock_methods()) | {"watch", "apply_lifecycle"}]))
)
async def test_a_capability_that_is_missing_is_refused_before_anything_else(verb: str) -> None:
    if verb in {"put", "get", "head", "delete", "copy", "create_bucket", "delete_bucket", "delete_many"}:
        return
    mock = MockDriver()
    async with trove_async.open(mock) as t:
        with pytest.raises(UnsupportedError) as caught:
            await (OBJECT_VERBS[verb](t, "b", "k") if verb in OBJECT_VERBS else BUCKET_VERBS[verb](t, "b"))
        assert mock.calls == []
    assert (caught.value.operation, caught.value.driver) == (verb, "mock")
    assert isinstance(caught.value, NotImplementedError)


@pytest.mark.parametrize(
    ("condition", "use"),
    [
        ("put_if_match", lambda t, body: t.put("b", "k", body, if_match="e")),
        ("put_if_none_match", lambda t, body: t.put("b", "k", body, if_none_match="*")),
        ("get", lambda t, _: t.get("b", "k", if_match="e")),
        ("get", lambda t, _: t.read("b", "k", if_none_match="e")),
        ("get", lambda t, _: t.head("b", "k", if_modified_since=NOW)),
        ("get", lambda t, _: t.head("b", "k", if_unmodified_since=NOW)),
        ("delete", lambda t, _: t.delete("b", "k", if_match="e")),
        ("copy", lambda t, _: t.copy("b", "k", "b", "l", if_none_match="*")),
        ("copy", lambda t, _: t.copy("b", "k", "b", "l", source_if_match="e")),
        ("complete", lambda t, _: t.complete_multipart("b", "k", "u", [PartInfo(1, "e", 1)], if_match="e")),
    ],
)
async def test_a_condition_that_cannot_be_honoured_is_refused_before_the_body_is_read(
    condition: str, use: Callable[[Trove, object], Awaitable[object]]
) -> None:
    complete = everything().features
    mock = everything(features=replace(complete, conditions=complete.conditions - {condition}))
    pulled = []

    async def body() -> AsyncIterator[bytes]:
        pulled.append(True)
        yield b"data"

    async with trove_async.open(mock) as t:
        assert not t.supports(condition)
        with pytest.raises(UnsupportedError, match=condition):
            await use(t, body())
    assert pulled == []
    assert [call.name for call in mock.calls] == ["close"]


async def test_supports_asks_driver_and_server() -> None:
    async with trove_async.open(everything()) as t:
        assert all(t.supports(capability) for capability in CAPABILITIES)
        assert t.supports("copy")
    async with trove_async.open(everything(features=Features())) as t:
        assert not any(t.supports(capability) for capability in CAPABILITIES)
        assert not t.supports("copy")
    async with trove_async.open(MockDriver(features=Features(protocols=frozenset(CAPABILITIES)))) as t:
        assert not any(t.supports(capability) for capability in CAPABILITIES)


async def test_the_content_type_comes_from_the_key_unless_it_is_given() -> None:
    mock = MockDriver(put=INFO)
    async with trove_async.open(mock) as t:
        await t.put("b", "a.json", b"")
        await t.put("b", "a.json", b"", content_type="text/plain")
        await t.put("b", "a.json", b"", metadata={"Author": "me"})
        await t.put("b", "noext", b"")
    types = [call.arguments["options"].content_type for call in mock.calls_to("put")]
    assert types == ["application/json", "text/plain", "application/json", "application/octet-stream"]
    assert mock.calls_to("put")[2].arguments["options"].metadata == {"author": "me"}


async def test_options_reach_the_driver_in_their_normal_form() -> None:
    mock = MockDriver(put=INFO, head=INFO, delete=None)
    berlin = timezone(timedelta(hours=2))
    async with trove_async.open(mock) as t:
        await t.put("b", "k", b"", if_match='W/"e"', tags={"a": "b"}, storage_class="COLD", checksum="md5")
        await t.head("b", "k", if_none_match='"e"', if_modified_since=NOW.astimezone(berlin), version_id="v")
        await t.delete("b", "k", version_id="v", if_match='"e"')
    [put], [head], [delete] = (mock.calls_to(name) for name in ("put", "head", "delete"))
    assert put.arguments["options"].if_match == "e"
    assert put.arguments["options"].tags == FrozenDict({"a": "b"})
    assert put.arguments["options"].checksum.algorithm == "md5"
    assert head.arguments["options"] == HeadOptions(version_id="v", if_none_match="e", if_modified_since=NOW)
    assert head.arguments["options"].if_modified_since.tzinfo is UTC
    assert delete.arguments["options"] == DeleteOptions(version_id="v", if_match="e")


async def test_metadata_beyond_what_the_backend_holds_is_refused() -> None:
    mock = MockDriver(features=Features(limits=Limits(max_metadata_size=10)), put=INFO)
    async with trove_async.open(mock) as t:
        await t.put("b", "k", b"", metadata={"12345": "12345"})
        with pytest.raises(InvalidMetadataError, match="at most 10"):
            await t.put("b", "k", b"", metadata={"12345": "123456"})


async def test_a_source_that_fails_passes_unchanged_and_is_closed() -> None:
    closed = []

    async def source() -> AsyncIterator[bytes]:
        try:
            yield b"one"
            raise ZeroDivisionError("mine")
        finally:
            closed.append(True)

    async with trove_async.open(MockDriver(put=INFO)) as t:
        with pytest.raises(ZeroDivisionError, match="mine"):
            await t.put("b", "k", source())
    assert closed == [True]


async def test_a_generator_is_closed_when_the_put_fails_without_reading_it_to_its_end() -> None:
    closed = []

    async def source() -> AsyncIterator[bytes]:
        try:
            yield b"one"
            yield b"two"
        finally:
            closed.append(True)

    async def put(bucket: str, key: str, body: trove_async.Body, options: object) -> ObjectInfo:
        await anext(body)
        raise UnavailableError("no")

    async with trove_async.open(MockDriver(put=put)) as t:
        with pytest.raises(UnavailableError):
            await t.put("b", "k", source())
        assert closed == [True]


async def test_exists() -> None:
    for answer, expected in ((INFO, True), (ObjectNotFoundError(), False), (BucketNotFoundError(), False)):
        async with trove_async.open(MockDriver(head=answer)) as t:
            assert await t.exists("b", "k") is expected
    async with trove_async.open(MockDriver(head=AccessDeniedError())) as t:
        with pytest.raises(AccessDeniedError):
            await t.exists("b", "k")


async def test_create_bucket_may_find_one() -> None:
    mock = MockDriver(create_bucket=trove_async.BucketAlreadyExistsError("there is one"))
    async with trove_async.open(mock) as t:
        with pytest.raises(trove_async.BucketAlreadyExistsError):
            await t.create_bucket("b")
        assert (await t.create_bucket("b", exist_ok=True)).name == "b"


async def test_list_buckets() -> None:
    async with trove_async.open(MockDriver(list_buckets=(BucketInfo("a"), BucketInfo("b")))) as t:
        assert await t.list_buckets() == [BucketInfo("a"), BucketInfo("b")]


# Reading


async def test_an_empty_range_is_read_without_a_request_and_opened_with_a_head() -> None:
    mock = MockDriver(head=INFO)
    async with trove_async.open(mock) as t:
        assert await t.read("b", "k", (3, 0)) == b""
        assert mock.calls == []
        async with t.get("b", "k", range=(3, 0), if_match="etag") as reader:
            assert (await reader.read(), reader.info) == (b"", INFO)
    assert mock.calls_to("head")[0].arguments["options"] == HeadOptions(if_match="etag")


async def test_a_reader_of_the_driver_is_what_get_gives() -> None:
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


async def test_all_ranges_are_of_the_object_that_the_first_was_of() -> None:
    _, mock = await fetched([(0, 10), (100, 10), (200, 10)], 0)
    assert [call.arguments["options"].if_match for call in mock.calls_to("get")] == [None, "mock", "mock"]


@pytest.mark.parametrize("honours", [True, False])
async def test_an_object_that_changes_between_two_ranges_is_noticed(honours: bool) -> None:
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


async def test_one_range_that_fails_is_one_error_and_no_group() -> None:
    async with trove_async.open(MockDriver(get=bytes(100))) as t:
        with pytest.raises(trove_async.RangeNotSatisfiableError):
            await t.read_ranges("b", "k", [(0, 1), (50, 1), (200, 1), (300, 1)], coalesce_gap=0)


async def test_at_most_ten_ranges_are_read_at_once() -> None:
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


async def test_a_copy_keeps_what_the_source_has_unless_all_of_it_is_replaced() -> None:
    mock = MockDriver(copy=INFO)
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
async def test_a_copy_that_describes_without_replacing_is_refused(described: dict[str, Any]) -> None:
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


async def test_a_move_deletes_the_very_object_that_it_copied() -> None:
    mock = MockDriver(head=INFO, copy=replace(INFO, etag="new"), delete=None)
    async with trove_async.open(mock) as t:
        assert (await t.move("b", "k", "c", "l")).etag == "new"
    assert [call.name for call in mock.calls] == ["head", "copy", "delete", "close"]
    assert mock.calls[1].arguments["options"].source_if_match == "etag"
    assert mock.calls[2].arguments["options"].if_match == "etag"
    assert (mock.calls[2].arguments["bucket"], mock.calls[2].arguments["key"]) == ("b", "k")


async def test_a_move_without_conditions_goes_without_them() -> None:
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


async def test_a_move_whose_copy_fails_deletes_nothing() -> None:
    mock = MockDriver(head=INFO, copy=UnavailableError("no"))
    async with trove_async.open(mock) as t:
        with pytest.raises(UnavailableError):
            await t.move("b", "k", "c", "l")
    assert mock.calls_to("delete") == []


# Deleting many


def bulk(bucket: str, keys: list[str]) -> list[DeleteResult]:
    return [DeleteResult(key, AccessDeniedError("no") if key.startswith("x") else None) for key in keys]


@pytest.mark.parametrize("native", [True, False])
async def test_every_key_is_tried_and_the_failures_are_told_together(native: bool) -> None:
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


async def test_the_number_of_deletions_is_returned_and_nothing_is_done_before() -> None:
    mock = MockDriver(delete_many=bulk)
    async with trove_async.open(mock) as t:
        deletion = t.delete_many("b", ["a", "b"])
        await asyncio.sleep(0)
        assert mock.calls == []
        assert await deletion == 2


async def test_results_can_be_looked_at_one_by_one() -> None:
    async with trove_async.open(MockDriver(delete_many=bulk)) as t:
        deletion = t.delete_many("b", ["a", "x", "b"], raise_errors=False)
        results = [(result.key, result.error is None) async for result in deletion]
    assert results == [("a", True), ("x", False), ("b", True)]


async def test_keys_come_in_chunks_from_any_iterable() -> None:
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


async def test_pages_are_asked_for_with_the_listings_options() -> None:
    pages = {None: ListPage([ObjectInfo("a/1", 1, "e")], cursor="next"), "next": ListPage([ObjectInfo("a/2", 1, "e")])}
    mock = MockDriver(list_page=lambda bucket, options: pages[options.cursor])
    async with trove_async.open(mock) as t:
        found = await t.list("b", "a/", start_after="a/0", page_size=7).all()
    assert [item.key for item in found] == ["a/1", "a/2"]
    options = [call.arguments["options"] for call in mock.calls_to("list_page")]
    assert [o.cursor for o in options] == [None, "next"]
    assert {(o.prefix, o.delimiter, o.start_after, o.page_size) for o in options} == {("a/", None, "a/0", 7)}


async def test_no_more_is_asked_for_than_max_keys() -> None:
    mock = MockDriver(list_page=ListPage())
    async with trove_async.open(mock) as t:
        await t.list("b", max_keys=3).all()
        await t.list("b", max_keys=300, page_size=10).all()
    assert [call.arguments["options"].page_size for call in mock.calls_to("list_page")] == [3, 10]


# Uploads, signed URLs, ranges


async def test_a_part_beyond_what_the_backend_holds_is_refused() -> None:
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


async def test_lists_of_the_driver_become_lists_of_the_users() -> None:
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


async def test_a_bucket_has_the_verbs_of_the_store() -> None:
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
        missing = {name for name in {*OBJECT_VERBS, *BUCKET_VERBS} if not hasattr(bucket, name)}
    assert missing == {"bucket", "create_bucket", "delete_bucket", "server_copy"}
    assert mock.calls_to("copy")[0].arguments["dst_bucket"] == "c"
    assert {call.arguments["bucket"] for call in mock.calls if "bucket" in call.arguments} == {"b"}


async def test_the_range_that_is_not_there_is_what_the_driver_is_asked_for() -> None:
    mock = everything(get_range=b"hello")
    async with trove_async.open(mock) as t:
        reader = await t.get_range("b", "k", 1, 3)
        assert (await reader.read(), reader.start, reader.stop) == (b"ell", 1, 4)
        reader = await t.get_range("b", "k", 2)
        assert await reader.read() == b"llo"
