"""What tests of several rooms are given."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from trove_async.driver import retry as retry_module


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Have no attempt of a request over HTTP wait, and keep what each would have waited."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(retry_module, "asyncio", SimpleNamespace(sleep=sleep))
    return waited
