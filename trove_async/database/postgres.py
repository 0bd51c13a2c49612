"""PostgreSQL by asyncpg: many machines share one truth."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar
from weakref import WeakSet

import asyncpg
from sqlalchemy import Connection, ExceptionContext, NullPool, event, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from trove_async.cancellation import CLEANUP_TIMEOUT, finish, to_the_end
from trove_async.database.backend import Backend, Session, lock_number
from trove_async.database.failures import READ_ONLY, sqlstate_of, translating
from trove_async.database.notifications import Inbox
from trove_async.database.units import Unit, guard, run
from trove_async.database.url import PostgresSettings
from trove_async.driver.retry import Backoff
from trove_async.dsn import redact
from trove_async.errors import (
    InvalidDSNError,
    OperationTimeoutError,
    TroveError,
    UnavailableError,
    UnsupportedError,
)

__all__ = ["PostgresBackend"]

R = TypeVar("R")

# https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html: a serialization failure, a deadlock;
# and a statement that was prepared before a migration ("cached plan must not change result type").
_LOST_AGAINST_OTHERS: Final = ("40001", "40P01", "0A000")
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


class _Gate:
    """Lets first attempts run at the same time, and one that lost against another one alone.

    Otherwise those who count the same thing would overtake each other again and again. Those of other processes remain.
    """

    def __init__(self) -> None:
        self._alone = asyncio.Lock()
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """Run with others, after those that must be alone."""
        async with self._alone:
            self._running += 1
            self._idle.clear()
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Run when no other one runs."""
        async with self._alone:
            await self._idle.wait()
            yield


class PostgresBackend(Backend):
    """A database of PostgreSQL."""

    driver = "postgresql"

    def __init__(self, settings: PostgresSettings) -> None:
        self._settings = settings
        # The pool never waits: it has a time limit for that, and is not fair.
        self._slots = asyncio.Semaphore(settings.pool_size)
        self._engine = self._new_engine(settings.timeout, pool_size=settings.pool_size, max_overflow=-1)
        self._writing = self._engine.execution_options(isolation_level="SERIALIZABLE")
        self._reading = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._gate = _Gate()
        self._sessions: set[_Session] = set()
        self._connections: WeakSet[asyncpg.Connection[Any]] = WeakSet()

    def _new_engine(self, timeout: float | None, **pool: Any) -> AsyncEngine:
        engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=lambda: self._connect(timeout),
            # Not the default of the database: a migration must see what was committed while it waited for its lock.
            isolation_level="READ COMMITTED",
            hide_parameters=True,
            **pool,
        )
        guard(engine.sync_engine)
        event.listen(engine.sync_engine, "handle_error", _leave_standby)
        return engine

    async def _connect(self, timeout: float | None = None) -> asyncpg.Connection[Any]:
        with translating(self.driver, connecting=True):
            try:
                connection = await asyncpg.connect(
                    self._settings.dsn,
                    timeout=self._settings.connect_timeout,
                    command_timeout=timeout,
                    server_settings={"application_name": "trove_async", **self._settings.session},
                )
            except asyncpg.ClientConfigurationError as error:
                raise InvalidDSNError(f"the URL of the database is invalid: {redact(str(error))}") from None
        self._connections.add(connection)
        if (encoding := connection.get_settings().server_encoding) != "UTF8":
            await _close(connection)
            raise UnsupportedError(
                f"the encoding of the database is {encoding}, which cannot keep every name; create a database with "
                "ENCODING 'UTF8'",
                driver=self.driver,
            )
        return connection

    async def open(self) -> None:
        """Connect once; the connection stays in the pool."""
        await self.read(lambda connection: connection.scalar(select(1)))

    async def write(self, unit: Unit[R]) -> R:
        """Run a unit in a serializable transaction, again when it loses against another one."""
        return await self._run(self._writing, unit, self._gate)

    async def read(self, unit: Unit[R]) -> R:
        """Run a unit in a transaction that reads one snapshot."""
        return await self._run(self._reading, unit, _Gate())

    async def _run(self, engine: AsyncEngine, unit: Unit[R], gate: _Gate) -> R:
        attempt = _Attempt()
        async with self._slots:
            return await to_the_end(
                self._repeat(engine, unit, gate, attempt),
                timeout=CLEANUP_TIMEOUT,
                leftover="a transaction of the database",
                on_cancel=attempt.cancel,
            )

    async def _repeat(self, engine: AsyncEngine, unit: Unit[R], gate: _Gate, attempt: _Attempt) -> R:
        failures = 0
        while not attempt.cancelled:
            try:
                async with gate.alone() if failures else gate.together():
                    with translating(self.driver, reading=engine is self._reading):
                        return await self._transact(engine, unit, attempt)
            except Exception as error:
                failures += 1
                if isinstance(error, (UnavailableError, OperationTimeoutError)):
                    error.ambiguous = attempt.committing
                if failures >= _attempts_for(error, attempt):
                    raise
            if failures > 1:
                await asyncio.sleep(_LOST.delay(failures - 1))
        raise asyncio.CancelledError

    async def _transact(self, engine: AsyncEngine, unit: Unit[R], attempt: _Attempt) -> R:
        attempt.committing = False
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
        engine = self._new_engine(None, poolclass=NullPool)
        with translating(self.driver):
            async with engine.connect() as connection, connection.begin():
                await connection.execute(select(func.pg_advisory_xact_lock(lock_number(lock))))
                await connection.run_sync(upgrade)

    @asynccontextmanager
    async def listen(self, channel: str, inbox: Inbox) -> AsyncIterator[None]:
        """Listen on a connection of its own."""
        session = await self.session()
        try:
            session.on_loss(inbox.fail)
            await session.listen(channel, inbox.deliver)
            yield
        finally:
            await session.close()

    @asynccontextmanager
    async def lock(self, name: str) -> AsyncIterator[None]:
        """Hold an advisory lock on a connection of its own."""
        session = await self.session()
        try:
            await session.call(session.connection.execute("SELECT pg_advisory_lock($1)", lock_number(name)))
            yield
        finally:
            await session.close()

    async def session(self) -> _Session:
        """Make a connection that is not of the pool; `close` ends it."""
        connections: list[asyncpg.Connection[Any]] = []

        async def connect() -> None:
            connections.append(await self._connect())

        try:
            # A cancelled asyncpg.connect leaves a future whose error the loop reports when it is collected.
            longest = self._settings.connect_timeout + 1
            await to_the_end(connect(), timeout=longest, leftover="a connection to the database")
        except BaseException:
            for connection in connections:
                await _close(connection)
            raise
        session = _Session(connections[0])
        self._sessions.add(session)
        session.on_loss(lambda _: self._sessions.discard(session))
        return session

    async def close(self) -> None:
        """Wait for the transactions that were begun or wait for a connection, and close all connections."""
        for session in list(self._sessions):
            session.connection.terminate()
        try:
            for _ in range(self._settings.pool_size):
                await self._slots.acquire()
        finally:
            # The pool would wait for the answer of each server, however long it takes.
            await asyncio.gather(*map(_hang_up, self._connections))
            await self._engine.dispose()

    def forget(self) -> None:
        """Let the connections outside the pool go: what ends with them, such as locks, is the parent's."""
        for session in self._sessions:
            session.forget()

    def abandon(self) -> None:
        """Do nothing: connections end with the loop."""


