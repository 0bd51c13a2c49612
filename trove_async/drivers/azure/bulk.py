"""Many deletions in one call: a request for each, some at a time.

The service's own batches are not used: they hold 256 deletions, take all of them one by one, and need a signature each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import anyio

from trove_async.driver import DeleteOptions
from trove_async.drivers.azure.versions import Versions
from trove_async.errors import BucketNotFoundError, TroveError
from trove_async.types import DeleteResult

__all__ = ["delete_many"]

_AT_ONCE: Final = 16


async def delete_many(versions: Versions, bucket: str, keys: Sequence[str]) -> Sequence[DeleteResult]:
    """Delete objects and return a result for each, in their order.

    Raises:
        BucketNotFoundError: there is no such container.
    """
    results: dict[str, DeleteResult] = {}
    missing: list[BucketNotFoundError] = []
    limiter = anyio.CapacityLimiter(_AT_ONCE)

    async def delete(key: str) -> None:
        async with limiter:
            try:
                await versions.delete(bucket, key, DeleteOptions())
                results[key] = DeleteResult(key)
            except BucketNotFoundError as error:
                missing.append(error)
            except TroveError as error:
                results[key] = DeleteResult(key, error)

    async with anyio.create_task_group() as group:
        for key in dict.fromkeys(keys):
            group.start_soon(delete, key)
    if missing:
        raise missing[0]
    return [results[key] for key in keys]
