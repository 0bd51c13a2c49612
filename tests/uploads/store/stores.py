"""Stores of every driver, as the tests of `TroveDataStore` use them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final

import trove_async as trove
from tests.azure import stores as azure
from tests.gcs import stores as gcs
from tests.s3 import stores as s3
from tests.sftp import stores as sftp
from trove_async.driver import Driver, Features
from trove_async.driver.capabilities import AppendDriver
from trove_async.layers import LayerDriver
from trove_async.testing.gcs import GCSServer
from trove_async.uploads import FileInfo, TroveDataStore

__all__ = ["PART", "Parts", "chunks", "clean", "opened", "parts_of", "upload"]

PART: Final = s3.PART
"""Bytes of a part in these tests; every driver takes parts of this size."""


class Parts(LayerDriver):
    """A store whose parts do not grow, as those of services."""

    drops: ClassVar[Mapping[type | str, str]] = {AppendDriver: "a test of parts of a fixed size"}


def parts_of(*, without: frozenset[str] = frozenset(), **limits: Any) -> Callable[[Driver], Driver]:
    """Return a layer that has parts of a fixed size and other limits, and honours fewer conditions."""

    class Limited(Parts):
        @property
        def features(self) -> Features:
            features = super().features
            kept = frozenset(each for each in features.conditions if each not in without)
            return replace(features, limits=replace(features.limits, **limits), conditions=kept)

    return Limited


@asynccontextmanager
async def opened(name: str, tmp_path: Path) -> AsyncIterator[trove.Trove]:
    """Open a store by the name of a driver; ``parts`` is memory without parts that grow."""
    async with _store(name, tmp_path) as store:
        yield store


def _store(name: str, tmp_path: Path) -> AbstractAsyncContextManager[trove.Trove]:
    match name:
        case "memory":
            return trove.open(f"memory://?min_part_size={PART}")
        case "parts":
            return trove.open(f"memory://?min_part_size={PART}", layers=[Parts])
        case "local":
            (tmp_path / "root").mkdir(exist_ok=True)
            return trove.open(f"local://{tmp_path}/root?fsync=0&min_part_size={PART}")
        case "ceph" | "moto":
            return s3.opened(name)
        case "azure":
            return azure.opened()
        case "gcs":
            return _gcs()
        case _:
            return _sftp()


@asynccontextmanager
async def _gcs() -> AsyncIterator[trove.Trove]:
    async with GCSServer(minimum_part=gcs.MIN_PART) as server, gcs.opened(server) as store:
        yield store


@asynccontextmanager
async def _sftp() -> AsyncIterator[trove.Trove]:
    with sftp.scratch_root("sshd") as root:
        async with sftp.opened("sshd", root, clean=False, min_part_size=PART) as store:
            yield store


@asynccontextmanager
async def bucket_in(store: trove.Trove) -> AsyncIterator[str]:
    """Create a bucket, and remove it with all that is in it."""
    name = f"uploads-{uuid.uuid4().hex[:12]}"
    await store.create_bucket(name)
    try:
        yield name
    finally:
        await clean(store, name)
        await store.delete_bucket(name)


async def clean(store: trove.Trove, bucket: str) -> None:
    """Remove everything from a bucket."""
    for found in await store.list_multipart_uploads(bucket):
        await store.abort_multipart(bucket, found.key, found.upload_id)
    await store.empty_bucket(bucket)


async def chunks(data: bytes, size: int = 48 * 1024) -> AsyncIterator[bytes]:
    """Yield bytes as a server receives them."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def upload(uploads: TroveDataStore, data: bytes, step: int | None = None, **info: Any) -> str:
    """Create an upload, write all of it in chunks, and finish it."""
    upload_id = await uploads.new_upload(FileInfo(size=len(data), **info))
    for start in range(0, len(data), step or max(len(data), 1)):
        piece = data[start : start + step] if step else data
        assert await uploads.write_chunk(upload_id, start, chunks(piece)) == len(piece)
    assert (await uploads.finish_upload(upload_id)).is_finished
    return upload_id
