"""Reading from a mirror: which copies are good, and how a read continues from another one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, TypeVar

from trove_async.driver.conditions import check_read
from trove_async.driver.options import GetOptions, HeadOptions, without_range
from trove_async.errors import (
    NotFoundError,
    RangeNotSatisfiableError,
    TroveError,
)
from trove_async.layers.continued import ContinuedStream, Reopen
from trove_async.layers.mirror.fleet import Fleet, Replica
from trove_async.layers.mirror.generations import generation_of, is_stamped, public
from trove_async.layers.mirror.queue import RepairQueue
from trove_async.layers.mirror.records import Repair
from trove_async.ranges import ByteRange
from trove_async.reader import ByteStream, ObjectReader
from trove_async.types import ObjectInfo

__all__ = ["Reads"]

R = TypeVar("R")

_HEAD: Final = HeadOptions()


class Reads:
    """The reads of a mirror.

    Args:
        fleet: the members.
        queue: knows which copies are not good.
        stale: whether a copy that is not good is read if no other one can be reached.
        suspect: called with bucket and key of an object that may not be on all members.
    """

    def __init__(self, fleet: Fleet, queue: RepairQueue, *, stale: bool, suspect: Callable[[str, str], object]) -> None:
        self._fleet = fleet
        self._queue = queue
        self._stale = stale
        self._suspect = suspect

    async def head(self, bucket: str, key: str, options: HeadOptions = _HEAD) -> ObjectInfo:
        """Describe the object as the first good copy has it."""
        info = await self.first(bucket, key, lambda replica: self._head(replica, bucket, key))
        check_read(info, options)
        return info

    async def etag(self, bucket: str, key: str, repairs: Mapping[str, Repair]) -> str | None:
        """Return the ETag of the object under a claim; None if there is no object.

        Args:
            bucket, key: the object.
            repairs: of the key, as the claim has them.
        """
        with suppress(NotFoundError):
            info = await self.first(bucket, key, lambda replica: self._head(replica, bucket, key), repairs, stale=False)
            return info.etag
        return None

    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        """Open the first good copy."""
        try:
            return await self.first(bucket, key, lambda replica: self._get(replica, bucket, key, options))
        except RangeNotSatisfiableError:
            await self.head(bucket, key, without_range(options))  # conditions come before ranges
            raise

    async def good(self, bucket: str, key: str) -> list[Replica]:
        """Return the members that can be asked and whose copy is good."""
        repairs = await self._queue.repairs(bucket, key)
        return [replica for replica in self._fleet.healthy if replica.name not in repairs]

    async def first(
        self,
        bucket: str,
        key: str,
        call: Callable[[Replica], Awaitable[R]],
        repairs: Mapping[str, Repair] | None = None,
        *,
        stale: bool | None = None,
    ) -> R:
        """Call one good copy after another until one answers.

        Args:
            bucket, key: the object.
            call: asks a member.
            repairs: of the key, if they are known.
            stale: whether to ask a copy that is not good if there is no other one; None for what the mirror does.

        Raises:
            NotFoundError: no good copy that can be reached has the object.
            BackendUnavailableError: no good copy can be reached.
        """
        if repairs is None:
            repairs = await self._queue.repairs(bucket, key)
        healthy = self._fleet.healthy
        candidates = [replica for replica in healthy if replica.name not in repairs]
        if not candidates and (self._stale if stale is None else stale):
            candidates = healthy
        return await self._fleet.first(
            candidates,
            call,
            why="no good copy can be reached",
            behind=[name for name in self._fleet.names if name in repairs],
            lacked=lambda: self._suspect(bucket, key),
        )

    async def _head(self, replica: Replica, bucket: str, key: str) -> ObjectInfo:
        info = await replica.driver.head(bucket, key, _HEAD)
        if not is_stamped(info):
            self._suspect(bucket, key)
        return public(info, replica.name)

    async def _get(self, replica: Replica, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        reader = await replica.driver.get(bucket, key, GetOptions(range=options.range))
        info = reader.info
        try:
            if not is_stamped(info):
                self._suspect(bucket, key)
            reader.info = public(info, replica.name)
            check_read(reader.info, options)
        except BaseException:
            reader.abort()
            raise
        if not reader.buffered:
            start, stop = reader.start, reader.stop

            generation = generation_of(info, replica.name)

            async def reopen(before: Replica | None, offset: int) -> tuple[Replica, ObjectReader] | None:
                wanted = ByteRange(offset, stop - offset)
                return await self._reopened(bucket, key, before, info, generation, wanted)

            reader.wrap(lambda stream: _ContinuedAtOnce(stream, replica, reopen, start))
        return reader

    async def _reopened(
        self, bucket: str, key: str, before: Replica | None, info: ObjectInfo, generation: str, wanted: ByteRange
    ) -> tuple[Replica, ObjectReader] | None:
        """Open the same bytes of the same generation at another member; None if no other member has them."""
        for replica in await self.good(bucket, key):
            if replica is before:
                continue
            with suppress(TroveError):
                reader = await replica.driver.get(bucket, key, GetOptions(range=wanted))
                if _same(reader.info, replica.name, info, generation):
                    return replica, reader
                reader.abort()
        return None


class _ContinuedAtOnce(ContinuedStream[Replica]):
    """Continues at another member where its member breaks off, before it asks its member again."""

    def __init__(self, inner: ByteStream, member: Replica, reopen: Reopen[Replica], start: int) -> None:
        super().__init__(inner, member, reopen)
        self._position = start

    async def read(self, size: int) -> bytes:
        try:
            chunk = await self.inner.read(size)
        except TroveError as error:
            if not await self.continued_after(error, self._position):
                raise
            chunk = await self.inner.read(size)
        self._position += len(chunk)
        return chunk

    async def seek(self, offset: int) -> None:
        self._position = offset
        await super().seek(offset)


def _same(found: ObjectInfo, member: str, info: ObjectInfo, generation: str) -> bool:
    """Tell whether two copies have the same bytes: the same generation and size, and no different checksum."""
    if generation_of(found, member) != generation or found.size != info.size:
        return False
    return all(found.checksums.get(name, value) == value for name, value in info.checksums.items())
