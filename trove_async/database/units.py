"""Units of work: functions of a connection, each of which takes effect as a whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias, TypeVar

from sqlalchemy import Connection, Engine, event, func, select
from sqlalchemy.engine import CursorResult

from trove_async.errors import InvalidArgumentError

__all__ = ["Unit", "check_channel", "check_notification", "guard", "notifications_of", "notify", "run"]

R = TypeVar("R")

Unit: TypeAlias = Callable[[Connection], R]
"""A function that a database calls with a connection, in a transaction of its own."""

_CHANNEL: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z")
_LONGEST_PAYLOAD: Final = 7999
"""Bytes; the limit of PostgreSQL."""

_RUNNING: Final = "trove_unit_is_running"
_NOTIFICATIONS: Final = "trove_notifications"


_MUST_NOT_END: Final = "a unit of work must not end its transaction: return from it to commit, raise to roll back"


def guard(engine: Engine) -> None:
    """Let no unit commit the transaction, which others may share."""

    @event.listens_for(engine, "commit")
    def refuse(connection: Connection) -> None:
        if connection.info.get(_RUNNING):
            raise InvalidArgumentError(_MUST_NOT_END)


def run(unit: Unit[R], connection: Connection) -> R:
    """Call a unit with a connection that is in a transaction.

    Raises:
        InvalidArgumentError: the unit ended the transaction, or returned rows that are still to be fetched.
    """
    transaction = connection.get_transaction()
    info = connection.info  # it cannot be reached once the connection has broken
    info[_RUNNING] = True
    try:
        result = unit(connection)
    finally:
        info[_RUNNING] = False
    if transaction is None or not transaction.is_active or connection.get_nested_transaction() is not None:
        raise InvalidArgumentError(_MUST_NOT_END)
    if isinstance(result, CursorResult) and result.returns_rows:
        raise InvalidArgumentError(
            "a unit of work returned a result whose rows can only be fetched within it; return for example result.all()"
        )
    return result


def check_channel(channel: str) -> None:
    """Check the name of a channel.

    Raises:
        InvalidArgumentError: it is not of 1 to 63 of ``a-z``, ``0-9`` and ``_``.
    """
    if not isinstance(channel, str) or not _CHANNEL.match(channel):
        raise InvalidArgumentError(
            f"{channel!r} is not the name of a channel: use 1 to 63 of a-z, 0-9 and _, beginning with no digit"
        )


def check_notification(channel: str, payload: str) -> None:
    """Check the name of a channel and a payload.

    Raises:
        InvalidArgumentError: the name is malformed, or the payload too long, with a NUL, or no text.
    """
    check_channel(channel)
    if not isinstance(payload, str):
        raise InvalidArgumentError(f"the payload of a notification is a str, not {type(payload).__name__}")
    try:
        size = len(payload.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            f"the payload of a notification is not valid Unicode: lone surrogate at position {error.start}"
        ) from None
    if "\0" in payload or size > _LONGEST_PAYLOAD:
        raise InvalidArgumentError(f"the payload of a notification has at most {_LONGEST_PAYLOAD} bytes, and no NUL")


def notify(connection: Connection, channel: str, payload: str = "") -> None:
    """Wake those who listen to a channel, once the unit of work that calls this has been committed.

    It is a hint and no message: whoever listens looks at the database for what there is to do. With SQLite it reaches
    only listeners of the same `Database` object.

    Args:
        connection: the connection that the unit was called with.
        channel: its name, of 1 to 63 of ``a-z``, ``0-9`` and ``_``.
        payload: text of up to 7,999 bytes. Equal ones of the same unit may be delivered once.

    Raises:
        InvalidArgumentError: the channel's name is malformed, or the payload too long, with a NUL, or no text.
    """
    check_notification(channel, payload)
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(channel, payload)))
    else:
        connection.info.setdefault(_NOTIFICATIONS, []).append((channel, payload))


def notifications_of(connection: Connection) -> list[tuple[str, str]]:
    """Return what the last unit wants to be delivered after the commit, and forget it."""
    found: list[tuple[str, str]] = connection.info.pop(_NOTIFICATIONS, [])
    return found
