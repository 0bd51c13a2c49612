"""A layer in one file: a read-only store, on any driver.

It lists the operations that it permits, so an unknown operation is refused; ``docs/layers.md`` explains layers.
Run it with ``python -m examples.custom_layer``.
"""

from __future__ import annotations

import asyncio
import tempfile
from typing import Final, TypeVar

import trove_async as trove
from trove_async.layers import Call, LayerDriver, Operation

R = TypeVar("R")

READS: Final = frozenset(
    {
        "ping", "get", "get_range", "get_version", "head", "list_page", "list_buckets", "list_versions",
        "list_versions_page", "list_parts", "list_multipart_uploads", "list_noncurrent", "get_versioning",
        "get_lifecycle", "get_tags", "presign_get", "presign_head", "watch",
    }
)  # fmt: skip


class ReadOnly(LayerDriver):
    """Refuses every operation that does not only read, before any request and before a body is read.

    Signed URLs for writing are refused as well: they would bypass the layer.
    """

    async def around(self, operation: Operation, call: Call[R]) -> R:
        if operation.name not in READS:
            raise trove.AccessDeniedError(f"the store is open for reading only, and {operation.name} is not reading")
        return await call()


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with trove.open(f"local://{folder}") as t:
            await t.create_bucket("reports")
            await t.put("reports", "2024.txt", b"all is well")
        async with trove.open(f"local://{folder}", layers=[ReadOnly]) as t:
            print(await t.read("reports", "2024.txt"), [info.key async for info in t.list("reports")])
            try:
                await t.delete("reports", "2024.txt")
            except trove.AccessDeniedError as error:
                print(error)


if __name__ == "__main__":
    asyncio.run(main())
