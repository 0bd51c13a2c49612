"""Large objects, read over several connections of a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.s3.stores import ServerName, busy, opened, pattern
from trove_async.driver.pace import Pace
from trove_async.errors import ObjectChangedError
from trove_async.store import lifetime, ranged
from trove_async.testing.proxy import ConnectionFault, FaultProxy

pytestmark = pytest.mark.asyncio

RANGE = 256 * 1024
DATA = pattern(20 * RANGE + 17)


class AtOnce(Pace):
    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.width = limit

    def arrived(self, size: int, now: float) -> None:
        """Change nothing."""


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranged, "RANGE_SIZE", RANGE)
    monkeypatch.setattr(lifetime, "RANGE_SIZE", RANGE)
    monkeypatch.setattr(ranged, "_LEAST", RANGE)
    monkeypatch.setattr(ranged, "Pace", AtOnce)


@pytest.mark.parametrize("checksum", [None, "sha256"])
async def test_it_comes_over_a_bounded_number_of_connections(
    server: ServerName, bucket: str, network: FaultProxy, tmp_path: Path, checksum: str | None
) -> None:
    network.inject(ConnectionFault(rate=20e6), times=None)
    async with opened(server) as direct, opened(server, network.url(), connections=16) as store:
        await direct.put(bucket, "key", DATA, checksum=checksum)
        assert await store.read(bucket, "key") == DATA
        # That of the first answer, whose remainder is not wanted; and one may be asked for before another is free.
        assert 2 <= len(network.connections) <= 1 + 4 + 1
        await store.download(bucket, "key", tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == DATA
        async with store.get(bucket, "key") as reader:
            assert b"".join([chunk async for chunk in reader]) == DATA
        assert await store.read(bucket, "key", (5, 10 * RANGE)) == DATA[5 : 5 + 10 * RANGE]


async def test_connections_that_break_are_replaced(server: ServerName, bucket: str, network: FaultProxy) -> None:
    async with opened(server) as direct, opened(server, network.url()) as store:
        await direct.put(bucket, "key", DATA)
        network.script([None, *[ConnectionFault(reset_down_after=RANGE // 2)] * 8])
        assert await store.read(bucket, "key") == DATA
        assert len(network.strikes) >= 4


async def test_an_object_that_is_replaced_meanwhile_is_never_spliced(
    server: ServerName, bucket: str, network: FaultProxy
) -> None:
    network.inject(ConnectionFault(rate=20e6), times=None)
    async with opened(server) as direct, opened(server, network.url(), connections=8) as store:
        await direct.put(bucket, "key", DATA)
        async with store.get(bucket, "key") as reader:
            read = await reader.read(1000)
            await direct.put(bucket, "key", bytes(len(DATA)))
            with pytest.raises(ObjectChangedError):  # noqa: PT012 - one of the reads raises
                while chunk := await reader.read(10_000):
                    read += chunk
                    assert DATA.startswith(read)
        assert busy(store) == 0


async def test_a_small_pool_is_not_taken_by_one_reader(server: ServerName, bucket: str, network: FaultProxy) -> None:
    async with opened(server) as direct, opened(server, network.url(), connections=4) as store:
        await direct.put(bucket, "key", DATA)
        assert await store.read(bucket, "key") == DATA
        assert len(network.connections) == 1
