"""`Context`: the argument of a check, with its clean-up."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, nullcontext, suppress

import pytest

import trove_async
from trove_async.driver import Driver, MultipartDriver, VersioningDriver, VersionListingDriver
from trove_async.errors import BucketNotEmptyError, ClosedError, InvalidKeyError
from trove_async.store import Trove
from trove_async.testing.conformance.harness import Harness
from trove_async.testing.conformance.stacks import Layer
from trove_async.types import VersioningStatus

__all__ = ["Context", "heavy", "leftover_tasks", "plainly", "requires"]


def requires(*what: type | str) -> pytest.MarkDecorator:
    """Mark a check as being about capabilities (Protocols) or conditions (their names).

    It runs if the store declares all of them, and is skipped with that reason otherwise. The checks B1 and B3
    verify that undeclared capabilities do not work.
    """
    # with_args, since calling a mark with one class would decorate that class.
    return pytest.mark.trove_requires.with_args(*what)


heavy = pytest.mark.trove_heavy
"""Marks a slow check: it runs without layers and through one stack of all layers."""

plainly = pytest.mark.trove_plainly
"""Marks a slow check of the backend only: only a long run repeats it through all layers."""


class Context:
    """An open store with a new bucket, and other tools for a check.

    Attributes:
        harness: the backend.
        layers: the layers around each driver, innermost first; may be empty.
        store: an open `Trove`; `aclose` closes it.
        bucket: the name of a new and empty bucket.
        missing_bucket: the name of a bucket that does not exist.
        long: True in a long run, which is exhaustive.
    """

    def __init__(
        self,
        harness: Harness,
        layers: Sequence[Layer],
        driver: Driver,
        store: Trove,
        exits: AsyncExitStack,
        *,
        long: bool,
    ) -> None:
        self.harness = harness
        self.layers = tuple(layers)
        self._driver = driver
        self.store = store
        self.long = long
        self.bucket = ""
        self.missing_bucket = self.bucket_name()
        self._exits = exits
        self._buckets: list[str] = []

    @classmethod
    async def open(cls, harness: Harness, layers: Sequence[Layer] = (), *, long: bool = True) -> Context:
        """Open a store and create a bucket in it."""
        exits = AsyncExitStack()
        try:
            driver = await harness.driver()
            store = await exits.enter_async_context(trove_async.open(driver, layers=layers))
        except BaseException:
            await exits.aclose()
            raise
        context = cls(harness, layers, driver, store, exits, long=long)
        try:
            context.bucket = await context.new_bucket()
        except BaseException:
            await context.aclose()
            raise
        return context

    @property
    def part_size(self) -> int:
        """The part size in bytes of the suite's uploads."""
        return self.harness.part_size

    @property
    def await_point_step(self) -> int:
        """1 if a check cancels at every await point, 5 for every fifth."""
        return 1 if self.long else self.harness.await_point_step

    def held(self, keys: Iterable[str]) -> list[str]:
        """Return the keys that the driver accepts; see the contract for keys in `Driver`."""
        return [key for key in keys if not self.refuses(key)]

    def refuses(self, key: str) -> bool:
        """Whether the driver rejects a key because of a rule of its service."""
        try:
            self.store.driver.check_key(key)
        except InvalidKeyError:
            return True
        return False

    def bucket_name(self) -> str:
        """Return the valid name of a missing bucket; random, so that runs on one server do not collide."""
        return self.harness.bucket_name(secrets.randbelow(10**9))

    async def new_bucket(self) -> str:
        """Create another bucket, which is emptied and deleted after the check, and return its name."""
        name = self.bucket_name()
        self._buckets.append(name)  # first, since a creation that is interrupted may have taken place
        await self.store.create_bucket(name)
        return name

    async def reopen(self, *layers: Layer) -> Trove:
        """Open another store over another driver that sees the same data; closed after the check.

        It has the context's layers, and the given layers around them.
        """
        return await self.wrap(await self.harness.driver(), *layers)

    async def wrap(self, driver: Driver, *layers: Layer) -> Trove:
        """Open a store over an open driver, with the context's layers and then those given; closed after the check."""
        store = trove_async.open(driver, layers=[*self.layers, *layers])
        return await self._exits.enter_async_context(store)

    async def residue(self) -> Sequence[str]:
        """Return the names of leftovers in the backend; see `Harness.residue`."""
        return await self.harness.residue()

    async def assert_clean(self) -> None:
        """Fail if completed operations have left anything behind."""
        left = await self.residue()
        assert not left, f"left behind: {', '.join(left)}"

    async def aclose(self) -> None:
        """Empty and delete the buckets, and close the stores; idempotent."""
        try:
            buckets, self._buckets = self._buckets, []
            if buckets:
                try:
                    await self._remove(buckets, self._driver)
                except ClosedError:  # the check has closed it; opening another takes time
                    await self._remove(buckets, await self.harness.driver())
        finally:
            await self._exits.aclose()

    async def _remove(self, buckets: Sequence[str], driver: Driver) -> None:
        """Delete buckets with their content; a bucket that the check has deleted is fine."""
        store = await self.wrap(driver)
        there = {found.name for found in await store.list_buckets()}
        for bucket in buckets:
            if bucket in there:
                await self._empty_and_delete(store, bucket)

    async def _empty_and_delete(self, store: Trove, bucket: str) -> None:
        if store.supports(MultipartDriver):
            for upload in await store.list_multipart_uploads(bucket):
                await store.abort_multipart(bucket, upload.key, upload.upload_id)
        await store.delete_many(bucket, [found.key async for found in store.list(bucket)])
        lists_versions = store.supports(VersionListingDriver)
        if lists_versions and await store.get_versioning(bucket) != VersioningStatus.UNVERSIONED:
            await store.empty_bucket(bucket, versions=True)
        # A bucket stays if it has versions and the driver cannot list them.
        stays = store.supports(VersioningDriver) and not lists_versions
        with suppress(BucketNotEmptyError) if stays else nullcontext():
            await store.delete_bucket(bucket)


async def leftover_tasks(before: set[asyncio.Task[object]]) -> list[str]:
    """Return the tasks that a check has left running, after some turns of the loop for those about to end."""
    left: set[asyncio.Task[object]] = set()
    for _ in range(10):
        left = asyncio.all_tasks() - before - {asyncio.current_task()}
        if not left:
            break
        await asyncio.sleep(0)
    return sorted(map(repr, left))
