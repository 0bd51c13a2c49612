from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.database.conftest import postgres, postgres_url  # noqa: F401 - fixtures
from trove_async.uploads import FileLocker, Locker, MemoryLocker, PostgresLocker

KINDS = ["memory", "files", "postgresql"]

NewLocker = Callable[..., Locker]
"""Makes a locker of the same uploads; it takes a ``timeout``."""


@pytest_asyncio.fixture(params=KINDS)
async def new_locker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[NewLocker]:
    """Lockers of each kind. Each is like one of another process, except for those in memory: there is only one."""
    lockers: list[Locker] = []

    def url() -> str:
        return str(request.getfixturevalue("postgres_url"))

    def make(**settings: float) -> Locker:
        if request.param == "memory" and lockers:
            return lockers[0]
        if request.param == "files":
            lockers.append(FileLocker(tmp_path / "locks", **settings))
        elif request.param == "postgresql":
            lockers.append(PostgresLocker(url(), **settings))
        else:
            lockers.append(MemoryLocker(**settings))
        return lockers[-1]

    yield make
    for locker in lockers:
        await locker.aclose()
