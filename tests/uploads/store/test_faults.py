"""Requests that fail while a chunk is written, each in turn: the upload continues in this process and in others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

import trove_async as trove
from tests.uploads.store.stores import Parts, chunks
from trove_async.driver.base import Layer
from trove_async.testing.faults import Fault, Faults, When
from trove_async.testing.helpers import random_bytes
from trove_async.uploads import FileInfo, TroveDataStore

pytestmark = pytest.mark.asyncio

DATA = random_bytes(5000)
Write = Callable[[TroveDataStore, str, int, int], Awaitable[int]]


async def plain(uploads: TroveDataStore, upload_id: str, start: int, stop: int) -> int:
    return await uploads.write_chunk(upload_id, start, chunks(DATA[start:stop], 100))


async def verified(uploads: TroveDataStore, upload_id: str, start: int, stop: int) -> int:
    return await uploads.write_verified_chunk(upload_id, start, chunks(DATA[start:stop], 100), lambda: None)


@pytest.mark.parametrize("write", [plain, verified])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", ["grows", "parts"])
async def test_each_request_fails_once(kind: str, when: When, write: Write) -> None:
    faults = Faults([])
    layers: list[Layer] = [faults] if kind == "grows" else [Parts, faults]
    async with trove.open("memory://?min_part_size=1", layers=layers) as store:
        await store.create_bucket("b")
        point, struck = 0, True
        while struck:
            uploads = TroveDataStore(store, "b", part_size=1000)
            upload_id = await uploads.new_upload(FileInfo(size=len(DATA)))
            await uploads.write_chunk(upload_id, 0, chunks(DATA[:300]))
            before = len(faults.injected)
            faults.add(Fault("*", error=trove.UnavailableError, skip=point, when=when))
            offset = 300
            with suppress(trove.UnavailableError):
                offset += await write(uploads, upload_id, 300, 3700)
            faults.clear()
            struck, point = len(faults.injected) > before, point + 1
            seen = [(await each.get_info(upload_id)).offset for each in (uploads, TroveDataStore(store, "b"))]
            assert offset <= seen[0] == seen[1] <= 3700
            await write(uploads, upload_id, seen[0], len(DATA))
            await uploads.finish_upload(upload_id)
            assert await store.read("b", upload_id) == DATA
            assert await store.list_multipart_uploads("b") == []
        assert point > 2


async def test_a_creation_that_fails_leaves_nothing() -> None:
    faults = Faults([])
    async with trove.open("memory://", layers=[faults]) as store:
        await store.create_bucket("b")
        uploads = TroveDataStore(store, "b")
        for skip in (0, 1):
            for when in ("before", "after"):
                faults.add(Fault("*", error=trove.UnavailableError, skip=skip, when=when))
                with pytest.raises(trove.UnavailableError):
                    await uploads.new_upload(FileInfo(id="chosen", size=5))
                faults.clear()
                assert [each.key async for each in store.list("b")] == []
                if (skip, when) != (0, "after"):  # nobody learns the id of the backend's upload: the sweeper finds it
                    assert await store.list_multipart_uploads("b") == []
                for left in await store.list_multipart_uploads("b"):
                    await store.abort_multipart("b", left.key, left.upload_id)
