"""The errors of SQLAlchemy, SQLite and PostgreSQL as errors of the library."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from trove_async.dsn import redact
from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    InvalidArgumentError,
    NotFoundError,
    OperationTimeoutError,
    PreconditionFailedError,
    StorageFullError,
    ThrottledError,
    TransientError,
    TroveError,
    UnauthenticatedError,
    UnavailableError,
)

__all__ = ["READ_ONLY", "sqlstate_of", "translated", "translating"]

READ_ONLY: Final = "25006"
"""PostgreSQL's code of a write in a transaction that takes none."""

_WRITE_IN_READ: Final = (InvalidArgumentError, "a unit of `read` must not write; give it to `write`")

# https://www.sqlite.org/rescode.html; of an extended code the low byte is the primary one.
_OF_SQLITE: Final[dict[int, tuple[type[TroveError], str]]] = {
    sqlite3.SQLITE_BUSY: (TransientError, "another process kept the database locked for too long; try again"),
    sqlite3.SQLITE_LOCKED: (TransientError, "another process kept the database locked for too long; try again"),
    sqlite3.SQLITE_FULL: (StorageFullError, "the disk of the database is full"),
    sqlite3.SQLITE_CONSTRAINT: (PreconditionFailedError, "a constraint of the database does not hold"),
    sqlite3.SQLITE_PERM: (AccessDeniedError, "the file of the database cannot be opened for writing"),
    sqlite3.SQLITE_READONLY: (AccessDeniedError, "the file of the database cannot be written to"),
    sqlite3.SQLITE_AUTH: (AccessDeniedError, "the file of the database cannot be opened for writing"),
    sqlite3.SQLITE_CANTOPEN: (NotFoundError, "the file of the database cannot be opened; does its folder exist?"),
    sqlite3.SQLITE_NOTADB: (BackendError, "the file is no SQLite database"),
    sqlite3.SQLITE_CORRUPT: (BackendError, "the file of the database is damaged; restore it from a backup"),
}

# https://www.postgresql.org/docs/current/errcodes-appendix.html; two characters stand for a class of them.
_OF_POSTGRES: Final[dict[str, tuple[type[TroveError], str]]] = {
    "08": (UnavailableError, "the connection to the database broke"),
    "23": (PreconditionFailedError, "a constraint of the database does not hold"),
    READ_ONLY: (UnavailableError, "the database takes no writes: it is a standby, or was made read-only"),
    "28": (UnauthenticatedError, "the database refused the user or the password"),
    "3D000": (NotFoundError, "the database does not exist"),
    "3F000": (NotFoundError, "no schema of search_path exists; create it with CREATE SCHEMA"),
    "40": (TransientError, "other writers kept overtaking this one; try again"),
    "42501": (AccessDeniedError, "the database's user is not allowed to do this"),
    "53100": (StorageFullError, "the disk of the database is full"),
    "53300": (ThrottledError, "the database has too many connections; try again later, or lower pool_size"),
    "55P03": (TransientError, "the database is locked; try again"),
    "57014": (OperationTimeoutError, "the database canceled a statement; look at statement_timeout"),
    "57P": (UnavailableError, "the database is shutting down or starting"),
}


def _chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and those that it was made from."""
    while error is not None:
        yield error
        error = getattr(error, "orig", None) or error.__cause__


def sqlstate_of(error: BaseException) -> str | None:
    """Return PostgreSQL's code of an error; None if it has none."""
    return next((state for one in _chain_of(error) if isinstance(state := getattr(one, "sqlstate", None), str)), None)


def translated(error: Exception, driver: str, *, connecting: bool = False, reading: bool = False) -> Exception:
    """Return the library's error for one of the database; an error of anything else is returned unchanged.

    The new error has the old one as its cause, and neither SQL nor the values in it.

    Args:
        error: what was raised.
        driver: ``sqlite`` or ``postgresql``.
        connecting: nothing but a connection was being made, so that every `OSError` is of the network.
        reading: the error is of a transaction that must not write.
    """
    if isinstance(error, TroveError):
        return error
    innermost = [*_chain_of(error)][-1]
    meaning = _meaning_of(error, innermost, reading=reading)
    if connecting and isinstance(error, OSError):
        meaning = UnavailableError, "the database cannot be reached"
    if meaning is None:
        return error
    detail = redact(" ".join(str(innermost).split("\n")[0].split())) or type(innermost).__name__
    ours = meaning[0](f"{meaning[1]}: {detail}", driver=driver)
    ours.__cause__ = error
    return ours


@contextmanager
def translating(driver: str, *, connecting: bool = False, reading: bool = False) -> Iterator[None]:
    """Raise the errors of a block as `translated` does."""
    try:
        yield
    except Exception as error:
        ours = translated(error, driver, connecting=connecting, reading=reading)
        if ours is error:
            raise
        raise ours from error


def _meaning_of(error: Exception, innermost: BaseException, *, reading: bool) -> tuple[type[TroveError], str] | None:
    state = sqlstate_of(error)
    if state == READ_ONLY and reading:
        return _WRITE_IN_READ
    if state is not None:
        found = next((_OF_POSTGRES[state[:n]] for n in (5, 3, 2) if state[:n] in _OF_POSTGRES), None)
        return found or (BackendError, f"the database failed (SQLSTATE {state})")
    if isinstance(innermost, sqlite3.Error):
        code = getattr(innermost, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code == sqlite3.SQLITE_READONLY and reading:
            return _WRITE_IN_READ
        return _OF_SQLITE.get(code, (BackendError, "the database failed"))
    if getattr(error, "connection_invalidated", False) or isinstance(innermost, ConnectionError):
        return UnavailableError, "the connection to the database broke"
    if isinstance(innermost, TimeoutError):
        return OperationTimeoutError, "the database did not answer in time"
    if isinstance(error, SQLAlchemyError) or type(innermost).__module__.startswith("asyncpg."):
        return BackendError, "the database failed"
    return None
