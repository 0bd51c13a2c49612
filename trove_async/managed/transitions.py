"""The state machine of blobs, as changes within a transaction.

::

              announce               store, complete              revive
    (none) ─────────────▶ pending ────────────────────▶ stored ◀───────── condemned
       │                     │                            ▲ │                ▲  │
       │                     │ no reference left, or      │ │ no reference   │  │ doom
       │                     │ replaced after its lease   │ │ left           │  ▼
       │                     ▼                            │ └────────────────┘ sweeping
       │                  (none)                          │                     │ erase
       └──────────────────────────────────────────────────┘                     ▼
                                 store                                        (none)

``fsck`` makes a stored blob *lost* if its bytes are missing or wrong; `Blobs.store` and `Blobs.complete` make it stored
again. If nobody refers to it any more it is sweeping at once, since nothing may take wrong bytes back. Bytes that no
blob has get a row of their own, which is condemned, then sweeping, then *swept*.

`Blobs` is used in a unit of `trove_async.database.Database.write`: it reads the blobs that the unit names, changes them
in memory, and writes them by `Blobs.flush`. A unit that fails has changed nothing. All times are the database's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    Connection,
    Row,
    Select,
    Subquery,
    bindparam,
    case,
    delete,
    func,
    select,
    type_coerce,
    update,
)

from trove_async.database import Timestamp, insert_into, now
from trove_async.database.schema import among
from trove_async.managed.schema import BLOBS, ORPHANED, State

__all__ = ["COLUMNS", "Blob", "Blobs", "Content", "Doomed", "doom", "drop_expired", "erase", "expired", "given_up"]


class Content(NamedTuple):
    """Bytes that a writer has stored.

    Attributes:
        id: of the blob, if they become one; random.
        algorithm: of the digest, such as ``sha384``.
        digest: of the bytes, lower-case hex.
        key: where they are.
        length: bytes.
    """

    id: str
    algorithm: str
    digest: str
    key: str
    length: int


@dataclass(slots=True)
class Blob:
    """A row of blobs, as a transaction sees and changes it. The attributes are its columns.

    Attributes:
        expired: whether it is pending, and the lease of its writers has ended.
    """

    id: str
    algorithm: str
    digest: str
    key: str
    length: int
    state: State
    refs: int
    held: int
    pinned: bool
    expired: bool = False

    @property
    def unused(self) -> bool:
        """Whether nothing keeps it."""
        return self.refs == 0 and not self.pinned


_FIELDS: Final = ("id", "algorithm", "digest", "key", "length", "state", "refs", "held", "pinned")
_FIELDS_OF: Final = attrgetter(*(f"blob_{name}" for name in _FIELDS))
_EXPIRED: Final = func.coalesce(BLOBS.c.lease_until <= now(), False).label("expired")
COLUMNS: Final = [*(BLOBS.c[name].label(f"blob_{name}") for name in _FIELDS), _EXPIRED]
"""What `Blobs.adopt` takes, for statements that join other tables."""

_LIVE: Final = select(*COLUMNS).where(
    BLOBS.c.space == bindparam("space"),
    BLOBS.c.algorithm == bindparam("algorithm"),
    among(BLOBS.c.digest, bindparam("digests")),
    BLOBS.c.condemned_at.is_(None),
)
_CONDEMNED: Final = select(*COLUMNS, BLOBS.c.condemned_at).where(
    BLOBS.c.space == bindparam("space"),
    BLOBS.c.algorithm == bindparam("algorithm"),
    BLOBS.c.digest == bindparam("digest"),
    BLOBS.c.condemned_at.is_not(None),
    BLOBS.c.state == State.CONDEMNED,
)
_NAMED: Final = select(*COLUMNS).where(BLOBS.c.space == bindparam("space"), among(BLOBS.c.id, bindparam("ids")))

# `lease` is in microseconds; None for no lease, or for the one that the blob has.
_LEASE: Final = type_coerce(type_coerce(now(), BigInteger()) + bindparam("lease", type_=BigInteger()), Timestamp())
# Content that is stored and loses its name in one transaction is condemned when it is inserted.
_CONDEMNED_AT: Final = case(
    *((bindparam("new_state") == state, now()) for state in (State.CONDEMNED, State.SWEEPING)), else_=None
)
_CHANGING: Final = ("key", "length", "state", "refs", "held", "pinned")
_UPDATE: Final = (
    update(BLOBS)
    .where(BLOBS.c.id == bindparam("its_id"))
    .values(
        **{name: bindparam(f"new_{name}") for name in _CHANGING},
        lease_until=func.coalesce(_LEASE, BLOBS.c.lease_until),
        condemned_at=_CONDEMNED_AT,
    )
)
# What most changes are, for many blobs at once. `_UPDATE` names the key, and SQLite would write its index for each row.
_COUNT: Final = (
    update(BLOBS)
    .where(among(BLOBS.c.id, bindparam("ids")))
    .values(
        state=bindparam("new_state"),
        refs=BLOBS.c.refs + bindparam("more_refs"),
        held=BLOBS.c.held + bindparam("more_held"),
        condemned_at=_CONDEMNED_AT,
    )
)
_DELETE: Final = delete(BLOBS).where(BLOBS.c.id == bindparam("its_id"))
_inserts: Final[dict[str, Any]] = {}


def _insert(connection: Connection) -> Any:
    name = connection.dialect.name
    if name not in _inserts:
        given: dict[str, Any] = {field: bindparam(f"new_{field}") for field in ("space", *_FIELDS)}
        given |= {"lease_until": _LEASE, "condemned_at": _CONDEMNED_AT, "created_at": now()}
        values = insert_into(connection, BLOBS).values(**given)
        # A row for this content that another transaction has inserted since makes PostgreSQL repeat this one. That the
        # key has another row is an error: the sweep has taken the bytes for abandoned.
        _inserts[name] = values.on_conflict_do_nothing(
            index_elements=[BLOBS.c.space, BLOBS.c.algorithm, BLOBS.c.digest],
            index_where=BLOBS.c.condemned_at.is_(None),
        )
    return _inserts[name]


class Blobs:
    """The blobs that a transaction reads and changes.

    Args:
        connection: of the transaction.
        space: of the store.
    """

    def __init__(self, connection: Connection, space: str) -> None:
        self._connection = connection
        self._space = space
        self._by_id: dict[str, Blob] = {}
        self._live: dict[tuple[str, str], Blob | None] = {}
        self._new: set[str] = set()
        self._changed: set[str] = set()
        self._counted: dict[str, tuple[int, int]] = {}
        self._gone: set[str] = set()
        self._leases: dict[str, int] = {}

    def load(self, algorithm: str, digests: Iterable[str]) -> None:
        """Read the blobs of digests that are not condemned, in one statement."""
        wanted = [digest for digest in dict.fromkeys(digests) if (algorithm, digest) not in self._live]
        if not wanted:
            return
        self._live.update({(algorithm, digest): None for digest in wanted})
        values = {"space": self._space, "algorithm": algorithm, "digests": wanted}
        for row in self._connection.execute(_LIVE, values).all():
            self.adopt(row)

    def live(self, algorithm: str, digest: str) -> Blob | None:
        """Return the blob of a digest that is pending, stored or lost; None if there is none."""
        self.load(algorithm, [digest])
        return self._live[algorithm, digest]

    def condemned(self, algorithm: str, digest: str) -> Blob | None:
        """Return the blob of a digest that was condemned last, and can be taken back; None if there is none."""
        values = {"space": self._space, "algorithm": algorithm, "digest": digest}
        rows = self._connection.execute(_CONDEMNED, values).all()
        latest = max(rows, key=lambda row: row.condemned_at, default=None)
        return None if latest is None else self.adopt(latest)

    def named(self, ids: Sequence[str]) -> list[Blob]:
        """Return the blobs that have these ids, in whatever state; those that are missing are left out."""
        missing = [one for one in ids if one not in self._by_id]
        if missing:
            for row in self._connection.execute(_NAMED, {"space": self._space, "ids": missing}).all():
                self.adopt(row)
        return [blob for one in ids if (blob := self._by_id.get(one)) is not None]

    def adopt(self, row: Row[*tuple[Any, ...]]) -> Blob:
        """Return the blob of a row with `COLUMNS`, which another statement has read."""
        known = self._by_id.get(row.blob_id)
        if known is not None:  # it may have changed since
            return known
        blob = Blob(*_FIELDS_OF(row))
        blob.state = State(blob.state)
        blob.expired = bool(row.expired) and blob.state is State.PENDING
        self._by_id[blob.id] = blob
        if blob.state in (State.PENDING, State.STORED, State.LOST):
            self._live[blob.algorithm, blob.digest] = blob
        return blob

    def announce(self, content: Content, *, seconds: float) -> Blob:
        """Return the blob for content that a writer is about to store, or that is stored already.

        Writers that have announced content and are silent for longer than their lease are dead: their references end.

        Args:
            content: without a key.
            seconds: how long the lease of all its writers lasts from now, if the blob is pending.
        """
        blob = self._live_or_dead(content)
        if blob is None:
            blob = self._add(content, State.PENDING)
        if blob.state is State.PENDING:
            self.renew(blob, seconds=seconds)
        return blob

    def renew(self, blob: Blob, *, seconds: float) -> None:
        """Make the lease of a pending blob last for some seconds from now."""
        self._leases[blob.id] = round(seconds * 1_000_000)
        blob.expired = False
        self._change(blob)

    def store(self, content: Content) -> Blob:
        """Return the blob that has the bytes of content. Its key is another one if others have stored the same."""
        blob = self._live_or_dead(content)
        if blob is None:
            return self._add(content, State.STORED)
        if blob.state is not State.STORED:
            self.complete(blob, content.key, content.length)
        return blob

    def complete(self, blob: Blob, key: str, length: int) -> None:
        """Record where the bytes of a pending or lost blob are."""
        blob.state, blob.key, blob.length, blob.expired = State.STORED, key, length, False
        self._change(blob)

    def move(self, blob: Blob, key: str) -> None:
        """Record that the bytes of a stored blob are under another key."""
        blob.key = key
        self._change(blob)

    def revive(self, blob: Blob) -> None:
        """Take a condemned blob back, whose bytes are known to be there; its content has no live blob."""
        blob.state = State.STORED
        self._live[blob.algorithm, blob.digest] = blob
        self._change(blob)

    def retain(self, blob: Blob, *, held: bool = False) -> None:
        """Add a reference.

        Args:
            blob: pending, stored or lost.
            held: the reference has no name.
        """
        self._count(blob, 1, int(held))

    def retain_all(self, counts: Subquery) -> None:
        """Add references without names to blobs by one statement, and forget what was read of blobs.

        Args:
            counts: has the columns ``blob``, the id of a blob that is stored or lost, and ``count``.
        """
        self.flush()
        more = {name: BLOBS.c[name] + counts.c.count for name in ("refs", "held")}
        self._connection.execute(update(BLOBS).where(BLOBS.c.id == counts.c.blob).values(**more))
        self._by_id.clear()
        self._live.clear()

    def release(self, blob: Blob, *, held: bool = False) -> None:
        """End a reference. By `flush`, a blob without any is condemned, or removed if it is pending."""
        self._count(blob, -1, -int(held))

    def pin(self, blob: Blob, *, pinned: bool = True) -> None:
        """Let a blob stay without references, or end that."""
        blob.pinned = pinned
        self._change(blob)

    def flush(self) -> None:
        """Write the changes. Blobs that nothing keeps are condemned or removed."""
        gone = [*self._gone]
        changed: list[dict[str, Any]] = []
        counted: defaultdict[tuple[State, int, int], list[str]] = defaultdict(list)
        added: list[dict[str, Any]] = []
        # Sorted: transactions that lock rows in the same order seldom end in a deadlock, after which they run again.
        for one in sorted(self._changed | self._counted.keys()):
            blob = self._by_id[one]
            if blob.unused and blob.state is State.PENDING:
                self._forget(blob)
                gone += [] if one in self._new else [one]
                continue
            if blob.unused and blob.state in (State.STORED, State.LOST):
                blob.state = given_up(blob.state)
                self._live[blob.algorithm, blob.digest] = None
            if one in self._changed:
                (added if one in self._new else changed).append(self._parameters(blob))
            else:
                counted[blob.state, *self._counted[one]].append(one)
        if gone:
            self._connection.execute(_DELETE, [{"its_id": one} for one in gone])
        if changed:
            self._connection.execute(_UPDATE, changed)
        for (state, refs, held), ids in counted.items():
            values = {"ids": ids, "new_state": state, "more_refs": refs, "more_held": held}
            self._connection.execute(_COUNT, values)
        if added:
            self._connection.execute(_insert(self._connection), added)
        for done in (self._new, self._changed, self._counted, self._gone, self._leases):
            done.clear()

    def _live_or_dead(self, content: Content) -> Blob | None:
        """Return the blob of content, unless its writers have died: such a blob is removed."""
        blob = self.live(content.algorithm, content.digest)
        if blob is None or not blob.expired:
            return blob
        self._forget(blob)
        self._gone.add(blob.id)
        return None

    def _forget(self, blob: Blob) -> None:
        self._live[blob.algorithm, blob.digest] = None
        self._by_id.pop(blob.id)
        self._changed.discard(blob.id)
        self._counted.pop(blob.id, None)

    def _add(self, content: Content, state: State) -> Blob:
        blob = Blob(*content, state, refs=0, held=0, pinned=False)
        self._by_id[blob.id] = self._live[blob.algorithm, blob.digest] = blob
        self._new.add(blob.id)
        self._change(blob)
        return blob

    def _change(self, blob: Blob) -> None:
        self._changed.add(blob.id)

    def _count(self, blob: Blob, refs: int, held: int) -> None:
        blob.refs += refs
        blob.held += held
        before = self._counted.get(blob.id, (0, 0))
        self._counted[blob.id] = before[0] + refs, before[1] + held

    def _parameters(self, blob: Blob) -> dict[str, Any]:
        values = {f"new_{name}": getattr(blob, name) for name in _CHANGING}
        values["lease"] = self._leases.get(blob.id)
        if blob.id not in self._new:
            return {**values, "its_id": blob.id}
        return {
            **values,
            "new_id": blob.id,
            "new_space": self._space,
            "new_algorithm": blob.algorithm,
            "new_digest": blob.digest,
        }


def given_up(state: State) -> State:
    """Return the state of a blob, stored or lost until now, that nothing keeps any more."""
    return State.CONDEMNED if state is State.STORED else State.SWEEPING


class Doomed(NamedTuple):
    """A blob that is sweeping: its id, the key of its bytes, and their number."""

    id: str
    key: str
    length: int


def doom(connection: Connection, space: str, ids: Sequence[str], *, grace: float) -> list[Doomed]:
    """Let nothing take blobs back any more, so that their bytes can be deleted.

    Args:
        connection: of the transaction.
        space: of the store.
        ids: of blobs that were condemned; those that are so no longer, or not for long enough, are left alone.
        grace: seconds for which a blob must have been condemned.

    Returns:
        The blobs that are sweeping now.
    """
    overdue = (BLOBS.c.state == State.CONDEMNED) & (BLOBS.c.condemned_at <= now(seconds=-grace))
    unused = (BLOBS.c.refs == 0) & ~BLOBS.c.pinned
    doomed = (
        update(BLOBS)
        .where(BLOBS.c.space == space, among(BLOBS.c.id, ids), overdue, unused)
        .values(state=State.SWEEPING)
        .returning(BLOBS.c.id, BLOBS.c.key, BLOBS.c.length)
    )
    return [Doomed(row.id, row.key, row.length) for row in connection.execute(doomed).all()]


def erase(connection: Connection, space: str, ids: Sequence[str]) -> None:
    """Remove blobs that are sweeping, whose bytes were deleted; orphans become swept."""
    sweeping = (BLOBS.c.space == space) & among(BLOBS.c.id, ids) & (BLOBS.c.state == State.SWEEPING)
    connection.execute(delete(BLOBS).where(sweeping, BLOBS.c.algorithm != ORPHANED))
    connection.execute(
        update(BLOBS).where(sweeping, BLOBS.c.algorithm == ORPHANED).values(state=State.SWEPT, condemned_at=now())
    )


def expired(space: str) -> Select[tuple[str]]:
    """Return the statement for the ids of pending blobs whose writers have died."""
    return (
        select(BLOBS.c.id)
        .where(BLOBS.c.space == space, BLOBS.c.state == State.PENDING, BLOBS.c.lease_until <= now())
        .where(BLOBS.c.condemned_at.is_(None))
    )


def drop_expired(connection: Connection, space: str, *, limit: int) -> int:
    """Remove pending blobs whose writers have died; return how many there were.

    Args:
        connection: of the transaction.
        space: of the store.
        limit: the maximum number.
    """
    return connection.execute(delete(BLOBS).where(BLOBS.c.id.in_(expired(space).limit(limit)))).rowcount
