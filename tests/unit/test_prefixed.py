"""`Prefixed`: every name of a key is translated, and no key leads out of the prefix."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args, get_type_hints

import httpx
import pytest
import pytest_asyncio

import trove_async as trove
from tests.unit.doubles import ScriptedStream
from trove_async.driver import CAPABILITIES, METHODS, Body, Driver, Features, PresignMethod, options
from trove_async.driver.capabilities import Condition
from trove_async.driver.options import HeadOptions, ListOptions, VersionListOptions, WatchOptions
from trove_async.layers import Call, LayerDriver, Operation, Prefixed
from trove_async.layers.prefixed import _PLANS
from trove_async.listing import ListPage
from trove_async.testing.mock import MockDriver
from trove_async.types import DeleteResult, EventType, FrozenDict, ObjectEvent, UploadInfo, VersionInfo
from trove_async.version_listing import VersionPage
from trove_async.web import signed_urls

pytestmark = pytest.mark.asyncio

PREFIX = "tenant/"
DROPPED = {trove.LifecycleDriver, trove.LifecycleSweepDriver}
FULL = trove.ObjectInfo("tenant/k", 1, "e")


def mock_driver(**answers: Any) -> MockDriver:
    return MockDriver(capabilities=CAPABILITIES, **answers)


@pytest.fixture(params=["memory", "local"])
def dsn(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    base = f"memory://{tmp_path.name}" if request.param == "memory" else f"local://{tmp_path}"
    return f"{base}?min_part_size=1&presign_url=http://files.test/objects{'' if 'memory' in base else '&fsync=0'}"


@pytest_asyncio.fixture
async def everything(dsn: str) -> AsyncIterator[trove.Trove]:
    """The store that the tenants share."""
    async with trove.open(dsn) as store:
        await store.create_bucket("b")
        yield store


@pytest_asyncio.fixture
async def tenant(dsn: str, everything: trove.Trove) -> AsyncIterator[trove.Trove]:
    async with trove.open(dsn, layers=[Prefixed(PREFIX)]) as store:
        yield store


async def keys_of(store: trove.Trove) -> list[str]:
    return [info.key async for info in store.list("b")]


# Every name of a key


def given(parameter: str, method: str) -> object:
    """Return an argument in which every key is ``k``."""
    match parameter:
        case "key" | "src_key" | "dst_key" | "prefix":
            return "k"
        case "keys":
            return ["k", "k"]
        case "src" | "dst":
            return trove.ObjectRef("b", "k", "v")
        case "body":
            return Body(b"x")
        case "options" if method == "list_page":
            return ListOptions(prefix="k", start_after="k", delimiter="/", cursor="c")
        case "options" if method == "list_versions_page":
            return VersionListOptions(prefix="k", cursor="c")
        case "options" if method == "watch":
            return WatchOptions(prefix="k")
    return parameter


def answer(method: str) -> object:
    """Return a result in which every key is ``tenant/k``."""
    now = datetime.now(UTC)
    match method:
        case "get" | "get_range" | "get_version":
            return lambda *_: trove.ObjectReader(FULL, b"x")
        case "put" | "head" | "copy" | "server_copy" | "complete_multipart" | "restore_version":
            return FULL
        case "list_page":
            return ListPage([FULL], [trove.Prefix("tenant/k/")], "c")
        case "list_versions":
            return [VersionInfo("v", "tenant/k", 1, now, True)]
        case "list_versions_page":
            return VersionPage([VersionInfo("v", "tenant/k", 1, now, True)], "c")
        case "list_multipart_uploads":
            return [UploadInfo("u", "tenant/k", now)]
        case "delete_many":
            return [DeleteResult("tenant/k"), DeleteResult("tenant/k", trove.ConflictError(key="tenant/k"))]
        case "watch":
            return [ObjectEvent(EventType.CREATED, "b", "tenant/k")]
    return "result"


OPERATIONS = sorted(
    name for name, method in METHODS.items() if name not in ("open", "close") and method.capability not in DROPPED
)


async def called(driver: Any, method: str) -> Any:
    result = getattr(driver, method)(*(given(name, method) for name in METHODS[method].parameters))
    return [await anext(result), await result.aclose()][0] if method == "watch" else await result


@pytest.mark.parametrize("method", OPERATIONS)
async def test_every_key_of_a_call_gets_the_prefix_and_every_key_of_its_result_loses_it(method: str) -> None:
    inner = mock_driver(**{method: answer(method)})
    result = await called(Prefixed(PREFIX)(inner), method)
    if isinstance(result, trove.ObjectReader):
        assert result.info == replace(FULL, key="k")
        result = await result.read()
    assert PREFIX not in repr(result)
    for name, value in inner.calls[-1].arguments.items():
        expected = given(name, method)
        if isinstance(value, Body):
            continue
        assert repr(value) == repr(expected).replace("'k'", "'tenant/k'"), name


async def test_every_operation_is_known() -> None:
    """The layer does not pass on what it does not know."""
    assert sorted(_PLANS) == OPERATIONS


async def test_options_name_no_other_keys() -> None:
    known = {
        ListOptions: {"prefix", "start_after"},
        VersionListOptions: {"prefix"},
        WatchOptions: {"prefix"},
    }
    keyed = {"key", "prefix", "after"}
    for name in options.__all__:
        kind = getattr(options, name)
        if isinstance(kind, type):
            found = {field.name for field in fields(kind) if keyed.intersection(field.name.split("_"))}
            assert found == known.get(kind, set()), name


async def test_all_fields_of_an_object_stay() -> None:
    values: dict[str, Any] = {name: f"<{name}>" for name in get_type_hints(trove.ObjectInfo)}
    info = trove.ObjectInfo(**{**values, "key": "tenant/k", "metadata": FrozenDict(a="b"), "size": 7})
    layer = Prefixed(PREFIX)(mock_driver(head=info, list_page=ListPage([info])))
    expected = replace(info, key="k")
    assert await layer.head("b", "k", HeadOptions()) == expected
    assert list((await layer.list_page("b", ListOptions())).objects) == [expected]


# What the store has


async def test_tenants_share_a_bucket_and_see_only_their_own_keys(
    dsn: str, everything: trove.Trove, tenant: trove.Trove
) -> None:
    async with trove.open(dsn, layers=[Prefixed("tenant-b/")]) as other:
        for number, store in enumerate((tenant, other, everything)):
            await store.put("b", "report.txt", b"%d" % number)
        assert await keys_of(everything) == ["report.txt", "tenant-b/report.txt", "tenant/report.txt"]
        for number, store in enumerate((tenant, other)):
            assert await keys_of(store) == ["report.txt"]
            assert await store.read("b", "report.txt") == b"%d" % number
        assert await tenant.empty_bucket("b") == 1
        assert await keys_of(everything) == ["report.txt", "tenant-b/report.txt"]


HOSTILE = [
    "..", "../report.txt", "../../b/report.txt", "/", "//", "/report.txt", "./report.txt", "tenant/report.txt",
    "tenant/", "%2e%2e/report.txt", "..%2Freport.txt", "..\\report.txt", "\u2025/report.txt", "\x7f",
    "a/../../report.txt",
]  # fmt: skip


async def test_no_key_leads_out_of_the_prefix(everything: trove.Trove, tenant: trove.Trove) -> None:
    await everything.put("b", "report.txt", b"not the tenant's")
    for key in HOSTILE:
        with pytest.raises(trove.ObjectNotFoundError):
            await tenant.read("b", key)
        await tenant.put("b", key, key.encode())
        await tenant.copy("b", key, "b", f"{key}.copy")
        await tenant.delete("b", f"{key}.copy")
    assert await keys_of(tenant) == sorted(HOSTILE)
    assert await keys_of(everything) == sorted(["report.txt", *(PREFIX + key for key in HOSTILE)])
    for key in HOSTILE:
        assert await tenant.read("b", key) == key.encode()
        assert [info.key async for info in tenant.list("b", key)] == sorted(k for k in HOSTILE if k.startswith(key))
    assert await tenant.delete_many("b", HOSTILE) == len(HOSTILE)
    assert await everything.read("b", "report.txt") == b"not the tenant's"


async def test_a_prefix_is_text_and_no_path(dsn: str, everything: trove.Trove) -> None:
    for key in ("a", "ab", "a/b", "b"):
        await everything.put("b", key, b"")
    async with trove.open(dsn, layers=[Prefixed("a")]) as store:
        assert await keys_of(store) == ["/b", "b"]
        assert [item.key async for item in store.list("b", delimiter="/")] == ["/", "b"]


async def test_an_object_named_like_the_prefix_is_not_shown(everything: trove.Trove, tenant: trove.Trove) -> None:
    """Consoles of services make such objects, to show a folder. Within the store its key would be empty."""
    await everything.set_versioning("b", True)
    await everything.put("b", PREFIX, b"")
    upload = await everything.initiate_multipart("b", PREFIX)
    assert await keys_of(tenant) == []
    assert await tenant.list("b", delimiter="/").all() == []
    assert await tenant.list_all_versions("b").all() == []
    assert await tenant.list_multipart_uploads("b") == []
    async with tenant.watch("b") as events:
        await everything.put("b", PREFIX, b"again")
        await tenant.put("b", "k", b"")
        assert (await anext(events)).key == "k"
    await everything.abort_multipart("b", PREFIX, upload)


async def test_a_listing_continues_at_its_cursor(everything: trove.Trove, tenant: trove.Trove) -> None:
    for key in ("a", "tenant-a", "tenant/a", "tenant/b", "tenant/c/d", "tenant/e", "z"):
        await everything.put("b", key, b"")
    listing = tenant.list("b", page_size=1, delimiter="/")
    assert [(await listing.next()).key for _ in range(3)] == ["a", "b", "c/"]
    continued = tenant.list("b", page_size=1, delimiter="/", cursor=listing.cursor)
    assert [item.key async for item in continued] == ["e"]
    assert [info.key async for info in tenant.list("b", start_after="b")] == ["c/d", "e"]


async def test_a_backend_that_answers_with_keys_of_others_is_not_believed() -> None:
    other = replace(FULL, key="other/secret")
    inner = mock_driver(
        list_page=ListPage([other]),
        list_multipart_uploads=[UploadInfo("u", "other/secret")],
        list_versions_page=VersionPage([VersionInfo("v", "other/secret", 1, None, True)]),
        watch=[ObjectEvent(EventType.CREATED, "b", key) for key in ("other/secret", "tenant/k")],
    )
    async with trove.open(inner, layers=[Prefixed(PREFIX)]) as store:
        for work in (store.list("b").all(), store.list_all_versions("b").all(), store.list_multipart_uploads("b")):
            with pytest.raises(trove.BackendError, match="does not begin with the prefix") as raised:
                await work
            assert "secret" not in str(raised.value)
        async with store.watch("b") as events:
            assert (await anext(events)).key == "k"


async def test_layers_with_prefixes_add_up(dsn: str, everything: trove.Trove) -> None:
    async with trove.open(dsn, layers=[Prefixed("team/"), Prefixed("user/")]) as store:
        await store.put("b", "k", b"x")
        assert await keys_of(everything) == ["team/user/k"]
        with pytest.raises(trove.ObjectNotFoundError) as raised:
            await store.head("b", "missing")
        assert str(raised.value).startswith("head 'b/missing': the object does not exist")


# Events


async def test_asking_for_the_next_event_acknowledges_the_last_one_of_the_backend() -> None:
    acknowledged: list[str] = []

    async def watch(bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        options.on_ready()
        try:
            for key in ("tenant/a", "tenant/", "tenant/b", "tenant/c"):
                yield ObjectEvent(EventType.CREATED, bucket, key)
                acknowledged.append(key)
        finally:
            acknowledged.append("closed")

    driver: Any = Prefixed(PREFIX)(mock_driver(watch=watch))
    events = driver.watch("b", WatchOptions())
    assert (await anext(events)).key == "a"
    assert acknowledged == []
    assert (await anext(events)).key == "b"
    assert acknowledged == ["tenant/a", "tenant/"]
    await events.aclose()
    assert acknowledged == ["tenant/a", "tenant/", "closed"]


async def test_a_watch_sees_the_events_below_the_prefix(everything: trove.Trove, tenant: trove.Trove) -> None:
    async with asyncio.timeout(30), tenant.watch("b", prefix="in/") as events:
        await everything.put("b", "in/theirs", b"")
        await tenant.put("b", "out", b"")
        await tenant.put("b", "in/k", b"12")
        seen = await anext(events)
    assert (seen.type, seen.bucket, seen.key, seen.size) == (EventType.CREATED, "b", "in/k", 2)


# Errors


def failing(store: trove.Trove) -> list[Callable[[], Any]]:
    """Return operations on what does not exist, each of which fails with an error about the key ``missing``."""
    ref = trove.ObjectRef("b", "missing")
    return [
        lambda: store.read("b", "missing"),
        lambda: store.get("b", "missing"),
        lambda: store.head("b", "missing"),
        lambda: store.copy("b", "missing", "b", "k"),
        lambda: store.server_copy(ref, trove.ObjectRef("b", "k")),
        lambda: store.get_range("b", "missing", 0, 1),
        lambda: store.delete("b", "missing", if_match="etag"),
        lambda: store.put("b", "missing", b"", if_match="etag"),
        lambda: store.get_tags("b", "missing"),
        lambda: store.set_tags("b", "missing", {"a": "b"}),
        lambda: store.get_version("b", "missing", "1"),
        lambda: store.restore_version("b", "missing", "1"),
        lambda: store.list_parts("b", "missing", "no-upload"),
        lambda: store.upload_part("b", "missing", "no-upload", 1, b""),
        lambda: store.append_part("b", "missing", "no-upload", 1, 0, b""),
        lambda: store.copy_part("b", "missing", "no-upload", 1, ref, 0, 1),
        lambda: store.complete_multipart("b", "missing", "no-upload", [trove.PartInfo(1, "etag", 1)]),
    ]


async def test_errors_name_the_keys_of_the_store(tenant: trove.Trove) -> None:
    for number, call in enumerate(failing(tenant)):
        with pytest.raises(trove.TroveError) as raised:
            await call()
        assert (raised.value.bucket, raised.value.key) == ("b", "missing"), number
        assert PREFIX not in str(raised.value)


async def test_what_a_service_says_about_a_key_is_translated() -> None:
    error = trove.ObjectNotFoundError("No such object: b/tenant/k; 'tenant/k' is not there", key="tenant/k")
    layer = Prefixed(PREFIX)(mock_driver(head=error))
    with pytest.raises(trove.ObjectNotFoundError, match=r"No such object: b/k; 'k' is not there") as raised:
        await layer.head("b", "k", HeadOptions())
    assert raised.value.key == "k"
    assert raised.value.args == ("No such object: b/k; 'k' is not there",)


async def test_what_a_service_says_about_both_ends_of_a_copy_is_translated() -> None:
    error = trove.ObjectNotFoundError("a/tenant/k is gone, and b/tenant/new was not written", key="tenant/k")
    async with trove.open(mock_driver(copy=error), layers=[Prefixed(PREFIX)]) as store:
        with pytest.raises(trove.ObjectNotFoundError) as raised:
            await store.copy("a", "k", "b", "new")
    assert (raised.value.message, raised.value.key) == ("a/k is gone, and b/new was not written", "k")


async def test_each_error_of_a_bulk_deletion_names_its_key() -> None:
    results = [DeleteResult("tenant/a"), DeleteResult("tenant/b", trove.AccessDeniedError("no 'tenant/b'"))]
    async with trove.open(mock_driver(delete_many=results), layers=[Prefixed(PREFIX)]) as store:
        with pytest.raises(trove.BulkError) as raised:
            await store.delete_many("b", ["a", "b"])
    [failed] = raised.value.failed
    assert failed.key == "b"
    assert failed.error is not None
    assert (failed.error.key, failed.error.message) == ("b", "no 'b'")


async def test_errors_of_a_body_pass_unchanged() -> None:
    """A body may be an object of another store, whose key looks like one of the backend."""
    theirs = trove.ObjectChangedError("'tenant/other' changed", bucket="elsewhere", key="tenant/other")

    async def body() -> AsyncIterator[bytes]:
        raise theirs
        yield b""

    async with trove.open("memory://", layers=[Prefixed(PREFIX)]) as store:
        await store.create_bucket("b")
        with pytest.raises(trove.ObjectChangedError) as raised:
            await store.put("b", "k", body())
    assert raised.value is theirs
    assert (theirs.bucket, theirs.key, theirs.message) == ("elsewhere", "tenant/other", "'tenant/other' changed")


async def test_errors_while_reading_name_the_keys_of_the_store() -> None:
    lost = trove.BackendError("'tenant/k' is damaged", key="tenant/k")
    streams = [ScriptedStream(b"12", [1, lost]), ScriptedStream(b"12", [1, trove.UnavailableError()])]
    streams[1].seek_errors = [trove.ObjectNotFoundError(bucket="b", key="tenant/k")]
    left = iter(streams)
    inner = mock_driver(get=lambda *_: trove.ObjectReader(replace(FULL, size=2), next(left)))
    async with trove.open(inner, layers=[Prefixed(PREFIX)]) as store:
        with pytest.raises(trove.BackendError, match=r"^read 'b/k': 'k' is damaged") as raised:
            await store.read("b", "k")
        assert raised.value.key == "k"
        with pytest.raises(trove.ObjectChangedError) as changed:
            await store.read("b", "k")
        assert PREFIX not in f"{changed.value}{changed.value.__cause__}"
    assert streams[0].aborted == 1


async def test_a_bucket_that_is_not_empty_for_the_keys_of_others_says_so(
    everything: trove.Trove, tenant: trove.Trove
) -> None:
    await everything.put("b", "other/k", b"")
    assert await keys_of(tenant) == []
    with pytest.raises(trove.BucketNotEmptyError, match="keys do not begin with the prefix"):
        await tenant.delete_bucket("b")


# Signed URLs


async def test_signed_urls_name_the_whole_key_and_are_served_by_either_store(
    dsn: str, everything: trove.Trove, tenant: trove.Trove
) -> None:
    await tenant.put("b", "k", b"tenant's")
    await everything.put("b", "other/k", b"not the tenant's")
    url, foreign = await tenant.presign_get("b", "k"), await everything.presign_get("b", "other/k")
    async with trove.open(dsn, layers=[Prefixed("tenant/"), trove.Limit(2)]) as limited:
        answers = {}
        for store in (everything, tenant, limited):
            transport = httpx.ASGITransport(app=signed_urls(store))
            async with httpx.AsyncClient(transport=transport) as client:
                answers[store] = [await client.get(url), await client.get(foreign)]
    assert {answer.content for answer, _ in answers.values()} == {b"tenant's"}
    assert [answer.status_code for _, answer in answers.values()] == [200, 403, 403]


# Limits and capabilities


async def test_the_length_of_a_key_includes_the_prefix(tenant: trove.Trove) -> None:
    longest = "k" * (1024 - len(PREFIX))
    assert tenant.features.limits.max_key_size == len(longest)
    await tenant.put("b", longest, b"")
    assert [info.key async for info in tenant.list("b", longest)] == [longest]
    for key in (longest + "k", "é" * 509):
        with pytest.raises(trove.InvalidKeyError, match="prefix of 7 bytes it is 1025 bytes") as raised:
            await tenant.put("b", key, b"")
        assert raised.value.key == f"{key[:64]}…"
        for listing in (tenant.list("b", key), tenant.list("b", start_after=key)):
            with pytest.raises(trove.InvalidKeyError, match="prefix of 7 bytes"):
                await listing.all()


async def test_the_rules_of_the_driver_are_about_the_whole_key() -> None:
    def check_key(key: str) -> None:
        if key.startswith("tenant/."):
            raise trove.InvalidKeyError(f"{key!r} is not allowed", key=key)

    layer = Prefixed(PREFIX)(mock_driver(check_key=check_key))
    layer.check_key("k")
    with pytest.raises(trove.InvalidKeyError, match=r"^'\.k' is not allowed") as raised:
        layer.check_key(".k")
    assert raised.value.key == ".k"


async def test_lifecycle_rules_are_not_part_of_the_store(tenant: trove.Trove) -> None:
    """They are one document for the bucket, which nothing but a replacement of all can change."""
    assert not tenant.supports(trove.LifecycleDriver)
    for work in (tenant.set_lifecycle("b", []), tenant.get_lifecycle("b"), tenant.apply_lifecycle("b")):
        with pytest.raises(trove.UnsupportedError, match="the rules are those of the whole bucket"):
            await work


async def test_everything_else_stays() -> None:
    inner = mock_driver()
    layer = Prefixed(PREFIX)(inner)
    assert layer.features.protocols == inner.features.protocols - DROPPED
    assert layer.features.conditions == frozenset(get_args(Condition))
    assert layer.features.presign_methods == frozenset(get_args(PresignMethod))


async def test_an_empty_prefix_changes_nothing() -> None:
    inner = mock_driver()
    assert Prefixed("")(inner) is inner


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        (None, "a prefix is a str"),
        (b"a/", "a prefix is a str"),
        ("a\0b", "contains NUL"),
        ("\ud800", "lone surrogate"),
        ("é" * 512, "leaves none for the keys"),
        ("k" * 1025, "1025 bytes"),
    ],
)
async def test_prefixes_that_no_key_can_have(prefix: Any, message: str) -> None:
    with pytest.raises(trove.InvalidArgumentError, match=message):
        Prefixed(prefix)


async def test_the_layer_without_its_prefix_is_refused() -> None:
    with pytest.raises(trove.InvalidArgumentError, match=r"Prefixed in layers is a class; write Prefixed\(…\)"):
        await trove.open(MockDriver(), layers=[Prefixed])  # type: ignore[list-item]


# A prefix in the DSN


def with_default_prefix(**answers: Any) -> MockDriver:
    driver = MockDriver(default_bucket="b", **answers)
    driver.default_prefix = "dsn/"
    return driver


class Noting(LayerDriver):
    """A layer that records the keys it sees."""

    def __init__(self, inner: Driver, seen: list[str | None]) -> None:
        super().__init__(inner)
        self.seen = seen

    async def around(self, operation: Operation, call: Call[Any]) -> Any:
        self.seen.append(operation.key)
        return await call()


async def test_the_prefix_of_a_dsn_is_beneath_all_layers() -> None:
    inner, seen = with_default_prefix(head=FULL), list[str | None]()
    async with trove.open(inner, layers=[lambda driver: Noting(driver, seen)]) as store:
        assert (await store.bucket().head("k")).key == "k"
        assert store.driver.default_prefix == ""
        assert store.features.limits.max_key_size == 1024 - len("dsn/")
    assert seen == ["k"]
    assert inner.calls_to("head")[0].arguments["key"] == "dsn/k"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda driver: driver,
        lambda driver: Prefixed("")(driver),
        lambda driver: trove.Limit(1)(driver),
        lambda driver: trove.Limit(1)(Prefixed("")(trove.Limit(1)(driver))),
    ],
)
async def test_the_prefix_of_a_dsn_is_added_once_to_an_open_driver(wrap: Callable[[Driver], Driver]) -> None:
    inner = with_default_prefix(head=FULL)
    async with trove.open(wrap(inner)) as store, trove.open(store.driver, layers=[Prefixed("own/")]) as again:
        await store.head("b", "k")
        await again.head("b", "k")
    assert [call.arguments["key"] for call in inner.calls_to("head")] == ["dsn/k", "dsn/own/k"]


async def test_the_prefix_of_a_dsn_comes_before_that_of_a_layer_around_the_driver() -> None:
    async def opened(dsn: trove.DSN, options: object) -> None:
        inner.default_prefix = "dsn/"

    inner = MockDriver(head=FULL, open=opened)
    layer = Prefixed("own/")(inner)
    await layer.open(trove.parse_dsn("mock://"), options.OpenOptions())
    async with trove.open(layer) as store:
        await store.head("b", "k")
    assert inner.calls_to("head")[0].arguments["key"] == "dsn/own/k"


async def test_features_are_asked_when_they_are_needed() -> None:
    """A driver knows them after it was opened."""
    inner = MockDriver(features=Features())
    layer = Prefixed(PREFIX)(inner)
    inner._features = Features(conditions=frozenset({"put_if_match"}))
    assert layer.features.conditions == {"put_if_match"}
