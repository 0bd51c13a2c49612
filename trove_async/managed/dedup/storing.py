"""Storing the bytes of a body as a blob, and a change of the database that refers to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, NamedTuple, TypeVar

from sqlalchemy import Connection

from trove_async.body import Body
from trove_async.cancellation import CLEANUP_TIMEOUT, finish, to_the_end
from trove_async.checksums import Checksum, digest
from trove_async.concurrency import several
from trove_async.database import Database
from trove_async.errors import PreconditionFailedError, TransientError, TroveError
from trove_async.managed.batching import Batches
from trove_async.managed.catalogue import ResourceCatalog
from trove_async.managed.dedup.chunking import Cutter
from trove_async.managed.dedup.inner import InnerStorage
from trove_async.managed.dedup.objects import Bucket, Buckets
from trove_async.managed.dedup.segments import Segment
from trove_async.managed.orphans import known_keys
from trove_async.managed.schema import State
from trove_async.managed.transitions import Blob, Blobs, Content
from trove_async.managed.writing import Writing

__all__ = ["Change", "Storing"]

R = TypeVar("R")

_AT_ONCE: Final = 8
"""Chunks of a body that are looked for, or sent, at once."""


@dataclass(frozen=True, slots=True)
class Change(Generic[R]):
    """A change of a bucket that refers to content.

    Attributes:
        bucket, key: of the object.
        check: raises what forbids the change, within a transaction and before it has changed anything.
        refer: makes something refer to bytes that are stored, within a transaction; it may be called again.
    """

    bucket: str
    key: str
    check: Callable[[Bucket], object]
    refer: Callable[[Bucket, Sequence[Segment]], R]


@dataclass(slots=True)
class _Item:
    """A change with its content.

    Attributes:
        parts: the content, one after another: bytes that were stored, and blobs that others have stored.
        change: see `Storing.store`.
        withdrawn: the caller was cancelled; the change is made only if that was under way.
        is_over: its transaction has ended, so that the database tells what became of the change. Otherwise it may
            still be committed.
    """

    parts: Sequence[Content | Blob]
    change: Change[Any]
    withdrawn: bool = False
    is_over: bool = False

    def withdraw(self) -> None:
        """Take in that the caller was cancelled."""
        self.withdrawn = True


class _Look(NamedTuple):
    """A question which contents are stored.

    Attributes:
        digests: of the contents.
        change: is checked; None if that has happened.
    """

    digests: Sequence[str]
    change: Change[Any] | None = None


class _Outcome(NamedTuple):
    """What has become of a look or a change.

    Attributes:
        error: with which `check` has refused it.
        blobs: that are stored; those of a change are in the order of its parts, and None if it was withdrawn, or one
            that was seen is not there any more.
        result: of `refer`.
    """

    error: TroveError | None = None
    blobs: Sequence[Blob] | None = None
    result: Any = None


class Storing:
    """Stores bodies as blobs of the inner store.

    Args:
        database: of the catalogue.
        space: of the store.
        inner: where the bytes are.
        algorithm: of the digests.

    Attributes:
        cutter: cuts bodies into chunks, each of which is a blob; None to store each body as one.
    """

    def __init__(self, database: Database, space: str, inner: InnerStorage, algorithm: str) -> None:
        self.cutter: Cutter | None = None
        self._database = database
        self._space = space
        self._writing = Writing(ResourceCatalog(database, space), inner)
        self._algorithm: Final = algorithm
        self._looks: Final = Batches(self._look_all)
        self._changes: Final = Batches(self._change_all)

    async def store(self, body: Body, change: Change[R]) -> R:
        """Store a body, unless its content is stored already, and refer to it.

        A body in memory whose content is stored already is not sent, and no chunk that is. Others are stored under a
        key of their own, which is deleted again if the content has turned out to be known. Whatever fails, or is
        cancelled before the names change, leaves nothing; only if it is unknown whether a transaction is committed, the
        bytes stay, and `collect` deletes those without a blob. Changes that wait at the same time share a transaction.

        Args:
            body: what is stored.
            change: is checked before the body is read, and again before it refers to the bytes.
        """
        result: R = await (
            self._store_whole(body, change) if self.cutter is None else self._store_chunks(self.cutter, body, change)
        )
        return result

    async def _store_whole(self, body: Body, change: Change[Any]) -> Any:
        known = [] if body.buffer is None else [(await digest(self._algorithm, [body.buffer])).hex()]
        seen = await self._there(_Look(known, change))
        if seen:
            await body.finish_buffer()
            found = await self._change(_Item(seen, change))
            if found.blobs is not None:
                return found.result
            await body.rewind()
        content = await self._writing.upload(body, None, Checksum(self._algorithm))
        return (await self._refer(_Item([content], change), [content])).result

    async def _store_chunks(self, cutter: Cutter, body: Body, change: Change[Any]) -> Any:
        await self._there(_Look([], change))
        sent: dict[str, Content] = {}
        while True:
            try:
                parts = await self._chunks(cutter, body, sent)
            except BaseException:
                await self._discard([*sent.values()])
                raise
            found = await self._refer(_Item(parts, change), [*sent.values()])
            if found.blobs is not None:
                return found.result
            await self._read_again(body, sent)

    async def _read_again(self, body: Body, sent: Mapping[str, Content]) -> None:
        try:
            if not body.replayable:
                raise TransientError(
                    "content that the body shares with others was deleted while it was read; try again"
                )
            await body.rewind()
        except BaseException:
            await self._discard([*sent.values()])
            raise

    async def _chunks(self, cutter: Cutter, body: Body, sent: dict[str, Content]) -> list[Content | Blob]:
        """Store the chunks of a body that are not stored already.

        Args:
            cutter, body: as given.
            sent: what was stored, by its digest; this method adds to it.

        Returns:
            All chunks of the body.
        """
        known: dict[str, Content | Blob] = {**sent}
        parts: list[Content | Blob] = []

        async def send(digest: str, data: bytes) -> None:
            known[digest] = sent[digest] = await self._writing.upload(
                Body(data), None, Checksum(self._algorithm, digest)
            )

        async with aclosing(cutter.cut(body)) as cuts:
            async for chunks in cuts:
                fresh = {digest: data for digest, data in chunks if digest not in known}
                known |= {blob.digest: blob for blob in await self._there(_Look([*fresh]))}
                missing = [partial(send, digest, data) for digest, data in fresh.items() if digest not in known]
                await several(missing, limit=_AT_ONCE)
                parts += [known[digest] for digest, _ in chunks]
        return parts

    async def _there(self, look: _Look) -> list[Blob]:
        """Return the blobs of those contents that are stored, and whose bytes are there."""
        looking = self._looks.submit(look)
        found = await to_the_end(looking, timeout=CLEANUP_TIMEOUT, leftover="a transaction that looks for content")
        if found.error is not None:
            raise found.error
        blobs = found.blobs or ()
        there = await several([partial(self._writing.is_there, blob) for blob in blobs], limit=_AT_ONCE)
        return [blob for blob, is_there in zip(blobs, there, strict=True) if is_there]

    async def _look_all(self, looks: Sequence[_Look]) -> list[_Outcome]:
        return await self._database.read(lambda connection: self._look_each(connection, looks))

    def _look_each(self, connection: Connection, looks: Sequence[_Look]) -> list[_Outcome]:
        buckets = _buckets(connection, self._space, [look.change for look in looks if look.change is not None])
        buckets.references.blobs.load(self._algorithm, [digest for look in looks for digest in look.digests])
        return [self._look(buckets, look) for look in looks]

    def _look(self, buckets: Buckets, look: _Look) -> _Outcome:
        if look.change is not None:
            try:
                look.change.check(buckets.get(look.change.bucket, look.change.key))
            except TroveError as error:
                return _Outcome(error)
        found = [self._live(buckets.references.blobs, digest) for digest in look.digests]
        return _Outcome(None, [blob for blob in found if blob is not None])

    async def _refer(self, item: _Item, contents: Sequence[Content]) -> _Outcome:
        """Refer to content that was stored under random keys, or to the same content that others have stored."""
        try:
            found = await self._change(item)
        except BaseException as error:
            if item.is_over:
                await self._discard(contents)
            if isinstance(error, PreconditionFailedError) and error.driver is not None:
                # A constraint of the database: the key has a row, see `orphans.claim_orphans`.
                raise TransientError("to store the bytes took so long that they were collected; try again") from error
            raise
        if found.blobs is not None and contents:
            settling = self._settle(contents, {blob.digest: blob for blob in found.blobs})
            await to_the_end(settling, timeout=CLEANUP_TIMEOUT, leftover=_bytes_of(contents))
        return found

    async def _settle(self, contents: Sequence[Content], blobs: Mapping[str, Blob]) -> None:
        """Delete the bytes that are not used: others have stored the same, or a body was read again and is another."""
        await several(
            [
                partial(self._writing.settle, content, blobs[content.digest])
                if content.digest in blobs
                else partial(self._writing.delete, content.key)
                for content in contents
            ],
            limit=_AT_ONCE,
        )

    async def _change(self, item: _Item) -> _Outcome:
        found = await to_the_end(
            self._submit(item),
            timeout=CLEANUP_TIMEOUT,
            leftover="a transaction that refers to content",
            on_cancel=item.withdraw,
        )
        if found.error is not None:
            raise found.error
        return found

    async def _submit(self, item: _Item) -> _Outcome:
        try:
            found = await self._changes.submit(item)
        except Exception as error:
            item.is_over = not getattr(error, "ambiguous", False)
            raise
        item.is_over = True
        return found

    async def _change_all(self, items: Sequence[_Item]) -> list[_Outcome]:
        return await self._database.write(lambda connection: self._change_each(connection, items))

    def _change_each(self, connection: Connection, items: Sequence[_Item]) -> list[_Outcome]:
        buckets = _buckets(connection, self._space, [item.change for item in items])
        buckets.references.blobs.load(self._algorithm, [part.digest for item in items for part in item.parts])
        outcomes = [self._outcome(buckets, item) for item in items]
        buckets.flush()
        return outcomes

    def _outcome(self, buckets: Buckets, item: _Item) -> _Outcome:
        if item.withdrawn:
            return _Outcome()
        change = item.change
        try:
            bucket = buckets.get(change.bucket, change.key)
            change.check(bucket)
        except TroveError as error:
            return _Outcome(error)
        blobs = self._blobs(buckets.references.blobs, item.parts)
        if blobs is None:
            return _Outcome()
        return _Outcome(None, blobs, change.refer(bucket, [Segment(blob.id, 0, blob.length) for blob in blobs]))

    def _blobs(self, blobs: Blobs, parts: Sequence[Content | Blob]) -> list[Blob] | None:
        """Return the blob of each part, and store what is new; None, and change nothing, if one is not there."""
        found = {part.digest: self._again(blobs, part) for part in parts if isinstance(part, Blob)}
        if None in found.values():
            return None
        found |= {part.digest: blobs.store(part) for part in parts if isinstance(part, Content)}
        return [blob for part in parts if (blob := found[part.digest]) is not None]

    def _again(self, blobs: Blobs, seen: Blob) -> Blob | None:
        """Return the blob that was seen, or another one of its content, which was stored since; None if it is gone."""
        blob = blobs.live(self._algorithm, seen.digest)
        if blob is None:
            condemned = blobs.condemned(self._algorithm, seen.digest)
            if condemned is None or condemned.key != seen.key:
                return None
            blobs.revive(condemned)  # its bytes were there when it was seen
            return condemned
        return blob if blob.state is State.STORED else None

    def _live(self, blobs: Blobs, known: str) -> Blob | None:
        blob = blobs.live(self._algorithm, known)
        return None if blob is None or blob.state is not State.STORED else blob

    async def _discard(self, contents: Sequence[Content]) -> None:
        """Delete bytes, unless the database has them: a cancelled call may have made its change."""
        if contents:
            await finish(self._delete_unknown(contents), timeout=CLEANUP_TIMEOUT, leftover=_bytes_of(contents))

    async def _delete_unknown(self, contents: Sequence[Content]) -> None:
        # By key: a blob that was lost keeps its id, and gets the key of what was stored again.
        keys = {content.key for content in contents}
        known = await self._database.read(lambda connection: known_keys(connection, self._space, keys))
        await several([partial(self._writing.delete, key) for key in keys - known], limit=_AT_ONCE)


def _buckets(connection: Connection, space: str, changes: Sequence[Change[Any]]) -> Buckets:
    return Buckets(connection, space, [(change.bucket, change.key) for change in changes])


def _bytes_of(contents: Sequence[Content]) -> str:
    return f"the bytes at {', '.join(content.key for content in contents[:3])}{', …' if len(contents) > 3 else ''}"
