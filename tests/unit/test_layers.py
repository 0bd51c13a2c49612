from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import combinations
from typing import Any, TypeVar, cast

import pytest
from prometheus_client import CollectorRegistry

import trove_async
from trove_async.driver import (
    CAPABILITIES,
    METHODS,
    Body,
    Driver,
    Features,
    Limits,
    MultipartDriver,
    NotificationDriver,
    PresignDriver,
    RangeDriver,
    ServerCopyDriver,
    TaggingDriver,
    VersioningDriver,
    capabilities_of,
    methods_of,
    unwrap,
)
from trove_async.driver.options import DeleteOptions, HeadOptions, OpenOptions, PresignOptions, WatchOptions
from trove_async.dsn import parse_dsn
from trove_async.errors import AccessDeniedError, ObjectNotFoundError, UnavailableError, UnsupportedError
from trove_async.layers import (
    Cache,
    Call,
    CircuitBreaker,
    Hedge,
    LayerDriver,
    Limit,
    Observe,
    OpenTelemetry,
    Operation,
    Prefixed,
    Prometheus,
    Quota,
    QuotaLimit,
    ReadOnly,
    Retry,
    Timeout,
)
from trove_async.listing import ListPage
from trove_async.testing.faults import Faults
from trove_async.testing.mock import MockDriver
from trove_async.types import DeleteResult, EventType, ObjectEvent, ObjectInfo

pytestmark = pytest.mark.asyncio

R = TypeVar("R")
Layer = Callable[[Driver], Driver]

LAYERS: dict[str, Layer] = {
    "breaker": CircuitBreaker(),
    "limit": Limit(3),
    "limits": Limit(3, operations=10000, bytes=1e9, adaptive=True, per_class=True),
    "timeout": Timeout(attempt=60, idle=60),
    "hedge": Hedge(),
    "retry": Retry(),
    "cache": Cache(),
    "observe": Observe(lambda _: None),
    "opentelemetry": OpenTelemetry(),
    "prometheus": Prometheus(CollectorRegistry()),
    "prefixed": Prefixed("team/"),
    "quota": Quota({"b": QuotaLimit(objects=1)}),
    "read_only": ReadOnly(),
    "faults": Faults(),
}
SETS = [(), (RangeDriver,), (NotificationDriver, TaggingDriver), (MultipartDriver, VersioningDriver), CAPABILITIES]


class Plain(LayerDriver):
    """A layer that changes nothing."""


class Announce(LayerDriver):
    """A layer that records every operation."""

    def __init__(self, inner: Driver, seen: list[Operation]) -> None:
        super().__init__(inner)
        self.seen = seen

    async def around(self, operation: Operation, call: Call[R]) -> R:
        self.seen.append(operation)
        return await call()


class Opaque(LayerDriver):
    """A layer that drops signed URLs and server-side copies."""

    drops = {PresignDriver: "the bytes would bypass the layer", ServerCopyDriver: "so they would"}  # noqa: RUF012


class SignsItself(LayerDriver):
    """A layer that overrides one method of a capability."""

    async def presign_get(self, bucket: str, key: str, options: PresignOptions) -> str:
        return f"mine:{key}"


def implemented(driver: Driver) -> set[type]:
    return {capability for capability in CAPABILITIES if isinstance(driver, capability)}


@pytest.mark.parametrize("capabilities", SETS)
@pytest.mark.parametrize("layer", [*LAYERS.values(), Plain, SignsItself])
async def test_a_layer_has_exactly_the_capabilities_of_the_wrapped_driver(
    layer: Layer, capabilities: tuple[type, ...]
) -> None:
    inner = MockDriver(capabilities=capabilities)
    assert implemented(inner) == capabilities_of(inner) >= set(capabilities)
    wrapped = layer(inner)
    assert isinstance(wrapped, LayerDriver)
    assert implemented(wrapped) == capabilities_of(wrapped) == implemented(inner) - set(wrapped.drops)
    assert replace(wrapped.features, limits=inner.features.limits) == inner.features.without(wrapped.drops)
    for capability in set(CAPABILITIES) - implemented(wrapped):
        for method in methods_of(capability) - frozenset().union(*(methods_of(c) for c in implemented(wrapped))):
            assert getattr(wrapped, method, None) is None


