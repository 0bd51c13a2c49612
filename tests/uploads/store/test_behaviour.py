"""What an upload is after each step, on every driver."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

import trove_async as trove
from tests.payload import pattern
from tests.uploads.store.stores import PART, chunks, upload
from trove_async.driver.options import ObjectAttributes, PutOptions
from trove_async.errors import AccessDeniedError, ChecksumError, ConflictError, UploadNotFoundError, UploadOffsetError
from trove_async.testing.faults import Fault, Faults
from trove_async.testing.helpers import random_bytes
from trove_async.uploads import Destination, FileInfo, FinalAnswer, MetaData, TroveDataStore

pytestmark = pytest.mark.asyncio

DATA = random_bytes(3 * PART + 1234)


async def bytes_of(uploads: TroveDataStore, upload_id: str) -> bytes:
    async with await uploads.get_reader(upload_id) as reader:
        return b"".join([bytes(chunk) async for chunk in reader])


@pytest.mark.parametrize("step", [None, 1000, PART // 2 + 7, PART, PART + 1])
async def test_chunks_become_the_object(
    store: trove.Trove, bucket: str, uploads: TroveDataStore, other: TroveDataStore, step: int | None
) -> None:
    data = DATA if step != 1000 else DATA[:3500]
    upload_id = await uploads.new_upload(FileInfo(size=len(data)))
    offset = 0
    for start in range(0, len(data), step or len(data)):
        assert not await store.exists(bucket, upload_id)
        piece = data[start : start + (step or len(data))]
        assert await uploads.write_chunk(upload_id, offset, chunks(piece)) == len(piece)
        offset += len(piece)
        assert (await uploads.get_info(upload_id)).offset == offset
        assert (await other.get_info(upload_id)).offset == offset
    finished = await uploads.finish_upload(upload_id)
    assert finished.is_finished
    assert finished.offset == len(data)
    assert await store.read(bucket, upload_id) == data
    assert (await store.head(bucket, upload_id)).etag == finished.etag
    assert await bytes_of(other, upload_id) == data
    assert await other.finish_upload(upload_id) == finished
    assert await store.list_multipart_uploads(bucket) == []


@pytest.mark.parametrize("step", [PART // 3, PART, 2 * PART])
async def test_two_processes_take_turns(
    store: trove.Trove, bucket: str, uploads: TroveDataStore, other: TroveDataStore, step: int
) -> None:
    upload_id = await uploads.new_upload(FileInfo(size=len(DATA)))
    for number, start in enumerate(range(0, len(DATA), step)):
        writer, reader = (uploads, other) if number % 2 else (other, uploads)
        await writer.write_chunk(upload_id, start, chunks(DATA[start : start + step]))
        assert (await reader.get_info(upload_id)).offset == min(start + step, len(DATA))
    await other.finish_upload(upload_id)
    assert await store.read(bucket, upload_id) == DATA


async def test_everything_is_kept(
    store: trove.Trove, bucket: str, uploads: TroveDataStore, other: TroveDataStore
) -> None:
    attributes = ObjectAttributes(content_type="image/x-test", metadata={"camera": "X100"}, cache_control="no-store")
    wanted = FileInfo(
        id="chosen",
        size=5,
        metadata=MetaData.parse("filename d29ybGQ=,empty,bin /w=="),
        max_size=10,
        destination=Destination(bucket, "a photo.jpg", PutOptions(attributes=attributes)),
        owner="ann",
    )
    assert await uploads.new_upload(wanted) == "chosen"
    info = await other.get_info("chosen")
    assert info == replace(wanted, created_at=info.created_at, expires_at=info.expires_at)
    assert info.metadata.header == "filename d29ybGQ=,empty,bin /w=="
    with pytest.raises(ConflictError):
        await other.new_upload(replace(wanted, owner="bob"))
    with pytest.raises(ConflictError):
        await uploads.new_upload(wanted)
    assert (await uploads.get_info("chosen")).owner == "ann"
    await uploads.write_chunk("chosen", 0, chunks(b"hello"))
    answer = FinalAnswer(201, (("X-Test", "ü"),), b"\xff")
    await uploads.record_answer("chosen", answer)
    await uploads.finish_upload("chosen")
    assert (await other.get_info("chosen")).answer == answer
    made = await store.head(bucket, "a photo.jpg")
    assert (made.content_type, made.metadata, made.cache_control) == ("image/x-test", {"camera": "X100"}, "no-store")


@pytest.mark.parametrize("size", [0, 1, PART, 2 * PART])
@pytest.mark.parametrize("declared", ["at once", "before the last chunk", "at the end"])
async def test_lengths(store: trove.Trove, bucket: str, uploads: TroveDataStore, size: int, declared: str) -> None:
    data = DATA[:size]
    upload_id = await uploads.new_upload(FileInfo(size=size if declared == "at once" else None))
    if declared == "before the last chunk":
        await uploads.declare_length(upload_id, size)
    if size:
        await uploads.write_chunk(upload_id, 0, chunks(data))
    if declared == "at the end":
        await uploads.declare_length(upload_id, size)
    assert (await uploads.get_info(upload_id)).size == size
    await uploads.finish_upload(upload_id)
    assert await store.read(bucket, upload_id) == data
    assert await store.list_multipart_uploads(bucket) == []


async def test_what_is_refused(uploads: TroveDataStore) -> None:
    for unknown in (
        *(uploads.get_info(each) for each in ("none", "../x", "", "a\0")),
        uploads.write_chunk("none", 0, chunks(b"x")),
        uploads.finish_upload("../x"),
        uploads.terminate("none"),
    ):
        with pytest.raises(UploadNotFoundError):
            await unknown
    upload_id = await uploads.new_upload(FileInfo(size=10))
    with pytest.raises(trove.InvalidArgumentError):
        await uploads.finish_upload(upload_id)
    with pytest.raises(trove.UnsupportedError):
        await uploads.get_reader(upload_id)
    with pytest.raises(trove.InvalidArgumentError):
        await uploads.declare_length(upload_id, 11)
    await uploads.write_chunk(upload_id, 0, chunks(b"12345"))
    with pytest.raises(UploadOffsetError) as caught:
        await uploads.write_chunk(upload_id, 4, chunks(b"x"))
    assert caught.value.offset == 5
    with pytest.raises(trove.BodySizeError):
        await uploads.write_chunk(upload_id, 5, chunks(b"123456"))
    assert 5 <= (await uploads.get_info(upload_id)).offset <= 10
    with pytest.raises(trove.InvalidArgumentError):
        await uploads.new_upload(FileInfo(id="../x"))


async def test_no_upload_becomes_a_state(store: trove.Trove, bucket: str, uploads: TroveDataStore) -> None:
    victim = await uploads.new_upload(FileInfo(size=10))
    with pytest.raises(trove.InvalidArgumentError, match="among the states"):
        await uploads.new_upload(FileInfo(size=1, destination=Destination(bucket, f".trove-uploads/{victim}")))
    for state in (bucket, f"{bucket}/", f"{bucket}/prefix"):
        with pytest.raises(trove.InvalidArgumentError, match="state is"):
            TroveDataStore(store, bucket, state=state)


async def test_terminate(store: trove.Trove, bucket: str, uploads: TroveDataStore, other: TroveDataStore) -> None:
    unfinished = await uploads.new_upload(FileInfo(size=len(DATA)))
    await uploads.write_chunk(unfinished, 0, chunks(DATA[: PART + 1]))
    await other.terminate(unfinished)
    for each in (uploads, other):
        with pytest.raises(UploadNotFoundError):
            await each.get_info(unfinished)
    with pytest.raises(UploadNotFoundError):
        await uploads.write_chunk(unfinished, PART + 1, chunks(DATA[PART + 1 :]))
    finished, partial = await upload(uploads, DATA), await upload(uploads, DATA, is_partial=True)
    await uploads.terminate(finished)
    await uploads.terminate(partial)
    assert [each.key async for each in store.list(bucket)] == [finished]
    assert await store.list_multipart_uploads(bucket) == []


async def broken(data: bytes) -> AsyncIterator[bytes]:
    async for chunk in chunks(data):
        yield chunk
    raise ConnectionResetError


@pytest.mark.parametrize("size", [100, 2 * PART + 100])
async def test_a_chunk_that_breaks(
    store: trove.Trove, bucket: str, uploads: TroveDataStore, other: TroveDataStore, size: int
) -> None:
    upload_id = await uploads.new_upload(FileInfo(size=len(DATA)))
    await uploads.write_chunk(upload_id, 0, chunks(DATA[:50]))
    with pytest.raises(ConnectionResetError):
        await uploads.write_chunk(upload_id, 50, broken(DATA[50 : 50 + size]))
    offset = (await uploads.get_info(upload_id)).offset
    assert 50 <= offset <= 50 + size
    assert offset >= 50 + size - PART - 100
    assert (await other.get_info(upload_id)).offset == offset
    await uploads.write_chunk(upload_id, offset, chunks(DATA[offset:]))
    await uploads.finish_upload(upload_id)
    assert await store.read(bucket, upload_id) == DATA


@pytest.mark.parametrize("before", [0, 50])
@pytest.mark.parametrize("size", [100, 2 * PART + 100])
async def test_a_chunk_counts_only_when_verified(
    store: trove.Trove, bucket: str, uploads: TroveDataStore, other: TroveDataStore, before: int, size: int
) -> None:
    def fail() -> None:
        raise ChecksumError

    asked: list[int] = []
    upload_id = await uploads.new_upload(FileInfo(size=len(DATA)))
    await uploads.write_chunk(upload_id, 0, chunks(DATA[:before]))
    wrong = pattern(size)
    for writer, reader in ((uploads, other), (other, uploads)):
        with pytest.raises(ChecksumError):
            await writer.write_verified_chunk(upload_id, before, chunks(wrong), fail)
        assert (await reader.get_info(upload_id)).offset == before
        assert (await writer.get_info(upload_id)).offset == before
    right = DATA[before : before + size]
    assert await uploads.write_verified_chunk(upload_id, before, chunks(right), lambda: asked.append(1)) == size
    assert asked == [1]
    assert (await other.get_info(upload_id)).offset == before + size
    await other.write_chunk(upload_id, before + size, chunks(DATA[before + size :]))
    await other.finish_upload(upload_id)
    assert await store.read(bucket, upload_id) == DATA


async def test_a_digest_is_compared_before_the_object_is_there(
    store: trove.Trove, bucket: str, uploads: TroveDataStore
) -> None:
    sha256 = hashlib.sha256(DATA).hexdigest()
    to = Destination(bucket, "there")
    await store.put(bucket, "there", b"before")
    wrong = await uploads.new_upload(FileInfo(size=5, digests={"sha256": sha256}, destination=to))
    await uploads.write_chunk(wrong, 0, chunks(b"wrong"))
    for _ in range(2):
        with pytest.raises(ChecksumError):
            await uploads.finish_upload(wrong)
        assert await store.read(bucket, "there") == b"before"
    await uploads.terminate(wrong)
    await upload(uploads, DATA, digests={"sha256": sha256}, destination=to)
    assert await store.read(bucket, "there") == DATA
    assert [each.key async for each in store.list(bucket) if each.key.endswith(".data")] == []


async def test_never_replaces_an_object_if_asked(store: trove.Trove, bucket: str, uploads: TroveDataStore) -> None:
    to = Destination(bucket, "there", PutOptions(if_none_match="*"))
    if not store.supports("complete"):
        with pytest.raises(trove.UnsupportedError):
            await uploads.new_upload(FileInfo(size=5, destination=to))
        assert await store.list_multipart_uploads(bucket) == []
        return
    upload_id = await uploads.new_upload(FileInfo(size=5, destination=to))
    await uploads.write_chunk(upload_id, 0, chunks(b"hello"))
    await store.put(bucket, "there", b"other")
    with pytest.raises(trove.ObjectAlreadyExistsError):
        await uploads.finish_upload(upload_id)
    assert await store.read(bucket, "there") == b"other"
    for digests in ({}, {"md5": hashlib.md5(b"hello").hexdigest()}):
        with pytest.raises(trove.ObjectAlreadyExistsError):  # before any byte is sent
            await uploads.new_upload(FileInfo(size=5, destination=to, digests=digests))
    assert len(await store.list_multipart_uploads(bucket)) == 1
    await store.delete(bucket, "there")
    await uploads.finish_upload(upload_id)
    assert await store.read(bucket, "there") == b"hello"


async def test_who_may_not_look_at_an_object_can_upload_it() -> None:
    faults = Faults([Fault("head", key="there", error=AccessDeniedError())])
    async with trove.open("memory://", layers=[faults]) as store:
        await store.create_bucket("b")
        to = Destination("b", "there", PutOptions(if_none_match="*"))
        await TroveDataStore(store, "b").new_upload(FileInfo(size=5, destination=to))
    assert [fault.operation for fault in faults.injected] == ["head"]


SIZES = [
    [1, 2, 3],
    [PART + 5, 7, 2 * PART],
    [7, PART, PART],
    [0, PART, 0, 10],
    [0],
]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
async def test_partial_uploads_are_joined(
    store: trove.Trove, bucket: str, uploads: TroveDataStore, other: TroveDataStore, sizes: list[int]
) -> None:
    pieces = [random_bytes(size, seed) for seed, size in enumerate(sizes)]
    ids = tuple([await upload(uploads, piece, is_partial=True) for piece in pieces])
    wanted = (*ids, ids[0])
    whole = b"".join([*pieces, pieces[0]])
    final = await other.new_upload(FileInfo(size=len(whole), is_final=True, partial_ids=wanted))
    await other.concat_uploads(final, wanted)
    await other.concat_uploads(final, wanted)
    info = await uploads.get_info(final)
    assert (info.is_finished, info.offset, info.partial_ids) == (True, len(whole), wanted)
    assert await store.read(bucket, final) == whole
    for each, piece in zip(ids, pieces, strict=True):
        assert await bytes_of(uploads, each) == piece


async def test_a_partial_upload_that_is_removed_meanwhile(
    store: trove.Trove, bucket: str, uploads: TroveDataStore
) -> None:
    partial = await upload(uploads, b"partial", is_partial=True)
    final = await uploads.new_upload(FileInfo(is_final=True, partial_ids=(partial,)))
    await store.delete(bucket, f".trove-uploads/{partial}.data")
    with pytest.raises(UploadNotFoundError, match="is gone"):
        await uploads.concat_uploads(final, (partial,))


async def test_only_complete_partial_uploads_are_joined(uploads: TroveDataStore) -> None:
    whole = await upload(uploads, b"whole")
    unfinished = await uploads.new_upload(FileInfo(size=5, is_partial=True))
    final = await uploads.new_upload(FileInfo(is_final=True))
    for wrong in (whole, unfinished):
        with pytest.raises(trove.InvalidArgumentError):
            await uploads.concat_uploads(final, (wrong,))
    with pytest.raises(UploadNotFoundError):
        await uploads.concat_uploads(final, ("none",))
    await uploads.write_chunk(unfinished, 0, chunks(b"12345"))
    await uploads.concat_uploads(final, (unfinished,))
    assert (await uploads.get_info(final)).size == 5


async def test_uploads_are_listed(uploads: TroveDataStore, other: TroveDataStore) -> None:
    ids = sorted([await upload(uploads, b"a"), await uploads.new_upload(FileInfo(size=5))])
    assert [info.id async for info in other.list_uploads()] == ids
