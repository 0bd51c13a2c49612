"""A container of the test's own, and what can be put before the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
import pytest_asyncio

from tests.azure.stores import address, scratch
from trove_async.testing.answers import AnsweringProxy
from trove_async.testing.proxy import FaultProxy
from trove_async.wire import client as client_module

_VARIABLES = (
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_ACCOUNT",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
)


@pytest.fixture(autouse=True)
def _no_credentials_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest_asyncio.fixture
async def bucket() -> AsyncIterator[str]:
    async with scratch() as name:
        yield name


@pytest_asyncio.fixture
async def network() -> AsyncIterator[FaultProxy]:
    async with FaultProxy(*address(), transcript=4096) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def service() -> AsyncIterator[AnsweringProxy]:
    async with AnsweringProxy(*address()) as proxy:
        yield proxy


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Have no attempt wait, and keep what each would have waited."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(client_module, "asyncio", SimpleNamespace(sleep=sleep))
    return waited