class _Session(Session):
    """A connection outside the pool."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self.connection = connection
        self._one_at_a_time = asyncio.Lock()

    async def call(self, work: Awaitable[R]) -> R:
        """Await a call of the connection."""
        with translating("postgresql"):
            return await work

    async def query(self, sql: str, *values: object, timeout: float) -> Any:
        """Run a statement."""
        return await self._answer(lambda: self.connection.fetchval(sql, *values), timeout)

    async def listen(
        self, channel: str, receive: Callable[[str], object], *, own: bool = True, timeout: float | None = None
    ) -> None:
        """Listen to a channel."""

        def take(connection: object, pid: int, channel: object, payload: str) -> None:
            if own or pid != self.connection.get_server_pid():
                receive(payload)

        await self._answer(lambda: self.connection.add_listener(channel, take), timeout)

    async def _answer(self, call: Callable[[], Awaitable[R]], timeout: float | None) -> R:
        """Await a call of the connection, after those before it; a server that does not answer in time is given up."""
        async with self._one_at_a_time:
            if self.connection.is_closed():
                raise _broken()
            loop = asyncio.get_running_loop()
            expired = False

            def expire() -> None:
                nonlocal expired
                expired = True
                self.connection.terminate()

            # Not by asyncpg's own time limit, which makes another connection to cancel the statement.
            timer = None if timeout is None else loop.call_later(timeout, expire)
            try:
                return await self.call(call())
            except TroveError as error:
                if expired:
                    raise OperationTimeoutError("the database did not answer in time", driver="postgresql") from error
                if sqlstate_of(error) is None:
                    # asyncpg refuses a statement when the farewell of the server has arrived, and its end has not.
                    self.connection.terminate()
                    raise _broken() from error
                raise
            finally:
                if timer is not None:
                    timer.cancel()

    def on_loss(self, callback: Callable[[TroveError], object]) -> None:
        """Call back when the connection breaks."""
        self.connection.add_termination_listener(lambda _: callback(_broken()))

    def is_pooled(self, backend_pid: int) -> bool:
        """Return whether the server's process is another one than the connection began with."""
        return bool(backend_pid != self.connection.get_server_pid())

    async def close(self) -> None:
        """Close the connection."""
        await _close(self.connection)

    def forget(self) -> None:
        """Let the connection go in a forked child, which would keep it open when the parent has ended."""
        transport = getattr(self.connection, "_transport", None)
        if transport is not None and not transport.is_closing():
            # The socket closes its descriptor later: by then, the number must not belong to another file.
            nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(nothing, transport.get_extra_info("socket").fileno(), inheritable=False)
            os.close(nothing)


def _leave_standby(context: ExceptionContext) -> None:
    """Let the pool drop its connections to a server that takes no writes: after a failover, another one does."""
    options = {} if context.connection is None else context.connection.get_execution_options()
    if sqlstate_of(context.original_exception) == READ_ONLY and not options.get("postgresql_readonly"):
        context.is_disconnect = True


def _broken() -> UnavailableError:
    return UnavailableError("the connection to the database broke", driver="postgresql")


async def _close(connection: asyncpg.Connection[Any]) -> None:
    await finish(_hang_up(connection), timeout=CLEANUP_TIMEOUT, leftover="a connection to the database")


async def _hang_up(connection: asyncpg.Connection[Any]) -> None:
    """Close a connection, with a farewell if the server listens; what it waits for is given up."""
    with suppress(Exception):
        await connection.close(timeout=2)


def _attempts_for(error: Exception, attempt: _Attempt) -> int:
    """Return how many attempts there are for a unit that failed with an error."""
    state = sqlstate_of(error)
    if state in _LOST_AGAINST_OTHERS:
        return 30
    # It may have lost against another one that inserted the same key, and does not violate anything after it.
    if state in ("23505", "23P01"):
        return 5
    # A server that was started again has closed the connections of the pool.
    broken = getattr(error.__cause__, "connection_invalidated", False)
    return 3 if broken and not attempt.committing else 1
