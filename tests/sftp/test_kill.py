"""A client that is killed at any moment leaves complete objects, and only leftovers that a sweep removes."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.drivers.local_victim import SOURCE, number_of
from tests.drivers.test_local_kill import REPOSITORY, Expected, run_and_kill
from tests.sftp.residue import residue_of
from tests.sftp.stores import ServerName, dsn_of, handle_of, opened, remote
from tests.sftp.victim import BUCKET, PART_SIZE
from trove_async.types import ObjectInfo

KILLS = 10
LEASE = 1.0


@pytest.fixture
def zygote() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.sftp.victim"]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("batch", [0, *(pytest.param(batch, marks=pytest.mark.long) for batch in range(1, 5))])
def test_killed_clients_leave_complete_objects(
    zygote: subprocess.Popen[str], server: ServerName, root: Path, batch: int
) -> None:
    chance = random.Random(f"{batch} {server}")
    handle = handle_of(server)
    found: dict[str, str] = {}
    asyncio.run(_prepare(server, root))
    for kill in range(KILLS):
        dsn = f"{dsn_of(server, root)}?key={quote(handle.client_key)}&known_hosts={quote(handle.known_hosts)}"
        dsn += f"&fsync={kill % 2}&min_part_size={PART_SIZE}&lease={LEASE}"
        expected = Expected(found)
        run_and_kill(zygote, dsn, batch * KILLS + kill, chance, expected)
        found = asyncio.run(_examine(server, root))
        expected.check(found)
    asyncio.run(_sweep(server, root))


async def _prepare(server: ServerName, root: Path) -> None:
    async with opened(server, root) as store:
        await store.create_bucket(BUCKET)


async def _examine(server: ServerName, root: Path) -> dict[str, str]:
    """Return the content of each key; fail unless all of it is complete."""
    found: dict[str, str] = {}
    async with opened(server, root, lease=LEASE, clean=False) as store:
        for listed in await store.list(BUCKET).all():
            async with store.get(BUCKET, listed.key) as reader:
                number = _number(reader.info, await reader.read())
                assert (reader.info.etag, reader.info.size) == (listed.etag, listed.size)
            if not listed.key.endswith(SOURCE):
                found[f"{BUCKET}/{listed.key}"] = number
    return found


def _number(info: ObjectInfo, data: bytes) -> str:
    assert len(data) == info.size
    number = number_of(data)
    assert info.metadata["number"] == number
    return number


async def _sweep(server: ServerName, root: Path) -> None:
    """Assert that nothing is left after the leases of dead clients have expired."""
    async with opened(server, root, lease=LEASE) as store:
        for upload in await store.list_multipart_uploads(BUCKET):
            await store.abort_multipart(BUCKET, upload.key, upload.upload_id)
        keys = [info.key for info in await store.list(BUCKET).all()]
        await store.delete_many(BUCKET, keys)
        await store.delete_bucket(BUCKET)
        while len(list((root / ".trove/tmp").iterdir())) > 1:
            await asyncio.sleep(0.2)
            await remote(store).sweep()
        assert residue_of(root) == []
