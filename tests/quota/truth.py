"""What a store holds, found out without a quota, and stores with one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import text

import trove_async as trove
from trove_async.database import Database
from trove_async.layers import Layer

Sizes = tuple[int, int]
"""Bytes and objects."""

AMPLE = trove.QuotaLimit(bytes=2**40, objects=2**40)


def quota_of(store: trove.Trove) -> trove.QuotaDriver:
    return trove.unwrap(store.driver, trove.QuotaDriver)


async def used(store: trove.Trove, name: str = "b") -> Sizes:
    """Return what a quota counts under one of its limits."""
    found = {usage.quota: usage for usage in await quota_of(store).usage()}
    return found[name].bytes, found[name].objects


async def held(store: trove.Trove, bucket: str = "b", prefix: str = "") -> Sizes:
    """Return what is there: objects, versions and the parts of open uploads."""
    versions = [version async for version in store.list_all_versions(bucket, prefix=prefix)]
    sizes = [version.size for version in versions if not version.is_delete_marker]
    parts = 0
    for upload in await store.list_multipart_uploads(bucket, prefix=prefix):
        parts += sum(part.size for part in await store.list_parts(bucket, upload.key, upload.upload_id))
    return sum(sizes) + parts, len(sizes)


async def reserved(database: Database) -> int:
    """Return how many operations have a reservation."""
    found: int = await database.read(
        lambda connection: connection.execute(text("SELECT count(*) FROM trove_quota_reservations")).scalar_one()
    )
    return found


async def expire_leases(database: Database) -> None:
    """Let the leases of processes that have died end now."""
    await database.write(lambda connection: connection.execute(text("UPDATE trove_leases SET expires_at = 0")))


def layers(
    limits: Mapping[str, trove.QuotaLimit] | None, database: str | Database | None, lease: float = 30.0
) -> Sequence[Layer]:
    return [trove.Quota(limits, database=database, lease=lease)]