@pytest.mark.parametrize("order", [list(LAYERS), list(reversed(LAYERS))])
async def test_a_stack_has_the_capabilities_of_the_driver(order: list[str]) -> None:
    inner = MockDriver(capabilities=(MultipartDriver, NotificationDriver))
    driver: Driver = inner
    for name in order:
        driver = LAYERS[name](driver)
    assert implemented(driver) == {MultipartDriver, NotificationDriver}
    assert driver.name == "mock"
    assert unwrap(driver, MockDriver) is inner


async def test_a_dropped_capability_is_gone_from_class_and_features() -> None:
    inner = MockDriver(capabilities=CAPABILITIES)
    wrapped = Opaque(inner)
    assert implemented(wrapped) == set(CAPABILITIES) - {PresignDriver, ServerCopyDriver}
    assert wrapped.features.protocols == inner.features.protocols - {PresignDriver, ServerCopyDriver}
    async with trove_async.open(inner, layers=[Opaque]) as t:
        assert not t.supports(PresignDriver)
        with pytest.raises(UnsupportedError):
            await t.presign_get("b", "k")


async def test_an_overridden_method_is_used_where_the_driver_has_the_capability() -> None:
    async with trove_async.open(
        MockDriver(capabilities=[PresignDriver], presign_put="inner"), layers=[SignsItself]
    ) as t:
        assert await t.presign_get("b", "k") == "mine:k"
        assert await t.presign_put("b", "k") == "inner"
    async with trove_async.open(MockDriver(), layers=[SignsItself]) as t:
        with pytest.raises(UnsupportedError):
            await t.presign_get("b", "k")


async def test_one_class_is_composed_for_each_layer_and_set_of_capabilities() -> None:
    one, same, other = (Plain(MockDriver(capabilities=c)) for c in ((RangeDriver,), (RangeDriver,), ()))
    assert type(one) is type(same) is not type(other)
    assert isinstance(one, Plain)
    assert isinstance(other, Plain)
    assert type(one).__name__ == "Plain"
    assert repr(one).startswith("<Plain around")


async def test_unwrap_finds_a_layer_and_names_what_it_did_not_find() -> None:
    inner = MockDriver()
    wrapped = Plain(Opaque(inner))
    assert unwrap(wrapped, Opaque) is wrapped.unwrap()
    assert inner.unwrap() is None
    with pytest.raises(UnsupportedError, match="no SignsItself"):
        unwrap(wrapped, SignsItself)


INFO = ObjectInfo("k", 1, "e")


async def test_around_sees_every_operation_with_its_name() -> None:
    seen: list[Operation] = []
    names = METHODS.keys() - {"open", "close"}
    answers: dict[str, Any] = dict.fromkeys(names - {"watch"}, INFO)
    mock = MockDriver(capabilities=CAPABILITIES, **answers)
    layer = Announce(mock, seen)
    for name in sorted(names - {"watch"}):
        await call_with_names(layer, name)
    assert [operation.name for operation in seen] == sorted(names - {"watch"})
    assert [call.name for call in mock.calls] == [operation.name for operation in seen]
    assert {operation.driver for operation in seen} == {"mock"}
    for operation, call in zip(seen, mock.calls, strict=True):
        if "dst_bucket" in call.arguments:
            assert (operation.bucket, operation.key) == ("dst_bucket", "dst_key")
        elif "src" not in call.arguments:
            assert operation.bucket == call.arguments.get("bucket", call.arguments.get("name"))
            assert operation.key == call.arguments.get("key")
        assert operation.body is call.arguments.get("body")
        assert operation.arguments == call.arguments


async def call_with_names(driver: Driver, name: str) -> None:
    """Call a method with its parameters' names as arguments, so that swapped arguments are noticed."""
    arguments: list[object] = []
    for parameter in inspect.signature(getattr(driver, name)).parameters:
        match parameter:
            case "body":
                arguments.append(Body(b"x"))
            case "src" | "dst":
                arguments.append(trove_async.ObjectRef(f"{parameter}_bucket", f"{parameter}_key"))
            case _:
                arguments.append(parameter)
    await getattr(driver, name)(*arguments)


