"""All verbs over a mock driver: what is checked before the driver is called, and how its errors are reported."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

import trove_async
from trove_async import Bucket, ObjectRef, PartInfo, Trove
from trove_async.checksums import Checksum
from trove_async.cli.errors import UsageError
from trove_async.cli.lifecycle import parse_rules
from trove_async.driver import (
    CAPABILITIES,
    METHODS,
    Body,
    Condition,
    CopyOptions,
    DeleteOptions,
    Features,
    HeadOptions,
    Limits,
    MultipartDriver,
    PutOptions,
    TaggingDriver,
    VersioningDriver,
)
from trove_async.errors import (
    AccessDeniedError,
    BodySizeError,
    BucketNotFoundError,
    InvalidArgumentError,
    InvalidBucketNameError,
    InvalidKeyError,
    InvalidLifecycleError,
    InvalidMetadataError,
    InvalidTagsError,
    ObjectNotFoundError,
    UnavailableError,
    UnsupportedError,
)
from trove_async.store.arguments import PUT_ARGUMENTS, UPLOAD_ARGUMENTS
from trove_async.testing.mock import MockDriver
from trove_async.types import BucketInfo, FrozenDict, LifecycleRule, ObjectInfo

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
    "head": lambda t, b, k: t.head(b, k),
    "exists": lambda t, b, k: t.exists(b, k),
    "delete": lambda t, b, k: t.delete(b, k),
    "copy": lambda t, b, k: t.copy(b, k, "b", "k"),
    "move": lambda t, b, k: t.move(b, k, "b", "other"),
    "writer": lambda t, b, k: t.writer(b, k).__aenter__(),
    "initiate_multipart": lambda t, b, k: t.initiate_multipart(b, k),
    "upload_part": lambda t, b, k: t.upload_part(b, k, "u", 1, b"data"),
    "append_part": lambda t, b, k: t.append_part(b, k, "u", 1, 0, b"data"),
    "copy_part": lambda t, b, k: t.copy_part(b, k, "u", 1, ObjectRef("b", "source"), 0, 4),
    "complete_multipart": lambda t, b, k: t.complete_multipart(b, k, "u", [PartInfo(1, "e", 1)]),
    "abort_multipart": lambda t, b, k: t.abort_multipart(b, k, "u"),
    "list_parts": lambda t, b, k: t.list_parts(b, k, "u"),
    "presign_get": lambda t, b, k: t.presign_get(b, k),
    "presign_put": lambda t, b, k: t.presign_put(b, k),
    "presign_head": lambda t, b, k: t.presign_head(b, k),
    "presign_delete": lambda t, b, k: t.presign_delete(b, k),
    "presign_post": lambda t, b, k: t.presign_post(b, k, max_size=1),
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
# The verbs that name only a bucket, and the second object of the verbs that name two.
BUCKET_VERBS: dict[str, Callable[[Trove, str], Awaitable[object]]] = {
    "bucket": lambda t, b: t.bucket(b).list().all(),
    "create_bucket": lambda t, b: t.create_bucket(b),
    "delete_bucket": lambda t, b: t.delete_bucket(b),
    "list": lambda t, b: t.list(b).all(),
    "delete_many": lambda t, b: t.delete_many(b, ["k"]),
    "empty_bucket": lambda t, b: t.empty_bucket(b),
    "list_all_versions": lambda t, b: t.list_all_versions(b).all(),
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
    "copy_part": lambda t, b, k: t.copy_part("b", "k", "u", 1, ObjectRef(b, k), 0, 4),
}
OTHERS = {"ping", "list_buckets", "supports", "aclose"}


def everything(**answers: Any) -> MockDriver:
    return MockDriver(capabilities=CAPABILITIES, **answers)


async def test_the_tables_list_every_verb() -> None:
    public = {name for name in dir(Trove) if not name.startswith("_") and callable(getattr(Trove, name))}
    assert public == {*OBJECT_VERBS, *BUCKET_VERBS, *OTHERS}


async def test_a_bucket_has_every_verb_except_those_of_the_store_only() -> None:
    missing = {name for name in {*OBJECT_VERBS, *BUCKET_VERBS} if not hasattr(Bucket, name)}
    assert missing == {"bucket", "create_bucket", "delete_bucket", "server_copy"}


@pytest.mark.parametrize("key", ["", "a\0", "k" * 1025, "\ud800"])
@pytest.mark.parametrize("verb", sorted(OBJECT_VERBS))
async def test_an_invalid_key_is_refused_before_the_driver_is_called(verb: str, key: str) -> None:
    mock = everything()
    async with trove_async.open(mock) as t:
        with pytest.raises(InvalidKeyError) as caught:
            await OBJECT_VERBS[verb](t, "b", key)
        assert mock.calls == []
    assert (caught.value.operation, caught.value.driver) == (verb, "mock")


@pytest.mark.parametrize("bucket", ["", "a/b", "..", ".trove"])
@pytest.mark.parametrize("verb", sorted({*OBJECT_VERBS, *BUCKET_VERBS}))
async def test_an_invalid_bucket_is_refused_before_the_driver_is_called(verb: str, bucket: str) -> None:
    mock = everything()
    async with trove_async.open(mock) as t:
        with pytest.raises(InvalidBucketNameError) as caught:
            await (OBJECT_VERBS[verb](t, bucket, "k") if verb in OBJECT_VERBS else BUCKET_VERBS[verb](t, bucket))
        assert mock.calls == []
    assert (caught.value.operation, caught.value.driver) == (verb, "mock")


@pytest.mark.parametrize("verb", sorted(SECOND_VERBS))
async def test_an_invalid_destination_is_refused_before_the_driver_is_called(verb: str) -> None:
    mock = everything()
    async with trove_async.open(mock) as t:
        with pytest.raises(InvalidKeyError):
            await SECOND_VERBS[verb](t, "b", "")
        with pytest.raises(InvalidBucketNameError):
            await SECOND_VERBS[verb](t, "a/b", "k")
        assert mock.calls == []


@pytest.mark.parametrize("verb", sorted({*OBJECT_VERBS} - {"writer"}))
async def test_a_key_that_the_driver_cannot_store_is_refused_before_the_call(verb: str) -> None:
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
        append_part__number=lambda t: t.append_part("b", "k", "u", 0, 0, b""),
        append_part__offset=lambda t: t.append_part("b", "k", "u", 1, -1, b""),
        append_part__size=lambda t: t.append_part("b", "k", "u", 1, 0, b"", size=-1),
        copy_part__number=lambda t: t.copy_part("b", "k", "u", 0, ObjectRef("b", "l"), 0, 1),
        copy_part__offset=lambda t: t.copy_part("b", "k", "u", 1, ObjectRef("b", "l"), -1, 1),
        copy_part__length=lambda t: t.copy_part("b", "k", "u", 1, ObjectRef("b", "l"), 0, 0),
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
        set_lifecycle__days_of_another_type=lambda t: t.set_lifecycle("b", [LifecycleRule("r", expiration_days=True)]),
        set_lifecycle__half=lambda t: t.set_lifecycle("b", [LifecycleRule("r", transition_days=1)]),
        set_lifecycle__order=lambda t: t.set_lifecycle(
            "b", [LifecycleRule("r", expiration_days=1, transition_days=2, transition_storage="COLD")]
        ),
        get_range__offset=lambda t: t.get_range("b", "k", -1),
        get_range__length=lambda t: t.get_range("b", "k", 0, -2),
        set_tags__tags=lambda t: t.set_tags("b", "k", {"": ""}),
    ),
)
async def test_an_invalid_argument_is_refused_before_the_driver_is_called(
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
async def test_an_error_of_the_driver_gets_its_context(verb: str) -> None:
    names = everything()._answers.keys()
    failing = {
        name: UnavailableError("gone") for name in METHODS.keys() - {"watch", "open", "close"} if name not in names
    }
    if verb == "delete_many":
        failing["delete_many"] = UnavailableError("gone")
    async with trove_async.open(everything(**failing)) as t:
        with pytest.raises(UnavailableError) as caught:
            await (OBJECT_VERBS[verb](t, "b", "k") if verb in OBJECT_VERBS else BUCKET_VERBS[verb](t, "b"))
    error = caught.value
    assert (error.operation, error.bucket, error.driver) == (verb, "b", "mock")
    assert error.key == ("k" if verb in OBJECT_VERBS else None)


async def test_context_given_by_the_driver_is_kept() -> None:
    error = BucketNotFoundError("no such bucket", bucket="other", key="")
    async with trove_async.open(MockDriver(copy=error)) as t:
        with pytest.raises(BucketNotFoundError) as caught:
            await t.copy("b", "k", "other", "l")
    assert (caught.value.operation, caught.value.bucket) == ("copy", "other")


@pytest.mark.parametrize("verb", sorted({*OBJECT_VERBS, *BUCKET_VERBS} & {*METHODS, "apply_lifecycle"}))
async def test_a_missing_capability_is_refused_before_any_other_check(verb: str) -> None:
    if verb in {"put", "get", "head", "delete", "copy", "create_bucket", "delete_bucket", "delete_many"}:
        return
    mock = MockDriver()
    async with trove_async.open(mock) as t:
        with pytest.raises(UnsupportedError) as caught:
            await (OBJECT_VERBS[verb](t, "b", "k") if verb in OBJECT_VERBS else BUCKET_VERBS[verb](t, "b"))
        assert mock.calls == []
    assert (caught.value.operation, caught.value.driver) == (verb, "mock")
    assert isinstance(caught.value, NotImplementedError)


READ_ARGUMENTS: dict[str, object] = {
    "range": (1, 2),
    "version_id": "v",
    "if_match": "e",
    "if_none_match": "e",
    "if_modified_since": NOW,
    "if_unmodified_since": NOW,
}


@pytest.mark.parametrize("verb", ["get", "read", "head"])
async def test_each_argument_of_a_read_reaches_the_driver_when_it_is_given_alone(verb: str) -> None:
    names = [
        name for name in inspect.signature(getattr(Trove, verb)).parameters if name not in ("self", "bucket", "key")
    ]
    mock = everything(get=b"content", head=INFO)
    async with trove_async.open(mock) as t:
        for name in names:
            await getattr(t, verb)("b", "k", **{name: READ_ARGUMENTS[name]})
            options = mock.calls[-1].arguments["options"]
            assert options != type(options)(), name
            assert getattr(options, name) is not None, name


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
async def test_an_unsupported_condition_is_refused_before_the_body_is_read(
    condition: Condition, use: Callable[[Trove, object], Awaitable[object]]
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


async def test_supports_checks_driver_and_server() -> None:
    async with trove_async.open(everything()) as t:
        assert all(t.supports(capability) for capability in CAPABILITIES)
        assert t.supports("copy")
    async with trove_async.open(everything(features=Features())) as t:
        assert not any(t.supports(capability) for capability in CAPABILITIES)
        assert not t.supports("copy")
    async with trove_async.open(MockDriver(features=Features(protocols=frozenset(CAPABILITIES)))) as t:
        assert not any(t.supports(capability) for capability in CAPABILITIES)


@pytest.mark.parametrize("name", ["watch", "NotificationDriver", "notification"])
async def test_supports_knows_the_names_of_users(name: str) -> None:
    async with trove_async.open(everything()) as t:
        assert t.supports(name)
    async with trove_async.open(MockDriver()) as t:
        assert not t.supports(name)


async def test_supports_answers_for_every_method_and_capability() -> None:
    """A name of a method is supported where the method is not refused."""
    async with trove_async.open(everything()) as t:
        for name in METHODS.keys() | {*OBJECT_VERBS, *BUCKET_VERBS} - {"bucket"}:
            assert t.supports(name), name
    async with trove_async.open(MockDriver()) as t:
        for name in {*OBJECT_VERBS, *BUCKET_VERBS} - {"bucket", "get", "delete", "copy"}:
            core = name in {
                "put", "read", "read_ranges", "download", "head", "exists", "move", "writer", "list", "delete_many",
                "empty_bucket", "create_bucket", "delete_bucket",
            }  # fmt: skip
            assert t.supports(name) == core, name


async def test_supports_asks_for_the_method_that_is_signed() -> None:
    features = Features(protocols=frozenset(CAPABILITIES), presign_methods=frozenset(("GET",)))
    async with trove_async.open(everything(features=features)) as t:
        assert t.supports("presign")
        assert t.supports("presign_get")
        assert not t.supports("presign_post")


@pytest.mark.parametrize("name", ["wath", "", "Watch", "if_match", "GET"])
async def test_supports_refuses_unknown_names(name: str) -> None:
    async with trove_async.open(everything()) as t:
        with pytest.raises(InvalidArgumentError, match=r"neither a capability \(.*versioning.*watch.*put_if_match"):
            t.supports(name)


@pytest.mark.parametrize("what", [None, 3, str, Trove])
async def test_supports_refuses_what_is_no_capability(what: Any) -> None:
    async with trove_async.open(everything()) as t:
        with pytest.raises(InvalidArgumentError, match="VersioningDriver"):
            t.supports(what)


@pytest.mark.parametrize("method", ["presign_get", "presign_put", "presign_post"])
async def test_an_unknown_keyword_of_a_signing_method_is_named_with_the_method(method: str) -> None:
    async with trove_async.open(everything()) as t:
        with pytest.raises(TypeError, match=rf"^{method}\(\) got an unexpected keyword argument 'expires_in'"):
            await getattr(t, method)("b", "k", expires_in=60)


@pytest.mark.parametrize("enabled", ["suspended", "enabled", 1, None])
async def test_versioning_is_switched_by_a_bool(enabled: Any) -> None:
    """Any other value could start what it is meant to stop."""
    async with trove_async.open("memory://") as t:
        bucket = await t.create_bucket("b")
        with pytest.raises(InvalidArgumentError, match="set_versioning 'b': enabled is True or False, not"):
            await bucket.set_versioning(enabled)
        assert await bucket.get_versioning() is trove_async.VersioningStatus.UNVERSIONED


async def test_arguments_of_another_kind_are_named() -> None:
    wrong: Any = ["a"]
    rule: Any = LifecycleRule("x", expiration_days=1)
    async with trove_async.open("memory://") as t:
        bucket = await t.create_bucket("b")
        await bucket.put("k", b"")
        with pytest.raises(InvalidTagsError, match="mapping of str to str, not of type list"):
            await bucket.set_tags("k", wrong)
        with pytest.raises(InvalidMetadataError, match="mapping of str to str, not of type list"):
            await bucket.put("k", b"", metadata=wrong)
        with pytest.raises(InvalidLifecycleError, match="list of LifecycleRule"):
            await bucket.set_lifecycle(rule)


async def test_what_is_not_open_yet_says_so() -> None:
    unopened: Any = trove_async.open("memory://")
    with pytest.raises(AttributeError, match=r"not open yet: use 'async with .* and then x\.put"):
        unopened.put("b", "k", b"")
    with pytest.raises(TypeError, match=r"'async with'; .* trove_async\.sync\.open"), unopened:
        pass
    one_layer: Any = trove_async.Limit(8)
    with pytest.raises(InvalidArgumentError, match=r"layers=\[Limit\(8\)\]"):
        trove_async.open("memory://", layers=one_layer)


async def test_a_signed_url_needs_presign_url_which_the_error_names() -> None:
    async with trove_async.open("memory://") as t:
        with pytest.raises(UnsupportedError, match="presign_url="):
            await t.presign_get("b", "k")


async def test_the_content_type_comes_from_the_key_unless_it_is_given() -> None:
    mock = MockDriver(put=INFO)
    async with trove_async.open(mock) as t:
        await t.put("b", "a.json", b"")
        await t.put("b", "a.json", b"", content_type="text/plain")
        await t.put("b", "a.json", b"", metadata={"Author": "me"})
        await t.put("b", "noext", b"")
    types = [call.arguments["options"].attributes.content_type for call in mock.calls_to("put")]
    assert types == ["application/json", "text/plain", "application/json", "application/octet-stream"]
    assert mock.calls_to("put")[2].arguments["options"].attributes.metadata == {"author": "me"}


PUT_KEYWORDS: dict[str, tuple[object, Callable[[PutOptions], object], object]] = {
    "content_type": ("a/b", lambda options: options.attributes.content_type, "a/b"),
    "metadata": ({"A": "1"}, lambda options: options.attributes.metadata, {"a": "1"}),
    "tags": ({"a": "1"}, lambda options: options.attributes.tags, {"a": "1"}),
    "storage_class": ("COLD", lambda options: options.attributes.storage_class, "COLD"),
    "cache_control": ("no-store", lambda options: options.attributes.cache_control, "no-store"),
    "content_disposition": ("inline", lambda options: options.attributes.content_disposition, "inline"),
    "content_encoding": ("gzip", lambda options: options.attributes.content_encoding, "gzip"),
    "content_language": ("nb", lambda options: options.attributes.content_language, "nb"),
    "if_match": ('"e"', lambda options: options.if_match, "e"),
    "if_none_match": ("*", lambda options: options.if_none_match, "*"),
    "checksum": ("md5", lambda options: options.checksum, Checksum("md5")),
}


async def test_a_put_without_keywords_uses_the_shared_options() -> None:
    mock = MockDriver(put=INFO)
    async with trove_async.open(mock) as t:
        await t.put("b", "k", b"")
        await t.bucket("b").put("l", b"")
        await t.put("b", "k", b"", content_type=None, metadata=None)
    shared, of_bucket, of_nothing = (call.arguments["options"] for call in mock.calls_to("put"))
    assert shared is of_bucket
    assert shared == of_nothing == PutOptions()


@pytest.mark.parametrize("keyword", PUT_KEYWORDS)
async def test_each_keyword_of_put_reaches_the_driver(keyword: str) -> None:
    value, of, expected = PUT_KEYWORDS[keyword]
    arguments: Any = {keyword: value}
    mock = MockDriver(capabilities=[MultipartDriver, TaggingDriver], put=INFO, initiate_multipart="id")
    async with trove_async.open(mock) as t:
        await t.put("b", "k", b"x", **arguments)
        await t.bucket("b").put("k", b"x", **arguments)
        async with t.writer("b", "k", **arguments):
            pass
        if keyword in UPLOAD_ARGUMENTS:
            await t.initiate_multipart("b", "k", **arguments)
    calls = [call for call in mock.calls if "options" in call.arguments]
    assert len(calls) == (4 if keyword in UPLOAD_ARGUMENTS else 3)
    for call in calls:
        options = call.arguments["options"]
        assert of(options) == expected
        assert of(PutOptions()) != expected


async def test_put_keywords_about_the_body_reach_it() -> None:
    assert {"size", "on_progress", *PUT_KEYWORDS} == PUT_ARGUMENTS
    seen: list[tuple[int, int | None]] = []
    async with trove_async.open(MockDriver(put=INFO)) as t:
        await t.put("b", "k", b"abc", on_progress=lambda taken, size: seen.append((taken, size)))
        with pytest.raises(BodySizeError):
            await t.put("b", "k", b"abc", size=4)
    assert seen[-1] == (3, 3)


@pytest.mark.parametrize("keyword", sorted(PUT_KEYWORDS.keys() - {"checksum", "if_match", "if_none_match"}))
async def test_each_descriptive_keyword_reaches_a_copy(keyword: str) -> None:
    value, of, expected = PUT_KEYWORDS[keyword]
    mock = MockDriver(capabilities=[TaggingDriver], copy=INFO)
    arguments: Any = {keyword: value}
    async with trove_async.open(mock) as t:
        await t.copy("b", "k", "b", "l", replace=True, **arguments)
        with pytest.raises(InvalidArgumentError, match=f": {keyword} would replace"):
            await t.copy("b", "k", "b", "l", **arguments)
    [copy] = mock.calls_to("copy")
    assert of(PutOptions(attributes=copy.arguments["options"].replace)) == expected


async def test_the_other_keywords_of_copy_reach_the_driver() -> None:
    mock = MockDriver(capabilities=[VersioningDriver], copy=INFO)
    async with trove_async.open(mock) as t:
        await t.copy("b", "k", "b", "l", source_version_id="v", source_if_match='"s"', if_match='"e"')
        await t.copy("b", "k", "b", "l", if_none_match="*")
        await t.copy("b", "k", "b", "l")
    assert [call.arguments["options"] for call in mock.calls_to("copy")] == [
        CopyOptions(source_version_id="v", source_if_match="s", if_match="e"),
        CopyOptions(if_none_match="*"),
        CopyOptions(),
    ]


async def test_an_unknown_keyword_is_refused_by_name() -> None:
    mock = MockDriver(capabilities=[MultipartDriver])
    wrong: Any = {"content_typ": "a/b"}
    async with trove_async.open(mock) as t:
        uses: dict[str, Callable[[], object]] = {
            "put": lambda: t.put("b", "k", b"", **wrong).send(None),
            "writer": lambda: t.writer("b", "k", **wrong),
            "copy": lambda: t.copy("b", "k", "b", "l", **wrong).send(None),
            "initiate_multipart": lambda: t.initiate_multipart("b", "k", **wrong).send(None),
        }
        for name, use in uses.items():
            with pytest.raises(TypeError, match=rf"^{name}\(\) got an unexpected keyword argument 'content_typ'$"):
                use()
        assert mock.calls == []


async def test_options_reach_the_driver_normalised() -> None:
    mock = MockDriver(capabilities=[TaggingDriver, VersioningDriver], put=INFO, head=INFO, delete=None)
    berlin = timezone(timedelta(hours=2))
    async with trove_async.open(mock) as t:
        await t.put("b", "k", b"", if_match='W/"e"', tags={"a": "b"}, storage_class="COLD", checksum="md5")
        await t.head("b", "k", if_none_match='"e"', if_modified_since=NOW.astimezone(berlin), version_id="v")
        await t.delete("b", "k", version_id="v", if_match='"e"')
    [put], [head], [delete] = (mock.calls_to(name) for name in ("put", "head", "delete"))
    assert put.arguments["options"].if_match == "e"
    assert put.arguments["options"].attributes.tags == FrozenDict({"a": "b"})
    assert put.arguments["options"].checksum.algorithm == "md5"
    assert head.arguments["options"] == HeadOptions(version_id="v", if_none_match="e", if_modified_since=NOW)
    assert head.arguments["options"].if_modified_since.tzinfo is UTC
    assert delete.arguments["options"] == DeleteOptions(version_id="v", if_match="e")


async def test_metadata_above_the_backends_limit_is_refused() -> None:
    mock = MockDriver(features=Features(limits=Limits(max_metadata_size=10)), put=INFO)
    async with trove_async.open(mock) as t:
        await t.put("b", "k", b"", metadata={"12345": "12345"})
        with pytest.raises(InvalidMetadataError, match="at most 10"):
            await t.put("b", "k", b"", metadata={"12345": "123456"})


async def test_an_exception_of_the_source_is_raised_unchanged_and_the_source_is_closed() -> None:
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


async def test_a_generator_is_closed_when_the_put_fails_before_its_end() -> None:
    closed = []

    async def source() -> AsyncIterator[bytes]:
        try:
            yield b"one"
            yield b"two"
        finally:
            closed.append(True)

    async def put(bucket: str, key: str, body: Body, options: object) -> ObjectInfo:
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


async def test_create_bucket_can_accept_an_existing_bucket() -> None:
    mock = MockDriver(create_bucket=trove_async.BucketAlreadyExistsError("there is one"))
    async with trove_async.open(mock) as t:
        with pytest.raises(trove_async.BucketAlreadyExistsError):
            await t.create_bucket("b")
        assert (await t.create_bucket("b", exist_ok=True)).name == "b"


async def test_list_buckets() -> None:
    async with trove_async.open(MockDriver(list_buckets=(BucketInfo("a"), BucketInfo("b")))) as t:
        assert await t.list_buckets() == [BucketInfo("a"), BucketInfo("b")]


@pytest.mark.parametrize(
    "change",
    [
        {"expiration_days": True}, {"expiration_days": 1.0}, {"expiration_days": "1"}, {"expiration_days": 0},
        {"enabled": 1}, {"enabled": "no"}, {"id": 5}, {"id": ""}, {"prefix": True}, {"transition_storage": True},
    ],
)  # fmt: skip
async def test_rules_of_wrong_types_mean_the_same_to_library_and_command(change: dict[str, Any]) -> None:
    fields = {"id": "r", "expiration_days": 1, **change}
    async with trove_async.open(everything()) as t:
        with pytest.raises(InvalidArgumentError):
            await t.set_lifecycle("b", [LifecycleRule(**fields)])
        with pytest.raises((InvalidArgumentError, UsageError)):
            await t.set_lifecycle("b", parse_rules(json.dumps([fields]).encode()))
