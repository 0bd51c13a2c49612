"""A mirror of two stores in memory, in the conformance suite."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import trove_async
from trove_async.driver import Driver, OpenOptions
from trove_async.layers.mirror.driver import MirrorDriver
from trove_async.testing.conformance import Harness


class MirrorHarness(Harness):
    name = "mirror"
    outlives_process = False
    stores_in_process = True
    bulk_objects = 1500
    stacks = ("plain",)
    storage_class = None

    def __init__(self) -> None:
        name = uuid4().hex
        self._members = [f"memory://mirror-{name}-{number}" for number in range(2)]
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    async def start(self) -> None:
        self._folder = tempfile.TemporaryDirectory()

    async def stop(self) -> None:
        assert self._folder is not None
        self._folder.cleanup()

    async def driver(self) -> Driver:
        assert self._folder is not None
        queue = f"sqlite:///{Path(self._folder.name)}/queue.db?synchronous=0"
        return await trove_async.Mirror(self._members, queue=queue).open(OpenOptions())

    async def residue(self) -> Sequence[str]:
        """Describe what repairs cannot bring in order."""
        driver = await self.driver()
        assert isinstance(driver, MirrorDriver)
        try:
            await driver.repair()
            return [f"{found.copies} repairs for {name}" for name, found in (await driver.status()).items()]
        finally:
            await driver.close()


harness = MirrorHarness()