async def test_arguments_reach_the_right_parameters() -> None:
    mock = MockDriver(capabilities=CAPABILITIES, copy=INFO, complete_multipart=INFO, delete_many=[DeleteResult("k")])
    layer = Plain(mock)
    await call_with_names(layer, "copy")
    await call_with_names(layer, "complete_multipart")
    await call_with_names(layer, "delete_many")
    for call in mock.calls:
        assert {name: value for name, value in call.arguments.items() if name != value} == {}


async def test_open_close_and_checks_are_those_of_the_inner_driver() -> None:
    def check_key(key: str) -> None:
        raise trove_async.InvalidKeyError("not here")

    def check_bucket(bucket: str) -> None:
        raise trove_async.InvalidBucketNameError("nor here")

    mock = MockDriver(default_bucket="b", check_key=check_key, check_bucket=check_bucket)
    layer = Plain(mock)
    assert layer.default_bucket == "b"
    with pytest.raises(trove_async.InvalidKeyError, match="not here"):
        layer.check_key("k")
    with pytest.raises(trove_async.InvalidBucketNameError, match="nor here"):
        layer.check_bucket("b")
    async with trove_async.open(layer) as t:
        with pytest.raises(trove_async.InvalidKeyError, match="not here"):
            await t.put("b", "k", b"")
    assert [call.name for call in mock.calls] == ["close"]


async def test_layers_wrap_the_driver_from_the_inside_out() -> None:
    seen: list[str] = []

    def named(name: str) -> Layer:
        class Named(LayerDriver):
            async def around(self, operation: Operation, call: Call[R]) -> R:
                seen.append(name)
                return await call()

        return Named

    async with trove_async.open(MockDriver(head=INFO), layers=[named("inner"), named("outer")]) as t:
        await t.head("b", "k")
    assert seen == ["outer", "inner"]


async def test_features_that_a_server_lacks_stay_absent() -> None:
    mock = MockDriver(capabilities=CAPABILITIES, features=Features())
    for layer in LAYERS.values():
        found = layer(mock).features
        assert replace(found, limits=Limits(), dropped={}) == Features()


@pytest.mark.parametrize("chosen", [c for n in (1, 2) for c in combinations(CAPABILITIES, n)])
async def test_any_set_of_capabilities_survives_two_layers(chosen: Sequence[type]) -> None:
    inner = MockDriver(capabilities=chosen)
    wrapped = Limit(1)(Observe(lambda _: None)(inner))
    assert implemented(wrapped) == implemented(inner)


# Changed arguments


class TeamKeys(LayerDriver):
    """Stores everything under a key prefix, with one method."""

    async def around(self, operation: Operation, call: Call[R]) -> R:
        changes: dict[str, Any] = {
            name: f"team/{operation.arguments[name]}"
            for name in ("key", "src_key", "dst_key", "prefix")
            if name in operation.arguments
        }
        if "keys" in operation.arguments:
            changes["keys"] = [f"team/{key}" for key in operation.arguments["keys"]]
        if operation.name in ("list_page", "watch"):
            options = operation.arguments["options"]
            changes["options"] = replace(options, prefix=f"team/{options.prefix}")
        result = await call(**changes)
        if isinstance(result, ListPage):
            mine = [replace(info, key=info.key.removeprefix("team/")) for info in result.objects]
            return cast(R, replace(result, objects=mine))
        return result


async def test_a_layer_that_maps_keys_is_one_method() -> None:
    async with (
        trove_async.open("memory://mapped") as below,
        trove_async.open("memory://mapped", layers=[TeamKeys]) as t,
    ):
        await t.create_bucket("b")
        await below.put("b", "outside", b"")
        async with t.watch("b") as events:
            await t.put("b", "one", b"1", tags={"a": "1"})
            assert (await anext(events)).key == "team/one"
        await t.copy("b", "one", "b", "two")
        assert await t.get_tags("b", "two") == {"a": "1"}
        assert await t.read("b", "two") == b"1"
        assert [info.key for info in await t.list("b").all()] == ["one", "two"]
        assert [info.key for info in await below.list("b").all()] == ["outside", "team/one", "team/two"]
        assert await t.delete_many("b", ["one", "two"]) == 2
        assert [info.key for info in await below.list("b").all()] == ["outside"]


