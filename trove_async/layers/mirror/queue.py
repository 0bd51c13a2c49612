"""`RepairQueue`: the durable record of writes that are under way and of copies that are to be repaired.

It knows nothing of drivers. A store over several stores that keeps copies of objects uses it like this::

    claim = await queue.begin(Intent(bucket=…, key=…, kind="put", generation=…), seconds=30)
    ...                                             # write the members
    await queue.end(claim.intent, reached=["a"], missed=["b"])

- `begin` records the write before its first commit, and keeps all other writers of the key out, in all processes that
  share the database. `end` is one transaction: it removes the intent, forgets the repairs of the members that were
  reached, and queues one for each that was missed.
- If the process dies in between, its intent expires. The next `begin` for the key, or `expired`, hands it to somebody
  who settles it by a look at the members.
- A repair stays queued until an `end` says that its member was reached. A queued copy is no replica.

Each intent has a token. Who was too slow, and whose intent was taken over, gets `LeaseLostError` from `end`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final, Self, TypeVar

from trove_async.database import Database, connect, insert_into, now  # first: it names what is not installed

from sqlalchemy import Connection, Row, and_, delete, func, or_, select, true, update  # isort: skip

from trove_async.database.schema import among, begins_with
from trove_async.errors import InvalidArgumentError, LeaseLostError
from trove_async.layers.mirror.records import Claim, Intent, Kind, Pending, Repair
from trove_async.layers.mirror.schema import INTENTS, MEMBERS, REPAIRS
from trove_async.layers.mirror.statements import HELD, QUEUED, REMOVE, recording

__all__ = ["RepairQueue"]

R = TypeVar("R")

_MIGRATIONS: Final = "trove_async.layers.mirror.migrations"
_HARMLESS: Final = ("repair",)
"""Kinds of intents that need not be settled."""


class RepairQueue:
    """The queue of one store, in a database that any number of processes share.

    Args:
        database: open; it stays open.
        store: separates the queues of several stores in one database.
    """

    def __init__(self, database: Database, store: str = "mirror") -> None:
        self._database = database
        self._store = store
        self._owned = False

    @classmethod
    async def open(cls, database: str | Database, store: str = "mirror") -> Self:
        """Open a queue, and bring its tables up to date.

        Args:
            database: a URL, as for `trove_async.database.connect`, or a database that is open and stays open.
            store: separates the queues of several stores in one database.

        Raises:
            InvalidDSNError: the URL is wrong; before any I/O.
            UnavailableError, SchemaVersionError: the database cannot be used.
        """
        queue = cls(await connect(database) if isinstance(database, str) else database, store)
        queue._owned = isinstance(database, str)
        try:
            await queue._database.migrate("repairs", _MIGRATIONS)
        except BaseException:
            await queue.aclose()
            raise
        return queue

    async def aclose(self) -> None:
        """Close the database if `open` has opened it; idempotent."""
        if self._owned:
            await self._database.aclose()

    async def register(self, members: Mapping[str, str]) -> None:
        """Record what the names of members stand for.

        Args:
            members: the identity of each member by its name; empty if it has none that outlives the process.

        Raises:
            InvalidArgumentError: a name stood for another store before. Its repairs would go to the wrong one.
        """

        def unit(connection: Connection) -> None:
            for name, identity in members.items():
                _register(connection, self._store, name, identity)

        await self._database.write(unit)

    async def begin(self, intent: Intent, *, seconds: float) -> Claim | None:
        """Record a write before its first commit.

        Args:
            intent: the write.
            seconds: how long it lasts unless it is renewed.

        Returns:
            The claim; None while another writer has the key. If the claim is for another intent than that which was
            given, the other one has expired and was taken over: settle it, `end` it, and begin again.
        """

        def unit(connection: Connection) -> Claim | None:
            found = connection.execute(HELD, self._place(intent.bucket, intent.key)).first()
            if found is not None and not found.expired:
                return None
            taken = intent
            if found is not None and found.kind not in _HARMLESS:
                taken = replace(_intent(found), token=intent.token)
            values = {**asdict(taken), "store": self._store, "lasts": round(seconds * 1_000_000)}
            connection.execute(recording(connection), values)
            return Claim(taken, self._repairs_of(connection, intent.bucket, intent.key))

        return await self._database.write(unit)

    async def renew(self, intents: Iterable[Intent], *, seconds: float) -> set[str]:
        """Make intents last longer, counted from now; return the tokens of those that still belong to the caller."""
        tokens = [intent.token for intent in intents]

        def unit(connection: Connection) -> set[str]:
            renewed = update(INTENTS).where(among(INTENTS.c.token, tokens)).values(expires_at=now(seconds=seconds))
            return set(connection.execute(renewed.returning(INTENTS.c.token)).scalars())

        return await self._database.write(unit)

    async def end(
        self,
        intent: Intent,
        *,
        reached: Iterable[str] = (),
        missed: Iterable[str] = (),
        kind: Kind | None = None,
        generation: str | None = None,
    ) -> None:
        """Remove an intent, and record what it has come to; all at once.

        Args:
            intent: as `begin` returned it.
            reached: members whose copy is now what it should be; their repairs are forgotten. Those that have none, as
                the claim says, can be left out.
            missed: members whose copy is not; a repair replaces what was queued for them.
            kind, generation: of the repairs, if they are not those of the intent.

        Raises:
            LeaseLostError: the intent had expired and was taken over; nothing was changed.
        """
        reached, missed = [*reached], [*missed]

        def unit(connection: Connection) -> None:
            self._remove(connection, intent)
            if reached:
                where = self._is_repair_of(intent.bucket, intent.key)
                connection.execute(delete(REPAIRS).where(where, REPAIRS.c.member.in_(reached)))
            for member in missed:
                self._queue(connection, intent, member, kind or intent.kind, generation or intent.generation)

        await self._database.write(unit)

    async def abandon(self, intent: Intent) -> None:
        """Let an intent expire at once, so that somebody settles it; nothing happens if it was taken over."""
        expire = update(INTENTS).where(INTENTS.c.token == intent.token).values(expires_at=now())
        await self._database.write(lambda connection: _run(connection, expire))

    async def withdraw(self, intent: Intent) -> None:
        """Undo a `begin`, if it has happened, before anything was written.

        An intent that it took over expires at once, so that somebody settles it.
        """
        mine = and_(INTENTS.c.token == intent.token, INTENTS.c.generation == intent.generation)
        theirs = update(INTENTS).where(INTENTS.c.token == intent.token).values(expires_at=now())

        def unit(connection: Connection) -> None:
            connection.execute(delete(INTENTS).where(mine))
            connection.execute(theirs)

        await self._database.write(unit)

    async def take(self, intent: Intent, *, seconds: float) -> Claim | None:
        """Take over an intent that has expired, as `expired` returned it but with a new token; None if others have."""
        claim = await self.begin(intent, seconds=seconds)
        if claim is None or (claim.intent.kind, claim.intent.generation) == (intent.kind, intent.generation):
            return claim
        await self.abandon(claim.intent)
        return None

    async def repairs(self, bucket: str, key: str) -> Mapping[str, Repair]:
        """Return the repairs of a key, by member."""
        return await self._database.read(lambda connection: self._repairs_of(connection, bucket, key))

    async def due(self, limit: int, *, members: Sequence[str], only_due: bool = True) -> Sequence[Repair]:
        """Return repairs of some members, those that wait longest first.

        Args:
            limit: the maximum number.
            members: the names of the members that can be repaired now.
            only_due: leave out those that have failed and are to be tried later.
        """
        due = REPAIRS.c.due_at <= now() if only_due else true()
        wanted = (
            select(REPAIRS)
            .where(REPAIRS.c.store == self._store, REPAIRS.c.member.in_([*members]), due)
            .order_by(REPAIRS.c.due_at, REPAIRS.c.bucket, REPAIRS.c.key)
            .limit(limit)
        )
        return await self._database.read(lambda connection: [_repair(row) for row in connection.execute(wanted)])

    async def postpone(self, repair: Repair, error: str, *, seconds: float) -> None:
        """Record that a repair has failed, and when to try it again."""
        where = and_(self._is_repair_of(repair.bucket, repair.key), REPAIRS.c.member == repair.member)
        values = {"attempts": REPAIRS.c.attempts + 1, "error": error, "due_at": now(seconds=seconds)}
        postponed = update(REPAIRS).where(where).values(**values)
        await self._database.write(lambda connection: _run(connection, postponed))

    async def hasten(self, member: str) -> None:
        """Make all repairs of a member due: it can be reached again."""
        where = and_(REPAIRS.c.store == self._store, REPAIRS.c.member == member, REPAIRS.c.due_at > now())
        await self._database.write(
            lambda connection: _run(connection, update(REPAIRS).where(where).values(due_at=now()))
        )

    async def expired(self, limit: int) -> Sequence[Intent]:
        """Return intents that have expired and are to be settled, the oldest first."""
        where = and_(INTENTS.c.store == self._store, INTENTS.c.expires_at <= now())
        wanted = select(INTENTS).where(where).order_by(INTENTS.c.expires_at).limit(limit)
        return await self._database.read(lambda connection: [_intent(row) for row in connection.execute(wanted)])

    async def pending(self) -> Mapping[str, Pending]:
        """Return what waits for each member that has repairs."""
        counts = (
            select(
                REPAIRS.c.member,
                func.count().label("copies"),
                func.min(REPAIRS.c.queued_at, type_=REPAIRS.c.queued_at.type).label("oldest"),
                func.count().filter(REPAIRS.c.attempts > 0).label("failing"),
                func.max(REPAIRS.c.error).label("error"),
            )
            .where(REPAIRS.c.store == self._store)
            .group_by(REPAIRS.c.member)
            .order_by(REPAIRS.c.member)
        )

        def unit(connection: Connection) -> Mapping[str, Pending]:
            found = connection.execute(counts)
            return {row.member: Pending(row.copies, row.oldest, row.failing, row.error) for row in found}

        return await self._database.read(unit)

    async def without_buckets(self) -> set[str]:
        """Return the members that have repairs for buckets themselves."""
        where = and_(REPAIRS.c.store == self._store, REPAIRS.c.key == "")
        wanted = select(REPAIRS.c.member).where(where).distinct()
        return await self._database.read(lambda connection: set(connection.execute(wanted).scalars()))

    async def in_bucket(
        self, bucket: str, prefix: str = "", *, members: Sequence[str], after: str = "", limit: int | None = None
    ) -> Sequence[Repair]:
        """Return the repairs of objects of a bucket, in the order of their keys.

        Args:
            bucket, prefix: of which keys.
            members: of which members.
            after: only keys that sort after it.
            limit: the maximum number; None for all.
        """
        key = REPAIRS.c.key
        where = [REPAIRS.c.store == self._store, REPAIRS.c.bucket == bucket, REPAIRS.c.member.in_([*members])]
        where += [key > after, begins_with(key, prefix)]
        wanted = select(REPAIRS).where(*where).order_by(key).limit(limit)
        return await self._database.read(lambda connection: [_repair(row) for row in connection.execute(wanted)])

    async def behind(self, bucket: str, prefix: str = "") -> set[str]:
        """Return the members that have repairs for keys with a prefix, or for the bucket itself."""
        where = and_(
            REPAIRS.c.store == self._store,
            REPAIRS.c.bucket == bucket,
            or_(REPAIRS.c.key == "", begins_with(REPAIRS.c.key, prefix)),
        )
        wanted = select(REPAIRS.c.member).where(where).distinct()
        return await self._database.read(lambda connection: set(connection.execute(wanted).scalars()))

    def _place(self, bucket: str, key: str) -> dict[str, str]:
        return {"store": self._store, "bucket": bucket, "key": key}

    def _is_repair_of(self, bucket: str, key: str) -> Any:
        return and_(REPAIRS.c.store == self._store, REPAIRS.c.bucket == bucket, REPAIRS.c.key == key)

    def _repairs_of(self, connection: Connection, bucket: str, key: str) -> Mapping[str, Repair]:
        found = connection.execute(QUEUED, self._place(bucket, key))
        return {row.member: _repair(row) for row in found}

    def _remove(self, connection: Connection, intent: Intent) -> None:
        place = {f"its_{name}": value for name, value in self._place(intent.bucket, intent.key).items()}
        if not connection.execute(REMOVE, {**place, "its_token": intent.token}).rowcount:
            raise LeaseLostError(
                "the write took longer than its intent lasted, and was taken over; read the object to know its state",
                ambiguous=True,
            )

    def _queue(self, connection: Connection, intent: Intent, member: str, kind: Kind, generation: str) -> None:
        fresh = {"kind": kind, "generation": generation, "due_at": now(), "attempts": 0, "error": ""}
        place = {"store": self._store, "bucket": intent.bucket, "key": intent.key, "member": member}
        insert = insert_into(connection, REPAIRS).values(**place, **fresh, queued_at=now())
        # The time at which it was queued stays: since then the member has had no good copy.
        connection.execute(insert.on_conflict_do_update(index_elements=[*REPAIRS.primary_key], set_=fresh))


def _run(connection: Connection, statement: Any) -> None:
    connection.execute(statement)


def _register(connection: Connection, store: str, name: str, identity: str) -> None:
    where = and_(MEMBERS.c.store == store, MEMBERS.c.name == name)
    known = connection.scalar(select(MEMBERS.c.identity).where(where))
    if known is None:
        insert = insert_into(connection, MEMBERS).values(store=store, name=name, identity=identity)
        connection.execute(insert.on_conflict_do_nothing())
    elif known and identity and known != identity:
        raise InvalidArgumentError(
            f"the member {name!r} is {identity}, but in the repair queue it is {known}: the repairs of one would go to "
            "the other. Keep the order of the list, or name the members with a mapping"
        )
    elif identity != known and identity:
        connection.execute(update(MEMBERS).where(where).values(identity=identity))


def _intent(row: Row[Any]) -> Intent:
    return Intent(
        bucket=row.bucket, key=row.key, kind=row.kind, generation=row.generation, detail=row.detail, token=row.token
    )


def _repair(row: Row[Any]) -> Repair:
    return Repair(
        bucket=row.bucket,
        key=row.key,
        member=row.member,
        kind=row.kind,
        generation=row.generation,
        queued_at=row.queued_at,
        attempts=row.attempts,
        error=row.error,
    )
