"""Local file systems on which two keys would be one object."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import trove_async as trove

pytestmark = pytest.mark.asyncio


def folding(path: str) -> bool:
    """Return whether a name exists, as a file system does that does not distinguish case."""
    directory, name = os.path.split(path)
    return name.lower() in map(str.lower, os.listdir(directory))


async def test_a_file_system_that_does_not_distinguish_case_is_refused_unless_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trove.open(f"local://{tmp_path}") as store:
        assert await store.list_buckets() == []
    monkeypatch.setattr("trove_async.drivers.local.opening.os.path.lexists", folding)
    with pytest.raises(trove.UnsupportedError, match=r"case.*merge_names=1"):
        await trove.open(f"local://{tmp_path}")
    async with trove.open(f"local://{tmp_path}", merge_names=True) as store:
        await store.create_bucket("bucket")
    assert not list((tmp_path / ".trove/tmp").iterdir())
