"""The key with which a local root signs URLs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import trove_async as trove
from tests.drivers.odd_file_systems import no_links
from trove_async.errors import AccessDeniedError, BackendError

pytestmark = pytest.mark.asyncio

BASE = "http://localhost/x"


def key_of(root: Path) -> Path:
    return root / ".trove/presign.key"


async def signed(root: Path) -> str:
    async with trove.open(f"local://{root}", presign_url=BASE) as store:
        return (await store.presign_get("b", "k", expires=300)).partition("signature=")[0]


@pytest.mark.parametrize("links", [True, False])
async def test_the_key_is_made_once(tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:
        no_links(monkeypatch)
    await signed(tmp_path)
    key = key_of(tmp_path).read_bytes()
    assert len(key) == 32
    assert key_of(tmp_path).stat().st_mode & 0o777 == 0o600
    await signed(tmp_path)
    assert key_of(tmp_path).read_bytes() == key
    assert [name for name in os.listdir(tmp_path / ".trove") if name.startswith("presign")] == ["presign.key"]


async def test_the_group_that_shares_the_root_shares_the_key(tmp_path: Path) -> None:
    tmp_path.chmod(0o2775)
    await signed(tmp_path)
    status = key_of(tmp_path).stat()
    assert status.st_mode & 0o777 == 0o660
    assert status.st_gid == tmp_path.stat().st_gid


@pytest.mark.parametrize(("content", "mode", "error", "said"), [
    (b"", 0o600, BackendError, "has 0 bytes"),
    (b"short", 0o600, BackendError, "has 5 bytes"),
    (b"k" * 32, 0o666, AccessDeniedError, "every user can"),
    (b"k" * 32, 0o604, AccessDeniedError, "every user can"),
])  # fmt: skip
async def test_what_is_no_secret_key_is_refused(
    tmp_path: Path, content: bytes, mode: int, error: type[Exception], said: str
) -> None:
    (tmp_path / ".trove").mkdir()
    key_of(tmp_path).write_bytes(content)
    key_of(tmp_path).chmod(mode)
    with pytest.raises(error, match=said):
        await signed(tmp_path)
