"""Blobs of the library's own, in which something is made ready before it becomes an object in one step.

Their names begin with a character that no user's key begins with, and no listing of the library shows them.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from trove_async.cancellation import finish
from trove_async.driver import DeleteOptions
from trove_async.drivers.azure.names import OWN
from trove_async.drivers.azure.objects import Objects
from trove_async.drivers.azure.uploads import Uploads
from trove_async.errors import BucketNotFoundError

__all__ = ["STAGING", "Staging"]

STAGING = f"{OWN}trove/staging/"


class Staging:
    """Makes and removes such blobs.

    Args:
        objects, uploads: send the requests.
        cleanup_timeout: seconds that removing one may take.
    """

    def __init__(self, objects: Objects, uploads: Uploads, cleanup_timeout: float) -> None:
        self._objects = objects
        self._uploads = uploads
        self._cleanup_timeout = cleanup_timeout

    @asynccontextmanager
    async def name(self, bucket: str) -> AsyncGenerator[str, None]:
        """Yield a name, and remove the blob of that name when the block ends, however it ends."""
        name = f"{STAGING}{secrets.token_hex(16)}"
        try:
            yield name
        except BaseException:
            await self._finish(self.discard(bucket, name), bucket, name)
            raise
        await self._finish(self._objects.delete(bucket, name, DeleteOptions()), bucket, name)

    async def _finish(self, work: Coroutine[Any, Any, None], bucket: str, name: str) -> None:
        leftover = f"the blob {name!r} in bucket {bucket!r}"
        await finish(work, timeout=self._cleanup_timeout, leftover=leftover)

    async def discard(self, bucket: str, name: str) -> None:
        """Remove a blob of the library's own, with its uncommitted blocks; a missing one is success.

        A blob that has uncommitted blocks alone cannot be deleted; one without any can, and takes them with it.
        """
        try:
            await self._uploads.commit(bucket, name, [], [])
        except BucketNotFoundError:
            return
        await self._objects.delete(bucket, name, DeleteOptions())
