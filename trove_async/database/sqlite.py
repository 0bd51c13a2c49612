"""SQLite: one thread that writes, a few that read, in one process of one machine or in several."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Connection, Engine, NullPool, QueuePool, create_engine, event, text

from trove_async.cancellation import CLEANUP_TIMEOUT, to_the_end
from trove_async.database.backend import Backend, Session
from trove_async.database.failures import translating
from trove_async.database.notifications import Inbox
from trove_async.database.units import Unit, guard, run
from trove_async.database.url import SQLiteSettings
from trove_async.database.writer import Write, Writer
from trove_async.driver.retry import Backoff
from trove_async.errors import NotFoundError, PreconditionFailedError, TroveError, UnsupportedError
from trove_async.lock_files import make_lock_folder, open_lock_file, reporting, try_lock

__all__ = ["SQLiteBackend"]

R = TypeVar("R")

_POLLING: Final = Backoff(first=0.005, longest=0.25)
"""Between the looks at a lock that another process holds."""


class SQLiteBackend(Backend):
    """A file of SQLite, in WAL mode."""

    driver = "sqlite"

    def __init__(self, settings: SQLiteSettings) -> None:
        self._settings = settings
        self._inboxes: defaultdict[str, set[Inbox]] = defaultdict(set)
        self._readers = ThreadPoolExecutor(settings.readers, thread_name_prefix="trove-database-reader")
        self._reading = _new_engine(settings, "BEGIN", query_only=True, pool_size=settings.readers)
        self._writing = _new_engine(settings, "BEGIN IMMEDIATE")
        self._writer = Writer(self._writing, self._publish)

    async def open(self) -> None:
        """Open the file, or create it, by a read."""
        try:
            await self.read(lambda connection: connection.scalar(text("SELECT count(*) FROM sqlite_schema")))
        except TroveError as error:
            path = str(self._settings.path)
            if isinstance(error, NotFoundError):
                _check_access(path)
            error.message = f"{path!r}: {error.message}"
            raise

    async def write(self, unit: Unit[R]) -> R:
        """Let the writer run a unit; wait for its outcome even if cancelled, unless it has not begun."""
        write = self._writer.submit(unit)
        return await to_the_end(
            _outcome_of(write),
            timeout=CLEANUP_TIMEOUT,
            leftover="a write to the database",
            on_cancel=lambda: self._writer.withdraw(write),
        )

    async def read(self, unit: Unit[R]) -> R:
        """Run a unit in one of the threads that read."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, unit)

    def _read(self, unit: Unit[R]) -> R:
        with (
            translating(self.driver),
            self._reading.connect() as connection,
            connection.begin(),
            translating(self.driver, reading=True),
        ):
            return run(unit, connection)

    def migrate(self, upgrade: Callable[[Connection], None], lock: str) -> None:
        """Upgrade the schema; whoever writes waits meanwhile, in every process.

        A table that is altered is copied and dropped, which must not delete the rows that refer to it
        (https://www.sqlite.org/lang_altertable.html#otheralter).
        """
        with translating(self.driver), self._writing.connect() as connection:
            raw = connection.connection.dbapi_connection
            assert isinstance(raw, sqlite3.Connection)
            # It has no effect within a transaction; the connection is not used again.
            raw.execute("PRAGMA foreign_keys=OFF")
            with connection.begin():
                before = raw.total_changes
                upgrade(connection)
                if raw.total_changes == before:  # no revision was new, and the check below reads all rows
                    return
                if connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
                    raise PreconditionFailedError("after the migration, rows would refer to rows that do not exist")

    @asynccontextmanager
    async def listen(self, channel: str, inbox: Inbox) -> AsyncIterator[None]:
        """Take part in the notifications of this object's own units."""
        self._inboxes[channel].add(inbox)
        try:
            yield
        finally:
            self._inboxes[channel].discard(inbox)

    def _publish(self, notifications: Iterable[tuple[str, str]]) -> None:
        for channel, payload in notifications:
            for inbox in self._inboxes[channel]:
                inbox.deliver(payload)

    async def session(self) -> Session:
        """Refuse: there is no server that a process would have a session with."""
        raise UnsupportedError("SQLite has no sessions; use PostgreSQL", driver=self.driver)

    @asynccontextmanager
    async def lock(self, name: str) -> AsyncIterator[None]:
        """Hold a lock on a file beside the database (flock(2)), which the kernel releases when the process ends."""
        folder = self._settings.path.with_name(f"{self._settings.path.name}-locks")
        descriptor = _open_lock(folder, name)
        try:
            failures = 0
            while not try_lock(descriptor):
                failures += 1
                await asyncio.sleep(_POLLING.delay(failures))
            yield
        finally:
            os.close(descriptor)

    async def close(self) -> None:
        """Finish the units that wait, and end the threads."""
        self._writer.close()
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        self._writer.join()
        self._readers.shutdown()
        self._reading.dispose()
        self._writing.dispose()

    def abandon(self) -> None:
        """Let the threads end after their present work."""
        self._writer.close()
        self._readers.shutdown(wait=False)
        self._reading.dispose()


async def _outcome_of(write: Write[R]) -> R:
    return await write.outcome


def _check_access(path: str) -> None:
    """Raise the reason for which a file cannot be opened, if its folder exists; SQLite does not say it."""
    if os.path.isdir(os.path.dirname(path) or "."):
        with reporting(f"{path!r}: the file of the database cannot be opened", SQLiteBackend.driver):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644))


def _new_engine(settings: SQLiteSettings, begin: str, *, query_only: bool = False, pool_size: int = 0) -> Engine:
    pool: dict[str, Any] = {"poolclass": NullPool}
    if pool_size:
        pool = {"poolclass": QueuePool, "pool_size": pool_size, "max_overflow": 0}
    engine = create_engine(
        URL.create("sqlite", database=str(settings.path)),
        # Transactions begin by our own statement; the threads that read hand connections to each other.
        connect_args={"isolation_level": None, "timeout": settings.busy_timeout, "check_same_thread": False},
        hide_parameters=True,
        **pool,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: object) -> None:
        _use_wal(connection, settings)
        connection.execute(f"PRAGMA synchronous={'FULL' if settings.synchronous else 'NORMAL'}")
        connection.execute("PRAGMA foreign_keys=ON")
        if query_only:
            connection.execute("PRAGMA query_only=ON")

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    guard(engine)
    return engine


def _use_wal(connection: sqlite3.Connection, settings: SQLiteSettings) -> None:
    """Switch to WAL mode, which lasts; the switch does not wait for other connections by itself."""
    deadline = time.monotonic() + settings.busy_timeout
    failures = 0
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            failures += 1
            time.sleep(_POLLING.delay(failures))
            continue
        if mode != "wal":
            raise UnsupportedError(
                f"SQLite cannot use WAL mode for {settings.path}: use a local file system, not one of the network",
                driver="sqlite",
            )
        return


def _open_lock(folder: Path, name: str) -> int:
    make_lock_folder(folder, driver="sqlite")
    return open_lock_file(folder / hashlib.sha256(name.encode()).hexdigest()[:32], driver="sqlite")
