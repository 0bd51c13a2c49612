from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from itertools import combinations
from typing import Any, TypeVar

import pytest

import trove_async
from trove_async.driver import (
    CAPABILITIES,
    Driver,
    Features,
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
from trove_async.driver.options import PresignOptions
from trove_async.errors import UnsupportedError
from trove_async.layers import LayerDriver, Limit, Observe, Operation
from trove_async.testing.faults import Faults
from trove_async.testing.mock import MockDriver
from trove_async.types import DeleteResult, ObjectInfo

pytestmark = pytest.mark.asyncio

R = TypeVar("R")
Layer = Callable[[Driver], Driver]

LAYERS: dict[str, Layer] = {"limit": Limit(3), "observe": Observe(lambda _: None), "faults": Faults()}
SETS = [(), (RangeDriver,), (NotificationDriver, TaggingDriver), (MultipartDriver, VersioningDriver), CAPABILITIES]


class Plain(LayerDriver):
    """A layer that changes nothing."""


class Announce(LayerDriver):
    """A layer that notes every operation."""

    def __init__(self, inner: Driver, seen: list[Operation]) -> None:
        super().__init__(inner)
        self.seen = seen

    async def around(self, operation: Operation, call: Callable[[], Awaitable[R]]) -> R:
        self.seen.append(operation)
        return await call()


class Opaque(LayerDriver):
    """A layer that signs nothing, and copies nothing on the server."""

    drops = {PresignDriver: "the bytes would bypass the layer", ServerCopyDriver: "so they would"}  # noqa: RUF012


class SignsItself(LayerDriver):
    """A layer that overrides one method of a capability."""

    async def presign_get(self, bucket: str, key: str, options: PresignOptions) -> str:
        return f"mine:{key}"


def implemented(driver: Driver) -> set[type]:
    return {capability for capability in CAPABILITIES if isinstance(driver, capability)}


@pytest.mark.parametrize("capabilities", SETS)
@pytest.mark.parametrize("layer", [*LAYERS.values(), Plain, SignsItself])
async def test_a_layer_has_just_the_capabilities_of_what_it_wraps(layer: Layer, capabilities: tuple[type, ...]) -> None:
    inner = MockDriver(capabilities=capabilities)
    assert implemented(inner) == capabilities_of(inner) >= set(capabilities)
    wrapped = layer(inner)
    assert implemented(wrapped) == capabilities_of(wrapped) == implemented(inner)
    assert wrapped.features == inner.features
    for capability in set(CAPABILITIES) - implemented(inner):
        for method in methods_of(capability) - frozenset().union(*(methods_of(c) for c in implemented(inner))):
            assert getattr(wrapped, method, None) is None


@pytest.mark.parametrize("order", [list(LAYERS), list(reversed(LAYERS))])
async def test_a_stack_has_the_capabilities_of_what_is_beneath(order: list[str]) -> None:
    inner = MockDriver(capabilities=(MultipartDriver, NotificationDriver))
    driver: Driver = inner
    for name in order:
        driver = LAYERS[name](driver)
    assert implemented(driver) == {MultipartDriver, NotificationDriver}
    assert driver.name == "mock"
    assert unwrap(driver, MockDriver) is inner


async def test_what_a_layer_drops_is_gone_from_class_and_features() -> None:
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


async def test_classes_are_composed_once_for_each_layer_and_set() -> None:
    one, same, other = (Plain(MockDriver(capabilities=c)) for c in ((RangeDriver,), (RangeDriver,), ()))
    assert type(one) is type(same) is not type(other)
    assert isinstance(one, Plain)
    assert isinstance(other, Plain)
    assert type(one).__name__ == "Plain"
    assert repr(one).startswith("<Plain around")


async def test_unwrap_walks_down_and_says_what_it_did_not_find() -> None:
    inner = MockDriver()
    wrapped = Plain(Opaque(inner))
    assert unwrap(wrapped, Opaque) is wrapped.unwrap()
    assert inner.unwrap() is None
    with pytest.raises(UnsupportedError, match="no SignsItself"):
        unwrap(wrapped, SignsItself)


INFO = ObjectInfo("k", 1, "e")


async def test_every_operation_passes_through_around_under_its_own_name() -> None:
    seen: list[Operation] = []
    names = {name for capability in CAPABILITIES for name in methods_of(capability)}
    names |= {
        "ping",
        "put",
        "get",
        "head",
        "delete",
        "copy",
        "list_page",
        "create_bucket",
        "delete_bucket",
        "list_buckets",
    }
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


async def call_with_names(driver: Driver, name: str) -> None:
    """Call a method with arguments that are their own names, so that none can take another's place."""
    arguments: list[object] = []
    for parameter in inspect.signature(getattr(driver, name)).parameters:
        match parameter:
            case "body":
                arguments.append(trove_async.Body(b"x"))
            case "src" | "dst":
                arguments.append(trove_async.ObjectRef(f"{parameter}_bucket", f"{parameter}_key"))
            case _:
                arguments.append(parameter)
    await getattr(driver, name)(*arguments)


async def test_arguments_arrive_in_their_places() -> None:
    mock = MockDriver(capabilities=CAPABILITIES, copy=INFO, complete_multipart=INFO, delete_many=[DeleteResult("k")])
    layer = Plain(mock)
    await call_with_names(layer, "copy")
    await call_with_names(layer, "complete_multipart")
    await call_with_names(layer, "delete_many")
    for call in mock.calls:
        assert {name: value for name, value in call.arguments.items() if name != value} == {}


async def test_opening_closing_and_checks_are_the_inner_drivers() -> None:
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


async def test_layers_are_put_around_the_driver_from_the_inside_out() -> None:
    seen: list[str] = []

    def named(name: str) -> Layer:
        class Named(LayerDriver):
            async def around(self, operation: Operation, call: Callable[[], Awaitable[R]]) -> R:
                seen.append(name)
                return await call()

        return Named

    async with trove_async.open(MockDriver(head=INFO), layers=[named("inner"), named("outer")]) as t:
        await t.head("b", "k")
    assert seen == ["outer", "inner"]


async def test_features_that_a_server_lacks_stay_lacking() -> None:
    mock = MockDriver(capabilities=CAPABILITIES, features=Features())
    for layer in LAYERS.values():
        assert layer(mock).features == Features()


@pytest.mark.parametrize("chosen", [c for n in (1, 2) for c in combinations(CAPABILITIES, n)])
async def test_any_set_of_capabilities_survives_both_layers(chosen: Sequence[type]) -> None:
    inner = MockDriver(capabilities=chosen)
    wrapped = Limit(1)(Observe(lambda _: None)(inner))
    assert implemented(wrapped) == implemented(inner)
