"""What differs between services: parts of one size, conditions, and how large a state may be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio

import trove_async as trove
from tests.uploads.store.stores import PART, chunks, parts_of, upload
from trove_async.driver.base import Layer
from trove_async.driver.capabilities import MultipartDriver
from trove_async.driver.options import PutOptions
from trove_async.layers import LayerDriver, Operation
from trove_async.testing.faults import Fault, Faults
from trove_async.testing.helpers import random_bytes
from trove_async.uploads import Destination, FileInfo, MetaData, TroveDataStore

pytestmark = pytest.mark.asyncio

DATA = random_bytes(5 * PART + 77)


class Sizes:
    """A layer that notes the sizes of the parts that make up objects."""

    def __init__(self) -> None:
        self.completed: list[Sequence[int]] = []

    def __call__(self, driver: Any) -> Any:
        noted = self.completed

        class Noting(LayerDriver):
            async def around(self, operation: Operation, call: Any) -> Any:
                if operation.name == "complete_multipart":
                    noted.append([part.size for part in operation.arguments["parts"]])
                return await call()

        return Noting(driver)


@pytest.fixture
def sizes() -> Sizes:
    return Sizes()


@pytest_asyncio.fixture
async def equal(sizes: Sizes) -> AsyncIterator[trove.Trove]:
    """A store such as R2, which wants all parts but the last to have one size."""
    layers: list[Layer] = [parts_of(equal_parts=True, max_parts=8), sizes]
    async with trove.open(f"memory://?min_part_size={PART}", layers=layers) as store:
        await store.create_bucket("b")
        yield store


@pytest.mark.parametrize("step", [None, PART // 2 + 1, PART + 1])
async def test_parts_of_one_size(equal: trove.Trove, sizes: Sizes, step: int | None) -> None:
    """Also if processes take turns."""
    upload_id = await TroveDataStore(equal, "b", part_size=PART).new_upload(FileInfo(size=len(DATA)))
    for start in range(0, len(DATA), step or len(DATA)):
        piece = DATA[start : start + (step or len(DATA))]
        await TroveDataStore(equal, "b", part_size=PART).write_chunk(upload_id, start, chunks(piece))
    await TroveDataStore(equal, "b", part_size=PART).finish_upload(upload_id)
    assert await equal.read("b", upload_id) == DATA
    assert sizes.completed == [[PART] * 5 + [77]]


async def test_an_unknown_length_needs_a_maximum(equal: trove.Trove, sizes: Sizes) -> None:
    with pytest.raises(trove.UnsupportedError):
        await TroveDataStore(equal, "b", part_size=PART).new_upload(FileInfo())
    assert await equal.list_multipart_uploads("b") == []
    uploads = TroveDataStore(equal, "b", part_size=PART, max_size=8 * PART)
    upload_id = await uploads.new_upload(FileInfo())
    await uploads.write_chunk(upload_id, 0, chunks(DATA))
    await uploads.declare_length(upload_id, len(DATA))
    await uploads.finish_upload(upload_id)
    assert await equal.read("b", upload_id) == DATA
    assert sizes.completed == [[PART] * 5 + [77]]


async def test_partial_uploads_are_read_for_parts_of_one_size(equal: trove.Trove, sizes: Sizes) -> None:
    uploads = TroveDataStore(equal, "b", part_size=PART, max_size=8 * PART)
    ids = tuple([await upload(uploads, DATA[start : start + 100_000], is_partial=True) for start in (0, 100_000)])
    final = await uploads.new_upload(FileInfo(is_final=True, partial_ids=ids))
    await uploads.concat_uploads(final, ids)
    assert await equal.read("b", final) == DATA[:200_000]
    assert sizes.completed[-1] == [PART] * 3 + [200_000 - 3 * PART]


async def test_parts_grow_while_the_length_is_unknown(sizes: Sizes) -> None:
    async with trove.open("memory://?min_part_size=1", layers=[parts_of(max_parts=20), sizes]) as store:
        await store.create_bucket("b")
        uploads = TroveDataStore(store, "b", part_size=10, memory=100_000)
        upload_id = await uploads.new_upload(FileInfo())
        await uploads.write_chunk(upload_id, 0, chunks(DATA[:10_000], 77))
        await uploads.declare_length(upload_id, 10_000)
        await uploads.finish_upload(upload_id)
        assert await store.read("b", upload_id) == DATA[:10_000]
        assert sizes.completed[-1][:5] == [10, 10, 20, 20, 40]
        assert len(sizes.completed[-1]) <= 20


@pytest.mark.parametrize(
    "without", [{"put_if_match"}, {"put_if_none_match"}, {"put_if_match", "put_if_none_match", "delete", "get"}]
)
async def test_fewer_conditions(without: set[str]) -> None:
    """Two processes that keep to the rules take turns; ids stay unique."""
    async with trove.open("memory://?min_part_size=1", layers=[parts_of(without=frozenset(without))]) as store:
        await store.create_bucket("b")
        pair = [TroveDataStore(store, "b", part_size=1000) for _ in range(2)]
        await pair[0].new_upload(FileInfo(id="chosen", size=10_000))
        with pytest.raises(trove.ConflictError):
            await pair[1].new_upload(FileInfo(id="chosen", size=1))
        for number, start in enumerate(range(0, 10_000, 700)):
            await pair[number % 2].write_chunk("chosen", start, chunks(DATA[start : min(start + 700, 10_000)]))
        await pair[0].finish_upload("chosen")
        assert await store.read("b", "chosen") == DATA[:10_000]
        async with await pair[1].get_reader("chosen") as reader:
            assert b"".join([bytes(chunk) async for chunk in reader]) == DATA[:10_000]


async def test_a_state_that_no_condition_can_protect() -> None:
    """Ceph has none in buckets that keep versions, and S3 none for bodies of more than a part."""
    faults = Faults([Fault("put", error=trove.UnsupportedError, skip=number) for number in range(0, 40, 2)])
    async with trove.open("memory://?min_part_size=1", layers=[parts_of(), faults]) as store:
        await store.create_bucket("b")
        uploads = TroveDataStore(store, "b", part_size=1000)
        await upload(uploads, DATA[:5000], 300, id="chosen")
        assert await store.read("b", "chosen") == DATA[:5000]


async def test_a_condition_that_cannot_be_honoured_is_refused_at_once() -> None:
    async with trove.open("memory://", layers=[parts_of(without=frozenset({"complete", "copy"}))]) as store:
        await store.create_bucket("b")
        uploads = TroveDataStore(store, "b")
        for options in (PutOptions(if_none_match="*"), PutOptions(if_match="x")):
            for digests in ({}, {"md5": "0" * 32}):
                to = Destination("b", "k", options)
                with pytest.raises(trove.UnsupportedError):
                    await uploads.new_upload(FileInfo(size=1, destination=to, digests=digests))
        assert await store.list_multipart_uploads("b") == []


async def test_a_manifest_of_any_size() -> None:
    async with trove.open("memory://?min_part_size=1", layers=[parts_of()]) as store:
        await store.create_bucket("b")
        pair = [TroveDataStore(store, "b", part_size=20) for _ in range(2)]
        metadata = MetaData({f"name{number}": bytes([number]) * 90 for number in range(110)})
        data = DATA[:40_009]
        upload_id = await pair[0].new_upload(FileInfo(size=len(data), metadata=metadata))
        await pair[0].write_chunk(upload_id, 0, chunks(data[:40_001]))
        info = await pair[1].get_info(upload_id)
        assert (info.offset, info.metadata) == (40_001, metadata)
        await pair[1].write_chunk(upload_id, 40_001, chunks(data[40_001:]))
        await pair[1].finish_upload(upload_id)
        assert await store.read("b", upload_id) == data


async def test_a_store_without_parts_is_refused() -> None:
    class NoParts(LayerDriver):
        drops = {MultipartDriver: "a test"}  # noqa: RUF012

    async with trove.open("memory://", layers=[NoParts]) as store:
        with pytest.raises(trove.UnsupportedError):
            TroveDataStore(store, "b")


@pytest.mark.parametrize(
    "wrong",
    [
        {"part_size": 0},
        {"memory": -1},
        {"memory": 5},
        {"max_size": 1.5},
        {"expires": 0},
        {"expires": True},
        {"state": "/prefix"},
        {"bucket": ""},
    ],
    ids=str,
)
async def test_arguments_are_checked(wrong: dict[str, Any]) -> None:
    async with trove.open("memory://", layers=[parts_of()]) as store:
        with pytest.raises(trove.InvalidArgumentError):
            TroveDataStore(**{"store": store, "bucket": "b", **wrong})


async def test_states_elsewhere() -> None:
    async with trove.open("memory://") as store:
        for bucket in ("files", "states", "other"):
            await store.create_bucket(bucket)
        uploads = TroveDataStore(store, "files", state="states/of/uploads-")
        upload_id = await upload(uploads, b"hello")
        await upload(uploads, b"there", destination=Destination("other", "key"))
        partial = await upload(uploads, b"part", is_partial=True)
        keys = [each.key async for each in store.list("states")]
        assert f"of/uploads-{upload_id}" in keys
        assert f"of/uploads-{partial}.data" in keys
        assert [each.key async for each in store.list("files")] == [upload_id]
        assert await store.read("other", "key") == b"there"


async def test_an_object_that_was_replaced_is_not_read() -> None:
    async with trove.open("memory://") as store:
        await store.create_bucket("b")
        uploads = TroveDataStore(store, "b")
        upload_id = await upload(uploads, b"hello")
        await store.put("b", upload_id, b"other")
        with pytest.raises(trove.PreconditionFailedError):
            await uploads.get_reader(upload_id)


@pytest.mark.parametrize("driver", ["ceph", "local", "azure"], indirect=True)
async def test_a_bucket_that_keeps_versions(
    store: trove.Trove, bucket: str, uploads: TroveDataStore, other: TroveDataStore
) -> None:
    if store.supports("versioning"):
        await store.set_versioning(bucket, True)
    try:
        upload_id = await uploads.new_upload(FileInfo(id="chosen", size=len(DATA)))
        for number, start in enumerate(range(0, len(DATA), PART // 2)):
            await (other if number % 2 else uploads).write_chunk(
                upload_id, start, chunks(DATA[start : start + PART // 2])
            )
        await uploads.finish_upload(upload_id)
        assert await store.read(bucket, upload_id) == DATA
        await uploads.terminate(upload_id)
    finally:
        await store.empty_bucket(bucket, versions=store.supports("versioning"))
