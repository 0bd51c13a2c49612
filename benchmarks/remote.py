"""The common part of the backends on servers other than S3: this library's client, and the targets.

The objects that a workload reads are stored once, by this library, for all clients and rounds; every measurement of
writes has a new bucket.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import trove_async
from benchmarks.client import Account, Client, Target
from benchmarks.clients import TroveClient
from benchmarks.workloads import STREAM, Workload, in_parallel, random_bytes, random_chunks
from tests.servers import running

__all__ = ["Remote", "RemoteTroveClient", "remote_targets"]


class RemoteTroveClient(TroveClient):
    """This library."""

    async def open(self) -> None:
        account = self.target.account
        assert account is not None
        self.bucket = account.bucket
        self._trove = await trove_async.open(account.dsn)


@dataclass(frozen=True, slots=True)
class Remote:
    """A backend on a server.

    Attributes:
        server: its name in `tests.servers`.
        dsn: makes the DSN from the handle of `tests.servers`.
        clients: by name; this library's is ``trove``.
        programs: the clients that start a process for each call, and are measured on streams only.
    """

    server: str
    dsn: Callable[[Any], str]
    clients: dict[str, Callable[[Target], Client]]
    programs: frozenset[str] = frozenset()

    def account(self) -> Account:
        """Return the description of a new bucket, which does not exist yet."""
        name: Any = self.server
        handle: Any = running(name)
        return Account(self.dsn(handle), f"trove-bench-{uuid.uuid4().hex[:12]}", asdict(handle))


@contextmanager
def remote_targets(backend: str, remote: Remote, workload: Workload) -> Iterator[Callable[[str], Any]]:
    """Prepare the targets for the rounds of one workload, and remove them at the end."""
    if not workload.reads:
        yield lambda _: _target(backend, remote, None)
        return
    with _target(backend, remote, workload) as target:
        yield lambda _: nullcontext(target)


@contextmanager
def _target(backend: str, remote: Remote, filled: Workload | None) -> Iterator[Target]:
    account = remote.account()
    asyncio.run(_make(account, filled))
    try:
        yield Target(backend, account=account)
    finally:
        asyncio.run(_remove(account))


async def _make(account: Account, workload: Workload | None) -> None:
    async with trove_async.open(account.dsn) as store:
        bucket = await store.create_bucket(account.bucket)
        if workload is None:
            return
        if workload.streams:
            await bucket.put(STREAM, random_chunks(workload.size), size=workload.size)
            return
        data = random_bytes(workload.size)
        await in_parallel([lambda key=key: bucket.put(key, data) for key in workload.keys])  # type: ignore[misc]


async def _remove(account: Account) -> None:
    async with trove_async.open(account.dsn) as store:
        await store.delete_many(account.bucket, [info.key async for info in store.list(account.bucket)])
        await store.delete_bucket(account.bucket)
