"""`Clock`: the database's time, as the collections of a space see it pass."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, select, update

from trove_async.database import now
from trove_async.errors import CollectionRefusedError
from trove_async.managed.schema import SPACES

__all__ = ["Clock"]

SHORTEST_SLEEP: Final = 120.0
"""Seconds; a step of a collection may take as long, however short the grace is."""

_TOLERANCE: Final = timedelta(seconds=1)


class Clock:
    """The database's clock, as collections of a space have seen it.

    A clock that has gone back or a collector that has slept makes ages meaningless.
    """

    def __init__(self, space: str, grace: float, trusted: bool) -> None:
        self._space = space
        self._longest = timedelta(seconds=max(grace, SHORTEST_SLEEP))
        self._trusted = trusted

    def look(self, connection: Connection) -> tuple[datetime, str]:
        """Return the time, and the path that an interrupted collection had reached.

        Raises:
            CollectionRefusedError: it is earlier than the last time seen.
        """
        time: datetime = connection.execute(select(now())).scalar_one()
        row = connection.execute(select(SPACES).where(SPACES.c.space == self._space)).first()
        if row is None or row.seen_at is None:
            return time, ""
        if time < row.seen_at - _TOLERANCE and not self._trusted:
            raise CollectionRefusedError(
                f"the database's clock went back from {row.seen_at.isoformat()} to {time.isoformat()}; "
                "nothing was deleted. Correct it, then allow it by trust_clock"
            )
        return time, row.reached

    def begin(self, connection: Connection) -> str:
        """Note the time at the beginning; return the path that an interrupted collection had reached."""
        time, reached = self.look(connection)
        self._note(connection, time, reached)
        return reached

    def tick(self, connection: Connection, *, reached: str | None = None) -> datetime:
        """Note the time within a collection, and the path that it has reached.

        Raises:
            CollectionRefusedError: the clock has gone back since the last step, or the step lasted for too long.
        """
        row = connection.execute(select(SPACES).where(SPACES.c.space == self._space)).one()
        time: datetime = connection.execute(select(now())).scalar_one()
        if not row.seen_at - _TOLERANCE <= time <= row.seen_at + self._longest:
            raise CollectionRefusedError(
                f"the database's clock was at {row.seen_at.isoformat()} and is at {time.isoformat()}: it was changed, "
                "or this process was suspended for longer than the grace. Collect again, which continues"
            )
        self._note(connection, time, row.reached if reached is None else reached)
        return time

    def _note(self, connection: Connection, time: datetime, reached: str) -> None:
        here = SPACES.c.space == self._space
        connection.execute(update(SPACES).where(here).values(seen_at=time, reached=reached))
