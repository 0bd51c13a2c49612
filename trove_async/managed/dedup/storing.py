"""Storing the bytes of a body as a blob, and a change of the database that refers to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import Connection

from trove_async.body import Body
from trove_async.cancellation import CLEANUP_TIMEOUT, finish, to_the_end
from trove_async.checksums import Checksum, digest
from trove_async.database import Database
from trove_async.errors import PreconditionFailedError, TransientError, TroveError
from trove_async.managed.batching import Batches
from trove_async.managed.catalogue import ResourceCatalog
from trove_async.managed.dedup.inner import InnerStorage
from trove_async.managed.dedup.segments import References, Segment
from trove_async.managed.schema import State
from trove_async.managed.transitions import Blob, Blobs, Content
from trove_async.managed.writing import Writing

__all__ = ["Storing"]

R = TypeVar("R")

Check = Callable[[References], object]
"""Raises what forbids a change, within a transaction and before it has changed anything."""

Refer = Callable[[References, Segment], Any]
"""Makes something refer to bytes that are stored, within a transaction."""


@dataclass(slots=True)
class _Item:
    """A change of names.

    Attributes:
        content: that was stored; None to refer to a blob that others have stored.
        seen: that blob.
        check, refer: see `Storing.store`.
        withdrawn: the caller was cancelled; the change is made only if that was under way.
    """

    content: Content | None
    seen: Blob | None
    check: Check
    refer: Refer
    withdrawn: bool = False

    def withdraw(self) -> None:
        """Take in that the caller was cancelled."""
        self.withdrawn = True


class _Outcome(NamedTuple):
    """What has become of a change.

    Attributes:
        error: with which `check` has refused it.
        blob: to which it refers; None if it was withdrawn, or the one that was seen is not there any more.
        result: of `refer`.
    """

    error: TroveError | None = None
    blob: Blob | None = None
    result: Any = None


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
        self._looks: Final = Batches(self._look_all)
        self._changes: Final = Batches(self._change_all)

    async def store(self, body: Body, check: Check, refer: Callable[[References, Segment], R]) -> R:
        """Store a body, unless its content is stored already, and refer to it.

        A body in memory whose content is stored already is not sent. Others are stored under a key of their own, which
        is deleted again if the content has turned out to be known. Whatever fails, or is cancelled before the names
        change, leaves nothing. Changes that wait at the same time share a transaction.

        Args:
            body: what is stored.
            check: raises what is known to be wrong; before the body is read, and before `refer`.
            refer: called with the bytes; it may be called again.
        """
        known = "" if body.buffer is None else (await digest(self._algorithm, [body.buffer])).hex()

        looking = self._looks.submit((known, check))
        seen = await to_the_end(looking, timeout=CLEANUP_TIMEOUT, leftover="a transaction that looks for content")
        if seen.error is not None:
            raise seen.error
        blob = seen.blob
        if blob is not None and await self._writing.is_there(blob):
            await body.finish_buffer()
            found = await self._change(_Item(None, blob, check, refer))
            if found.blob is not None:
                result: R = found.result
                return result
            await body.rewind()
        content = await self._writing.upload(body, None, Checksum(self._algorithm))
        sent: R = await self._refer(_Item(content, None, check, refer), content)
        return sent

    async def _look_all(self, items: Sequence[tuple[str, Check]]) -> list[_Outcome]:
        return await self._database.read(lambda connection: self._look_each(connection, items))

    def _look_each(self, connection: Connection, items: Sequence[tuple[str, Check]]) -> list[_Outcome]:
        references = References(connection, self._space)
        references.blobs.load(self._algorithm, [known for known, _ in items if known])
        return [self._look(references, *item) for item in items]

    def _look(self, references: References, known: str, check: Check) -> _Outcome:
        """Return the blob of a digest, if it is known and stored."""
        try:
            check(references)
        except TroveError as error:
            return _Outcome(error)
        return _Outcome(None, self._live(references.blobs, known) if known else None)

    async def _refer(self, item: _Item, content: Content) -> Any:
        """Refer to content that was stored under a random key, or to the same content that others have stored."""
        try:
            found = await self._change(item)
        except BaseException as error:
            await finish(self._discard(content), timeout=CLEANUP_TIMEOUT, leftover=f"the bytes at {content.key}")
            if isinstance(error, PreconditionFailedError) and error.driver is not None:
                # A constraint of the database: the key has a row, see `orphans.claim_orphans`.
                raise TransientError("to store the bytes took so long that they were collected; try again") from error
            raise
        assert found.blob is not None
        settling = self._writing.settle(content, found.blob)
        await to_the_end(settling, timeout=CLEANUP_TIMEOUT, leftover=f"the bytes at {content.key}")
        return found.result

    async def _change(self, item: _Item) -> _Outcome:
        found = await to_the_end(
            self._changes.submit(item),
            timeout=CLEANUP_TIMEOUT,
            leftover="a transaction that refers to content",
            on_cancel=item.withdraw,
        )
        if found.error is not None:
            raise found.error
        return found

    async def _change_all(self, items: Sequence[_Item]) -> list[_Outcome]:
        return await self._database.write(lambda connection: self._change_each(connection, items))

    def _change_each(self, connection: Connection, items: Sequence[_Item]) -> list[_Outcome]:
        references = References(connection, self._space, late=True)
        contents = [item.content or item.seen for item in items]
        references.blobs.load(self._algorithm, [one.digest for one in contents if one is not None])
        outcomes = [self._outcome(references, item) for item in items]
        references.finish()
        return outcomes

    def _outcome(self, references: References, item: _Item) -> _Outcome:
        if item.withdrawn:
            return _Outcome()
        try:
            item.check(references)
        except TroveError as error:
            return _Outcome(error)
        blob = self._same(references.blobs, item) if item.content is None else references.blobs.store(item.content)
        if blob is None:
            return _Outcome()
        # `refer` may write what other changes have left to be written, and a blob without references is condemned then.
        references.blobs.retain(blob, held=True)
        result = item.refer(references, Segment(blob.id, 0, blob.length))
        references.blobs.release(blob, held=True)
        return _Outcome(None, blob, result)

    def _same(self, blobs: Blobs, item: _Item) -> Blob | None:
        """Return the blob that was seen; None if nobody refers to it any more, or its bytes were replaced."""
        assert item.seen is not None
        blob = self._live(blobs, item.seen.digest)
        return None if blob is None or blob.key != item.seen.key else blob

    def _live(self, blobs: Blobs, known: str) -> Blob | None:
        blob = blobs.live(self._algorithm, known)
        return None if blob is None or blob.state is not State.STORED else blob

    async def _discard(self, content: Content) -> None:
        """Delete bytes, unless the database has them: it may not be known whether a commit happened."""
        if not await self._database.read(lambda connection: bool(Blobs(connection, self._space).named([content.id]))):
            await self._writing.delete(content.key)
