"""Locks between processes: take-overs, and what a process that is killed leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.uploads.lockers.victim import locker_of
from trove_async.uploads import Locker
from trove_async.uploads.lockers import shared

pytestmark = pytest.mark.asyncio

REPOSITORY = Path(__file__).parents[3]


class Victim:
    """A process of `tests.uploads.lockers.victim`; it is killed at the end of the context."""

    def __init__(self, what: str, kind: str, where: str, file: str = "") -> None:
        self._command = [sys.executable, "-m", "tests.uploads.lockers.victim", what, kind, where, file]

    async def __aenter__(self) -> Victim:
        self.process = await asyncio.create_subprocess_exec(
            *self._command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        assert self.process.stdin is not None
        self.process.stdin.close()
        await self.process.communicate()

    async def line(self) -> str:
        """Return the next line that it prints; an empty one if it has ended."""
        assert self.process.stdout is not None
        return (await self.process.stdout.readline()).decode().strip()

    async def go_on(self) -> None:
        """Let it take the lock again."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        await self.process.stdin.drain()


@pytest.fixture(params=["files", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def where(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "locks") if kind == "files" else str(request.getfixturevalue("postgres_url"))


@pytest_asyncio.fixture
async def locker(kind: str, where: str) -> AsyncIterator[Locker]:
    locker = locker_of(kind, where)
    yield locker
    await locker.aclose()


@pytest.fixture
def only_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody try again without a message."""
    monkeypatch.setattr(shared, "_AGAIN", 3600)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let those that wait try again often."""
    monkeypatch.setattr(shared, "_AGAIN", 0.02)


@pytest.mark.usefixtures("only_messages")
async def test_processes_take_a_lock_over_from_each_other(locker: Locker, kind: str, where: str) -> None:
    async with Victim("stop", kind, where) as victim:
        assert await victim.line() == "acquired"
        for _ in range(3):
            asked = asyncio.Event()
            lock = await locker.acquire("a", asked.set)
            assert [await victim.line(), await victim.line()] == ["requested", "released"]
            await victim.go_on()
            await asked.wait()
            await lock.release()
            assert await victim.line() == "acquired"


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("what", ["hold", "fork"])
async def test_the_lock_of_a_process_that_was_killed_is_free(locker: Locker, kind: str, where: str, what: str) -> None:
    """Also if a child that it forked still lives."""
    async with Victim(what, kind, where) as victim:
        assert await victim.line() == "acquired"
        waiting = asyncio.ensure_future(locker.acquire("a", lambda: None))
        assert await victim.line() == "requested"
        assert not waiting.done()
        victim.process.kill()
        lock = await waiting
        await lock.release()
    if kind == "files":
        await (await locker.acquire("a", lambda: None)).release()
        await locker.aclose()
        left = [path.name for path in Path(where).iterdir() if not path.name.endswith(".socket")]
        assert left == []


@pytest.mark.usefixtures("often")
async def test_processes_count_together(locker: Locker, kind: str, where: str, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    async with Victim("count", kind, where, str(counter)) as one, Victim("count", kind, where, str(counter)) as two:
        assert {await one.process.wait(), await two.process.wait()} == {0}
    assert counter.read_text() == "30"
