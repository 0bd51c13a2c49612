"""The database that components hold: units of work, migrations, leases, notifications and locks."""

from __future__ import annotations

import asyncio
import os
import warnings
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import select

from trove_async.cancellation import CLEANUP_TIMEOUT, finish, to_the_end
from trove_async.database.backend import Backend, Session
from trove_async.database.leases import Leases
from trove_async.database.notifications import Inbox, Listener
from trove_async.database.schema import now
from trove_async.database.sqlite import SQLiteBackend
from trove_async.database.units import Unit, check_channel, check_notification, notify
from trove_async.database.url import PostgresSettings, SQLiteSettings, parse_url
from trove_async.errors import (
    ClosedError,
    ForkedError,
    LifetimeError,
    MissingDependencyError,
    WrongLoopError,
)
from trove_async.opening import Opening
from trove_async.values import check_function, check_text

if TYPE_CHECKING:
    from trove_async.database.postgres import PostgresBackend

__all__ = ["Database", "connect", "load_postgres"]

R = TypeVar("R")

_open_databases: Final[weakref.WeakSet[Database]] = weakref.WeakSet()
_inherited: Final[list[Backend]] = []
"""SQLite forbids a forked process even to close what it inherited."""


def _forget_in_child() -> None:
    for database in list(_open_databases):
        database._unusable = ForkedError
        database._backend.forget()
        _inherited.append(database._backend)


os.register_at_fork(after_in_child=_forget_in_child)


def connect(url: str) -> Opening[Database]:
    """Connect to a database, with ``async with``, or with ``await`` and `Database.aclose`.

    Args:
        url: ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or
            ``postgresql://user@host:port/database``. The parameters are in ``docs/database.md``.

    Raises:
        InvalidDSNError: the URL is wrong; raised by the call itself, before any I/O.
        MissingDependencyError: the packages for PostgreSQL are not installed.
        UnavailableError: when opened: the server cannot be reached.
        UnauthenticatedError: when opened: the user or the password is wrong.
        NotFoundError: when opened: the database, or the folder of the file, does not exist.
    """
    settings = parse_url(url)

    async def open_database() -> Database:
        database = Database(settings)
        try:
            await database._backend.open()
        except BaseException:
            await database.aclose()
            raise
        return database

    return Opening(open_database)


