"""Fixtures and options that several test packages share: the choice of tests, and their event loop."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

from tests.parts import PartTimes
from trove_async.driver import retry as retry_module
from trove_async.testing.conformance.table import check_id

_NETWORK: Final = ("_proxy", "_ca_bundle", "aws_endpoint_url")


@pytest.fixture(autouse=True)
def no_network_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the network settings of the environment: tests reach their own servers."""
    for name in list(os.environ):
        if any(part in name.lower() for part in _NETWORK):
            monkeypatch.delenv(name)


def _uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


LOOPS: Final[Mapping[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": _uvloop,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--trove-loop", choices=[*LOOPS], default="asyncio", help="the event loop of async tests")


@pytest.hookimpl(tryfirst=True)  # before pytest-timeout reads its option
def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("trove_long") and config.option.timeout is None:
        config.option.timeout = 1800  # some tests repeat for minutes what takes seconds in an ordinary run
    config.addinivalue_line("markers", "long(but=()): runs with --trove-long, except for the checks with these ids")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(PartTimes(), "part-times")


# A busy machine must not fail a test.
settings.register_profile("trove", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("trove")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run a test on the loop of this run, or on both if it is marked ``every_loop``.

    ``pytest.mark.asyncio(loop_factories=[...])`` names others.
    """
    if item.get_closest_marker("every_loop") is not None:
        return LOOPS
    mark = item.get_closest_marker("asyncio")
    named = mark.kwargs.get("loop_factories") if mark is not None else None
    return {name: LOOPS[name] for name in named or [config.getoption("trove_loop")]}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests that only a long run repeats."""
    if config.getoption("trove_long"):
        return
    left_out = [item for item in items if _is_long(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not _is_long(item)]


def pytest_collection_finish() -> None:
    """Exempt what the collected tests consist of from garbage collection.

    It is half a million objects, which each of the hundreds of full collections in tests would visit.
    """
    gc.collect()
    gc.freeze()


def _is_long(item: pytest.Item) -> bool:
    mark = item.get_closest_marker("long")
    if mark is None:
        return False
    checks = mark.kwargs.get("but", ())
    return not (checks and check_id(item.name) in checks)


@pytest.fixture
def await_point_step(request: pytest.FixtureRequest) -> int:
    """Return 1 in a long run, which cancels at every await point on servers; otherwise 5, for every fifth."""
    return 1 if request.config.getoption("trove_long") else 5


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let no retry of an HTTP request wait, and record the delays."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(retry_module, "asyncio", SimpleNamespace(sleep=sleep))
    return waited
