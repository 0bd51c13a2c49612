"""Repairs: what a member has missed is brought to it, by one of all processes and as soon as it can be reached."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from contextlib import suppress
from functools import partial
from typing import Any, Final

from trove_async.body import Body
from trove_async.cancellation import finish
from trove_async.concurrency import several
from trove_async.driver.capabilities import TaggingDriver
from trove_async.driver.options import BucketOptions, DeleteOptions, GetOptions
from trove_async.errors import (
    BackendUnavailableError,
    BucketAlreadyExistsError,
    BucketNotFoundError,
    LeaseLostError,
    TroveError,
)
from trove_async.layers.mirror.claims import Claims
from trove_async.layers.mirror.fleet import Fleet, Replica
from trove_async.layers.mirror.generations import copy_options, generation_of, new_generation
from trove_async.layers.mirror.queue import RepairQueue
from trove_async.layers.mirror.records import Claim, Intent, Repair
from trove_async.layers.mirror.scrub import Scrubber
from trove_async.layers.mirror.settling import Settler
from trove_async.types import EMPTY, FrozenDict, ObjectInfo

__all__ = ["Repairs"]

_BATCH: Final = 100
_CONCURRENCY: Final = 8
"""Copies that are repaired at the same time."""
_FIRST_DELAY: Final = 1.0
_LONGEST_DELAY: Final = 300.0
_SUSPECTS: Final = 10_000
_DELETE: Final = DeleteOptions()

_log = logging.getLogger("trove_async")


class Repairs:
    """Carries out what is queued.

    Args:
        fleet: the members.
        queue: what is to be done.
        claims: keep writers of a key out while it is repaired.
        settler: for the writes of processes that have died.
        scrubber: checks suspects.
    """

    def __init__(self, fleet: Fleet, queue: RepairQueue, claims: Claims, settler: Settler, scrubber: Scrubber) -> None:
        self._fleet = fleet
        self._queue = queue
        self._claims = claims
        self._settler = settler
        self._scrubber = scrubber
        self._suspects: OrderedDict[tuple[str, str], bool] = OrderedDict()
        self._turn = asyncio.Lock()

    def suspect(self, bucket: str, key: str, *, again: bool = False) -> None:
        """Have an object checked that may not be the same on all members, such as one that is older than the mirror.

        Args:
            bucket, key: of the object.
            again: whether to check it also if it was checked before.
        """
        if again or (bucket, key) not in self._suspects:
            self._suspects[bucket, key] = False
            while len(self._suspects) > _SUSPECTS:
                self._suspects.popitem(last=False)

    async def run(self, *, only_due: bool = True) -> int:
        """Settle what has expired, and repair what is queued, as far as the members can be reached.

        Args:
            only_due: leave out what has failed and is to be tried later.

        Returns:
            The number of copies that were repaired.
        """
        async with self._turn:
            await self._settle_expired()
            await self._check_suspects()
            return await self._repair_queued(only_due)

    async def go_on(self, every: float) -> None:
        """Run again and again, until cancelled."""
        was_down: set[str] = set()
        while True:
            await asyncio.sleep(every)
            try:
                healthy = {replica.name for replica in self._fleet.healthy}
                for name in was_down & healthy:
                    await self._queue.hasten(name)
                was_down = {*self._fleet.names} - healthy
                await self.run()
            except Exception:  # noqa: BLE001 - the repairs go on as long as the mirror is open
                _log.warning("the repairs of a mirror failed, and go on in %g s", every, exc_info=True)

    async def _settle_expired(self) -> None:
        for intent in await self._queue.expired(_BATCH):
            async with self._claims.taken(intent) as claim:
                if claim is not None:
                    with suppress(LeaseLostError):  # somebody else settles it
                        await self._settler.settle(claim)

    async def _check_suspects(self) -> None:
        waiting = [place for place, checked in self._suspects.items() if not checked]
        for bucket, key in waiting[:_BATCH]:
            self._suspects[bucket, key] = True
            await self._scrubber.check(bucket, key)

    async def _repair_queued(self, only_due: bool) -> int:
        repaired = 0
        failed: set[tuple[str, str, str]] = set()
        while True:
            healthy = [replica.name for replica in self._fleet.healthy]
            found = await self._queue.due(_BATCH + len(failed), members=healthy, only_due=only_due)
            fresh = [repair for repair in found if repair.place not in failed]
            if not fresh:
                return repaired
            # A bucket comes before its objects when it is created, and after them when it is deleted.
            for order in range(3):
                repairs = [repair for repair in fresh if _order(repair) == order]
                done = await several([partial(self._attempt, repair) for repair in repairs], limit=_CONCURRENCY)
                failed |= {repair.place for repair, success in zip(repairs, done, strict=True) if not success}
                repaired += sum(done)

    async def _attempt(self, repair: Repair) -> bool:
        replica = self._fleet.named(repair.member)
        if replica is None or not replica.healthy:
            return False
        try:
            return await self._repair(repair, replica)
        except LeaseLostError:
            return False
        except Exception as error:  # noqa: BLE001 - one that fails must not keep the others from being repaired
            delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** min(repair.attempts, 10))
            message = error.message if isinstance(error, TroveError) else repr(error)
            await self._queue.postpone(repair, message, seconds=delay)
            _log.info("repair of %s/%s at %s: %s", repair.bucket, repair.key, repair.member, message)
            return False

    async def _repair(self, repair: Repair, replica: Replica) -> bool:
        """Repair a copy under a claim; False if somebody else did, or a writer has made it unnecessary."""
        intent = Intent(bucket=repair.bucket, key=repair.key, kind="repair", generation=new_generation())
        async with self._claims.claimed(intent) as claim:
            try:
                now = claim.repairs.get(repair.member)
                if now is not None:
                    await self._carry_out(now, replica, claim)
            except BaseException:
                leftover = f"the claim of a repair of {repair.bucket}/{repair.key}"
                await finish(self._queue.withdraw(claim.intent), timeout=self._fleet.cleanup_timeout, leftover=leftover)
                raise
            await self._queue.end(claim.intent, reached=[repair.member])
            return now is not None

    async def _carry_out(self, repair: Repair, replica: Replica, claim: Claim) -> None:
        match repair.kind:
            case "delete":
                with suppress(BucketNotFoundError):
                    await replica.driver.delete(repair.bucket, repair.key, _DELETE)
            case "create_bucket":
                await _create_bucket(replica, repair.bucket)
            case "delete_bucket":
                with suppress(BucketNotFoundError):
                    await replica.driver.delete_bucket(repair.bucket)
            case _:
                await self._copy(repair, replica, claim)

    async def _copy(self, repair: Repair, target: Replica, claim: Claim) -> None:
        """Copy the object from the first good copy, if the target does not have the same.

        Raises:
            BackendUnavailableError: there is none that can be reached; the target keeps what it has.
        """
        bucket, key = repair.bucket, repair.key
        good = [replica for replica in self._fleet.replicas if replica.name not in claim.repairs]
        there = await target.head(bucket, key)
        for source in good:
            if not source.healthy or (info := await source.head(bucket, key)) is None:
                continue
            if repair.kind != "rewrite" and there is not None and _equal(there, target.name, info, source.name):
                await self._copy_tags(bucket, key, source, target)
            else:
                await self._stream(bucket, key, source, target)
            return
        # Where nobody has the object, nothing is missing; but what only the target has is never deleted.
        if there is not None or not all(source.healthy for source in good):
            raise BackendUnavailableError("no good copy can be reached to repair this one from")

    async def _stream(self, bucket: str, key: str, source: Replica, target: Replica) -> None:
        """Copy the object, into a bucket that is created if it is missing."""
        missing = await self._put(bucket, key, source, target)
        if missing is not None:
            await _create_bucket(target, bucket)
            missing = await self._put(bucket, key, source, target)  # the source is read again
        if missing is not None:
            raise missing

    async def _put(self, bucket: str, key: str, source: Replica, target: Replica) -> BucketNotFoundError | None:
        """Copy the object; return the error if the target lacks the bucket."""
        tags = await _tags(source, bucket, key)
        async with await source.driver.get(bucket, key, GetOptions()) as reader:
            options = copy_options(
                reader.info, source.name, tags, shares_backend=target.driver.name == source.driver.name
            )
            body = Body(reader, size=reader.info.size, checksum=options.checksum)
            try:
                await target.driver.put(bucket, key, body, options)
            except BucketNotFoundError as error:
                return error
        return None

    async def _copy_tags(self, bucket: str, key: str, source: Replica, target: Replica) -> None:
        tags = await _tags(source, bucket, key)
        if tags != await _tags(target, bucket, key):
            driver: Any = target.driver
            await driver.set_tags(bucket, key, dict(tags))


def _order(repair: Repair) -> int:
    return {"create_bucket": 0, "delete_bucket": 2}.get(repair.kind, 1)


async def _create_bucket(replica: Replica, bucket: str) -> None:
    with suppress(BucketAlreadyExistsError):
        await replica.driver.create_bucket(bucket, BucketOptions())


async def _tags(replica: Replica, bucket: str, key: str) -> FrozenDict:
    driver: Any = replica.driver
    if TaggingDriver not in replica.driver.features.protocols:
        return EMPTY
    return FrozenDict(await driver.get_tags(bucket, key))


def _equal(one: ObjectInfo, its_member: str, other: ObjectInfo, other_member: str) -> bool:
    same = generation_of(one, its_member) == generation_of(other, other_member) and one.size == other.size
    return same and all(one.checksums.get(name, value) == value for name, value in other.checksums.items())
