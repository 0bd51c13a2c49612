"""A MemoryLocker refuses a second process."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.uploads.lockers.forking import in_child
from trove_async.errors import AccessDeniedError, ForkedError, InvalidArgumentError
from trove_async.uploads import MemoryLocker

CLAIM = """
import sys
from trove_async.uploads import MemoryLocker
locker = MemoryLocker()
locker.claim(sys.argv[1])
print("claimed", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@pytest.mark.asyncio
async def test_one_locker_claims_a_name_until_it_is_closed() -> None:
    first, second = MemoryLocker(), MemoryLocker()
    first.claim("local:///srv uploads/.trove-uploads")
    first.claim("local:///srv uploads/.trove-uploads")
    second.claim("local:///srv others")
    with pytest.raises(InvalidArgumentError, match=r"use one worker, .* FileLocker .* PostgresLocker"):
        second.claim("local:///srv uploads/.trove-uploads")
    await first.aclose()
    second.claim("local:///srv uploads/.trove-uploads")
    await second.aclose()


def test_a_claim_ends_with_its_process(folder: Path) -> None:
    command = [sys.executable, "-c", CLAIM, "a"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "claimed\n"
        locker = MemoryLocker()
        with pytest.raises(InvalidArgumentError, match="another process"):
            locker.claim("a")
        process.kill()
        process.wait()
        locker.claim("a")
        assert (folder / f"trove-async-{os.getuid()}").stat().st_mode & 0o777 == 0o700
        asyncio.run(locker.aclose())


@pytest.mark.asyncio
async def test_a_forked_child_refuses_a_locker_that_was_used_and_leaves_its_claims() -> None:
    locker = MemoryLocker()
    locker.claim("a")
    unused = MemoryLocker()

    def child() -> int:
        with pytest.raises(ForkedError):
            locker.claim("b")
        with pytest.raises(InvalidArgumentError):
            unused.claim("a")
        return 7

    assert await in_child(child) == 7
    with pytest.raises(InvalidArgumentError):
        unused.claim("a")
    await locker.aclose()
    unused.claim("a")
    await unused.aclose()


@pytest.mark.asyncio
async def test_a_folder_that_leads_elsewhere_is_refused(folder: Path) -> None:
    (folder / f"trove-async-{os.getuid()}").symlink_to(folder)
    with pytest.raises(AccessDeniedError, match="TMPDIR"):
        MemoryLocker().claim("a")


def test_a_locker_that_is_not_closed_warns_and_drops_its_claims() -> None:
    locker: MemoryLocker | None = MemoryLocker()
    assert locker is not None
    locker.claim("a")
    with pytest.warns(ResourceWarning, match="unclosed MemoryLocker"):  # noqa: PT031
        locker = None
        gc.collect()
    locker = MemoryLocker()
    locker.claim("a")
    asyncio.run(locker.aclose())
