"""What managed storage holds, found out from its tables and its bucket."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any, NamedTuple

from sqlalchemy import Connection, select, update

from trove_async.database import now
from trove_async.managed import ManagedStorage, ResourceCatalog, StoreResourceStorage
from trove_async.managed.schema import ATTEMPTS, BLOBS, LINKS, REQUESTS, State
from trove_async.managed.storage import path_of

BUCKET = "bytes"


def sha384(data: bytes) -> str:
    return hashlib.sha384(data).hexdigest()


class Rows(NamedTuple):
    blobs: list[Any]
    links: list[Any]
    requests: list[Any]


async def rows(m: ManagedStorage) -> Rows:
    """Return the rows of a space."""

    def unit(connection: Connection) -> Rows:
        found = [
            [*connection.execute(select(table).where(table.c.space == m.catalogue.space)).all()]
            for table in (BLOBS, LINKS, REQUESTS)
        ]
        return Rows(*found)

    return await m.catalogue.database.read(unit)


async def stored(m: ManagedStorage) -> dict[str, bytes]:
    """Return the bytes in the bucket, by their path."""
    storage = m.storage
    assert isinstance(storage, StoreResourceStorage)
    keys = [info.key async for info in storage.store.list(storage.bucket, storage.prefix)]
    return {key.removeprefix(storage.prefix): await storage.store.read(storage.bucket, key) for key in keys}


async def path_in(m: ManagedStorage, id: str) -> str:
    """Return the path of bytes that no blob has, for an id that is not one."""
    return path_of(await m.catalogue.folder(), id)


async def check(m: ManagedStorage, *, strays: int | None = 0) -> None:
    """Check that references equal links, and that exactly the bytes of the catalogue are there.

    Args:
        m: at rest.
        strays: how many keys there are that the catalogue does not know; None for any number.
    """
    found, objects = await rows(m), await stored(m)
    names = Counter(link.blob for link in found.links)
    live = Counter(blob.digest for blob in found.blobs if blob.condemned_at is None)
    assert set(live.values()) <= {1}
    assert names.keys() <= {blob.id for blob in found.blobs}
    for blob in found.blobs:
        assert blob.refs == names[blob.id] + blob.held
        assert (blob.refs == 0 and not blob.pinned) == (blob.condemned_at is not None)
        if blob.state == State.PENDING:
            assert not blob.key
            assert not names[blob.id]
        else:
            data = objects.pop(blob.key)
            assert (sha384(data), len(data)) == (blob.digest, blob.length)
    if strays is not None:
        assert len(objects) == strays


async def live(m: ManagedStorage) -> list[Any]:
    """Return the blobs that are pending or stored."""
    return [blob for blob in (await rows(m)).blobs if blob.condemned_at is None]


async def age(m: ManagedStorage, seconds: float) -> None:
    """Let time pass: for leases, requests, their limits, and what is condemned."""
    shift = round(seconds * 1_000_000)

    def unit(connection: Connection) -> None:
        for column in (BLOBS.c.lease_until, BLOBS.c.condemned_at, REQUESTS.c.expires_at, ATTEMPTS.c.made_at):
            table = column.table
            connection.exec_driver_sql(f"UPDATE {table.name} SET {column.name} = {column.name} - {shift}")

    await m.catalogue.database.write(unit)


async def lose(catalogue: ResourceCatalog, digest: str) -> None:
    """Record that the bytes of content are missing, as `fsck` does."""
    where = (BLOBS.c.space == catalogue.space) & (BLOBS.c.digest == digest)
    lost = update(BLOBS).where(where, BLOBS.c.condemned_at.is_(None)).values(state=State.LOST)
    await catalogue.database.write(lambda connection: _run(connection, lost))


async def expire_exactly(m: ManagedStorage, *, past: bool) -> None:
    """Let all requests end now, or in an hour."""
    end = now() if past else now(seconds=3600)
    await m.catalogue.database.write(lambda connection: _run(connection, update(REQUESTS).values(expires_at=end)))


def _run(connection: Connection, statement: Any) -> None:
    connection.execute(statement)
