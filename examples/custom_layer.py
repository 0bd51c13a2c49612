"""A layer in one file: a store whose objects are written once, on any driver.

Objects can be created and read, and never replaced or deleted. ``docs/layers.md`` explains the layer. Run it with
``python -m examples.custom_layer``.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace
from typing import Any, ClassVar, Final, TypeVar

import trove_async as trove
from trove_async.driver import CopyOptions
from trove_async.layers import READS, Call, LayerDriver, Operation

R = TypeVar("R")

CREATES: Final = frozenset({"put", "copy", "server_copy", "complete_multipart"})
PREPARES: Final = frozenset({"create_bucket", "initiate_multipart", "upload_part", "abort_multipart"})
NEEDED: Final = frozenset({"put_if_none_match", "copy", "complete"})

BY_URL: Final = "a signed URL for writing would not have the layer"
BY_RULE: Final = "a rule would delete objects"


class WriteOnce(LayerDriver):
    """Makes every write create-only, and refuses every operation that replaces or deletes."""

    drops: ClassVar = {
        **dict.fromkeys(("PUT", "POST", "DELETE"), BY_URL),
        **dict.fromkeys((trove.LifecycleDriver, trove.LifecycleSweepDriver), BY_RULE),
    }

    async def start(self) -> None:
        """Refuse a driver that cannot keep the promise."""
        missing = NEEDED - self.features.conditions
        if missing:
            raise trove.UnsupportedError(f"{self.name} cannot create only: it has no {', '.join(sorted(missing))}")

    async def around(self, operation: Operation, call: Call[R]) -> R:
        if operation.name in READS or operation.name in PREPARES:
            return await call()
        if operation.name not in CREATES:
            raise trove.AccessDeniedError(f"objects of this store stay as they are: {operation.name} is refused")
        options: Any = operation.arguments["options"] or CopyOptions()
        return await call(options=replace(options, if_match=None, if_none_match="*"))


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with trove.open(f"local://{folder}", layers=[WriteOnce]) as t:
            await t.create_bucket("reports")
            await t.put("reports", "2024.txt", b"all is well")
            print(await t.read("reports", "2024.txt"))
            for change in (t.put("reports", "2024.txt", b"all was well"), t.delete("reports", "2024.txt")):
                try:
                    await change
                except (trove.ObjectAlreadyExistsError, trove.AccessDeniedError) as error:
                    print(error)


if __name__ == "__main__":
    asyncio.run(main())
