"""A container for the test, and proxies in front of the server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.azure.stores import address, scratch
from trove_async.testing.answers import AnsweringProxy
from trove_async.testing.proxy import FaultProxy

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
