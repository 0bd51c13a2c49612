"""Control files that are empty or garbage affect what they describe, and nothing else."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import trove_async as trove
from trove_async.drivers.local import LocalDriver
from trove_async.errors import BackendError, UploadNotFoundError
from trove_async.types import VersioningStatus

pytestmark = pytest.mark.asyncio

LARGE = {"m": "x" * 60_000}
GARBAGE = [b"", b"\0" * 100, b"{", b"[]", b'"text"', b'{"versioning": "?", "key": 5}', b"\xff\xfe", b"[" * 200_000]


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[trove.Trove]:
    async with trove.open(f"local://{tmp_path}?fsync=0&min_part_size=1") as t:
        await t.create_bucket("a")
        await t.create_bucket("b")
        yield t


@pytest.fixture(params=GARBAGE, ids=lambda value: repr(value[:40]))
def garbage(request: pytest.FixtureRequest) -> bytes:
    value: bytes = request.param
    return value


async def test_damaged_settings_stop_the_writes_of_one_bucket(
    store: trove.Trove, tmp_path: Path, garbage: bytes
) -> None:
    info = await store.put("b", "k", b"data")
    path = tmp_path / ".trove/buckets/b"
    path.write_bytes(garbage)
    if garbage == b"[]":
        path.write_bytes(b'{"created_at": []}')
    assert [bucket.name for bucket in await store.list_buckets()] == ["a", "b"]
    assert await store.head("b", "k") == info
    assert await store.read("b", "k") == b"data"
    assert [found.key async for found in store.list("b")] == ["k"]
    for refused in (
        store.put("b", "k", b"new"),
        store.delete("b", "k"),
        store.get_versioning("b"),
        store.set_versioning("b", True),
        store.get_lifecycle("b"),
    ):
        with pytest.raises(BackendError, match=str(path)):
            await refused
    assert await store.read("b", "k") == b"data"
    await store.put("a", "k", b"new")
    await trove.unwrap(store.driver, LocalDriver).sweep()
    path.unlink()
    assert await store.get_versioning("b") is VersioningStatus.UNVERSIONED
    await store.put("b", "k", b"new")


@pytest.mark.parametrize("kind", ["directory", "link", "fifo"])
async def test_settings_that_are_no_file_are_damaged(store: trove.Trove, tmp_path: Path, kind: str) -> None:
    path = tmp_path / ".trove/buckets/b"
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(tmp_path / ".trove/buckets/a")
    else:
        os.mkfifo(path)
    assert [bucket.name for bucket in await store.list_buckets()] == ["a", "b"]
    with pytest.raises(BackendError, match=str(path)):
        await store.put("b", "k", b"data")


@pytest.mark.parametrize(
    "settings",
    [
        {"created_at": "2026-01-01T00:00:00"},
        {"lifecycle": [{"id": 5}]},
        {"lifecycle": [{"id": "a", "expiration_days": "7"}]},
        {"lifecycle": [{"id": "a", "expiration_days": 0}]},
        {"lifecycle": [{"id": "a", "expiration_days": 1e30}]},
        {"lifecycle": [{"id": "a", "enabled": "no", "expiration_days": 1}]},
    ],
    ids=repr,
)
async def test_settings_with_values_of_wrong_types_are_damaged(
    store: trove.Trove, tmp_path: Path, settings: object
) -> None:
    await store.put("b", "k", b"data")
    path = tmp_path / ".trove/buckets/b"
    path.write_text(json.dumps(settings))
    assert all(bucket.created_at and bucket.created_at.tzinfo for bucket in await store.list_buckets())
    for refused in (store.get_lifecycle("b"), store.apply_lifecycle("b")):
        with pytest.raises(BackendError, match=str(path)):
            await refused
    assert await store.read("b", "k") == b"data"


async def test_settings_whose_directory_becomes_a_link_are_not_taken_for_the_defaults(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    async with trove.open(f"local://{root}?fsync=0") as store:
        await store.create_bucket("b")
        await store.set_versioning("b", True)
        for body in (b"1", b"2"):
            await store.put("b", "k", body)
        directory = root / ".trove/buckets"
        directory.rename(tmp_path / "elsewhere")
        directory.symlink_to(tmp_path / "elsewhere")
        driver = trove.unwrap(store.driver, LocalDriver)
        driver._fs.handles.forget(str(directory))
        for refused in (store.put("b", "k", b"3"), store.delete("b", "k")):
            with pytest.raises(BackendError, match="symbolic link"):
                await refused
        directory.unlink()
        (tmp_path / "elsewhere").rename(directory)
        assert [await store.read("b", "k", version_id=v.version_id) for v in await store.list_versions("b", "k")] == [
            b"2",
            b"1",
        ]


async def test_a_bucket_with_damaged_settings_can_be_deleted(store: trove.Trove, tmp_path: Path) -> None:
    (tmp_path / ".trove/buckets/b").write_bytes(b"")
    await store.delete_bucket("b")
    await store.create_bucket("b")
    await store.put("b", "k", b"data")


async def test_an_upload_with_a_damaged_manifest_can_only_be_aborted(
    store: trove.Trove, tmp_path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    damaged, whole = [await store.initiate_multipart("b", key) for key in ("damaged", "whole")]
    part = await store.upload_part("b", "damaged", damaged, 1, b"data")
    path = tmp_path / f".trove/uploads/b/{damaged}/manifest"
    path.write_bytes(garbage)
    with caplog.at_level(logging.WARNING, "trove_async"):
        assert [upload.upload_id for upload in await store.list_multipart_uploads("b")] == [whole]
    assert str(path) in caplog.text
    for refused in (
        store.upload_part("b", "damaged", damaged, 2, b"data"),
        store.list_parts("b", "damaged", damaged),
        store.complete_multipart("b", "damaged", damaged, [part]),
    ):
        with pytest.raises(BackendError, match=str(path)):
            await refused
    await trove.unwrap(store.driver, LocalDriver).sweep()
    assert path.exists()
    await store.abort_multipart("b", "damaged", damaged)
    assert not path.parent.exists()
    with pytest.raises(UploadNotFoundError):
        await store.list_parts("b", "damaged", damaged)


async def test_a_damaged_sidecar_is_reported_for_its_object(
    store: trove.Trove, tmp_path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await store.put("b", "k", b"data", metadata=LARGE)
    await store.put("b", "other", b"data", metadata=LARGE)
    (path,) = [
        path for path in (tmp_path / ".trove/meta/b").rglob("*") if path.is_file() and b'"key":"k"' in path.read_bytes()
    ]
    path.write_bytes(garbage)
    for refused in (store.head("b", "k"), store.read("b", "k"), store.set_tags("b", "k", {"a": "b"})):
        with pytest.raises(BackendError, match=str(path)):
            await refused
    assert (await store.head("b", "other")).metadata == LARGE
    assert [found.key async for found in store.list("b")] == ["k", "other"]
    with caplog.at_level(logging.WARNING, "trove_async"):
        assert (await trove.unwrap(store.driver, LocalDriver).sweep()).sidecars == 0
    assert str(path) in caplog.text
    assert path.exists()
    path.unlink()
    assert (await store.head("b", "k")).metadata == {}
    await store.put("b", "k", b"new", metadata=LARGE)
    assert (await store.head("b", "k")).metadata == LARGE


async def test_a_damaged_sidecar_does_not_lose_a_version(store: trove.Trove, tmp_path: Path) -> None:
    await store.set_versioning("b", True)
    info = await store.put("b", "k", b"data", metadata=LARGE)
    (path,) = [path for path in (tmp_path / ".trove/meta/b").rglob("*") if path.is_file()]
    content = path.read_bytes()
    path.write_bytes(b"")
    for refused in (store.put("b", "k", b"new"), store.delete("b", "k")):
        with pytest.raises(BackendError, match=str(path)):
            await refused
    path.write_bytes(content)
    await store.put("b", "k", b"new")
    assert await store.read("b", "k", version_id=info.version_id) == b"data"


async def test_the_key_of_versions_that_is_damaged_is_stored_again_with_the_next_one(
    store: trove.Trove, tmp_path: Path, garbage: bytes
) -> None:
    await store.set_versioning("b", True)
    for body in (b"1", b"2"):
        await store.put("b", "a/key", body)
    (path,) = (tmp_path / ".trove/versions/b").rglob("key")
    path.write_bytes(garbage)
    driver = trove.unwrap(store.driver, LocalDriver)
    with pytest.raises(BackendError, match=str(path)):
        await driver.list_noncurrent("b")
    assert len(await store.list_versions("b", "a/key")) == 2
    await store.put("b", "a/key", b"3")
    assert [version.key for version in await driver.list_noncurrent("b")] == ["a/key", "a/key"]
