"""Uploads whose bytes the backend has removed, by a rule of the bucket or because somebody has aborted them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

import trove_async as trove
from tests.uploads.store.stores import PART, Parts, chunks
from trove_async.errors import UploadLockedError, UploadNotFoundError
from trove_async.testing.faults import Fault, Faults
from trove_async.testing.helpers import random_bytes
from trove_async.uploads import FileInfo, TroveDataStore
from trove_async.uploads.protocol.problems import upload_status

pytestmark = pytest.mark.asyncio

DATA = random_bytes(3 * PART)


async def lose(store: trove.Trove, bucket: str) -> None:
    for found in await store.list_multipart_uploads(bucket):
        await store.abort_multipart(bucket, found.key, found.upload_id)


@pytest.mark.parametrize("driver", ["memory", "parts", "local", "ceph", "azure", "gcs", "sftp"], indirect=True)
@pytest.mark.parametrize("size", [0, 10, PART + 10, len(DATA)])
async def test_a_lost_upload_is_gone(
    store: trove.Trove,
    bucket: str,
    uploads: TroveDataStore,
    other: TroveDataStore,
    size: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A client that learns it begins again; one that is told of a fault of the server would come again for ever."""
    upload_id = await uploads.new_upload(FileInfo(size=len(DATA)))
    await uploads.write_chunk(upload_id, 0, chunks(DATA[:size]))
    await lose(store, bucket)
    caplog.set_level(logging.WARNING, "trove_async.uploads")
    for process in (uploads, other):
        with pytest.raises(UploadNotFoundError) as caught:
            await (
                process.write_chunk(upload_id, size, chunks(DATA[size:]))
                if size < len(DATA)
                else process.finish_upload(upload_id)
            )
        assert upload_status(caught.value) == 404
        assert f"the upload {upload_id} is lost" in caplog.text
        with pytest.raises(UploadNotFoundError) as caught:
            await process.get_info(upload_id)
        assert upload_status(caught.value) == 404
    await other.terminate(upload_id)


@pytest.mark.parametrize("layers", [[], [Parts]])
async def test_an_upload_that_is_missed_once_is_not_gone(layers: list[type[Parts]]) -> None:
    faults = Faults([])
    async with trove.open(f"memory://?min_part_size={PART}", layers=[*layers, faults]) as store:
        await store.create_bucket("b")
        uploads = TroveDataStore(store, "b", part_size=PART)
        upload_id = await uploads.new_upload(FileInfo(size=len(DATA)))
        await uploads.write_chunk(upload_id, 0, chunks(DATA[:PART]))
        writing = "upload_part" if layers else "append_part"
        steps: dict[str, Callable[[TroveDataStore], Awaitable[object]]] = {
            "list_parts": lambda process: process.get_info(upload_id),
            writing: lambda process: process.write_chunk(upload_id, PART, chunks(DATA[PART:])),
            "complete_multipart": lambda process: process.finish_upload(upload_id),
        }
        for operation, step in steps.items():
            process = TroveDataStore(store, "b", part_size=PART)
            faults.add(Fault(operation, error=UploadNotFoundError))
            with pytest.raises(UploadNotFoundError) as caught:
                await step(process)
            assert upload_status(caught.value) == 500
            await step(process)
        assert await store.read("b", upload_id) == DATA


@pytest.mark.parametrize("driver", ["memory", "parts", "ceph"], indirect=True)
async def test_an_upload_that_another_process_has_finished_is_not_gone(
    store: trove.Trove, bucket: str, uploads: TroveDataStore, other: TroveDataStore
) -> None:
    upload_id = await uploads.new_upload(FileInfo(size=len(DATA)))
    await uploads.write_chunk(upload_id, 0, chunks(DATA[:10]))

    async def meanwhile() -> AsyncIterator[bytes]:
        offset = (await other.get_info(upload_id)).offset
        await other.write_chunk(upload_id, offset, chunks(DATA[offset:]))
        await other.finish_upload(upload_id)
        async for chunk in chunks(DATA[10:]):
            yield chunk

    with pytest.raises(UploadLockedError):
        await uploads.write_chunk(upload_id, 10, meanwhile())
    assert (await uploads.get_info(upload_id)).is_finished
    assert await store.read(bucket, upload_id) == DATA
