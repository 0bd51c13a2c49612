"""State that outlives a process: SQLite for one machine, PostgreSQL for many.

``docs/database.md`` says what it promises and what it costs. A component keeps its tables in one::

    async with connect("sqlite:///state.db") as db:
        await db.migrate("quota", "trove_async.layers.quota_migrations")
        await db.write(lambda connection: connection.execute(update(...)))
        rows = await db.read(lambda connection: connection.execute(select(...)).all())
"""

from importlib.util import find_spec

from trove_async.errors import MissingDependencyError

try:
    import sqlalchemy  # noqa: F401

    if find_spec("alembic") is None:  # `Database.migrate` imports it
        raise ModuleNotFoundError(name="alembic")
except ModuleNotFoundError as error:
    missing = (error.name or "").partition(".")[0]
    raise MissingDependencyError(
        f"a database needs the package {missing!r}: pip install 'trove-async[database]', or [postgres] for PostgreSQL"
    ) from error

from trove_async.database.backend import Session
from trove_async.database.database import Database, connect
from trove_async.database.leases import Lease, Leases
from trove_async.database.notifications import Listener
from trove_async.database.schema import Timestamp, insert_into, now
from trove_async.database.units import Unit, notify

__all__ = [
    "Database",
    "Lease",
    "Leases",
    "Listener",
    "Session",
    "Timestamp",
    "Unit",
    "connect",
    "insert_into",
    "notify",
    "now",
]
