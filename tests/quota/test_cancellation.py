"""Operations that are cancelled wherever they wait: what they had reserved is given back, or stored and counted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import pytest

import trove_async as trove
from tests.quota.truth import AMPLE, held, layers, reserved, used
from trove_async.database import connect
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere

pytestmark = pytest.mark.asyncio


async def chunks() -> AsyncIterator[bytes]:
    yield b"x" * 30
    yield b"x" * 30


OPERATIONS: Mapping[str, Callable[[trove.Trove, str], Awaitable[object]]] = {
    "put": lambda t, _: t.put("b", "a", b"x" * 50),
    "stream": lambda t, _: t.put("b", "new", chunks()),
    "delete": lambda t, _: t.delete("b", "a"),
    "delete many": lambda t, _: t.delete_many("b", ["a", "c"]),
    "copy": lambda t, _: t.copy("b", "a", "b", "c"),
    "part": lambda t, upload: t.upload_part("b", "u", upload, 2, b"x" * 50),
    "abort": lambda t, upload: t.abort_multipart("b", "u", upload),
    "versioning": lambda t, _: t.set_versioning("b", True),
}


@pytest.mark.parametrize("delivery", Delivery)
@pytest.mark.parametrize("operation", [*OPERATIONS, "complete"])
async def test_cancelled_everywhere(sqlite_url: str, operation: str, delivery: Delivery, await_point_step: int) -> None:
    async with (
        connect(sqlite_url) as db,
        trove.open("memory://?min_part_size=1", layers=layers({"": AMPLE}, db)) as t,
    ):
        upload = ""
        part = trove.PartInfo(1, "", 0)

        async def prepare() -> None:
            nonlocal upload, part
            for bucket in await t.list_buckets():
                for open_upload in await t.list_multipart_uploads(bucket.name):
                    await t.abort_multipart(bucket.name, open_upload.key, open_upload.upload_id)
                await t.empty_bucket(bucket.name, versions=True)
                await t.delete_bucket(bucket.name)
            await t.create_bucket("b")
            await t.put("b", "a", b"x" * 100)
            upload = await t.initiate_multipart("b", "u")
            part = await t.upload_part("b", "u", upload, 1, b"x" * 40)

        async def work() -> None:
            if operation == "complete":
                await t.complete_multipart("b", "u", upload, [part])
            else:
                await OPERATIONS[operation](t, upload)

        async def check(outcome: Outcome[None]) -> None:
            assert outcome.error is None
            assert outcome.left_running == frozenset()
            assert await reserved(db) == 0
            assert await used(t, "") == await held(t)

        points = await cancel_everywhere(work, delivery, prepare=prepare, check=check, step=await_point_step)
        assert points >= 3
