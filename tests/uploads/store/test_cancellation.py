"""Calls that are cancelled wherever they wait: nothing is left over, and the upload continues."""

from __future__ import annotations

import hashlib

import pytest

import trove_async as trove
from tests.uploads.store.conftest import Clock
from tests.uploads.store.stores import PART, chunks, clean, upload
from trove_async.testing.helpers import random_bytes
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere
from trove_async.uploads import FileInfo, TroveDataStore

pytestmark = pytest.mark.asyncio

DATA = random_bytes(2 * PART + 321)
MD5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()
LONG = [pytest.param(name, marks=pytest.mark.long) for name in ("azure", "gcs", "sftp")]
"""Moto answers 500 to a part of an upload that was completed."""
OPERATIONS = [
    "create",
    "write",
    "continue",
    "verify",
    "finish",
    "finish with a digest",
    "finish empty",
    "terminate",
    "join",
]


class Case:
    """An operation on an upload, what is prepared for it, and what holds after it."""

    def __init__(self, store: trove.Trove, bucket: str, operation: str, clock: Clock) -> None:
        self.store, self.bucket, self.operation, self.clock = store, bucket, operation, clock
        self.uploads = self.process()
        self.id = ""
        self.partial_ids: tuple[str, ...] = ()
        self.data = b"" if operation == "finish empty" else DATA
        self.least = 0

    def process(self) -> TroveDataStore:
        return TroveDataStore(self.store, self.bucket, part_size=PART, memory=8 * PART, now=self.clock)

    async def prepare(self) -> None:
        await clean(self.store, self.bucket)
        self.uploads, self.id, self.least = self.process(), "upload", 0
        match self.operation:
            case "join":
                pieces = (DATA[:10], DATA[10 : PART + 10], DATA[PART + 10 :])
                self.partial_ids = tuple([await upload(self.uploads, each, is_partial=True) for each in pieces])
                await self.uploads.new_upload(FileInfo(id="upload", size=len(DATA), is_final=True))
            case "create":
                return
            case "finish empty":
                await self.uploads.new_upload(FileInfo(id="upload"))
                await self.uploads.declare_length(self.id, 0)
            case "finish with a digest":
                await self.uploads.new_upload(FileInfo(id="upload", size=len(DATA), digests={"md5": MD5}))
            case _:
                await self.uploads.new_upload(FileInfo(id="upload", size=len(DATA)))
        self.least = {"continue": PART + 5, "terminate": PART + 5, "join": 0, "write": 0, "verify": 7}.get(
            self.operation, len(self.data)
        )
        if self.least:
            await self.uploads.write_chunk(self.id, 0, chunks(DATA[: self.least]))

    async def work(self) -> None:
        match self.operation:
            case "create":
                await self.uploads.new_upload(FileInfo(id="upload", size=len(DATA)))
            case "terminate":
                await self.uploads.terminate(self.id)
            case "join":
                await self.uploads.concat_uploads(self.id, self.partial_ids)
            case "verify":
                await self.uploads.write_verified_chunk(self.id, self.least, chunks(DATA[self.least :]), lambda: None)
            case "write" | "continue":
                await self.uploads.write_chunk(self.id, self.least, chunks(DATA[self.least :]))
            case _:
                await self.uploads.finish_upload(self.id)

    async def check(self, outcome: Outcome[None]) -> None:
        assert outcome.error is None, outcome.where
        assert outcome.left_running == frozenset()
        info, uploads = FileInfo(), self.process()
        for each in (self.uploads, uploads):
            try:
                info = await each.get_info(self.id)
            except trove.UploadNotFoundError:
                assert self.operation in ("create", "terminate")
                assert await self.store.list_multipart_uploads(self.bucket) == []
                assert not await self.store.exists(self.bucket, self.id)
                continue
            assert self.least <= info.offset <= len(self.data)
        if self.operation in ("create", "terminate"):
            return
        if self.operation == "join":
            await uploads.concat_uploads(self.id, self.partial_ids)
        elif not info.is_finished:
            if info.size is None:
                await uploads.declare_length(self.id, 0)
            await uploads.write_chunk(self.id, info.offset, chunks(self.data[info.offset :]))
        await self.uploads.finish_upload(self.id)
        assert await self.store.read(self.bucket, self.id) == self.data, outcome.where
        assert await self.store.list_multipart_uploads(self.bucket) == []
        assert self.uploads.budget.used == 0


@pytest.mark.parametrize("delivery", [Delivery.PENDING, pytest.param(Delivery.REPEATED, marks=pytest.mark.long)])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("driver", ["memory", "parts", "local", "ceph", *LONG], indirect=True)
async def test_cancelled_everywhere(
    store: trove.Trove,
    bucket: str,
    driver: str,
    operation: str,
    delivery: Delivery,
    clock: Clock,
    await_point_step: int,
) -> None:
    case = Case(store, bucket, operation, clock)
    step = 1 if driver in ("memory", "parts", "local") else await_point_step
    points = await cancel_everywhere(case.work, delivery, prepare=case.prepare, check=case.check, step=step)
    assert points or driver in ("memory", "parts")
