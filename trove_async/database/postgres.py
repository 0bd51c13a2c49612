"""PostgreSQL by asyncpg: many machines share one truth."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, NullPool, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from trove_async.cancellation import CLEANUP_TIMEOUT, finish, to_the_end
from trove_async.database.backend import Backend
from trove_async.database.failures import CONTENDED, sqlstate_of, translated, translating
from trove_async.database.notifications import Inbox
from trove_async.database.units import Unit, guard, run
from trove_async.database.url import PostgresSettings
from trove_async.driver.retry import Backoff
from trove_async.dsn import redact
from trove_async.errors import (
    InvalidDSNError,
    MissingDependencyError,
    TroveError,
    UnavailableError,
)

try:
    import asyncpg
    import greenlet  # noqa: F401 - SQLAlchemy needs it for asyncio
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        f"PostgreSQL needs the package {error.name!r}: pip install 'trove-async[postgres]'"
    ) from error

__all__ = ["PostgresBackend"]

R = TypeVar("R")

_ATTEMPTS: Final = 30
_LOST: Final = Backoff(first=0.005, longest=0.5)
"""Between the attempts of a transaction that lost against another one."""


class _Attempt:
    """How far a transaction has come, and whether its caller still wants it.

    Attributes:
        cancelled: no commit is begun any more.
        committing: ``COMMIT`` was sent.
    """

    def __init__(self) -> None:
        self.cancelled = False
        self.committing = False

    def cancel(self) -> None:
        """Take in that the caller was cancelled."""
        self.cancelled = True


class PostgresBackend(Backend):
    """A database of PostgreSQL."""

    driver = "postgresql"

    def __init__(self, settings: PostgresSettings) -> None:
        self._settings = settings
        # The pool never waits: it has a time limit for that, and is not fair.
        self._slots = asyncio.Semaphore(settings.pool_size)
        self._engine = self._new_engine(pool_size=settings.pool_size, max_overflow=-1)
        self._writing = self._engine.execution_options(isolation_level="SERIALIZABLE")
        self._reading = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._sessions: set[_Session] = set()

    def _new_engine(self, **pool: Any) -> AsyncEngine:
        engine = create_async_engine("postgresql+asyncpg://", async_creator=self._connect, hide_parameters=True, **pool)
        guard(engine.sync_engine)
        return engine

    async def _connect(self) -> asyncpg.Connection[Any]:
        with translating(self.driver, connecting=True):
            try:
                return await asyncpg.connect(
                    self._settings.dsn,
                    timeout=self._settings.connect_timeout,
                    server_settings={"application_name": "trove_async", **self._settings.session},
                )
            except asyncpg.ClientConfigurationError as error:
                raise InvalidDSNError(f"the URL of the database is invalid: {redact(str(error))}") from None

    async def open(self) -> None:
        """Connect once; the connection stays in the pool."""
        await self.read(lambda connection: connection.scalar(select(1)))

    async def write(self, unit: Unit[R]) -> R:
        """Run a unit in a serializable transaction, again when it loses against another one."""
        async with self._slots:
            attempt = _Attempt()
            return await to_the_end(
                self._repeat(self._writing, unit, attempt),
                timeout=CLEANUP_TIMEOUT,
                leftover="a write to the database",
                on_cancel=attempt.cancel,
            )

    async def read(self, unit: Unit[R]) -> R:
        """Run a unit in a transaction that reads one snapshot."""
        async with self._slots:
            attempt = _Attempt()
            return await to_the_end(
                self._repeat(self._reading, unit, attempt),
                timeout=CLEANUP_TIMEOUT,
                leftover="a read of the database",
                on_cancel=attempt.cancel,
            )

    async def _repeat(self, engine: AsyncEngine, unit: Unit[R], attempt: _Attempt) -> R:
        failures = 0
        while not attempt.cancelled:
            attempt.committing = False
            try:
                return await self._transact(engine, unit, attempt)
            except Exception as error:  # noqa: BLE001 - raised below unless it is tried again
                failures += 1
                ours = translated(error, self.driver, reading=engine is self._reading)
                if isinstance(ours, UnavailableError) and attempt.committing:
                    ours.ambiguous = True
                if failures == _ATTEMPTS or not _is_repeatable(error, attempt):
                    raise ours from (ours.__cause__ if ours is error else error)
            await asyncio.sleep(_LOST.delay(failures))
        raise asyncio.CancelledError

    async def _transact(self, engine: AsyncEngine, unit: Unit[R], attempt: _Attempt) -> R:
        async with engine.connect() as connection, connection.begin() as transaction:
            result = await connection.run_sync(lambda sync: run(unit, sync))
            if attempt.cancelled:
                await transaction.rollback()
                raise asyncio.CancelledError
            attempt.committing = True
            await transaction.commit()
            return result

    def migrate(self, upgrade: Callable[[Connection], None], lock: str) -> None:
        """Upgrade the schema under an advisory lock, on a loop of this thread."""
        asyncio.run(self._migrate(upgrade, lock))

    async def _migrate(self, upgrade: Callable[[Connection], None], lock: str) -> None:
        engine = self._new_engine(poolclass=NullPool)
        with translating(self.driver):
            async with engine.connect() as connection, connection.begin():
                await connection.execute(select(func.pg_advisory_xact_lock(_number_of(lock))))
                await connection.run_sync(upgrade)

    @asynccontextmanager
    async def listen(self, channel: str, inbox: Inbox) -> AsyncIterator[None]:
        """Listen on a connection of its own."""
        async with self._session() as session:
            session.on_loss(inbox.fail)
            await session.call(session.connection.add_listener(channel, lambda *received: inbox.deliver(received[-1])))
            yield

    @asynccontextmanager
    async def lock(self, name: str) -> AsyncIterator[None]:
        """Hold an advisory lock on a connection of its own."""
        async with self._session() as session:
            await session.call(session.connection.execute("SELECT pg_advisory_lock($1)", _number_of(name)))
            yield

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[_Session]:
        session = _Session(await self._connect())
        self._sessions.add(session)
        try:
            yield session
        finally:
            self._sessions.discard(session)
            await finish(session.close(), timeout=CLEANUP_TIMEOUT, leftover="a connection to the database")

    async def close(self) -> None:
        """Close all connections."""
        for session in list(self._sessions):
            session.connection.terminate()
        await self._engine.dispose()

    def abandon(self) -> None:
        """Do nothing: connections end with the loop."""


class _Session:
    """A connection outside the pool."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self.connection = connection

    async def call(self, work: Any) -> None:
        """Await a call of the connection."""
        with translating("postgresql"):
            await work

    def on_loss(self, callback: Callable[[TroveError], None]) -> None:
        """Call back when the connection breaks."""
        lost = UnavailableError("the connection to the database broke", driver="postgresql")
        self.connection.add_termination_listener(lambda _: callback(lost))

    async def close(self) -> None:
        """Close the connection; what it waits for is given up."""
        await self.connection.close(timeout=2)


def _is_repeatable(error: Exception, attempt: _Attempt) -> bool:
    if sqlstate_of(error) in CONTENDED or type(getattr(error, "orig", None)).__name__ == "InvalidCachedStatementError":
        return True
    # A server that was started again has closed the connections of the pool.
    return getattr(error, "connection_invalidated", False) and not attempt.committing


def _number_of(name: str) -> int:
    """Return the number of an advisory lock: 63 bits."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) >> 1
