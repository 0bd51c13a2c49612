"""The books of a quota within one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, fields
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, delete, func, select, update

from trove_async.database import Lease, insert_into, now
from trove_async.database.schema import among, begins_with
from trove_async.errors import LeaseLostError
from trove_async.layers.quota.accounts import Account, Reservation, Slot, Total
from trove_async.layers.quota.books import Books
from trove_async.layers.quota.database.tables import ACCOUNTS, BUCKETS, LIMITS, RESERVATIONS
from trove_async.layers.quota.limits import Coverage, QuotaLimit, Scope

__all__ = ["Fenced", "SQLBooks", "total_of"]

_SLOT: Final = [ACCOUNTS.c[name] for name in Slot._fields]
_VALUES: Final = [field.name for field in fields(Account) if field.name not in ("slot", "touched")]
_COLUMNS: Final = [*_SLOT, *(ACCOUNTS.c[name] for name in _VALUES), ACCOUNTS.c.touched]

_JUST_NOW: Final = 2**62
"""Touched in this transaction, and so later than everything that was seen before it."""

# Statements that are made once: to make one takes as long as to execute it.
_OF_SLOT: Final = [f"of_{name}" for name in Slot._fields]
_ACCOUNT_OF_SLOT: Final = select(*_COLUMNS).where(
    *(column == bindparam(name) for column, name in zip(_SLOT, _OF_SLOT, strict=True))
)
_RESERVATIONS_OF_SLOT: Final = (
    select(RESERVATIONS)
    .where(*(RESERVATIONS.c[name] == bindparam(of) for name, of in zip(Slot._fields, _OF_SLOT, strict=True)))
    .order_by(RESERVATIONS.c.number)
)
_LIMITS_NAMED: Final = select(LIMITS).where(among(LIMITS.c.name, bindparam("names")))
_VERSIONING_OF: Final = select(BUCKETS.c.versioning).where(BUCKETS.c.bucket == bindparam("of_bucket"))
_CHARGE: Final = (
    update(LIMITS)
    .where(LIMITS.c.name == bindparam("of_name"))
    .values(used_bytes=bindparam("new_bytes"), used_objects=bindparam("new_objects"))
)
_DELETION: Final = delete(RESERVATIONS).where(
    RESERVATIONS.c.owner == bindparam("old_owner"), RESERVATIONS.c.number == bindparam("old_number")
)


class Fenced(Exception):  # noqa: N818 - it is no failure: whoever catches it takes a new lease
    """The owner was taken for dead."""


class SQLBooks(Books):
    """Reads what it is asked for, and writes what has changed by `flush`.

    Args:
        connection: of the transaction.
        owner: whose reservations are made.
        lease: of the owner.
        coverage: the limits, as this transaction sees them.
    """

    def __init__(self, connection: Connection, owner: str, lease: Lease, coverage: Coverage) -> None:
        self.owner = owner
        self._connection = connection
        self._lease = lease
        self._coverage = coverage
        self._totals: dict[Scope, Total] = {}
        self._charged: set[Scope] = set()
        self._accounts: dict[Slot, Account] = {}
        self._saved: dict[Slot, Account] = {}
        self._held: dict[Slot, dict[tuple[str, int], Reservation]] = {}
        self._reserved: dict[tuple[str, int], Reservation] = {}
        self._released: list[tuple[str, int]] = []
        self._versioning: dict[str, str | None] = {}

    def totals(self, bucket: str, key: str) -> Sequence[Total]:
        """Read the limits of a key, once."""
        scopes = self._coverage.of(bucket, key)
        if wanted := [scope.name for scope in scopes if scope not in self._totals]:
            for row in self._connection.execute(_LIMITS_NAMED, {"names": wanted}).all():
                total = total_of(row)
                self._totals[total.scope] = total
        return [self._totals[scope] for scope in scopes]

    def charge(self, total: Total, nbytes: int, objects: int) -> None:
        """Change the total; `flush` writes it."""
        total.bytes += nbytes
        total.objects += objects
        self._charged.add(total.scope)

    def account(self, slot: Slot) -> Account:
        """Read an account, once."""
        found = self._accounts.get(slot)
        if found is None:
            row = self._connection.execute(_ACCOUNT_OF_SLOT, _slot_values(slot)).first()
            found = self._accounts[slot] = Account(slot) if row is None else _account_of(row)
        return found

    def save(self, account: Account) -> None:
        """Remember that `flush` writes the account."""
        account.touched = _JUST_NOW
        self._accounts[account.slot] = self._saved[account.slot] = account

    def objects(self, scope: Scope, after: str | None, upto: str | None) -> Sequence[Account]:
        """Read accounts of objects."""
        where = [_under(scope), ACCOUNTS.c.upload == "", ACCOUNTS.c.key != ""]
        if after is not None:
            where.append(ACCOUNTS.c.key > after)
        if upto is not None:
            where.append(ACCOUNTS.c.key <= upto)
        return self._select(*where)

    def parts(self, scope: Scope, upload: str | None = None) -> Sequence[Account]:
        """Read accounts of parts."""
        if upload is None:
            return self._select(_under(scope), ACCOUNTS.c.part > 0)
        exact = (ACCOUNTS.c.bucket == scope.bucket, ACCOUNTS.c.key == scope.prefix, ACCOUNTS.c.upload == upload)
        return self._select(*exact, ACCOUNTS.c.part > 0)

    def idle(self, count: int) -> Sequence[Account]:
        """Read accounts that are idle."""
        return self._select(ACCOUNTS.c.unsure, ACCOUNTS.c.running == 0, limit=count)

    def _select(self, *where: ColumnElement[bool], limit: int | None = None) -> list[Account]:
        self.flush()  # another piece of work in this transaction may have changed them
        statement = select(*_COLUMNS).where(*where).order_by(*_SLOT).limit(limit)
        found = [_account_of(row) for row in self._connection.execute(statement).all()]
        return [self._accounts.setdefault(account.slot, account) for account in found]

    def reserve(self, reservation: Reservation) -> None:
        """Remember that `flush` writes the reservation."""
        self._held_for(reservation.slot)[reservation.owner, reservation.number] = reservation
        self._reserved[reservation.owner, reservation.number] = reservation

    def release(self, reservation: Reservation) -> Reservation | None:
        """Remember that `flush` deletes the reservation."""
        name = reservation.owner, reservation.number
        found = self._held_for(reservation.slot).pop(name, None)
        if found is not None:
            self._reserved.pop(name, None)
            self._released.append(name)
        return found

    def reservations(self, slot: Slot) -> Sequence[Reservation]:
        """Read the reservations of a slot, once."""
        return [*self._held_for(slot).values()]

    def _held_for(self, slot: Slot) -> dict[tuple[str, int], Reservation]:
        found = self._held.get(slot)
        if found is None:
            is_free = not self.account(slot).running
            rows = () if is_free else self._connection.execute(_RESERVATIONS_OF_SLOT, _slot_values(slot)).all()
            found = self._held[slot] = {(row.owner, row.number): _reservation_of(row) for row in rows}
        return found

    def of_others(self) -> Sequence[Reservation]:
        """Return the reservations of all other owners."""
        return self._reservations(RESERVATIONS.c.owner != self.owner)

    def _reservations(self, *where: ColumnElement[bool]) -> list[Reservation]:
        rows = self._connection.execute(select(RESERVATIONS).where(*where).order_by(RESERVATIONS.c.number)).all()
        return [_reservation_of(row) for row in rows]

    def buckets(self) -> Sequence[str]:
        """Read the names of buckets."""
        self.flush()
        return self._connection.execute(select(ACCOUNTS.c.bucket).distinct()).scalars().all()

    def versioning(self, bucket: str) -> str | None:
        """Read whether a bucket keeps versions, once."""
        if bucket not in self._versioning:
            self._versioning[bucket] = self._connection.scalar(_VERSIONING_OF, {"of_bucket": bucket})
        return self._versioning[bucket]

    def set_versioning(self, bucket: str, status: str | None) -> None:
        """Write whether a bucket keeps versions."""
        self._versioning[bucket] = status
        statement = insert_into(self._connection, BUCKETS).values(bucket=bucket, versioning=status)
        self._connection.execute(
            statement.on_conflict_do_update(index_elements=["bucket"], set_={"versioning": status})
        )

    def usage(self) -> Sequence[Total]:
        """Read all limits."""
        return [total_of(row) for row in self._connection.execute(select(LIMITS).order_by(LIMITS.c.name)).all()]

    def sum(self, scope: Scope) -> None:
        """Write what is charged to a limit."""
        self.flush()
        columns = (func.sum(ACCOUNTS.c.charged_bytes), func.sum(ACCOUNTS.c.charged_objects))
        nbytes, objects = self._connection.execute(select(*columns).where(_under(scope))).one()
        values = {"used_bytes": int(nbytes or 0), "used_objects": int(objects or 0), "counted": True}
        self._connection.execute(update(LIMITS).where(LIMITS.c.name == scope.name).values(**values))
        self._totals.pop(scope, None)

    def clock(self) -> int:
        """Read the database's clock."""
        return _microseconds(self._connection.execute(select(now())).scalar_one())

    def flush(self) -> None:
        """Write what has changed.

        Raises:
            Fenced: something is reserved, and the owner has lost its lease.
        """
        if self._saved:
            rows = [_parameters(account) for account in self._saved.values()]
            self._connection.execute(_upsert(self._connection), rows)
            self._saved.clear()
        for scope in sorted(self._charged):
            total = self._totals[scope]
            values = {"of_name": scope.name, "new_bytes": total.bytes, "new_objects": total.objects}
            self._connection.execute(_CHARGE, values)
        self._charged.clear()
        self._flush_reservations()

    def _flush_reservations(self) -> None:
        if self._released:
            names = [{"old_owner": owner, "old_number": number} for owner, number in self._released]
            self._connection.execute(_DELETION, names)
            self._released.clear()
        if self._reserved:
            try:
                self._lease.check(self._connection)  # nobody can take it before the commit
            except LeaseLostError:
                raise Fenced from None
            rows = [_row_of(one) for one in self._reserved.values()]
            self._connection.execute(_keeping(self._connection), rows)
            self._reserved.clear()