async def test_inner_layers_see_the_arguments_that_outer_layers_changed() -> None:
    seen: list[Operation] = []
    mock = MockDriver(head=INFO)
    async with trove_async.open(mock, layers=[lambda driver: Announce(driver, seen), TeamKeys]) as t:
        await t.head("b", "k")
    assert [(operation.key, operation.arguments["key"]) for operation in seen] == [("team/k", "team/k")]
    assert mock.calls_to("head")[0].arguments["key"] == "team/k"


async def test_layers_share_an_operation_until_one_of_them_changes_its_arguments() -> None:
    inside: list[Operation] = []
    outside: list[Operation] = []
    driver = Announce(Announce(TeamKeys(Announce(Announce(MockDriver(head=INFO), inside), inside)), outside), outside)
    await driver.head("b", "k", HeadOptions())
    assert [operation.key for operation in (*outside, *inside)] == ["k", "k", "team/k", "team/k"]
    assert outside[0] is outside[1]
    assert inside[0] is inside[1]


async def test_a_layer_that_overrides_a_method_is_asked_by_the_layers_around_it() -> None:
    class Missing(Plain):
        async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
            raise ObjectNotFoundError(f"no {key}")

    mock = MockDriver(delete=None)
    driver = Announce(Plain(Missing(Plain(mock))), [])
    with pytest.raises(ObjectNotFoundError, match="no k"):
        await driver.head("b", "k", HeadOptions())
    await driver.delete("b", "k", DeleteOptions())
    assert [call.name for call in mock.calls] == ["delete"]


async def test_an_operation_may_be_called_again() -> None:
    class Again(LayerDriver):
        async def around(self, operation: Operation, call: Call[R]) -> R:
            await call()
            return await call(key="other")

    mock = MockDriver(head=INFO)
    await Again(mock).head("b", "k", HeadOptions())
    assert [call.arguments["key"] for call in mock.calls] == ["k", "other"]


async def test_changing_an_unknown_parameter_is_refused() -> None:
    class Wrong(LayerDriver):
        async def around(self, operation: Operation, call: Call[R]) -> R:
            return await call(name="k")

    with pytest.raises(TypeError, match=r"head\(\) has no parameter 'name'; it has bucket, key, options"):
        await Wrong(MockDriver(head=INFO)).head("b", "k", HeadOptions())


async def test_arguments_may_be_given_by_name_or_omitted_as_in_the_contract() -> None:
    mock = MockDriver(capabilities=[MultipartDriver], list_multipart_uploads=[], head=INFO)
    layer: Any = Plain(mock)
    await layer.list_multipart_uploads("b")
    await layer.head("b", options=HeadOptions(), key="k")
    assert [dict(call.arguments) for call in mock.calls] == [
        {"bucket": "b", "prefix": ""},
        {"bucket": "b", "key": "k", "options": HeadOptions()},
    ]
    with pytest.raises(TypeError, match=r"head\(\): missing a required argument: 'options'"):
        await layer.head("b", "k")


# Watch


EVENTS = [ObjectEvent(EventType.CREATED, "b", key) for key in ("x", "y")]


async def test_around_can_refuse_a_watch_before_the_driver_is_called() -> None:
    class Refusing(LayerDriver):
        async def around(self, operation: Operation, call: Call[R]) -> R:
            raise AccessDeniedError(f"no {operation.name} here")

    mock = MockDriver(watch=EVENTS)
    async with trove_async.open(mock, layers=[Refusing]) as t:
        with pytest.raises(AccessDeniedError, match="no watch here"):
            async with t.watch("b"):
                pass
    assert mock.calls_to("watch") == []


async def test_around_has_ended_before_the_first_event_arrives() -> None:
    seen: list[str] = []

    class Noting(LayerDriver):
        async def around(self, operation: Operation, call: Call[R]) -> R:
            seen.append("begin")
            result = await call()
            seen.append("end")
            return result

    async with trove_async.open(MockDriver(watch=EVENTS), layers=[Noting]) as t, t.watch("b") as events:
        assert (await anext(events)).key == "x"
        assert seen == ["begin", "end"]


