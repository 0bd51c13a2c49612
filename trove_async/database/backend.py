"""What SQLite and PostgreSQL each do in their own way for a `Database`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, TypeVar

from sqlalchemy import Connection

from trove_async.database.notifications import Inbox
from trove_async.database.units import Unit

__all__ = ["Backend"]

R = TypeVar("R")


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
    def lock(self, name: str) -> AbstractAsyncContextManager[None]:
        """Hold a lock that ends with the process, for as long as the context is entered."""
