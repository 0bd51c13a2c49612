"""The one thread that writes to a SQLite database, and the commits that waiting writes share."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar, cast

from sqlalchemy import Connection, Engine, RootTransaction

from trove_async.database.failures import translated
from trove_async.database.units import Unit, notifications_of, run
from trove_async.errors import ClosedError

__all__ = ["Writer"]

R = TypeVar("R")

_LARGEST_GROUP: Final = 500
"""Units that share a commit at most, so that the first of them does not wait for all that come."""


class Write(Generic[R]):
    """One unit of work on its way through the writer.

    Attributes:
        outcome: is done after the commit, on the loop of the caller.
    """

    __slots__ = ("_cancelled", "_error", "_loop", "_result", "_skipped", "notifications", "outcome", "unit")

    def __init__(self, unit: Unit[R]) -> None:
        self.unit = unit
        self._loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[R] = self._loop.create_future()
        self.notifications: list[tuple[str, str]] = []
        self._cancelled = False
        self._error: BaseException | None = None
        self._skipped = False
        self._result: R | None = None

    @property
    def cancelled(self) -> bool:
        """Tell whether the caller was cancelled."""
        return self._cancelled

    def cancel(self) -> None:
        """Take in that the caller was cancelled: the unit is undone unless it has already joined a commit."""
        self._cancelled = True

    def skip(self) -> None:
        """Record that the unit does not take effect, since the caller was cancelled."""
        self._skipped = True
        self.notifications = []

    def succeed(self, result: R) -> None:
        """Record the result of the unit."""
        self._result = result
        self._error = None

    def fail(self, error: BaseException) -> None:
        """Record why the unit failed."""
        self.notifications = []
        if isinstance(error, StopIteration):  # no future takes it; a coroutine does the same (PEP 479)
            self._error = RuntimeError("a unit of work raised StopIteration")
            self._error.__cause__ = error
        else:
            self._error = error

    def answer(self) -> None:
        """Pass on the outcome; call it on the loop."""
        if self.outcome.done():
            return
        if self._error is not None:
            self.outcome.set_exception(self._error)
        elif self._skipped:
            self.outcome.cancel()
        else:
            self.outcome.set_result(cast("R", self._result))


class Writer:
    """Runs units of work one after another; those that wait at the same time share one ``COMMIT``.

    Each unit runs within a savepoint of its own, so that one that fails is undone alone. All are answered after the
    commit. A unit may run again, if the transaction that it was part of failed because of another unit.

    Args:
        engine: opens the connection; its transactions begin by ``BEGIN IMMEDIATE``.
        publish: delivers the notifications of what was committed, on the loop.
    """

    def __init__(self, engine: Engine, publish: Callable[[Iterable[tuple[str, str]]], None]) -> None:
        self._engine = engine
        self._publish = publish
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Write[Any]] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._connection: Connection | None = None
        # An interpreter that ends does not wait for it; SQLite undoes what it did not commit.
        self._thread = threading.Thread(target=self._work, name="trove-database-writer", daemon=True)
        self._thread.start()

    def submit(self, unit: Unit[R]) -> Write[R]:
        """Queue a unit.

        Raises:
            ClosedError: the writer was closed.
        """
        write = Write(unit)
        with self._wake:
            if self._closing:
                raise ClosedError("the database was closed", driver="sqlite")
            self._waiting.append(write)
            self._wake.notify()
        return write

    def withdraw(self, write: Write[Any]) -> None:
        """Take in that a caller was cancelled: a unit that has not begun never begins."""
        write.cancel()
        with self._wake:
            if write not in self._waiting:
                return
            self._waiting.remove(write)
        write.outcome.cancel()

    def close(self) -> None:
        """Let the thread end after the units that wait, without waiting for it."""
        with self._wake:
            self._closing = True
            self._wake.notify()

    def join(self) -> None:
        """Wait until the thread has ended; not on the loop."""
        self._thread.join()

    def _work(self) -> None:
        try:
            while writes := self._next_group():
                self._serve(writes)
                with suppress(RuntimeError):  # the loop was closed, and nobody waits
                    self._loop.call_soon_threadsafe(self._answer, writes)
        finally:
            self._disconnect()

    def _next_group(self) -> list[Write[Any]]:
        with self._wake:
            self._wake.wait_for(lambda: self._waiting or self._closing)
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), _LARGEST_GROUP))]

    def _serve(self, writes: Sequence[Write[Any]]) -> None:
        """Give each write its outcome."""
        while writes:
            try:
                writes = self._transaction(writes)
            except BaseException as error:  # noqa: BLE001 - nobody may wait for ever
                self._disconnect()
                _fail(writes, error)
                return

    def _transaction(self, writes: Sequence[Write[Any]]) -> Sequence[Write[Any]]:
        """Commit those of the writes whose units succeed; return those that must run again."""
        if self._connection is None:
            self._connection = self._engine.connect()
        connection = self._connection
        transaction = connection.begin()
        committing: list[Write[Any]] = []
        for position, write in enumerate(writes, 1):
            if self._run(write, connection, transaction):
                committing.append(write)
            if not _is_open(transaction, connection):
                # The unit ended it or left a savepoint in it, or SQLite ended it, as it does when the disk is full.
                self._disconnect()
                return [*committing, *writes[position:]]
        try:
            transaction.commit()
        except Exception as error:  # noqa: BLE001 - those who wait get it
            self._disconnect()
            if len(committing) == 1:
                _fail(committing, error)
            else:
                for write in committing:
                    self._serve([write])
        return []

    def _run(self, write: Write[Any], connection: Connection, transaction: RootTransaction) -> bool:
        """Run a unit within a savepoint; return whether it is to be committed."""
        if write.cancelled:
            write.skip()
            return False
        connection.exec_driver_sql("SAVEPOINT trove_unit")
        try:
            result = run(write.unit, connection)
        except BaseException as error:  # noqa: BLE001 - the caller gets it
            _fail([write], error)
        else:
            if not write.cancelled:
                write.succeed(result)
                write.notifications = notifications_of(connection)
                connection.exec_driver_sql("RELEASE trove_unit")
                return True
            write.skip()
        notifications_of(connection)
        if _is_open(transaction, connection):
            connection.exec_driver_sql("ROLLBACK TO trove_unit")
            connection.exec_driver_sql("RELEASE trove_unit")
        return False

    def _disconnect(self) -> None:
        """Close the connection, which undoes what was not committed."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _answer(self, writes: list[Write[Any]]) -> None:
        for write in writes:
            write.answer()
            self._publish(write.notifications)


def _fail(writes: Sequence[Write[Any]], error: BaseException) -> None:
    for write in writes:
        write.fail(translated(error, "sqlite") if isinstance(error, Exception) else error)


def _is_open(transaction: RootTransaction, connection: Connection) -> bool:
    raw = connection.connection.dbapi_connection
    assert isinstance(raw, sqlite3.Connection)
    return transaction.is_active and raw.in_transaction and connection.get_nested_transaction() is None
