"""A process is killed while it writes: the next one continues, and the object has the bytes of the upload."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from tests.payload import pattern
from tests.servers import running
from tests.uploads.store.stores import bucket_in
from tests.uploads.store.victim import READ, Victim
from trove_async.driver.capabilities import AppendDriver
from trove_async.uploads import FileInfo, TroveDataStore

pytestmark = pytest.mark.asyncio

MIB = 1024 * 1024
PART = 256 * 1024
SIZE = 6 * MIB + 321
AHEAD = 64 * 1024  # what drivers read while they write


def target(name: str, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    if name == "local":
        (tmp_path / "root").mkdir()
        return f"local://{tmp_path}/root?fsync=0", {}
    ceph = running("ceph")
    keys = {"access_key": ceph.access_key, "secret_key": ceph.secret_key}
    return f"s3://{ceph.region}/", {
        "endpoint": ceph.endpoint,
        "profile": "ceph",
        "part_size": MIB,
        "min_part_size": PART,
        **keys,
    }


@pytest.mark.parametrize("name", ["local", "ceph"])
@pytest.mark.parametrize("step", [SIZE, 100_000], ids=["one chunk", "small chunks"])
async def test_killed_at_random(request: pytest.FixtureRequest, tmp_path: Path, name: str, step: int) -> None:
    chosen = random.Random(step)
    dsn, settings = target(name, tmp_path)
    data = pattern(SIZE)
    kills = 50 if request.config.getoption("trove_long") else 3 if step == SIZE else 2
    async with trove.open(dsn, **settings) as store, bucket_in(store) as bucket:
        appends = store.supports(AppendDriver)
        while kills:
            upload_id = await TroveDataStore(store, bucket, part_size=PART).new_upload(FileInfo(size=SIZE))
            offset = 0
            while offset < SIZE and kills:
                ask = {"dsn": dsn, "bucket": bucket, "upload_id": upload_id, "size": SIZE, "settings": settings}
                with Victim(**ask, offset=offset, step=step, part=PART) as victim:
                    victim.kill_at(chosen.randrange(offset, SIZE + 1))
                kills -= 1
                # Another process continues; nobody knows what the one before had in memory.
                offset = (await TroveDataStore(store, bucket, part_size=PART).get_info(upload_id)).offset
                assert victim.acknowledged <= offset <= victim.read
                # The last piece that was read may not have been taken yet.
                lost = AHEAD + READ if appends else PART + MIB + READ
                assert offset >= victim.read - lost
            uploads = TroveDataStore(store, bucket, part_size=PART)
            if offset < SIZE:
                rest = data[offset:]
                await uploads.write_chunk(upload_id, offset, _chunks(rest))
            await uploads.finish_upload(upload_id)
            assert await store.read(bucket, upload_id) == data


async def _chunks(data: bytes) -> Any:
    yield data
