"""Storing content and giving it a name: bytes first, under a key of their own, and then one transaction."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from trove_async.body import BodyLike
from trove_async.cancellation import CLEANUP_TIMEOUT, finish, to_the_end
from trove_async.checksums import Checksum
from trove_async.errors import NotFoundError, PreconditionFailedError, TransientError, TroveError
from trove_async.managed.batching import Batches
from trove_async.managed.catalogue import ResourceCatalog, new_id
from trove_async.managed.links import Given, Link, Put, link
from trove_async.managed.schema import State
from trove_async.managed.storage import ResourceStorage, path_of
from trove_async.managed.transitions import Blob, Blobs, Content

__all__ = ["Writing"]

_log: Final = logging.getLogger("trove_async")


class Writing:
    """Stores content for names.

    Args:
        catalogue: has the names.
        storage: has the bytes.
    """

    def __init__(self, catalogue: ResourceCatalog, storage: ResourceStorage) -> None:
        self._catalogue = catalogue
        self._database = catalogue.database
        self._space = catalogue.space
        self._storage = storage
        self._batches: Batches[Put, Given] = Batches(self._link_all)

    async def put(self, one: Link | None, data: BodyLike, length: int | None, checksum: Checksum) -> Blob:
        """Store content and give it a name.

        If the call is cancelled while bytes are stored, they are deleted, and the name is what it was. After that the
        name gets the content although the call raises `asyncio.CancelledError`.

        Args:
            one: the name; None for a reference without a name.
            data, length: see `ResourceStorage.put`.
            checksum: the algorithm, and the value to compare if there is one.

        Returns:
            The blob that has the content.
        """
        content = await self.upload(data, length, checksum)
        return await to_the_end(
            self._link(one, content), timeout=CLEANUP_TIMEOUT, leftover=f"a name for the bytes at {content.key}"
        )

    async def upload(self, data: BodyLike, length: int | None, checksum: Checksum) -> Content:
        """Store bytes under a new key; nothing is left of them if it raises, or else a warning is issued."""
        id = new_id()
        key = path_of(await self._catalogue.folder(), id)
        try:
            written = await self._storage.put(key, data, length, checksum=checksum)
        except BaseException as error:
            if not isinstance(error, Exception) or getattr(error, "ambiguous", False):
                await self.delete(key)
            raise
        return Content(id, checksum.algorithm, written.digest, key, written.length)

    async def delete(self, key: str) -> None:
        """Delete bytes that the catalogue does not know. If that fails, ``fsck`` finds them."""
        await finish(self._storage.remove(key), timeout=CLEANUP_TIMEOUT, leftover=f"the bytes at {key}")

    async def settle(self, content: Content, blob: Blob) -> None:
        """Delete the bytes of content if others have stored the same before, and those are there.

        Args:
            content: what was stored.
            blob: what the catalogue has for it.
        """
        if blob.key == content.key:
            return
        try:
            is_there = await self.is_there(blob)
        except TroveError:
            _log.warning(
                "it is unknown whether the bytes at %s are there; %s stays", blob.key, content.key, exc_info=True
            )
            return
        if is_there or not await self._replace(content, blob):
            await self.delete(content.key)

    async def _link(self, one: Link | None, content: Content) -> Blob:
        replaced = False
        verified = ""
        try:
            while True:
                blob, done = await self._batches.submit(Put(one, content, verified))
                if done:
                    break
                if await self.is_there(blob):
                    verified = blob.key
                else:
                    replaced = await self._replace(content, blob)
        except TroveError as error:
            if not (error.ambiguous or replaced):
                await self.delete(content.key)
            if isinstance(error, PreconditionFailedError):  # its key has a row: see `orphans.claim_orphans`
                raise TransientError("to store the bytes took so long that they were collected; try again") from error
            raise
        if blob.key != content.key and not replaced:
            await self.delete(content.key)
        return blob

    async def _link_all(self, batch: Sequence[Put]) -> list[Given]:
        return await self._database.write(lambda connection: link(connection, self._space, batch))

    async def is_there(self, blob: Blob) -> bool:
        """Tell whether the bytes of a blob are stored; a row is no proof of it."""
        try:
            reader = await self._storage.get(blob.key, range=(0, 0))
        except NotFoundError:
            return False
        async with reader:
            return reader.info.size == blob.length

    async def _replace(self, content: Content, blob: Blob) -> bool:
        """Let a blob, whose bytes are missing or incomplete, have those of content; tell whether it has them now."""

        def unit(connection: Connection) -> bool:
            blobs = Blobs(connection, self._space)
            for now in blobs.named([blob.id]):
                if now.state is State.STORED and now.key == blob.key:
                    blobs.move(now, content.key)
                    blobs.flush()
                    return True
            return False

        replaced = await self._database.write(unit)
        if replaced:
            _log.warning("the bytes at %s were missing or incomplete; the content is at %s now", blob.key, content.key)
        return replaced
