"""Layers, and arguments of layers, of a wrong type: each is refused at once, with an error that says what to write."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

import trove_async as trove
from trove_async.driver import Driver
from trove_async.errors import InvalidArgumentError, InvalidDSNError
from trove_async.layers import LayerDriver
from trove_async.testing.mock import MockDriver


async def _async_hook(_event: object) -> None: ...


@pytest.mark.parametrize(
    ("layers", "expected_message"),
    [
        (trove.Retry(), r"a list of layers, such as layers=\[Limit\(8\)\], not one layer"),
        ("retry", "a list of layers, .*, not 'retry'"),
        (None, "a list of layers, .*, not None"),
        (8, "a list of layers, .*, not 8"),
        (["retry"], "called with a driver and returns a driver; 'retry' does not"),
        ([None], "called with a driver and returns a driver; None does not"),
        ([trove.Retry], r"Retry in layers is a class; write Retry\(…\)"),
        ([trove.ReadOnly], r"ReadOnly in layers is a class; write ReadOnly\(…\)"),
        ([trove.Limit(8), trove.OpenTelemetry], r"OpenTelemetry in layers is a class; write OpenTelemetry\(…\)"),
    ],
)
def test_what_is_no_list_of_layers(tmp_path: Path, layers: Any, expected_message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^open: .*{expected_message}"):
        trove.open(f"local://{tmp_path}", layers=layers)
    assert list(tmp_path.iterdir()) == []


class OwnLayer(LayerDriver):
    """A layer that a user has written."""


class OwnRetry(trove.Retry):
    """Tries again by the rules of a user."""


@pytest.mark.parametrize(
    ("layers", "expected_message"),
    [
        ([trove.Retry(), trove.Limit(8)], r"Limit must not be around Retry: .*; put Limit before Retry in layers="),
        ([trove.Retry(), trove.Limit(bytes=8)], "Limit must not be around Retry"),
        ([trove.Retry(), trove.Hedge()], r"Hedge must not be around Retry: .*; put Hedge before Retry in layers="),
        ([trove.Retry(), trove.Retry()], "Retry must not be around Retry: .*; leave one Retry out"),
        ([trove.Hedge(), trove.Hedge()], "Hedge must not be around Hedge: .*; leave one Hedge out"),
        ([trove.Retry(), OwnLayer, lambda driver: driver, trove.Limit(8)], "Limit must not be around Retry"),
        ([OwnRetry(), trove.Hedge()], "Hedge must not be around Retry"),
        ([trove.Prefixed("a/"), trove.Cache()], "Cache must not be around Prefixed"),
    ],
)
def test_an_order_that_cannot_work_is_refused_before_anything_is_opened(
    tmp_path: Path, layers: Any, expected_message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^open: {expected_message}"):
        trove.open(f"local://{tmp_path}/new", layers=layers)
    with pytest.raises(InvalidArgumentError, match=expected_message):
        trove.Member(f"local://{tmp_path}/new", layers=layers)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.asyncio
async def test_the_order_of_layers_that_functions_or_users_have_put_around_a_driver_is_checked_too() -> None:
    driver = MockDriver()
    with pytest.raises(InvalidArgumentError, match=r"open: Hedge must not be around Retry"):
        await trove.open(trove.Retry()(driver), layers=[trove.Hedge()])
    with pytest.raises(InvalidArgumentError, match=r"open: Hedge must not be around Retry"):
        await trove.open("memory://", layers=[lambda driver: trove.Retry()(driver), trove.Hedge()])


@pytest.mark.asyncio
async def test_layers_of_users_are_refused_in_no_order() -> None:
    class Named:
        """A layer object of a user, with attributes that mean something else."""

        layer_name = "Retry"
        never_around = "anything"

        def __call__(self, driver: Driver) -> Driver:
            return OwnLayer(driver)

    async with trove.open("memory://", layers=[Named(), OwnLayer, trove.Limit(8), Named(), OwnLayer]) as t:
        assert isinstance(t.driver, OwnLayer)


@pytest.mark.asyncio
async def test_what_makes_no_layer() -> None:
    with pytest.raises(InvalidArgumentError, match="returns a driver; <function"):
        await trove.open("memory://", layers=[cast(Any, lambda _driver: None)])
    with pytest.raises(InvalidArgumentError, match=r"logger is a logging.Logger, as in getLogger"):
        await trove.open("memory://", layers=[trove.log_operations])  # type: ignore[list-item]


@pytest.mark.asyncio
async def test_classes_of_layers_and_layers_that_come_once_are_taken() -> None:
    async with trove.open("memory://", layers=(layer for layer in (LayerDriver, trove.Limit(1)))) as t:
        assert isinstance(t.driver.unwrap(), LayerDriver)


@pytest.mark.parametrize(
    ("make", "arguments", "expected_message"),
    [
        (trove.Limit, {"concurrency": True}, r"Limit\(8\), not True"),
        (trove.Timeout, {"attempt": True}, "attempt is a number of seconds, more than 0, not True"),
        (trove.Retry, {"attempts": True}, r"Retry\(attempts=4\), not True"),
        (trove.Retry, {"budget": 3}, r"budget is a Budget, as in Retry\(budget=Budget\(10\)\), or None, not 3"),
        (trove.Retry, {"budget": trove.Budget}, "budget is a Budget"),
        (
            trove.Retry,
            {"transport": (1, 20)},
            r"transport is a Backoff, as in Retry\(transport=Backoff\(0.05, 20.0\)\)",
        ),
        (trove.Retry, {"throttled": 1}, r"throttled is a Backoff, .*Backoff\(1.0, 60.0\)\), not 1"),
        (trove.Budget, {"reserve": "3"}, "reserve of a retry budget is 0 or more attempts, not '3'"),
        (trove.Backoff, {"first": "1", "longest": 2}, r"as in Backoff\(0.05, 20\), not '1', 2"),
        (trove.CircuitBreaker, {"clock": 3.0}, "clock is a function that returns seconds, not 3.0"),
        (trove.CircuitBreaker, {"on_transition": 3}, "on_transition is a function of a CircuitEvent, not 3"),
        (trove.CircuitBreaker, {"on_transition": _async_hook}, "on_transition is called and not awaited"),
        (trove.Observe, {"hook": None}, "hook is a function of an Observation, not None"),
        (trove.Observe, {"hook": _async_hook}, "hook is called and not awaited"),
        (trove.log_operations, {"logger": "my.logger"}, "logger is a logging.Logger, .* not 'my.logger'"),
        (trove.log_operations, {"level": "INFO"}, "level is a number such as logging.INFO, not 'INFO'"),
        (trove.OpenTelemetry, {"tracer_provider": "x"}, r"tracer_provider is a provider .*get_tracer\(\), not 'x'"),
        (trove.OpenTelemetry, {"meter_provider": 3}, r"meter_provider is a provider .*get_meter\(\), not 3"),
        (trove.Prometheus, {"registry": "x"}, "registry is a CollectorRegistry of prometheus_client, not 'x'"),
    ],
)
def test_arguments_of_layers(make: Callable[..., object], arguments: dict[str, Any], expected_message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=expected_message):
        make(**arguments)


def test_loggers_that_wrap_others_are_taken() -> None:
    trove.log_operations(logging.LoggerAdapter(logging.getLogger("a"), {}))  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_misspelt_arguments_of_open() -> None:
    with pytest.raises(InvalidDSNError, match=r"no parameter 'layer' \(is it 'layers'\?\)"):
        await trove.open("memory://", layer=[trove.Limit(8)])
    with pytest.raises(InvalidDSNError, match=r"no parameter 'layer'; it has"):
        await trove.open("memory://?layer=1")


@pytest.mark.asyncio
async def test_unwrap_takes_a_driver() -> None:
    async with trove.open("memory://") as t:
        with pytest.raises(InvalidArgumentError, match=r"takes a driver, such as t\.driver .*, not <Trove memory>"):
            trove.unwrap(t, LayerDriver)  # type: ignore[arg-type]
