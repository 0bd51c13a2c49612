"""The statements of each write, built once: SQLAlchemy takes as long to build one as to run it."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Connection, and_, bindparam, delete, select, type_coerce

from trove_async.database import Timestamp, insert_into, now
from trove_async.layers.mirror.schema import INTENTS, REPAIRS

__all__ = ["HELD", "QUEUED", "REMOVE", "recording"]

_PLACE: Final = ("store", "bucket", "key")
_FIELDS: Final = ("kind", "generation", "detail", "token")

HELD: Final = (
    select(INTENTS, (INTENTS.c.expires_at <= now()).label("expired"))
    .where(and_(*(INTENTS.c[name] == bindparam(name) for name in _PLACE)))
    .with_for_update()
)
"""The intent of a key, and whether it has expired."""

QUEUED: Final = select(REPAIRS).where(and_(*(REPAIRS.c[name] == bindparam(name) for name in _PLACE)))
"""The repairs of a key."""

REMOVE: Final = delete(INTENTS).where(
    and_(*(INTENTS.c[name] == bindparam(f"its_{name}") for name in (*_PLACE, "token")))
)
"""Ends an intent that still has its token; the parameters are named ``its_store`` and so on."""

_recordings: Final[dict[str, Any]] = {}


def recording(connection: Connection) -> Any:
    """Return the statement that records an intent in place of any other one; ``lasts`` is in microseconds."""
    name = connection.dialect.name
    if name not in _recordings:
        until = type_coerce(type_coerce(now(), BigInteger()) + bindparam("lasts", type_=BigInteger()), Timestamp())
        given: dict[str, Any] = {name: bindparam(name) for name in (*_PLACE, *_FIELDS)}
        insert = insert_into(connection, INTENTS).values(**given, expires_at=until)
        changes = {name: insert.excluded[name] for name in (*_FIELDS, "expires_at")}
        _recordings[name] = insert.on_conflict_do_update(index_elements=[*INTENTS.primary_key], set_=changes)
    return _recordings[name]
