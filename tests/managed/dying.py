"""A process that dies between two steps: nothing that it does after that has an effect."""

from __future__ import annotations

import builtins
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from trove_async import managed
from trove_async.database import Database, Leases
from trove_async.errors import TroveError
from trove_async.managed import ListableStorage, ManagedStorage, StoreResourceStorage
from trove_async.managed.storage import StoredBytes, Unfinished
from trove_async.reader import ObjectReader

R = TypeVar("R")


class Death(Exception):  # noqa: N818 - it is no error
    """The process is dead; no code of it runs any more, and so nothing may handle this."""


class Process:
    """Counts the steps of a process, before and after each of which it may die.

    Args:
        dies_at: the number of the place, from 1; 0 for a process that lives on.

    Attributes:
        places: how many places there were.
        dead: whether it has died.
    """

    def __init__(self, dies_at: int) -> None:
        self._dies_at = dies_at
        self.places = 0
        self.dead = False

    def place(self) -> None:
        self.places += 1
        if self.places == self._dies_at:
            self.dead = True
        if self.dead:
            raise Death

    async def step(self, work: Callable[[], Awaitable[R]]) -> R:
        self.place()
        result = await work()
        self.place()
        return result

    async def lease_step(self, work: Callable[[], Awaitable[R]]) -> R:
        """Take a step that only changes a lease."""
        return await self.step(work)

    def managed(self, m: ManagedStorage) -> ManagedStorage:
        """Return the storage as this process sees it."""
        catalogue = managed.ResourceCatalog(DyingDatabase(self, m.catalogue.database), m.catalogue.space)
        assert isinstance(m.storage, StoreResourceStorage)
        return ManagedStorage(catalogue, DyingStorage(self, m.storage))


class DyingDatabase(Database):
    """The database, as a process sees it."""

    def __init__(self, process: Process, inner: Database) -> None:
        self._process = process
        self._inner = inner

    async def read(self, unit: Any) -> Any:
        return await self._process.step(lambda: self._inner.read(unit))

    async def write(self, unit: Any) -> Any:
        return await self._process.step(lambda: self._inner.write(unit))

    @property
    def leases(self) -> Leases:
        return Leases(lambda unit: self._process.lease_step(lambda: self._inner._write_with_leases(unit)))

    def __del__(self) -> None:
        """Do nothing: the other one is closed."""


class DyingStorage:
    """The bytes, as a process sees them."""

    def __init__(self, process: Process, inner: ListableStorage) -> None:
        self._process = process
        self._inner = inner

    async def get(self, path: str, **kwargs: Any) -> ObjectReader:
        return await self._process.step(lambda: self._inner.get(path, **kwargs))

    async def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        return await self._process.step(lambda: self._inner.read_ranges(path, ranges))

    async def put(self, path: str, *args: Any, **kwargs: Any) -> Any:
        return await self._process.step(lambda: self._inner.put(path, *args, **kwargs))

    async def remove(self, path: str) -> None:
        await self._process.step(lambda: self._inner.remove(path))

    async def list(self, folder: str, *, start_after: str = "") -> AsyncGenerator[StoredBytes]:
        async def listed() -> builtins.list[StoredBytes]:
            return [one async for one in self._inner.list(folder, start_after=start_after)]

        for one in await self._process.step(listed):
            yield one

    async def remove_many(self, paths: Sequence[str]) -> Mapping[str, TroveError]:
        return await self._process.step(lambda: self._inner.remove_many(paths))

    async def unfinished(self, folder: str) -> Sequence[Unfinished]:
        return await self._process.step(lambda: self._inner.unfinished(folder))

    async def abort(self, upload: Unfinished) -> None:
        await self._process.step(lambda: self._inner.abort(upload))
