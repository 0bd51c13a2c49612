"""`MirrorDriver`: the verbs of a mirror."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, get_args

from trove_async.body import Body
from trove_async.concurrency import several
from trove_async.driver.capabilities import (
    AppendDriver,
    Condition,
    Features,
    LifecycleDriver,
    LifecycleSweepDriver,
    MultipartDriver,
    NotificationDriver,
    PartCopyDriver,
    PresignDriver,
    ServerCopyDriver,
    VersioningDriver,
    VersionListingDriver,
)
from trove_async.driver.copy_errors import CopyEnd
from trove_async.driver.copying import copy_object
from trove_async.driver.options import (
    BucketOptions,
    CopyOptions,
    DeleteOptions,
    GetOptions,
    HeadOptions,
    ListOptions,
    PutOptions,
)
from trove_async.errors import (
    BucketAlreadyExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    TroveError,
    UnsupportedError,
)
from trove_async.layers.base import Operation
from trove_async.layers.breaker import CircuitBreaker
from trove_async.layers.members import MembersDriver, OpenMembers
from trove_async.layers.mirror.claims import Claims
from trove_async.layers.mirror.fleet import Fleet, Replica, failures
from trove_async.layers.mirror.generations import limits_behind
from trove_async.layers.mirror.listing import Listing
from trove_async.layers.mirror.queue import RepairQueue
from trove_async.layers.mirror.reads import Reads
from trove_async.layers.mirror.records import Claim, Pending
from trove_async.layers.mirror.repairs import Repairs
from trove_async.layers.mirror.scrub import Scrubber, ScrubReport
from trove_async.layers.mirror.settling import Settler
from trove_async.layers.mirror.writes import Writes
from trove_async.listing import ListPage
from trove_async.ranges import ByteRange
from trove_async.reader import ObjectReader
from trove_async.types import BucketInfo, DeleteResult, ObjectInfo

if TYPE_CHECKING:
    from trove_async.layers.mirror.target import Mirror

__all__ = ["MirrorDriver"]

_BULK: Final = 16
"""Deletions of one bulk delete that run at the same time."""

_LOOK: Final = 16
"""Objects of a page that shows whether a bucket is empty."""

_CONDITIONS: Final = frozenset(get_args(Condition)) - {"complete"}

_UPLOADS: Final = "an upload would be open at each member, under ids of its own; put streams any size"


class MirrorDriver(MembersDriver):
    """The driver of a `trove_async.Mirror`; ``trove_async.unwrap(t.driver, MirrorDriver)`` returns it."""

    drops: ClassVar[Mapping[type | str, str]] = {
        MultipartDriver: _UPLOADS,
        AppendDriver: _UPLOADS,
        PartCopyDriver: _UPLOADS,
        PresignDriver: "what is written with a signed URL would reach one member only",
        VersioningDriver: "each member would have versions of its own",
        VersionListingDriver: "each member would have versions of its own",
        NotificationDriver: "each member would report each write, and each repair",
        LifecycleDriver: "each member would expire objects by a clock of its own",
        LifecycleSweepDriver: "each member would expire objects by a clock of its own",
        ServerCopyDriver: "the copy needs the same generation at each member; it is read and written",
    }

    def __init__(self, members: OpenMembers, fleet: Fleet, queue: RepairQueue, mirror: Mirror) -> None:
        super().__init__(members)
        self._fleet = fleet
        self._queue = queue
        self._every = mirror.repair_every
        self._settler = Settler(fleet, queue)
        self._claims = Claims(queue, self._settle, seconds=mirror.claim_seconds, cleanup_timeout=fleet.cleanup_timeout)
        self._scrubber = Scrubber(fleet, queue, self._claims)
        self._repairs = Repairs(fleet, queue, self._claims, self._settler, self._scrubber)
        self._reads = Reads(fleet, queue, stale=mirror.stale_reads, suspect=self._repairs.suspect)
        self._writes = Writes(fleet, queue, self._claims, self._reads, self._settler, self._repairs)
        self._listing = Listing(fleet, queue, self._reads, etags=mirror.list_etags)
        self._keeping: list[asyncio.Task[None]] = []
        self._repairing: list[asyncio.Task[None]] = []

    @property
    def name(self) -> str:
        """``mirror``."""
        return "mirror"

    @property
    def features(self) -> Features:
        """What all members have, less what the mirror drops; and the conditions, which the mirror itself honours."""
        shared = super().features
        dropped = {what: why for what, why in shared.dropped.items() if what not in _CONDITIONS}
        return replace(
            shared, conditions=_CONDITIONS, native=frozenset(), limits=limits_behind(shared.limits), dropped=dropped
        )

    def begin(self) -> None:
        """Begin to renew claims, and to repair."""
        self._keeping.append(asyncio.create_task(self._claims.keep(), name="trove-mirror-claims"))
        if self._every is not None:
            self._repairing.append(asyncio.create_task(self._repairs.go_on(self._every), name="trove-mirror-repairs"))

    async def close(self) -> None:
        """End the repairs, and close the members and the queue that were opened for the mirror.

        Writes that are under way fail when their members are closed, and still record what they have done.
        """
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._queue.aclose)
            stack.push_async_callback(_end, self._keeping)  # a claim is renewed as long as it is held
            stack.push_async_callback(self._claims.close)
            stack.push_async_callback(super().close)
            await _end(self._repairing)

    async def repair(self) -> int:
        """Repair all that is queued and can be repaired now, and return the number of copies."""
        return await self._repairs.run(only_due=False)

    async def status(self) -> Mapping[str, Pending]:
        """Return what waits to be repaired at each member; a member that has nothing to wait for is left out."""
        return await self._queue.pending()

    @property
    def breakers(self) -> Mapping[str, CircuitBreaker]:
        """The circuit breaker of each member: its state, and how to take a member out of service by hand."""
        return {replica.name: replica.breaker for replica in self._fleet.replicas}

    async def backfill(self, bucket: str, prefix: str = "") -> int:
        """Queue a repair for each copy that a member lacks, such as that of an object older than the mirror.

        It lists all members that can be reached. No member's object is changed or deleted.

        Returns:
            The number of repairs, which `repair` or the background carries out.
        """
        return await self._scrubber.backfill(bucket, prefix)

    async def scrub(
        self,
        bucket: str,
        prefix: str = "",
        *,
        rate: float | None = None,
        on_progress: Callable[[ScrubReport], object] | None = None,
    ) -> ScrubReport:
        """Read all copies, and queue a repair for each that is missing, differs from the others, or has gone bad.

        The copy that most members have is right, unless it differs from the checksum that was stored with it; of as
        many, the newest. If no copy has its checksum, nothing is changed, and the key is reported.

        Args:
            bucket, prefix: which objects.
            rate: the number of bytes that are read in a second, from all members together; None for no limit.
            on_progress: called after each object with the report so far; a plain function. What it raises ends the
                scrub, and what was queued stays queued.

        Raises:
            InvalidArgumentError: an argument is out of range or of a wrong type.
            TroveError: a member, or the queue, failed; what was queued stays queued.
        """
        return await self._scrubber.scrub(bucket, prefix, rate, on_progress)

    async def settle(self, bucket: str, key: str) -> None:
        """Wait for the write of a key that is under way, and decide what becomes of one whose outcome is unknown.

        Raises:
            BackendUnavailableError: only a member that cannot be reached may have such a write.
        """
        await self._writes.settle(bucket, key)

    async def _settle(self, claim: Claim) -> None:
        """Settle the write of another process for a writer that waits."""
        if await self._settler.settle(claim, wait=False) == "unknown":
            raise self._fleet.unavailable("an earlier write of this key cannot be settled", [*claim.repairs])

    async def perform(self, operation: Operation) -> Any:
        """Refuse what has no method of its own."""
        raise UnsupportedError(f"a mirror has no {operation.name}", driver=self.name)

    async def ping(self) -> None:
        """Check that as many members can be reached as a write needs."""
        outcomes = await self._fleet.ask(self._fleet.replicas, lambda replica: replica.driver.ping())
        errors = failures(outcomes)
        if len(outcomes) - len(errors) < self._fleet.quorum:
            raise errors[0]

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        """Store an object at all members that can be reached; its ETag is a generation of the mirror.

        Raises:
            BackendUnavailableError: fewer members have it than the quorum. If it is ``ambiguous``, repairs bring it to
                the others; otherwise nothing was sent.
        """
        return await self._writes.put(bucket, key, body, options)

    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        """Open the first good copy; it is continued at another member if its own fails."""
        return await self._reads.get(bucket, key, options)

    async def get_range(self, bucket: str, key: str, offset: int, length: int) -> ObjectReader:
        """Open a range of the first good copy."""
        wanted = ByteRange(offset, None if length < 0 else length)
        return await self._reads.get(bucket, key, GetOptions(range=wanted))

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        """Describe the first good copy."""
        return await self._reads.head(bucket, key, options)

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Delete an object at all members that can be reached, and later at the others."""
        await self._writes.delete(bucket, key, options)

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> Sequence[DeleteResult]:
        """Delete objects, several at a time."""

        async def delete(key: str) -> DeleteResult:
            try:
                await self.delete(bucket, key, DeleteOptions())
            except BucketNotFoundError:
                raise
            except TroveError as error:
                return DeleteResult(key, error)
            return DeleteResult(key)

        return await several([partial(delete, key) for key in keys], limit=_BULK)

    async def copy(
        self, src_bucket: str, src_key: str, dst_bucket: str, dst_key: str, options: CopyOptions
    ) -> ObjectInfo:
        """Read the first good copy of the source, and write it as `put` does."""
        return await copy_object(
            CopyEnd(self, src_bucket, src_key),
            CopyEnd(self, dst_bucket, dst_key),
            options,
            cleanup_timeout=self._fleet.cleanup_timeout,
        )

    async def list_page(self, bucket: str, options: ListOptions) -> ListPage:
        """List the first member that has no repairs for the prefix; see `Listing`."""
        return await self._listing.page(bucket, options)

    async def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        """Return the tags of the first good copy."""

        async def call(replica: Replica) -> dict[str, str]:
            driver: Any = replica.driver
            found: dict[str, str] = await driver.get_tags(bucket, key)
            return found

        return await self._reads.first(bucket, key, call)

    async def set_tags(self, bucket: str, key: str, tags: dict[str, str]) -> None:
        """Replace the tags at all members that can be reached; the ETag stays the same."""

        async def call(replica: Replica) -> None:
            driver: Any = replica.driver
            await driver.set_tags(bucket, key, tags)

        await self._writes.set_tags(bucket, key, tags, call)

    async def delete_tags(self, bucket: str, key: str) -> None:
        """Remove the tags at all members that can be reached."""

        async def call(replica: Replica) -> None:
            driver: Any = replica.driver
            await driver.delete_tags(bucket, key)

        await self._writes.set_tags(bucket, key, {}, call)

    async def create_bucket(self, name: str, options: BucketOptions) -> None:
        """Create a bucket at all members that can be reached, and later at the others."""

        async def call(replica: Replica) -> bool:
            try:
                await replica.driver.create_bucket(name, options)
            except BucketAlreadyExistsError:
                return False
            return True

        if not await self._writes.change_bucket(name, "create_bucket", call):
            raise BucketAlreadyExistsError(driver=self.name)

    async def delete_bucket(self, name: str) -> None:
        """Delete a bucket at all members that can be reached, and later at the others."""
        await self._require_empty(name)

        async def call(replica: Replica) -> bool:
            try:
                await replica.driver.delete_bucket(name)
            except BucketNotFoundError:
                return False
            return True

        if not await self._writes.change_bucket(name, "delete_bucket", call):
            raise BucketNotFoundError(driver=self.name)

    async def _require_empty(self, bucket: str) -> None:
        options = ListOptions(page_size=_LOOK)
        while True:
            page = await self._listing.page(bucket, options)
            if page.objects:
                raise BucketNotEmptyError(driver=self.name)
            if page.cursor is None:
                return
            # All that the page would have is deleted, which a member has missed.
            options = replace(options, cursor=page.cursor)

    async def list_buckets(self) -> Sequence[BucketInfo]:
        """Return the buckets of the first member that can be reached."""
        return await self._listing.buckets()


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks, and wait until they have ended; idempotent."""
    ending = tasks[:]
    tasks.clear()
    for task in ending:
        task.cancel()
    if ending:
        await asyncio.wait(ending)
