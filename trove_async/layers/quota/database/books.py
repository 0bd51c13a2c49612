"""The books of a quota within one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, fields
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, delete, func, select, update

from trove_async.database import Lease, insert_into, now
from trove_async.errors import LeaseLostError
from trove_async.keys import successor
from trove_async.layers.quota.accounts import Account, Reservation, Slot, Total
from trove_async.layers.quota.books import Books
from trove_async.layers.quota.database.tables import ACCOUNTS, BUCKETS, LIMITS, RESERVATIONS
from trove_async.layers.quota.limits import Coverage, QuotaLimit, Scope

__all__ = ["Fenced", "SQLBooks", "total_of"]

_SLOT: Final = [ACCOUNTS.c[name] for name in Slot._fields]
_VALUES: Final = [field.name for field in fields(Account) if field.name not in ("slot", "touched")]
_COLUMNS: Final = [*_SLOT, *(ACCOUNTS.c[name] for name in _VALUES), ACCOUNTS.c.touched]


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
        self._lease: Lease | None = lease
        self._coverage = coverage
        self._totals: dict[Scope, Total] = {}
        self._charged: set[Scope] = set()
        self._accounts: dict[Slot, Account] = {}
        self._saved: dict[Slot, Account] = {}
        self._versioning: dict[str, str | None] = {}

    def totals(self, bucket: str, key: str) -> Sequence[Total]:
        """Read the limits of a key, once."""
        scopes = self._coverage.of(bucket, key)
        if wanted := [scope.name for scope in scopes if scope not in self._totals]:
            for row in self._connection.execute(select(LIMITS).where(LIMITS.c.name.in_(wanted))).all():
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
            where = [column == value for column, value in zip(_SLOT, slot, strict=True)]
            row = self._connection.execute(select(*_COLUMNS).where(*where)).first()
            found = self._accounts[slot] = Account(slot) if row is None else _account_of(row)
        return found

    def save(self, account: Account) -> None:
        """Remember that `flush` writes the account."""
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
        statement = select(*_COLUMNS).where(*where).order_by(*_SLOT).limit(limit)
        found = [_account_of(row) for row in self._connection.execute(statement).all()]
        return [self._accounts.setdefault(account.slot, account) for account in found]

    def reserve(self, reservation: Reservation) -> None:
        """Write a reservation, if the owner still has its lease.

        Raises:
            Fenced: it has not.
        """
        if self._lease is not None:
            try:
                self._lease.check(self._connection)
            except LeaseLostError:
                raise Fenced from None
            self._lease = None
        values = {
            "owner": reservation.owner,
            "number": reservation.number,
            **reservation.slot._asdict(),
            "bytes": reservation.bytes,
            "objects": reservation.objects,
            "adds": reservation.adds,
            "versioning": reservation.versioning,
        }
        statement = insert_into(self._connection, RESERVATIONS).values(**values)
        self._connection.execute(
            statement.on_conflict_do_update(index_elements=["owner", "number"], set_={"bytes": reservation.bytes})
        )

    def release(self, reservation: Reservation) -> Reservation | None:
        """Delete a reservation."""
        held = and_(RESERVATIONS.c.owner == reservation.owner, RESERVATIONS.c.number == reservation.number)
        row = self._connection.execute(delete(RESERVATIONS).where(held).returning(*RESERVATIONS.c)).first()
        return None if row is None else _reservation_of(row)

    def reservations(self, slot: Slot) -> Sequence[Reservation]:
        """Read the reservations of a slot."""
        where = [RESERVATIONS.c[name] == value for name, value in zip(Slot._fields, slot, strict=True)]
        return self._reservations(*where)

    def of_others(self) -> Sequence[Reservation]:
        """Return the reservations of all other owners."""
        return self._reservations(RESERVATIONS.c.owner != self.owner)

    def _reservations(self, *where: ColumnElement[bool]) -> list[Reservation]:
        rows = self._connection.execute(select(RESERVATIONS).where(*where).order_by(RESERVATIONS.c.number)).all()
        return [_reservation_of(row) for row in rows]

    def buckets(self) -> Sequence[str]:
        """Read the names of buckets."""
        return self._connection.execute(select(ACCOUNTS.c.bucket).distinct()).scalars().all()

    def versioning(self, bucket: str) -> str | None:
        """Read whether a bucket keeps versions, once."""
        if bucket not in self._versioning:
            statement = select(BUCKETS.c.versioning).where(BUCKETS.c.bucket == bucket)
            self._versioning[bucket] = self._connection.scalar(statement)
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
        """Write what has changed."""
        if self._saved:
            rows = [_parameters(account) for account in self._saved.values()]
            self._connection.execute(_upsert(self._connection), rows)
            self._saved.clear()
        for scope in sorted(self._charged):
            total = self._totals[scope]
            values = {"used_bytes": total.bytes, "used_objects": total.objects}
            self._connection.execute(update(LIMITS).where(LIMITS.c.name == scope.name).values(**values))
        self._charged.clear()


def _under(scope: Scope) -> ColumnElement[bool]:
    """Return the condition that an account is under a limit."""
    if not scope.bucket:
        return ACCOUNTS.c.bucket != ""
    where = [ACCOUNTS.c.bucket == scope.bucket]
    if scope.prefix:
        where.append(ACCOUNTS.c.key >= scope.prefix)
        end = successor(scope.prefix)
        if end is not None:
            where.append(ACCOUNTS.c.key < end)
    return and_(*where)


def total_of(row: Row[Any]) -> Total:
    """Return the limit of a row."""
    limit = QuotaLimit(bytes=row.max_bytes, objects=row.max_objects)
    return Total(Scope.parse(row.name), limit, row.used_bytes, row.used_objects)


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
