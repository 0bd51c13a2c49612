"""What SQLite and PostgreSQL each do in their own way for a `Database`."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, TypeVar

from sqlalchemy import Connection

from trove_async.database.notifications import Inbox
from trove_async.database.units import Unit
from trove_async.errors import TroveError

__all__ = ["Backend", "Session", "lock_number"]

R = TypeVar("R")


def lock_number(name: str) -> int:
    """Return the number of the advisory lock of a name: 63 bits."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) >> 1


class Session(ABC):
    """A connection to PostgreSQL that one user keeps, for what ends with it: advisory locks, listening."""

    @abstractmethod
    async def query(self, sql: str, *values: object, timeout: float) -> Any:
        """Run a statement in a transaction of its own, after those before it; return the first value of its result.

        It is not cancelled within: the statement would have been executed, or not.

        Args:
            sql: the statement, with ``$1`` for the first value.
            values: for the statement.
            timeout: seconds for the answer; after them the connection is given up.

        Raises:
            UnavailableError: the connection broke.
            OperationTimeoutError: the server did not answer in time.
        """

    @abstractmethod
    async def listen(
        self, channel: str, receive: Callable[[str], object], *, own: bool = True, timeout: float | None = None
    ) -> None:
        """Call a function with the payload of each notification of a channel.

        Args:
            channel: its name.
            receive: called from the event loop. What was notified before the answer to a `query` was sent is received
                before that returns.
            own: whether it is called for the notifications of this session too.
            timeout: as for `query`; None for no limit.
        """

    @abstractmethod
    def on_loss(self, callback: Callable[[TroveError], object]) -> None:
        """Call back once, when the connection breaks or is closed."""

    @abstractmethod
    def is_pooled(self, backend_pid: int) -> bool:
        """Return whether a pooler stands between: the server's process is not the one that the connection began with.

        Args:
            backend_pid: what ``pg_backend_pid()`` returned.
        """

    @abstractmethod
    async def close(self) -> None:
        """Close the connection, also when the task is cancelled meanwhile. A second call does nothing."""


class Backend(ABC):
    """A database of one kind. `Database` states what each method promises.

    Attributes:
        driver: its name in errors.
    """

    driver: ClassVar[str]

    @abstractmethod
    async def open(self) -> None:
        """Find out whether the database can be reached."""

    @abstractmethod
    async def close(self) -> None:
        """End all connections and threads."""

    @abstractmethod
    def abandon(self) -> None:
        """Let threads end without waiting for them; for a database that nobody closed."""

    def forget(self) -> None:
        """Let go in a forked child what would outlive the parent in it. The default has nothing of that kind."""

    @abstractmethod
    async def write(self, unit: Unit[R]) -> R:
        """Run a unit in a transaction, and commit it."""

    @abstractmethod
    async def read(self, unit: Unit[R]) -> R:
        """Run a unit on one snapshot of the database."""

    @abstractmethod
    def migrate(self, upgrade: Callable[[Connection], None], lock: str) -> None:
        """Run an upgrade of the schema in one transaction, on a connection of its own; called in a thread.

        Args:
            upgrade: changes the schema.
            lock: the name of what only one process does at a time.
        """

    @abstractmethod
    def listen(self, channel: str, inbox: Inbox) -> AbstractAsyncContextManager[None]:
        """Deliver the notifications of a channel to an inbox, for as long as the context is entered."""

    @abstractmethod
    async def session(self) -> Session:
        """Make a connection that is not of the pool."""

    @abstractmethod
    def lock(self, name: str) -> AbstractAsyncContextManager[None]:
        """Hold a lock that ends with the process, for as long as the context is entered."""
