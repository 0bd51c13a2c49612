"""Fixtures that the tests of several packages use."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from trove_async.driver import retry as retry_module


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let no attempt wait, and keep the seconds that each would have waited."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(retry_module, "asyncio", SimpleNamespace(sleep=sleep))
    return waited
