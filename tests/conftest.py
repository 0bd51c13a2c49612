"""What the tests of several packages share."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Final

import pytest

from tests.loops import pytest_asyncio_loop_factories
from trove_async.driver import retry as retry_module

__all__ = ["delays", "no_network_settings", "pytest_asyncio_loop_factories"]

_NETWORK: Final = ("_proxy", "_ca_bundle", "aws_endpoint_url")


@pytest.fixture(autouse=True)
def no_network_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove what the environment says about the network: tests reach their own servers."""
    for name in list(os.environ):
        if any(part in name.lower() for part in _NETWORK):
            monkeypatch.delenv(name)


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Have no attempt of a request over HTTP wait, and keep what each would have waited."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(retry_module, "asyncio", SimpleNamespace(sleep=sleep))
    return waited
