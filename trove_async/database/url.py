"""The URLs of databases: what they name, and the settings in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trove_async.dsn import DSN, SettingsParser, parse_dsn
from trove_async.errors import InvalidDSNError

__all__ = ["PostgresSettings", "SQLiteSettings", "parse_url"]

# https://magicstack.github.io/asyncpg/current/api/index.html#connection: what it takes from a URL itself.
_OF_ASYNCPG: Final = (
    *("host", "passfile", "target_session_attrs"),
    *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslpassword"),
)
_CHOICES: Final = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": ("any", "primary", "standby", "read-write", "read-only", "prefer-standby"),
}
"""The values that asyncpg takes; it would say so only when it connects."""
_EXAMPLE: Final = "sqlite:///state.db"
_FORMS: Final = "write 'sqlite:///relative.db', 'sqlite:////absolute.db' or 'postgresql://user@host:port/database'"

_OF_THE_SESSION: Final = ("application_name", "search_path")
"""Parameters of the server, which asyncpg sends when it connects."""


@dataclass(frozen=True, slots=True)
class SQLiteSettings:
    """The settings of a SQLite database.

    Attributes:
        url: the URL, for messages.
        path: the absolute path of the file.
        busy_timeout: seconds to wait for another process that writes.
        readers: how many reads run at the same time.
        synchronous: True if a commit waits for the disk.
    """

    url: DSN
    path: Path
    busy_timeout: float
    readers: int
    synchronous: bool


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """The settings of a PostgreSQL database.

    Attributes:
        url: the URL, for messages.
        dsn: the URL as asyncpg takes it, without our settings; it has the password.
        connect_timeout: seconds within which a connection must be established.
        timeout: seconds within which the server must answer a statement of a unit.
        pool_size: how many transactions run at the same time.
        session: the parameters of each session.
    """

    url: DSN
    dsn: str
    connect_timeout: float
    timeout: float
    pool_size: int
    session: dict[str, str]

    def __repr__(self) -> str:
        return f"PostgresSettings({str(self.url)!r})"


def parse_url(url: str) -> SQLiteSettings | PostgresSettings:
    """Parse the URL of a database; no I/O.

    Raises:
        InvalidDSNError: the scheme is unknown, or a part or a parameter is missing, unknown or malformed.
    """
    if not isinstance(url, str):
        raise InvalidDSNError(f"the URL of a database is a str such as {_EXAMPLE!r}, not {type(url).__name__}")
    if "://" not in url:
        raise InvalidDSNError(f"the URL of a database has a scheme; {_FORMS}")
    dsn = parse_dsn(url)
    if dsn.scheme == "sqlite":
        return _sqlite(dsn)
    if dsn.scheme == "postgresql":
        return _postgres(dsn)
    raise InvalidDSNError(f"{dsn.scheme!r} is not the scheme of a database; {_FORMS}")


def _sqlite(dsn: DSN) -> SQLiteSettings:
    if dsn.host or dsn.user is not None or dsn.port is not None:
        raise InvalidDSNError(
            "a SQLite URL names a file and no host: write 'sqlite:///relative.db', with three slashes, or "
            "'sqlite:////absolute.db'"
        )
    name = dsn.path.removeprefix("/")
    if not name or name == ":memory:" or name.endswith("/") or "\0" in name:
        raise InvalidDSNError(
            "a SQLite URL names a file, since the state must outlive the process: 'sqlite:///state.db'"
        )
    settings = SettingsParser(dsn, {})
    parsed = SQLiteSettings(
        url=dsn,
        path=Path(name).absolute(),
        busy_timeout=settings.seconds("busy_timeout", 30.0),
        readers=settings.integer("readers", 4, minimum=1, maximum=64),
        synchronous=settings.flag("synchronous", True),
    )
    settings.finish()
    return parsed


def _postgres(dsn: DSN) -> PostgresSettings:
    if not dsn.path.removeprefix("/"):
        raise InvalidDSNError("a PostgreSQL URL names a database: 'postgresql://user@host:port/database'")
    settings = SettingsParser(dsn, {})
    connect_timeout = settings.seconds("connect_timeout", 10.0)
    timeout = settings.seconds("timeout", 60.0)
    pool_size = settings.integer("pool_size", 10, minimum=1, maximum=1000)
    session = {name: text for name in _OF_THE_SESSION if (text := settings.text(name)) is not None}
    passed = {name: text for name in _OF_ASYNCPG if (text := settings.text(name)) is not None}
    settings.finish()
    for name, choices in _CHOICES.items():
        if name in passed and passed[name] not in choices:
            raise InvalidDSNError(f"{name} must be one of {', '.join(choices)}, not {passed[name]!r}")
    return PostgresSettings(
        url=dsn,
        dsn=DSN(dsn.scheme, dsn.user, dsn.password, dsn.host, dsn.port, dsn.path, passed).reveal(),
        connect_timeout=connect_timeout,
        timeout=timeout,
        pool_size=pool_size,
        session=session,
    )
