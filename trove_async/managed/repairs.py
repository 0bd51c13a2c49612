"""What ``fsck`` finds in the tables, and how it corrects them, within a transaction.

A repair looks again at what it is about, and returns whether there was something to correct.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, Select, delete, func, literal, or_, select, tuple_, update

from trove_async.database import now
from trove_async.managed.references import References, move_references, references_of
from trove_async.managed.resources import ManagedResource
from trove_async.managed.schema import BLOBS, LINKS, State
from trove_async.managed.transitions import given_up

__all__ = ["Counted", "counted", "dangling", "kept", "live", "lose", "reattach", "recount", "recover"]

_LIVE: Final = (State.STORED, State.LOST)
_DOOMED: Final = (State.CONDEMNED, State.SWEEPING)
_NAME: Final = (LINKS.c.bucket, LINKS.c.user, LINKS.c.path)


class Counted(NamedTuple):
    """Content, and what is wrong with its count of references; empty if nothing is."""

    id: str
    digest: str
    fault: str


def kept(space: str) -> Select[Any]:
    """Return the statement for all blobs of a space whose bytes must be there, or are lost."""
    columns = (BLOBS.c.id, BLOBS.c.key, BLOBS.c.length, BLOBS.c.state, BLOBS.c.algorithm, BLOBS.c.digest)
    return select(*columns).where(BLOBS.c.space == space, BLOBS.c.state.in_(_LIVE))


def live(connection: Connection, space: str) -> int:
    """Return how many blobs there are whose bytes must be there, or are lost."""
    return connection.scalar(select(func.count()).select_from(kept(space).subquery())) or 0


def dangling(connection: Connection, space: str, after: ManagedResource | None, limit: int) -> list[ManagedResource]:
    """Return names whose content is not stored, in order."""
    unstored = or_(BLOBS.c.id.is_(None), BLOBS.c.state.not_in(_LIVE))
    wanted = (
        select(*_NAME)
        .join(BLOBS, (BLOBS.c.id == LINKS.c.blob) & (BLOBS.c.space == LINKS.c.space), isouter=True)
        .where(LINKS.c.space == space, unstored)
        .order_by(*_NAME)
        .limit(limit)
    )
    if after is not None:
        place = (literal(after.bucket), literal(after.user), literal(after.path))
        wanted = wanted.where(tuple_(*_NAME) > tuple_(*place))
    return [ManagedResource(row.bucket, row.user, row.path) for row in connection.execute(wanted).all()]


def counted(connection: Connection, space: str, after: str, limit: int) -> list[Counted]:
    """Return blobs, in the order of their ids, and what is wrong with their counts."""
    columns = (BLOBS.c.id, BLOBS.c.algorithm, BLOBS.c.digest, BLOBS.c.state, BLOBS.c.refs, BLOBS.c.held, BLOBS.c.pinned)
    wanted = (
        select(*columns)
        .where(BLOBS.c.space == space, BLOBS.c.id > after, BLOBS.c.state != State.SWEPT)
        .order_by(BLOBS.c.id)
        .limit(limit)
    )
    rows = connection.execute(wanted).all()
    found = references_of(connection, space, rows)
    return [
        Counted(row.id, f"{row.algorithm}:{row.digest}" if row.algorithm else "", _fault(row, found[row.id]))
        for row in rows
    ]


def _fault(row: Row[*tuple[Any, ...]], actual: References) -> str:
    if (row.refs, row.held) != (actual.all, actual.held):
        return (
            f"it counts {row.refs} references, {row.held} without a name, and has {actual.all}, {actual.held} without"
        )
    if row.state in _LIVE and not actual.all and not row.pinned:
        return "nobody refers to it, and it is not condemned"
    if row.state in _DOOMED and (actual.all or row.pinned):
        return f"it is condemned and has {actual.all} references" + (" and a pin" if row.pinned else "")
    return ""


def recount(connection: Connection, space: str, id: str) -> bool:
    """Count the references of a blob again; without any it is condemned, and with some it is condemned no longer."""
    row = connection.execute(select(BLOBS).where(BLOBS.c.space == space, BLOBS.c.id == id)).first()
    if row is None:
        return False
    actual = references_of(connection, space, [row])[id]
    if not _fault(row, actual):
        return False
    here = update(BLOBS).where(BLOBS.c.id == id)
    connection.execute(here.values(refs=actual.all, held=actual.held))
    used = bool(actual.all or row.pinned)
    if row.state in _LIVE and not used:
        connection.execute(here.values(state=given_up(State(row.state)), condemned_at=now()))
    elif row.state in _DOOMED and used:
        target = _restored(connection, row)
        if target != id:  # the content has been stored again: that has the references now
            move_references(connection, space, id, target)
            connection.execute(here.values(refs=0, held=0, pinned=False))
            if row.pinned:
                connection.execute(update(BLOBS).where(BLOBS.c.id == target).values(pinned=True))
            recount(connection, space, target)
    return True


def reattach(connection: Connection, space: str, resource: ManagedResource) -> bool:
    """Let a name refer to content that is stored or lost; remove it if nothing is known of its content."""
    its = (LINKS.c.space == space, *(column == value for column, value in zip(_NAME, _place(resource), strict=True)))
    blob = connection.scalar(select(LINKS.c.blob).where(*its))
    if blob is None:
        return False
    row = connection.execute(select(BLOBS).where(BLOBS.c.space == space, BLOBS.c.id == blob)).first()
    if row is None:
        connection.execute(delete(LINKS).where(*its))
        return True
    if row.state in _LIVE:
        return False
    target = _restored(connection, row)
    connection.execute(update(LINKS).where(*its).values(blob=target))
    for one in {blob, target}:
        recount(connection, space, one)
    return True


def _place(resource: ManagedResource) -> tuple[str, str, str]:
    return resource.bucket, resource.user, resource.path


def _restored(connection: Connection, row: Row[Any]) -> str:
    """Return the id of the blob that has the content of a row: one that is stored or lost, else the row's own.

    A condemned blob has its bytes; of another nobody knows whether they are there.
    """
    others = select(BLOBS.c.id).where(
        BLOBS.c.space == row.space,
        BLOBS.c.algorithm == row.algorithm,
        BLOBS.c.digest == row.digest,
        BLOBS.c.condemned_at.is_(None),
    )
    found: str | None = connection.scalar(others)
    if found is not None and found != row.id:
        return found
    state = State.STORED if row.state == State.CONDEMNED else State.LOST
    values = {"state": state, "condemned_at": None, "lease_until": None}
    connection.execute(update(BLOBS).where(BLOBS.c.id == row.id).values(**values))
    return str(row.id)


def lose(connection: Connection, space: str, id: str, key: str) -> bool:
    """Record that the bytes of a blob are missing or wrong."""
    return _mark(connection, space, id, key, State.STORED, State.LOST)


def recover(connection: Connection, space: str, id: str, key: str) -> bool:
    """Record that the bytes of a blob, which were lost, are there."""
    return _mark(connection, space, id, key, State.LOST, State.STORED)


def _mark(connection: Connection, space: str, id: str, key: str, before: State, after: State) -> bool:
    same = (BLOBS.c.space == space, BLOBS.c.id == id, BLOBS.c.key == key, BLOBS.c.state == before)
    return connection.execute(update(BLOBS).where(*same).values(state=after, lease_until=None)).rowcount == 1
