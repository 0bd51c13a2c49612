"""Checks B: what is declared is implemented and works; what is not declared does not work."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest

from trove_async.driver import CAPABILITIES, Condition, Driver, capabilities_of
from trove_async.errors import UnsupportedError
from trove_async.layers import LayerDriver, ReadOnly
from trove_async.store import Trove
from trove_async.testing.conformance.context import Context
from trove_async.testing.conformance.counting import CallCounter, bare
from trove_async.testing.conformance.probes import CAPABILITY_CALLS, CAPABILITY_PROBES, CONDITION_PROBES, Call, works
from trove_async.testing.conformance.stacks import LAYERS, Layer

__all__ = ["CapabilityChecks"]


class CapabilityChecks:
    """B1 to B3."""

    async def test_b01_what_is_declared_is_implemented(self, ctx: Context) -> None:
        driver = ctx.store.driver
        for capability in CAPABILITIES:
            declared = capability in driver.features.protocols
            assert not declared or isinstance(driver, capability), f"{capability.__name__} is declared, not implemented"
            assert isinstance(driver, capability) == (capability in capabilities_of(driver))
            assert ctx.store.supports(capability) == declared

    @pytest.mark.parametrize("capability", CAPABILITIES, ids=lambda capability: capability.__name__)
    async def test_b01_declared_if_it_works(self, ctx: Context, capability: type) -> None:
        driver = ctx.store.driver
        if ctx.store.supports(capability):
            await CAPABILITY_PROBES[capability](driver, ctx.bucket)
        elif isinstance(driver, capability):
            assert not await works(CAPABILITY_PROBES[capability], driver, ctx.bucket), "it works and is not declared"

    @pytest.mark.parametrize("condition", CONDITION_PROBES)
    async def test_b01_condition_declared_if_it_works(self, ctx: Context, condition: Condition) -> None:
        driver = ctx.store.driver
        if ctx.store.supports(condition):
            await CONDITION_PROBES[condition](driver, ctx.bucket)
        else:
            assert not await works(CONDITION_PROBES[condition], driver, ctx.bucket), "it works and is not declared"

    async def test_b02_layers_keep_capabilities(self, ctx: Context) -> None:
        inner = ctx.store.driver
        layers: dict[str, Layer] = {**LAYERS, "read_only": ReadOnly()}
        for name, layer in layers.items():
            outer = layer(inner)
            assert isinstance(outer, LayerDriver)
            assert capabilities_of(outer) == capabilities_of(inner) - set(outer.drops), name
            assert outer.features.protocols == inner.features.protocols - set(outer.drops), name
            assert all(reason for reason in outer.drops.values()), name
            assert {c for c in CAPABILITIES if isinstance(outer, c)} == capabilities_of(outer), name
            limits = outer.features.limits
            assert limits.max_key_size <= inner.features.limits.max_key_size, name
            assert replace(limits, max_key_size=inner.features.limits.max_key_size) == inner.features.limits
            inside: Driver | None = outer
            while inside is not None and inside is not inner:  # a layer may consist of several
                inside = inside.unwrap()
            assert (outer.name, inside) == (inner.name, inner), name

    async def test_b02_layers_invent_nothing(self, ctx: Context) -> None:
        inner = bare(ctx.store.driver)
        for name, layer in LAYERS.items():
            outer = layer(inner)
            assert capabilities_of(outer) == frozenset(), name
            assert [c for c in CAPABILITIES if isinstance(outer, c)] == [], name
            assert outer.features.protocols == frozenset(), name
            assert outer.features.conditions == frozenset(), name

    async def test_b03_unsupported_before_io(self, ctx: Context) -> None:
        """Calls that need something undeclared are refused, also by a store without any optional feature."""
        undeclared = {capability for capability in CAPABILITIES if not ctx.store.supports(capability)}
        await _assert_unsupported(ctx, await ctx.reopen(counter := CallCounter()), counter, undeclared)
        await _assert_unsupported(ctx, await ctx.reopen(bare, counter := CallCounter()), counter, {*CAPABILITIES})

    async def test_b03_presign_methods(self, ctx: Context) -> None:
        store = await ctx.reopen(counter := CallCounter())
        for method in {"GET", "PUT", "HEAD", "DELETE"} - store.features.presign_methods:
            with pytest.raises(UnsupportedError):
                await getattr(store, f"presign_{method.lower()}")(ctx.bucket, "key")
        assert counter.calls == []


async def _assert_unsupported(ctx: Context, store: Trove, counter: CallCounter, capabilities: set[type]) -> None:
    for capability in capabilities:
        for name, call in CAPABILITY_CALLS[capability].items():
            with pytest.raises(UnsupportedError) as raised:
                await _make(call, store, ctx.bucket)
            assert (raised.value.operation, raised.value.driver) == (name, store.driver.name)
    assert counter.calls == []


async def _make(call: Call, store: Trove, bucket: str) -> None:
    made = call(store, bucket)  # watch() raises here, the others when they are awaited
    if inspect.isawaitable(made):
        await made