async def test_a_layer_can_transform_events_and_its_generator_is_closed() -> None:
    closed: list[str] = []

    class Doubling(LayerDriver):
        async def around(self, operation: Operation, call: Call[R]) -> R:
            return cast(R, self.doubled(cast(AsyncGenerator[ObjectEvent, None], await call())))

        async def doubled(self, events: AsyncGenerator[ObjectEvent, None]) -> AsyncGenerator[ObjectEvent, None]:
            try:
                async with aclosing(events):
                    async for event in events:
                        yield event
                        yield event
            finally:
                closed.append("layer")

    async def watch(bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        options.on_ready()
        try:
            for event in EVENTS:
                yield event
            await asyncio.Event().wait()
        finally:
            closed.append("driver")

    async with trove_async.open(MockDriver(watch=watch), layers=[Plain, Doubling, Plain]) as t:
        async with t.watch("b") as events:
            assert [(await anext(events)).key for _ in range(3)] == ["x", "x", "y"]
        assert closed == ["driver", "layer"]


async def test_cancelling_a_watch_that_waits_inside_around_leaves_nothing() -> None:
    waiting = asyncio.Event()

    class Waiting(LayerDriver):
        async def around(self, operation: Operation, call: Call[R]) -> R:
            waiting.set()
            await asyncio.Event().wait()
            return await call()

    mock = MockDriver(watch=EVENTS)
    async with trove_async.open(mock, layers=[Waiting]) as t:
        events = t.watch("b")
        task = asyncio.create_task(events.__aenter__())
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}
    assert mock.calls_to("watch") == []


# Start, close and removed features of layers


def recording(name: str, seen: list[str], *, fails: bool = False) -> Layer:
    class Recording(LayerDriver):
        async def start(self) -> None:
            seen.append(f"start {name}")
            if fails:
                raise UnavailableError("not today")

        async def close(self) -> None:
            seen.append(f"close {name}")
            await super().close()

    return Recording


async def test_layers_are_started_from_the_inside_and_closed_from_the_outside() -> None:
    seen: list[str] = []
    mock = MockDriver()
    async with trove_async.open(mock, layers=[recording("inner", seen), recording("outer", seen)]):
        assert seen == ["start inner", "start outer"]
    assert seen[2:] == ["close outer", "close inner"]
    assert [call.name for call in mock.calls] == ["close"]


async def test_if_a_layer_cannot_start_the_started_ones_are_closed() -> None:
    seen: list[str] = []
    mock = MockDriver()
    layers = [recording("inner", seen), recording("middle", seen, fails=True), recording("outer", seen)]
    with pytest.raises(UnavailableError, match="not today") as caught:
        await trove_async.open(mock, layers=layers)
    assert caught.value.operation == "open"
    assert seen == ["start inner", "start middle", "close middle", "close inner"]
    assert [call.name for call in mock.calls] == ["close"]


async def test_a_layer_that_is_registered_as_a_driver_is_started_when_it_is_opened() -> None:
    seen: list[str] = []
    layer = recording("only", seen)(MockDriver())
    await layer.open(parse_dsn("mock://"), OpenOptions())
    assert seen == ["start only"]


class CreatesOnly(LayerDriver):
    """A layer that removes a condition and a method of signed URLs."""

    drops = {"put_if_match": "objects are never replaced", "PUT": "a signed PUT could replace an object"}  # noqa: RUF012


async def test_a_removed_condition_or_presign_method_is_refused_with_the_reason() -> None:
    mock = MockDriver(capabilities=[PresignDriver], presign_get="url", put=INFO)
    async with trove_async.open(mock, layers=[CreatesOnly]) as t:
        assert t.supports(PresignDriver)
        assert t.supports("put_if_none_match")
        assert not t.supports("put_if_match")
        assert await t.presign_get("b", "k") == "url"
        with pytest.raises(UnsupportedError, match="cannot sign PUT: a signed PUT could replace an object"):
            await t.presign_put("b", "k")
        with pytest.raises(
            UnsupportedError, match="'put_if_match', and does not ignore it: objects are never replaced"
        ):
            await t.put("b", "k", b"", if_match="e")
    async with trove_async.open(MockDriver(capabilities=CAPABILITIES), layers=[Opaque]) as t:
        with pytest.raises(UnsupportedError, match="no presign support: the bytes would bypass the layer"):
            await t.presign_get("b", "k")
