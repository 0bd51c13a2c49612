"""A layer in one file: each tenant has the keys below a prefix and sees no others, on any driver.

``docs/layers.md`` explains it. `Prefixed` maps keys in arguments and in results; the harness at the end runs the
conformance suite on it::

    pytest --trove-driver=examples.prefix_layer:harness
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, ClassVar, Final, TypeVar, cast

import trove_async as trove
from trove_async.driver import (
    Driver,
    ListOptions,
    ListPage,
    OpenOptions,
    VersionListOptions,
    VersionPage,
    WatchOptions,
)
from trove_async.drivers.memory import MemoryDriver
from trove_async.keys import check_key
from trove_async.layers import Call, LayerDriver, Operation
from trove_async.testing.conformance import Harness

R = TypeVar("R")

KEYS: Final = frozenset({"key", "src_key", "dst_key", "prefix"})
WITH_KEY: Final = (trove.ObjectInfo, trove.VersionInfo, trove.UploadInfo, trove.ObjectEvent, trove.DeleteResult)
SHARED: Final = "rules hold for the bucket, which tenants share"


class Prefixed(LayerDriver):
    """Stores everything below a key prefix.

    Args:
        inner: the wrapped driver.
        prefix: the start of the tenant's keys, such as ``"acme/"``.
    """

    drops: ClassVar = {trove.LifecycleDriver: SHARED, trove.LifecycleSweepDriver: SHARED}

    def __init__(self, inner: Driver, prefix: str) -> None:
        super().__init__(inner)
        self.prefix = prefix

    async def around(self, operation: Operation, call: Call[R]) -> R:
        changes = {name: self.mapped(name, value) for name, value in operation.arguments.items()}
        try:
            return cast(R, self.restored(await call(**changes)))
        except trove.TroveError as error:
            if error.key is not None:
                error.key = error.key.removeprefix(self.prefix)
            raise

    def mapped(self, name: str, value: Any) -> Any:
        """Return an argument for the inner driver."""
        if name in KEYS:
            return self.prefix + value
        if name == "keys":
            return [self.prefix + key for key in value]
        if isinstance(value, trove.ObjectRef):
            return replace(value, key=self.prefix + value.key)
        if isinstance(value, ListOptions | VersionListOptions | WatchOptions):
            value = replace(value, prefix=self.prefix + value.prefix)
        if isinstance(value, ListOptions) and value.start_after is not None:
            value = replace(value, start_after=self.prefix + value.start_after)
        return value

    def restored(self, result: Any) -> Any:
        """Return a result of the inner driver as the tenant sees it."""
        if isinstance(result, ListPage):
            return replace(result, objects=self.restored(result.objects), prefixes=self.restored(result.prefixes))
        if isinstance(result, VersionPage):
            return replace(result, versions=self.restored(result.versions))
        if isinstance(result, list | tuple):
            return [self.restored(item) for item in result]
        if isinstance(result, AsyncGenerator):
            return self.events(result)
        if isinstance(result, trove.ObjectReader):
            result.info = self.restored(result.info)
        elif isinstance(result, trove.Prefix):
            return trove.Prefix(result.prefix.removeprefix(self.prefix))
        elif isinstance(result, WITH_KEY):
            return replace(result, key=result.key.removeprefix(self.prefix))
        return result

    async def events(self, events: AsyncGenerator[trove.ObjectEvent, None]) -> AsyncGenerator[trove.ObjectEvent, None]:
        """Yield the events of the inner driver as the tenant sees them."""
        async with aclosing(events):
            async for event in events:
                yield self.restored(event)

    def check_key(self, key: str) -> None:
        """Ask the inner driver about the complete key."""
        check_key(self.prefix + key)
        self.inner.check_key(self.prefix + key)


class PrefixedHarness(Harness):
    """The properties that the conformance suite needs."""

    name = "prefixed"
    stacks = ("plain",)
    stores_in_process = True
    outlives_process = False
    storage_class = "ARCHIVE"

    async def driver(self) -> Driver:
        driver = MemoryDriver()
        await driver.open(trove.parse_dsn("memory://prefixed?min_part_size=65536"), OpenOptions())
        return Prefixed(driver, "acme/")


harness = PrefixedHarness()


async def main() -> None:
    async with (
        trove.open("memory://shared") as everything,
        trove.open("memory://shared", layers=[lambda driver: Prefixed(driver, "acme/")]) as acme,
    ):
        await everything.create_bucket("files")
        await everything.put("files", "other/report.txt", b"not acme's")
        await acme.put("files", "report.txt", b"acme's")
        print([info.key async for info in acme.list("files")])
        print([info.key async for info in everything.list("files")])


if __name__ == "__main__":
    asyncio.run(main())
