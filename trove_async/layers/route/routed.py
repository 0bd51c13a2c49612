"""`Routed`: the members of a `Route` with its rules, and how they are asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import anyio

from trove_async.driver.base import Driver
from trove_async.errors import TroveError
from trove_async.layers.base import Operation
from trove_async.layers.route.rules import Rules

__all__ = ["Routed"]

R = TypeVar("R")


class Routed:
    """The open members of a `Route`.

    Args:
        name: of the driver, for errors.
        members: the drivers by their names.
        rules: say which member has which key.
        cleanup_timeout: the time limit in seconds of clean-up after a failure or cancellation.

    Attributes:
        members, rules, cleanup_timeout: as given.
    """

    def __init__(self, name: str, members: Mapping[str, Driver], rules: Rules, cleanup_timeout: float) -> None:
        self._name = name
        self.members: Final = members
        self.rules: Final = rules
        self.cleanup_timeout: Final = cleanup_timeout

    async def ask(self, member: str, operation: Operation) -> Any:
        """Pass an operation on to a member; its errors name the member."""
        with self.naming(member):
            return await operation.on(self.members[member])

    async def ask_each(self, members: Sequence[str], operation: Operation) -> dict[str, Any]:
        """Pass an operation on to several members at once, and return their results by the names."""
        return await self.of_each(members, lambda member: self.ask(member, operation))

    async def of_each(self, names: Sequence[str], work: Callable[[str], Awaitable[R]]) -> dict[str, R]:
        """Do work for each of several names at once, and return the results in the order of the names.

        Raises:
            Exception: that of the first one to fail; the others were cancelled, and have ended.
        """
        if len(names) == 1:
            return {names[0]: await work(names[0])}
        results: dict[str, R] = {}
        failures: list[Exception] = []

        async def run(name: str) -> None:
            try:
                results[name] = await work(name)
            except Exception as error:  # noqa: BLE001 - it is raised when all have ended
                failures.append(error)
                group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for name in names:
                group.start_soon(run, name)
        try:
            if failures:
                raise failures[0]
        finally:
            failures.clear()  # their tracebacks refer to this frame
        return {name: results[name] for name in names}

    @contextmanager
    def naming(self, member: str) -> Iterator[None]:
        """Name a member in the errors of the block."""
        try:
            yield
        except TroveError as error:
            self.name_in(error, member)
            raise

    def name_in(self, error: TroveError, member: str, operation: Operation | None = None) -> None:
        """Name a member in an error of an operation, unless it is that of the body's source."""
        if operation is not None and operation.body is not None and operation.body.failure is error:
            return  # the source may be another store
        error.driver = f"{self._name}/{member}" if error.driver is None else error.driver
