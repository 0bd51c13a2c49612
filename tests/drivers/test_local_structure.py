"""Buckets that are created, deleted or changed while objects are written: one of the two comes first, and all of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import trove_async as trove
from tests.drivers.local_residue import residue_of
from trove_async.drivers.local import LocalDriver
from trove_async.errors import BucketNotEmptyError, BucketNotFoundError, ObjectNotFoundError, UploadNotFoundError
from trove_async.types import PartInfo

pytestmark = pytest.mark.asyncio

METADATA = {"m": "y" * 30_000}
BOUND = 30.0


class Gate:
    """Makes a function of an object wait when it is called for the first time, before or after it has worked."""

    def __init__(self, owner: object, name: str, *, after: bool = False) -> None:
        self._reached = threading.Event()
        self._opened = threading.Event()
        original: Callable[..., Coroutine[Any, Any, Any]] = getattr(owner, name)

        async def gated(*args: Any, **options: Any) -> Any:
            result = await original(*args, **options) if after else None
            if not self._reached.is_set():
                self._reached.set()
                assert self._opened.wait(BOUND)
            return result if after else await original(*args, **options)

        setattr(owner, name, gated)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._reached.wait, BOUND)

    def open(self) -> None:
        self._opened.set()


@pytest_asyncio.fixture
async def stores(tmp_path: Path) -> AsyncIterator[tuple[trove.Trove, trove.Trove]]:
    """Two stores on one root, as two processes have."""
    dsn = f"local://{tmp_path}?fsync=0&min_part_size=1"
    async with trove.open(dsn) as a, trove.open(dsn) as b:
        await a.create_bucket("v")
        yield a, b
        assert residue_of(tmp_path) == []


@pytest.fixture
def a(stores: tuple[trove.Trove, trove.Trove]) -> trove.Trove:
    return stores[0]


@pytest.fixture
def b(stores: tuple[trove.Trove, trove.Trove]) -> trove.Trove:
    return stores[1]


def gate_at_flush(store: trove.Trove) -> Gate:
    """Stop the next put when its body is written and it holds no lock."""
    return Gate(trove.unwrap(store.driver, LocalDriver)._fs, "sync")


async def test_versioning_that_is_switched_on_during_a_put_keeps_every_version(a: trove.Trove, b: trove.Trove) -> None:
    gate = gate_at_flush(a)
    put = asyncio.create_task(a.put("v", "k", b"slow", metadata={"a": "b"}))
    await gate.reached()
    await b.set_versioning("v", True)
    first = await b.put("v", "k", b"acknowledged with versions on")
    gate.open()
    info = await put
    assert info.version_id is not None
    assert [v.version_id for v in await b.list_versions("v", "k")] == [info.version_id, first.version_id]
    assert await b.read("v", "k", version_id=first.version_id) == b"acknowledged with versions on"
    assert await b.head("v", "k") == info


async def test_versioning_that_is_suspended_during_a_put_makes_it_the_null_version(
    a: trove.Trove, b: trove.Trove
) -> None:
    await a.set_versioning("v", True)
    await a.put("v", "k", b"first")  # a has seen the setting
    gate = gate_at_flush(a)
    put = asyncio.create_task(a.put("v", "k", b"slow"))
    await gate.reached()
    await b.set_versioning("v", False)
    gate.open()
    assert (await put).version_id is None
    assert next(v.version_id for v in await b.list_versions("v", "k")) == "null"


async def test_a_put_that_is_in_place_is_kept_when_versioning_begins(a: trove.Trove, b: trove.Trove) -> None:
    """The switch waits for a commit that has begun, since that commit may still replace an object."""
    first = await a.put("v", "k", b"first")
    gate = Gate(trove.unwrap(a.driver, LocalDriver)._fs, "publish")
    put = asyncio.create_task(a.put("v", "k", b"second"))
    await gate.reached()
    switch = asyncio.create_task(b.set_versioning("v", True))
    gate.open()
    await asyncio.gather(put, switch)
    await b.put("v", "k", b"third")
    read = [await b.read("v", "k", version_id=v.version_id) for v in await b.list_versions("v", "k")]
    assert read == [b"third", b"second"]
    assert (await b.head("v", "k")).etag != first.etag


@pytest.mark.parametrize("again", [False, True], ids=["deleted", "deleted and created again"])
async def test_a_bucket_that_is_deleted_during_a_put(a: trove.Trove, b: trove.Trove, again: bool) -> None:
    gate = gate_at_flush(a)
    put = asyncio.create_task(a.put("v", "k", b"x", metadata=METADATA, content_type="image/png", tags={"a": "b"}))
    await gate.reached()
    await b.delete_bucket("v")
    if again:
        await b.create_bucket("v")
    gate.open()
    if not again:
        with pytest.raises(BucketNotFoundError):
            await put
        return
    info = await put
    assert await b.head("v", "k") == info
    assert info.metadata == METADATA
    assert await b.get_tags("v", "k") == {"a": "b"}


async def test_metadata_of_a_put_that_has_begun_to_commit_are_not_removed_with_the_bucket(
    a: trove.Trove, b: trove.Trove
) -> None:
    gate = Gate(trove.unwrap(a.driver, LocalDriver)._fs, "publish")
    put = asyncio.create_task(a.put("v", "k", b"x", metadata=METADATA))
    await gate.reached()
    delete = asyncio.create_task(b.delete_bucket("v"))
    gate.open()
    info = await put
    with pytest.raises(BucketNotEmptyError):
        await delete
    assert await b.head("v", "k") == info
    assert info.metadata == METADATA


async def test_a_bucket_with_versions_is_not_deleted_while_its_last_object_is(a: trove.Trove, b: trove.Trove) -> None:
    await a.set_versioning("v", True)
    version = await a.put("v", "k", b"precious")
    gate = Gate(trove.unwrap(a.driver, LocalDriver)._tree.buckets, "_require_no_versions", after=True)
    deleting = asyncio.create_task(a.delete_bucket("v"))
    await gate.reached()
    deleted = asyncio.create_task(b.delete("v", "k"))
    gate.open()
    with pytest.raises(BucketNotEmptyError):
        await deleting
    await deleted
    assert await b.read("v", "k", version_id=version.version_id) == b"precious"
    with pytest.raises(BucketNotEmptyError):
        await a.delete_bucket("v")


async def test_a_delete_and_the_deletion_of_its_bucket(a: trove.Trove, b: trove.Trove) -> None:
    await a.put("v", "folder/k", b"x")
    gate = Gate(trove.unwrap(a.driver, LocalDriver)._fs, "unlink", after=True)
    deleted = asyncio.create_task(a.delete("v", "folder/k"))
    await gate.reached()
    deleting = asyncio.create_task(b.delete_bucket("v"))
    gate.open()
    await asyncio.gather(deleted, deleting)
    with pytest.raises(BucketNotFoundError):
        await a.delete("v", "folder/k")
    with pytest.raises(BucketNotFoundError):
        await a.delete_bucket("v")


async def test_puts_and_deletions_of_their_bucket_end_in_one_of_two_orders(a: trove.Trove, b: trove.Trove) -> None:
    for number in range(30):
        put, deleted = await asyncio.gather(
            a.put("v", f"folder/{number}", b"x", metadata=METADATA), b.delete_bucket("v"), return_exceptions=True
        )
        if deleted is None:
            assert isinstance(put, BucketNotFoundError)
            await b.create_bucket("v")
            with pytest.raises(ObjectNotFoundError):
                await b.head("v", f"folder/{number}")
        else:
            assert isinstance(deleted, BucketNotEmptyError)
            assert await b.head("v", f"folder/{number}") == put
            await b.delete("v", f"folder/{number}")


@pytest.mark.parametrize("again", [False, True], ids=["deleted", "deleted and created again"])
async def test_a_bucket_that_is_deleted_while_an_upload_begins(
    a: trove.Trove, b: trove.Trove, tmp_path: Path, again: bool
) -> None:
    gate = Gate(trove.unwrap(a.driver, LocalDriver)._fs, "rename")
    beginning = asyncio.create_task(a.initiate_multipart("v", "k"))
    await gate.reached()
    await b.delete_bucket("v")
    if again:
        await b.create_bucket("v")
    gate.open()
    if not again:
        with pytest.raises(BucketNotFoundError):
            await beginning
        assert not (tmp_path / ".trove/uploads/v").exists()
        return
    upload = await beginning
    part = await a.upload_part("v", "k", upload, 1, b"data")
    await b.complete_multipart("v", "k", upload, [part])
    assert await a.read("v", "k") == b"data"


async def test_an_upload_ends_with_its_bucket(a: trove.Trove, b: trove.Trove) -> None:
    upload = await a.initiate_multipart("v", "k")
    parts = [await a.upload_part("v", "k", upload, number, b"data") for number in (1, 2)]
    part = parts[0]
    gate = gate_at_flush(a)
    completed = asyncio.create_task(a.complete_multipart("v", "k", upload, parts))
    await gate.reached()
    await b.delete_bucket("v")
    await b.create_bucket("v")
    gate.open()
    with pytest.raises(UploadNotFoundError):
        await completed
    with pytest.raises(UploadNotFoundError):
        await a.upload_part("v", "k", upload, 1, b"data")
    with pytest.raises(UploadNotFoundError):
        await a.complete_multipart("v", "k", upload, [PartInfo(1, part.etag, 4)])
    assert await b.list("v").all() == []