def _under(scope: Scope) -> ColumnElement[bool]:
    """Return the condition that an account is under a limit."""
    if not scope.bucket:
        return ACCOUNTS.c.bucket != ""
    return and_(ACCOUNTS.c.bucket == scope.bucket, begins_with(ACCOUNTS.c.key, scope.prefix))


def total_of(row: Row[Any]) -> Total:
    """Return the limit of a row."""
    limit = QuotaLimit(bytes=row.max_bytes, objects=row.max_objects)
    return Total(Scope.parse(row.name), limit, row.used_bytes, row.used_objects)


def _slot_values(slot: Slot) -> dict[str, Any]:
    return dict(zip(_OF_SLOT, slot, strict=True))


def _row_of(reservation: Reservation) -> dict[str, Any]:
    return {
        "owner": reservation.owner,
        "number": reservation.number,
        **reservation.slot._asdict(),
        "bytes": reservation.bytes,
        "objects": reservation.objects,
        "adds": reservation.adds,
        "versioning": reservation.versioning,
    }


def _reservation_of(row: Row[Any]) -> Reservation:
    slot = Slot(row.bucket, row.key, row.upload, row.part)
    return Reservation(row.owner, row.number, slot, row.bytes, row.objects, row.adds, row.versioning)


def _account_of(row: Row[Any]) -> Account:
    values = row[len(_SLOT) : -1]
    account = Account(Slot(*row[: len(_SLOT)]), *values)
    account.touched = _microseconds(row[-1])
    return account