class Database:
    """A database, in the event loop that connected it. Any number of tasks may share it.

    All work is given as *units*: functions that take a `sqlalchemy.Connection` and do nothing but SQL, quickly. What a
    unit returns is returned; if it raises, its changes are undone and the error is raised. It may run more than once
    before that, and must not end its transaction. The errors of the database itself are those of the library's tree.
    """

    def __init__(self, settings: SQLiteSettings | PostgresSettings) -> None:
        self._url = str(settings.url)
        self._backend = _backend_for(settings)
        self._loop = asyncio.get_running_loop()
        self._unusable: type[LifetimeError] | None = None
        self._inboxes: weakref.WeakSet[Inbox] = weakref.WeakSet()
        self._leases = Leases(self._write_with_leases)
        self._migrated = asyncio.Lock()
        self._has_leases = False
        _open_databases.add(self)

    @property
    def driver(self) -> str:
        """What the database is: ``sqlite`` or ``postgresql``."""
        return self._backend.driver

    @property
    def leases(self) -> Leases:
        """The leases in this database."""
        return self._leases

    async def write(self, unit: Unit[R]) -> R:
        """Run a unit of work that may write, and commit it.

        Units take effect one after another, on every database (isolation level *serializable*). With SQLite those that
        wait at the same time share a commit. With PostgreSQL one that loses against another runs again.

        If the call is cancelled, a unit that has not begun never begins. Otherwise the call waits for its outcome, and
        the unit is undone unless its commit was under way.

        Raises:
            TransientError: others wrote for too long; call again.
            UnavailableError: the connection broke. If it is ``ambiguous``, the unit may have been committed.
            StorageFullError: the disk is full; nothing was changed.
            PreconditionFailedError: a constraint does not hold; nothing was changed.
            InvalidArgumentError: the unit is no plain function, or ended its transaction.
        """
        self._check_usable()
        check_function("a unit of work", "a connection", unit)
        return await self._backend.write(unit)

    async def read(self, unit: Unit[R]) -> R:
        """Run a unit of work that only reads, at the same time as others. It sees one snapshot of the database.

        Raises:
            InvalidArgumentError: the unit writes, or is no plain function.
            UnavailableError: the connection broke.
        """
        self._check_usable()
        check_function("a unit of work", "a connection", unit)
        return await self._backend.read(unit)

    async def now(self) -> datetime:
        """Return the database's time. Within a unit it is ``connection.scalar(select(now()))``."""
        return await self.read(lambda connection: connection.execute(select(now())).scalar_one())

    async def migrate(self, component: str, package: str) -> None:
        """Bring the tables of a component up to date, in one transaction.

        Any number of processes may do so at the same time; one after another, they find it done.

        Args:
            component: its name; the version table is ``trove_COMPONENT_version``.
            package: the Python package whose modules are the revisions, as Alembic writes them.

        Raises:
            InvalidArgumentError: the name is malformed, or there is no such package.
            SchemaVersionError: a newer version of the library has migrated the database.
        """
        from trove_async.database.migrating import Migration  # Alembic takes 0.1 s to import

        self._check_usable()
        migration = Migration(component, package)
        await to_the_end(
            asyncio.to_thread(self._backend.migrate, migration.upgrade, migration.version_table),
            timeout=CLEANUP_TIMEOUT,
            leftover=f"the migration of {component!r}",
        )

    async def notify(self, channel: str, payload: str = "") -> None:
        """Wake those who listen to a channel; see `trove_async.database.notify`, which does it when a unit commits."""
        self._check_usable()
        check_notification(channel, payload)
        await self.write(lambda connection: notify(connection, channel, payload))

    def listen(self, channel: str) -> Listener:
        """Listen to a channel: ``async with db.listen("jobs") as events``, ``async for payload in events``.

        With PostgreSQL it takes a connection, and hears every process. With SQLite it hears only this object: other
        processes, and other `Database` objects, must look from time to time.

        Raises:
            InvalidArgumentError: the channel's name is malformed.
        """
        self._check_usable()
        check_channel(channel)
        inbox = Inbox()
        self._inboxes.add(inbox)
        return Listener(inbox, self._backend.listen(channel, inbox))

    @asynccontextmanager
    async def lock(self, name: str) -> AsyncIterator[None]:
        """Wait for a lock that only one task of all processes holds: ``async with db.lock("sweep")``.

        It is an advisory lock of PostgreSQL, on a connection of its own; with SQLite it is a lock on a file in the
        folder ``DATABASE-locks``, which is as good on one machine. It ends with the process, or with the connection,
        which the holder does not notice: take a lease where a late write would do harm.
        """
        self._check_usable()
        check_text("the name of a lock", name)
        async with self._backend.lock(name):
            yield

    async def session(self) -> Session:
        """Make a connection to PostgreSQL that is not of the pool, for what ends with it, such as advisory locks.

        The caller closes it; `aclose` does it too.

        Raises:
            UnavailableError: the server cannot be reached.
            UnsupportedError: the database is one of SQLite.
        """
        self._check_usable()
        return await self._backend.session()

    async def _write_with_leases(self, unit: Unit[Any]) -> Any:
        if not self._has_leases:
            async with self._migrated:
                await self.migrate("database", "trove_async.database.migrations")
                self._has_leases = True
        return await self.write(unit)

    def _check_usable(self) -> None:
        if self._unusable is not None:
            raise _refusal(self._unusable, self._backend.driver)
        if asyncio.get_running_loop() is not self._loop:
            raise _refusal(WrongLoopError, self._backend.driver)

    async def aclose(self) -> None:
        """Finish the units that wait, and close all connections; idempotent. Listeners raise `ClosedError`.

        It completes also when the calling task is cancelled meanwhile.
        """
        if self._unusable is not None:
            return
        self._check_usable()
        self._unusable = ClosedError
        _open_databases.discard(self)
        for inbox in list(self._inboxes):
            inbox.fail(_refusal(ClosedError, self._backend.driver))
        await finish(self._backend.close(), timeout=CLEANUP_TIMEOUT, leftover="connections to the database")

    async def __aenter__(self) -> Database:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if getattr(self, "_unusable", ClosedError) is None:
            self._backend.abandon()
            warnings.warn(
                f"unclosed {self!r}; use 'async with', or call aclose()", ResourceWarning, stacklevel=2, source=self
            )

    def __repr__(self) -> str:
        state = "" if self._unusable is None else " closed"
        return f"<Database {self._url}{state}>"


def _backend_for(settings: SQLiteSettings | PostgresSettings) -> Backend:
    if isinstance(settings, SQLiteSettings):
        return SQLiteBackend(settings)
    return load_postgres()(settings)


def load_postgres() -> type[PostgresBackend]:
    """Import what PostgreSQL needs.

    Raises:
        MissingDependencyError: a package is not installed.
    """
    try:
        from trove_async.database.postgres import PostgresBackend
    except ImportError as error:  # SQLAlchemy raises it for greenlet
        missing = error.name or "greenlet"
        raise MissingDependencyError(
            f"PostgreSQL needs the package {missing!r}: pip install 'trove-async[postgres]'"
        ) from error
    return PostgresBackend


_REFUSALS: Final[dict[type[LifetimeError], str]] = {
    ClosedError: "the database was closed",
    WrongLoopError: "the database was connected on another event loop; connect once for each loop",
    ForkedError: "the process was forked after the database was connected; connect in the child process",
}


def _refusal(kind: type[LifetimeError], driver: str) -> LifetimeError:
    return kind(_REFUSALS[kind], driver=driver)
