"""Locks of several machines."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from trove_async.database import Database
from trove_async.database.backend import Session, lock_number
from trove_async.database.database import load_postgres
from trove_async.database.failures import sqlstate_of
from trove_async.database.url import parse_url
from trove_async.errors import BackendError, InvalidArgumentError, TroveError, UnavailableError, UnsupportedError
from trove_async.uploads.lockers.shared import SharedLocker
from trove_async.uploads.lockers.turns import TIMEOUT

__all__ = ["PostgresLocker"]

_CHANNEL: Final = "trove_uploads"
_ANSWER: Final = 5.0
"""Seconds in which the server must answer; after them the session is given up, and its locks are lost."""
_BEAT: Final = 4.0
"""Seconds between the statements that find out whether the server can still be reached, while locks are held."""

# https://www.postgresql.org/docs/current/runtime-config-connection.html#RUNTIME-CONFIG-TCP-SETTINGS: the server ends
# the session of a machine that does not answer after 20 s, when the machine has known for 11 s that it lost its locks.
_OPEN: Final = (
    "SELECT pg_backend_pid() FROM (SELECT set_config('tcp_keepalives_idle', '10', false), "
    "set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '2', false), "
    "set_config('tcp_user_timeout', '20000', false) OFFSET 0) AS settings"
)
_OF_POOLERS: Final = ("26000", "42P05")
"""What the server says of the prepared statements of others: none of that name, or one already."""
_TRY: Final = "SELECT pg_try_advisory_lock($1)"
_TRY_OR_ASK: Final = "SELECT CASE WHEN pg_try_advisory_lock($1) THEN true ELSE pg_notify($2, $3) IS NULL END"
_UNLOCK: Final = "SELECT pg_advisory_unlock($1)"
_UNLOCK_AND_ANNOUNCE: Final = "SELECT pg_advisory_unlock($1), pg_notify($2, $3)"
_ANNOUNCE: Final = "SELECT pg_notify($1, $2)"

_STOP: Final = "stop"
_RELEASED: Final = "released"


class PostgresLocker(SharedLocker[int]):
    """Locks for the processes of any number of machines that share a database of PostgreSQL.

    They are advisory locks of one connection for each process, which it makes when it needs the first lock. The server
    releases them when the connection ends, as it does at once when the process ends. Processes send each other
    notifications, so that a lock is taken over within a few round trips; after a holder that was killed it may take a
    second.

    If the connection breaks, the locks of the process are `lost`, their holders are asked to stop, and the next request
    for a lock makes a new connection. A process that cannot reach the server loses its locks after 9 seconds; the
    server notices that after 20, by ``tcp_user_timeout`` and keep-alives that are set for the connection (on a server
    that is not Linux, as soon as its system does).

    The connection goes to the server itself: behind a pooler such as PgBouncer, a lock would belong to a connection
    that others use too. This is refused.

    Args:
        database: the URL of the database, ``postgresql://…``, or a `Database` that is connected; it is not closed.
        timeout: seconds to wait for a holder to stop; default: 20.

    Raises:
        InvalidArgumentError: the database is one of SQLite, or none; or the timeout is no number of seconds.
        MissingDependencyError: the packages for PostgreSQL are not installed.
    """

    def __init__(self, database: str | Database, *, timeout: float = TIMEOUT) -> None:
        super().__init__(timeout)
        driver = database.driver if isinstance(database, Database) else parse_url(database).url.scheme
        if driver != "postgresql":
            raise InvalidArgumentError(
                "PostgresLocker needs PostgreSQL; with a database of SQLite, all processes are on one machine: use "
                "FileLocker"
            )
        load_postgres()
        self._database = database
        self._opened: Database | None = None
        self._session: Session | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None

    def _key_of(self, name: str) -> int:
        return lock_number(f"trove_async.uploads {name}")

    async def _prepare(self) -> None:
        while self._session is None:
            if self._connecting is None:
                self._connecting = asyncio.ensure_future(self._connect())
                self._connecting.add_done_callback(self._connect_ended)
            await asyncio.shield(self._connecting)  # others may wait for it too

    def _connect_ended(self, task: asyncio.Task[None]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # marks it as retrieved: those that waited may have been cancelled

    async def _connect(self) -> None:
        if isinstance(self._database, str) and self._opened is None:
            self._opened = Database(parse_url(self._database))
        database = self._database if isinstance(self._database, Database) else self._opened
        assert database is not None
        session = await database.session()
        try:
            session.on_loss(lambda _: self._session_lost(session))
            await _begin(session)
            await session.listen(_CHANNEL, self._receive, own=False, timeout=_ANSWER)
        except BaseException:
            await session.close()
            raise
        self._session = session
        self._beating = asyncio.ensure_future(self._beat(session))

    async def _beat(self, session: Session) -> None:
        try:
            while True:
                await asyncio.sleep(_BEAT)
                if self._takings:
                    await session.query("SELECT 1", timeout=_ANSWER)
        except TroveError:
            await session.close()

    def _session_lost(self, session: Session) -> None:
        if self._session is session:
            self._session = None
            if self._beating is not None:
                self._beating.cancel()
            self._lose()

    def _receive(self, payload: str) -> None:
        verb, _, key = payload.partition(" ")
        if key.isdecimal() and verb == _STOP:
            self._requested(int(key))
        elif key.isdecimal() and verb == _RELEASED:
            self._released(int(key))

    async def _try_lock(self, key: int, *, ask: bool) -> bool:
        session = self._session
        if session is None:
            return False
        try:
            if ask:
                held = await session.query(_TRY_OR_ASK, key, _CHANNEL, f"{_STOP} {key}", timeout=_ANSWER)
            else:
                held = await session.query(_TRY, key, timeout=_ANSWER)
        except UnavailableError:
            return False  # it is tried again on another connection
        except TroveError:
            # The lock may have been taken nevertheless: one of a session outlives a statement that fails after it.
            await self._unlock(key, announce=True)
            raise
        return bool(held) and session is self._session

    async def _unlock(self, key: int, *, announce: bool) -> None:
        session = self._session
        if session is None:
            return
        try:
            if announce:
                await session.query(_UNLOCK_AND_ANNOUNCE, key, _CHANNEL, f"{_RELEASED} {key}", timeout=_ANSWER)
            else:
                await session.query(_UNLOCK, key, timeout=_ANSWER)
        except TroveError:
            await session.close()  # then the server releases it

    async def _announce(self, key: int) -> None:
        with suppress(TroveError):
            if self._session is not None:
                await self._session.query(_ANNOUNCE, _CHANNEL, f"{_RELEASED} {key}", timeout=_ANSWER)

    async def _end(self) -> None:
        if self._connecting is not None:
            await asyncio.wait([self._connecting])
        session, self._session = self._session, None
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])
        if session is not None:
            await session.close()
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.aclose()


async def _begin(session: Session) -> None:
    try:
        if not session.is_pooled(await session.query(_OPEN, timeout=_ANSWER)):
            return
        cause = None
    except BackendError as error:
        if sqlstate_of(error) not in _OF_POOLERS:
            raise
        cause = error
    raise UnsupportedError(
        "a connection pooler stands before the database, and locks need a connection of their own: give PostgresLocker "
        "the URL of the server itself",
        driver="postgresql",
    ) from cause