def _microseconds(time: datetime) -> int:
    return round(time.timestamp() * 1_000_000)


def _parameters(account: Account) -> dict[str, Any]:
    values = dict(zip(_VALUES, astuple(account)[1:-1], strict=True))
    return {f"new_{name}": value for name, value in {**account.slot._asdict(), **values}.items()}


def _upsert(connection: Connection, _made: dict[str, Any] = {}) -> Any:  # noqa: B006 - a cache
    """Return the statement that writes accounts, which the database touches now."""
    found = _made.get(connection.dialect.name)
    if found is None:
        new: dict[str, Any] = {column.name: bindparam(f"new_{column.name}") for column in _COLUMNS[:-1]}
        statement = insert_into(connection, ACCOUNTS).values(**new, touched=now())
        changed = {name: statement.excluded[name] for name in (*_VALUES, "touched")}
        found = statement.on_conflict_do_update(index_elements=_SLOT, set_=changed)
        _made[connection.dialect.name] = found
    return found


def _keeping(connection: Connection, _made: dict[str, Any] = {}) -> Any:  # noqa: B006 - a cache
    """Return the statement that writes reservations."""
    found = _made.get(connection.dialect.name)
    if found is None:
        statement = insert_into(connection, RESERVATIONS)
        changed = {"bytes": statement.excluded.bytes}
        found = statement.on_conflict_do_update(index_elements=["owner", "number"], set_=changed)
        _made[connection.dialect.name] = found
    return found
