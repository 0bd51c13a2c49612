"""Orphans: stored bytes that no blob has, such as those of a writer that was killed. Changes within a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, select

from trove_async.database import insert_into
from trove_async.database.schema import among
from trove_async.managed.catalogue import new_id
from trove_async.managed.schema import BLOBS, ORPHANED, State
from trove_async.managed.storage import StoredBytes

__all__ = ["claim_orphans", "known_keys", "orphans_of"]


def known_keys(connection: Connection, space: str, keys: Iterable[str]) -> set[str]:
    """Return those of some keys that a blob of a space has, in whatever state."""
    return set(connection.scalars(select(BLOBS.c.key).where(BLOBS.c.space == space, among(BLOBS.c.key, keys))))


def orphans_of(connection: Connection, space: str, page: Sequence[StoredBytes]) -> list[StoredBytes]:
    """Return those of stored bytes that no blob of a space has."""
    known = known_keys(connection, space, [one.path for one in page])
    return [one for one in page if one.path not in known]


def claim_orphans(connection: Connection, space: str, page: Sequence[StoredBytes]) -> int:
    """Condemn those of stored bytes that no blob has, since they were stored; return how many there are.

    From then on no blob can get them: a writer that has stored them and was suspended gets an error.
    """
    orphans = orphans_of(connection, space, page)
    if orphans:
        common = {"space": space, "algorithm": ORPHANED, "digest": "", "state": State.CONDEMNED}
        rows = [
            {
                **common,
                "id": new_id(),
                "key": one.path,
                "length": one.length,
                "refs": 0,
                "held": 0,
                "pinned": False,
                "condemned_at": one.modified,
                "created_at": one.modified,
            }
            for one in orphans
        ]
        connection.execute(insert_into(connection, BLOBS).on_conflict_do_nothing(), rows)
    return len(orphans)
