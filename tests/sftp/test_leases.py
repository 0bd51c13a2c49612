"""Locks and folders of temporaries, which are valid as long as their owner lives."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

import trove_async as trove
from tests.sftp.stores import ServerName, opened, remote, without_links
from trove_async.drivers.sftp.locks import Locks
from trove_async.testing.proxy import FaultProxy

pytestmark = pytest.mark.asyncio


def locks_of(store: trove.Trove) -> Locks:
    return remote(store)._store.locks


def owner_of(store: trove.Trove) -> str:
    return remote(store)._lease.owner


def age(path: Path, seconds: float) -> None:
    """Set the last renewal of a lease to the past; client and server have the same clock here."""
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


async def test_a_lock_excludes_other_clients(server: ServerName, root: Path) -> None:
    inside = 0
    most = 0

    async def work(locks: Locks) -> None:
        nonlocal inside, most
        for _ in range(5):
            async with locks.lock(7):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.002)
                inside -= 1

    async with opened(server, root, clean=False) as one, opened(server, root, clean=False) as two:
        await asyncio.gather(*(work(locks_of(store)) for store in (one, two) for _ in range(3)))
    assert most == 1


async def test_buckets_are_made_and_removed_by_one_client_at_a_time(server: ServerName, root: Path) -> None:
    async with opened(server, root, clean=False) as one, opened(server, root, clean=False) as two:
        async with locks_of(one).lock_structure("b"):
            creating = asyncio.create_task(two.create_bucket("b"))
            await asyncio.gather(*(two.list_buckets() for _ in range(5)))
            assert not (root / "b").exists()
        await creating
        async with locks_of(one).lock_structure("b"):
            deleting = asyncio.create_task(two.delete_bucket("b"))
            await asyncio.gather(*(two.list_buckets() for _ in range(5)))
            assert (root / "b").exists()
        await deleting
        assert not (root / "b").exists()


@pytest.mark.parametrize("links", [True, False])
async def test_a_lock_of_a_dead_client_is_removed(
    server: ServerName, root: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        without_links(monkeypatch)
    async with opened(server, root, clean=False, lease=2) as dead, opened(server, root, clean=False) as store:
        await locks_of(dead).acquire(f"{root}/.trove/leases/007")
        lock = root / ".trove/leases/007"
        assert json.loads(lock.read_text())["owner"] == owner_of(dead)
        age(lock, 10)
        async with locks_of(store).lock(7):
            assert json.loads(lock.read_text())["owner"] == owner_of(store)
        assert not lock.exists()


async def test_a_lock_of_a_living_client_is_waited_for(server: ServerName, root: Path) -> None:
    async with opened(server, root, clean=False) as one, opened(server, root, clean=False) as two:
        await locks_of(one).acquire(f"{root}/.trove/leases/007")
        waiting = asyncio.create_task(locks_of(two).acquire(f"{root}/.trove/leases/007"))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await locks_of(one).release(f"{root}/.trove/leases/007")
        await waiting
        await locks_of(two).release(f"{root}/.trove/leases/007")


async def test_many_clients_find_one_abandoned_lock_and_take_it_one_at_a_time(server: ServerName, root: Path) -> None:
    async with opened(server, root, clean=False) as one, opened(server, root, clean=False) as two:
        lock = root / ".trove/leases/007"
        lock.write_text(json.dumps({"owner": "dead", "seconds": 1}))
        age(lock, 100)
        inside = 0

        async def work(store: trove.Trove) -> None:
            nonlocal inside
            async with locks_of(store).lock(7):
                assert inside == 0
                inside += 1
                await asyncio.sleep(0.01)
                inside -= 1

        await asyncio.gather(work(one), work(two), work(one), work(two))


async def test_waiting_for_a_lock_can_be_cancelled(server: ServerName, root: Path) -> None:
    async with opened(server, root, clean=False) as one, opened(server, root, clean=False) as two:
        await one.create_bucket("bucket")
        await one.put("bucket", "key", b"data")
        stripe = remote(two)._store.tree.layout.stripe("bucket", "key")
        async with locks_of(one).lock(stripe):
            tagging = asyncio.create_task(two.set_tags("bucket", "key", {"t": "1"}))
            await asyncio.sleep(0.2)
            tagging.cancel()
            with pytest.raises(asyncio.CancelledError):
                await tagging
        assert await two.get_tags("bucket", "key") == {}


async def test_a_lock_whose_answer_was_lost_is_recognised(server: ServerName, root: Path, network: FaultProxy) -> None:
    async with opened(server, root, port=network.port, lease=60) as store:
        await store.create_bucket("bucket")
        await store.put("bucket", "key", b"data")
        # Otherwise the call would wait for the lease to expire.
        for after in (0, 60, 120, 180):
            network.break_open("reset")
            await store.set_tags("bucket", "key", {"t": f"{after}"})
            assert await store.get_tags("bucket", "key") == {"t": f"{after}"}


async def test_temporaries_of_dead_clients_are_swept_and_those_of_living_clients_are_not(
    server: ServerName, root: Path
) -> None:
    tmp = root / ".trove/tmp"
    async with opened(server, root, clean=False) as living:
        mine = owner_of(living)
        (tmp / mine / "17").write_bytes(b"being written")
        (tmp / "dead").mkdir()
        (tmp / "dead/lease").write_text(json.dumps({"owner": "dead", "seconds": 60}))
        (tmp / "dead/3").write_bytes(b"half")
        (tmp / "dead/draft").mkdir()
        (tmp / "dead/draft/manifest").write_bytes(b"{}")
        age(tmp / "dead/lease", 30)
        async with opened(server, root, clean=False) as store:
            assert (tmp / "dead").exists()
            age(tmp / "dead/lease", 100)
            report = await remote(store).sweep()
            assert report.temporaries == 1
            assert sorted(os.listdir(tmp)) == sorted([mine, owner_of(store)])
            assert (tmp / mine / "17").exists()
    assert os.listdir(tmp) == []


async def test_opening_sweeps_temporaries(server: ServerName, root: Path) -> None:
    async with opened(server, root):
        pass
    dead = root / ".trove/tmp/dead"
    dead.mkdir()
    (dead / "lease").write_text("")
    age(dead / "lease", 1000)
    async with opened(server, root) as store:
        assert not dead.exists()
        assert (await remote(store).sweep()).temporaries == 1


async def test_a_lease_is_renewed(server: ServerName, root: Path) -> None:
    async with opened(server, root, lease=1) as store:
        lease = root / ".trove/tmp" / owner_of(store) / "lease"
        age(lease, 500)
        for _ in range(100):
            await asyncio.sleep(0.1)
            if lease.stat().st_mtime > time.time() - 100:
                return
        pytest.fail("it was not renewed")


async def test_orphan_sidecars_and_uploads_are_swept(server: ServerName, root: Path) -> None:
    async with opened(server, root) as store:
        await store.create_bucket("bucket")
        await store.put("bucket", "key", b"data", metadata={"a": "b"})
        (sidecar,) = (root / ".trove/meta/bucket").rglob("*.*")
        orphan = sidecar.with_name(sidecar.name + "0")
        orphan.write_bytes(sidecar.read_bytes())
        rest = root / ".trove/uploads/bucket/0123456789abcdef0123456789abcdef"
        rest.mkdir(parents=True)
        report = await remote(store).sweep()
        assert (report.sidecars, report.uploads) == (1, 1)
        assert sidecar.exists()
        assert not orphan.exists()
        assert (await store.head("bucket", "key")).metadata == {"a": "b"}
