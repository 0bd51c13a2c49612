"""What happens to an object when a process ends, or a request is lost, while an upload is finished."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import trove_async as trove
from tests.uploads.store.stores import PART, Parts, chunks, parts_of, upload
from trove_async.checksums import Checksum
from trove_async.driver.base import Layer
from trove_async.driver.options import PutOptions
from trove_async.testing.faults import Fault, Faults
from trove_async.testing.helpers import random_bytes
from trove_async.uploads import Destination, FileInfo, TroveDataStore

pytestmark = pytest.mark.asyncio

DATA = random_bytes(2 * PART + 55)
LOST = {"error": trove.UnavailableError, "times": None}


@pytest.fixture
def faults() -> Faults:
    return Faults([])


@pytest_asyncio.fixture(params=["grows", "parts", "local"])
async def store(request: pytest.FixtureRequest, faults: Faults, tmp_path: Path) -> AsyncIterator[trove.Trove]:
    dsn = f"local://{tmp_path}?fsync=0" if request.param == "local" else "memory://"
    layers: list[Layer] = [Parts, faults] if request.param == "parts" else [faults]
    async with trove.open(dsn, layers=layers, min_part_size=PART) as opened:
        await opened.create_bucket("b")
        yield opened


def process(store: trove.Trove) -> TroveDataStore:
    return TroveDataStore(store, "b", part_size=PART)


DESTINATIONS = {
    "default": FileInfo(),
    "replaces": FileInfo(destination=Destination("b", "there")),
    "creates": FileInfo(destination=Destination("b", "new", PutOptions(if_none_match="*"))),
    "compared": FileInfo(digests={"md5": ""}, destination=Destination("b", "there")),
    "compared, creates": FileInfo(
        digests={"md5": ""}, destination=Destination("b", "new", PutOptions(if_none_match="*"))
    ),
    "partial": FileInfo(is_partial=True),
}


async def complete_upload(store: trove.Trove, kind: str, data: bytes, last: int | None = None) -> str:
    """Create an upload that is complete and not finished; an object of its size is where it goes."""
    await store.put("b", "there", bytes(len(data)))
    info = DESTINATIONS[kind]
    digests = {name: hashlib.md5(data, usedforsecurity=False).hexdigest() for name in info.digests}
    wanted = FileInfo(size=len(data), digests=digests, destination=info.destination, is_partial=info.is_partial)
    uploads = process(store)
    upload_id = await uploads.new_upload(wanted)
    await uploads.write_chunk(upload_id, 0, chunks(data[:last]))
    await uploads.write_chunk(upload_id, len(data[:last]), chunks(data[len(data[:last]) :]))
    return upload_id


async def stored(store: trove.Trove, kind: str, upload_id: str) -> bytes:
    to = DESTINATIONS[kind].destination
    key = f".trove-uploads/{upload_id}.data" if kind == "partial" else upload_id if to is None else to.key
    return await store.read("b", key)


@pytest.mark.parametrize("last", [None, -20], ids=["one chunk", "a small last chunk"])
@pytest.mark.parametrize("size", [len(DATA), 0])
@pytest.mark.parametrize("kind", DESTINATIONS)
async def test_a_process_ends_at_each_request(
    store: trove.Trove, faults: Faults, kind: str, size: int, last: int | None
) -> None:
    """After each request another process sees no smaller offset, and finishes the upload."""
    data = DATA[:size]
    for point in range(20):
        await store.delete("b", "new")
        upload_id = await complete_upload(store, kind, data, last)
        faults.add(Fault("*", skip=point, when="after", **LOST))  # type: ignore[arg-type]
        died = False
        try:
            await process(store).finish_upload(upload_id)
        except trove.UnavailableError:
            died = True
        faults.clear()
        info = await process(store).get_info(upload_id)
        assert info.offset == size
        uploads = process(store)
        finished = await uploads.finish_upload(upload_id)
        assert finished.is_finished
        assert (await process(store).get_info(upload_id)) == finished
        assert await stored(store, kind, upload_id) == data
        assert await store.list_multipart_uploads("b") == []
        await uploads.terminate(upload_id)
        if not died:
            break
    else:
        pytest.fail("the upload is never finished")
    assert point >= 2
    keys = [each.key async for each in store.list("b")]
    assert not [key for key in keys if key.startswith(".trove-uploads/")]


async def test_a_process_ends_at_each_request_while_it_joins(store: trove.Trove, faults: Faults) -> None:
    pieces = (DATA[:5], DATA[5 : PART + 5], DATA[PART + 5 :])
    partial_ids = tuple([await upload(process(store), piece, is_partial=True) for piece in pieces])
    for point in range(20):
        final = await process(store).new_upload(FileInfo(is_final=True, partial_ids=partial_ids))
        faults.add(Fault("*", skip=point, when="after", **LOST))  # type: ignore[arg-type]
        died = False
        try:
            await process(store).concat_uploads(final, partial_ids)
        except trove.UnavailableError:
            died = True
        faults.clear()
        await process(store).concat_uploads(final, partial_ids)
        assert (await process(store).get_info(final)).is_finished
        assert await store.read("b", final) == DATA
        assert await store.list_multipart_uploads("b") == []
        if not died:
            return
    pytest.fail("the upload is never finished")


@pytest.mark.parametrize("kind", DESTINATIONS)
async def test_an_upload_that_the_backend_has_lost_is_not_finished(store: trove.Trove, kind: str) -> None:
    upload_id = await complete_upload(store, kind, DATA)
    for found in await store.list_multipart_uploads("b"):
        await store.abort_multipart("b", found.key, found.upload_id)
    for _ in range(2):
        with pytest.raises(trove.UploadNotFoundError):
            await process(store).finish_upload(upload_id)
        with pytest.raises(trove.UploadNotFoundError):
            await process(store).get_info(upload_id)
    assert await store.read("b", "there") == bytes(len(DATA))


async def test_an_object_of_another_size_is_no_success(
    store: trove.Trove, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = await complete_upload(store, "default", DATA)
    complete = store.complete_multipart

    async def shorter(*args: object, **kwargs: object) -> trove.ObjectInfo:
        made = await complete(*args, **kwargs)  # type: ignore[arg-type]
        return await store.put(made_bucket, made.key, DATA[:-1])

    made_bucket = "b"
    monkeypatch.setattr(store, "complete_multipart", shorter)
    with pytest.raises(trove.BodySizeError):
        await process(store).finish_upload(upload_id)
    assert not await store.exists("b", upload_id)


async def test_the_checksum_of_the_parts_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    async with trove.open(f"memory://?min_part_size={PART}", layers=[parts_of()]) as store:
        await store.create_bucket("b")
        to = Destination("b", "there", PutOptions(checksum=Checksum("crc32c")))
        for wrong in (False, True):
            uploads = process(store)
            upload_id = await uploads.new_upload(FileInfo(size=len(DATA), destination=to))
            await uploads.write_chunk(upload_id, 0, chunks(DATA))
            if wrong:
                monkeypatch.setattr("trove_async.uploads.store.finishing.combine_crc32c", lambda *_: 1)
                with pytest.raises(trove.ChecksumError):
                    await uploads.finish_upload(upload_id)
            else:
                await uploads.finish_upload(upload_id)
