"""Storing the bytes of a body as a blob, and a change of the database that refers to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from sqlalchemy import Connection

from trove_async.body import Body
from trove_async.cancellation import CLEANUP_TIMEOUT, finish, to_the_end
from trove_async.checksums import Checksum, digest
from trove_async.database import Database
from trove_async.errors import PreconditionFailedError, TransientError
from trove_async.managed.catalogue import ResourceCatalog
from trove_async.managed.dedup.inner import InnerStorage
from trove_async.managed.dedup.segments import References, Segment
from trove_async.managed.schema import State
from trove_async.managed.transitions import Blob, Blobs, Content
from trove_async.managed.writing import Writing

__all__ = ["Storing"]

R = TypeVar("R")

Refer = Callable[[References, Segment], R]
"""Makes something refer to bytes that are stored, within a transaction."""


class Storing:
    """Stores bodies as blobs of the inner store.

    Args:
        database: of the catalogue.
        space: of the store.
        inner: where the bytes are.
        algorithm: of the digests.
    """

    def __init__(self, database: Database, space: str, inner: InnerStorage, algorithm: str) -> None:
        self._database = database
        self._space = space
        self._writing = Writing(ResourceCatalog(database, space), inner)
        self._algorithm: Final = algorithm

    async def store(self, body: Body, check: Callable[[Connection], object], refer: Refer[R]) -> R:
        """Store a body, unless its content is stored already, and refer to it.

        A body in memory whose content is stored already is not sent. Others are stored under a key of their own, which
        is deleted again if the content has turned out to be known. Whatever fails, or is cancelled, leaves nothing.

        Args:
            body: what is stored.
            check: raises what is known to be wrong, before the body is read.
            refer: called with the bytes; it may be called again.
        """
        known = "" if body.buffer is None else (await digest(self._algorithm, [body.buffer])).hex()

        def look(connection: Connection) -> Blob | None:
            check(connection)
            return self._live(connection, known) if known else None

        blob = await self._database.read(look)
        if blob is not None and await self._writing.is_there(blob):
            await body.finish_buffer()
            seen = blob
            done = await self._database.write(lambda connection: self._reuse(connection, seen, refer))
            if done is not None:
                return done[0]
            await body.rewind()
        return await self._send(body, refer)

    def _live(self, connection: Connection, known: str) -> Blob | None:
        blob = Blobs(connection, self._space).live(self._algorithm, known)
        return None if blob is None or blob.state is not State.STORED else blob

    def _reuse(self, connection: Connection, seen: Blob, refer: Refer[R]) -> tuple[R] | None:
        blob = self._live(connection, seen.digest)
        if blob is None or blob.key != seen.key:  # nobody refers to it any more, or its bytes were replaced
            return None
        return (refer(References(connection, self._space), Segment(blob.id, 0, blob.length)),)

    async def _send(self, body: Body, refer: Refer[R]) -> R:
        """Store a body under a random key, and refer to it, or to the same content that others have stored."""
        content = await self._writing.upload(body, None, Checksum(self._algorithm))
        try:
            blob, result = await self._database.write(lambda connection: self._refer(connection, content, refer))
        except BaseException as error:
            await finish(self._discard(content), timeout=CLEANUP_TIMEOUT, leftover=f"the bytes at {content.key}")
            if isinstance(error, PreconditionFailedError) and error.driver is not None:
                # A constraint of the database: the key has a row, see `orphans.claim_orphans`.
                raise TransientError("to store the bytes took so long that they were collected; try again") from error
            raise
        settling = self._writing.settle(content, blob)
        await to_the_end(settling, timeout=CLEANUP_TIMEOUT, leftover=f"the bytes at {content.key}")
        return result

    def _refer(self, connection: Connection, content: Content, refer: Refer[R]) -> tuple[Blob, R]:
        references = References(connection, self._space)
        blob = references.blobs.store(content)
        return blob, refer(references, Segment(blob.id, 0, blob.length))

    async def _discard(self, content: Content) -> None:
        """Delete bytes, unless the database has them: it may not be known whether a commit happened."""
        if not await self._database.read(lambda connection: bool(Blobs(connection, self._space).named([content.id]))):
            await self._writing.delete(content.key)
