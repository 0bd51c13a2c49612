"""Back-fill and scrub: what no write has told the queue is found by a look at all members."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final, TypeGuard

from trove_async.cancellation import finish
from trove_async.checksums import new_hasher, update
from trove_async.driver.options import GetOptions, ListOptions
from trove_async.errors import (
    BucketNotFoundError,
    ChecksumError,
    InvalidArgumentError,
    NotFoundError,
    ObjectChangedError,
)
from trove_async.layers.mirror.claims import Claims
from trove_async.layers.mirror.fleet import Fleet, Replica
from trove_async.layers.mirror.generations import generation_of, is_stamped, new_generation
from trove_async.layers.mirror.queue import RepairQueue
from trove_async.layers.mirror.records import Claim, Intent
from trove_async.types import ObjectInfo
from trove_async.values import check_function, is_number

__all__ = ["ScrubReport", "Scrubber"]

_ALGORITHM: Final = "sha256"


@dataclass(frozen=True, slots=True)
class ScrubReport:
    """What a scrub has found.

    Attributes:
        objects: the number of objects that were compared.
        bytes: that were read.
        queued: the number of copies that differ from the others, or are missing; their repairs are queued.
        lost: the keys of objects none of whose copies matches its checksum. Nothing was changed.
        skipped: the number of objects that were written meanwhile, or have a copy that waits for repair.
    """

    objects: int = 0
    bytes: int = 0
    queued: int = 0
    lost: tuple[str, ...] = ()
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class _Copy:
    """A copy: its generation, the digest of its bytes, and whether they match the checksum that was stored with it.

    ``intact`` is None if no checksum was stored.
    """

    generation: str
    digest: str
    stamped: bool
    intact: bool | None

    @property
    def content(self) -> tuple[str, str]:
        return self.generation, self.digest


class Scrubber:
    """Compares the copies of objects.

    Args:
        fleet: the members; those that are down are left out.
        queue: gets a repair for each copy that is not as the others.
        claims: keep writers of a key out while a repair is queued for it.
    """

    def __init__(self, fleet: Fleet, queue: RepairQueue, claims: Claims) -> None:
        self._fleet = fleet
        self._queue = queue
        self._claims = claims

    async def backfill(self, bucket: str, prefix: str) -> int:
        """Queue a repair for each copy that a member lacks; return their number."""
        queued = 0
        async with aclosing(self._keys(bucket, prefix)) as keys:
            async for key, members in keys:
                if len(members) < len(self._fleet.healthy):
                    queued += await self.check(bucket, key)
        return queued

    async def check(self, bucket: str, key: str) -> int:
        """Queue a repair for each good copy that is missing or has another generation; return their number."""
        intent = Intent(bucket=bucket, key=key, kind="repair", generation=new_generation())
        async with self._claims.claimed(intent) as claim:
            try:
                asked = [replica for replica in self._fleet.healthy if replica.name not in claim.repairs]
                seen = await self._fleet.ask(asked, lambda replica: replica.head(bucket, key))
                copies = {name: _described(name, found) for name, found in seen.items() if _is_answer(found)}
                best = _best(copies)
                lacking = [] if best is None else _unlike(best, copies)
                generation = "" if best is None else best.generation
            except BaseException:
                await self._withdraw(claim)
                raise
            await self._queue.end(claim.intent, missed=lacking, kind="put", generation=generation)
            return len(lacking)

    async def scrub(
        self, bucket: str, prefix: str, rate: float | None, on_progress: Callable[[ScrubReport], object] | None
    ) -> ScrubReport:
        """Read all copies of all objects, and queue a repair for each that is not as it should be."""
        if rate is not None and not (is_number(rate) and rate > 0):
            raise InvalidArgumentError(f"rate is a number of bytes a second, more than 0, or None, not {rate!r}")
        if on_progress is not None:
            check_function("on_progress", "a ScrubReport", on_progress)
        pace = _Pace(rate)
        report = ScrubReport()
        async with aclosing(self._keys(bucket, prefix)) as keys:
            async for key, _ in keys:
                report = replace(report, objects=report.objects + 1)
                report = replace(await self._scrub_one(bucket, key, pace, report), bytes=pace.bytes)
                if on_progress is not None:
                    on_progress(report)
        return report

    async def _scrub_one(self, bucket: str, key: str, pace: _Pace, report: ScrubReport) -> ScrubReport:
        if await self._queue.repairs(bucket, key):
            return replace(report, skipped=report.skipped + 1)
        copies: dict[str, _Copy | None] = {}
        for replica in self._fleet.healthy:
            try:
                copies[replica.name] = await _read(replica, bucket, key, pace)
            except ObjectChangedError:
                return replace(report, skipped=report.skipped + 1)
        best = _best(copies)
        if best is None:
            return replace(report, lost=(*report.lost, key)) if any(copies.values()) else report
        wrong = _unlike(best, copies)
        if not wrong:
            return report
        if not await self._queued(bucket, key, copies, wrong, best):
            return replace(report, skipped=report.skipped + 1)
        return replace(report, queued=report.queued + len(wrong))

    async def _queued(
        self, bucket: str, key: str, copies: Mapping[str, _Copy | None], wrong: Sequence[str], best: _Copy
    ) -> bool:
        """Queue repairs if the members still have what was read; False if the key was written meanwhile."""
        intent = Intent(bucket=bucket, key=key, kind="repair", generation=new_generation())
        async with self._claims.claimed(intent) as claim:
            try:
                asked = [replica for replica in self._fleet.healthy if replica.name in copies]
                seen = await self._fleet.ask(asked, lambda replica: replica.head(bucket, key))
                same = not claim.repairs and all(_is_still(seen.get(name), name, copy) for name, copy in copies.items())
            except BaseException:
                await self._withdraw(claim)
                raise
            missed = wrong if same else []
            await self._queue.end(claim.intent, missed=missed, kind="rewrite", generation=best.generation)
            return same

    async def _withdraw(self, claim: Claim) -> None:
        leftover = f"the claim of a check of {claim.intent.bucket}/{claim.intent.key}"
        await finish(self._queue.withdraw(claim.intent), timeout=self._fleet.cleanup_timeout, leftover=leftover)

    async def _keys(self, bucket: str, prefix: str) -> AsyncGenerator[tuple[str, list[str]], None]:
        """Yield the keys that any member has, in order, each with the names of the members that list it."""
        listings = {
            replica.name: replica.driver.list(bucket, ListOptions(prefix=prefix)) for replica in self._fleet.healthy
        }
        missing: list[BucketNotFoundError] = []
        ahead: dict[str, str] = {}

        async def step(name: str) -> None:
            ahead.pop(name, None)
            try:
                ahead[name] = (await listings[name].next()).key
            except StopAsyncIteration:
                pass
            except BucketNotFoundError as error:
                missing.append(error)

        for name in listings:
            await step(name)
        if missing and len(missing) == len(listings):
            raise missing[0]
        while ahead:
            key = min(ahead.values())
            names = [name for name, found in ahead.items() if found == key]
            yield key, names
            for name in names:
                await step(name)


class _Pace:
    """Counts bytes, and waits so that they are not read faster than a rate."""

    def __init__(self, rate: float | None) -> None:
        self.bytes = 0
        self._rate = rate
        self._began = asyncio.get_running_loop().time()

    async def took(self, count: int) -> None:
        """Count bytes that were read, and wait until the next ones may be."""
        self.bytes += count
        if self._rate is not None:
            wait = self._began + self.bytes / self._rate - asyncio.get_running_loop().time()
            if wait > 0:
                await asyncio.sleep(wait)


async def _read(replica: Replica, bucket: str, key: str, pace: _Pace) -> _Copy | None:
    """Read a copy to its end; None if the member has none."""
    hasher = new_hasher(_ALGORITHM)
    try:
        reader = await replica.driver.get(bucket, key, GetOptions())
    except NotFoundError:
        return None
    info = reader.info
    intact: bool | None = True if info.checksums else None
    taken = 0
    async with reader:
        try:
            async for chunk in reader:
                await update(hasher, chunk)
                taken += len(chunk)
                await pace.took(len(chunk))
        except ChecksumError:  # in place of the last chunk
            intact = False
            await pace.took(info.size - taken)
    return _Copy(generation_of(info, replica.name), hasher.hexdigest(), is_stamped(info), intact)


def _best(copies: Mapping[str, _Copy | None]) -> _Copy | None:
    """Return the copy that the others should be like; None if there is none that can be trusted.

    Never one that differs from its own checksum. Of the others the one that most members have; of as many, one that has
    a checksum, then one that was written by the mirror, then the newest.
    """
    trusted = [copy for copy in copies.values() if copy is not None and copy.intact is not False]
    counts = Counter(copy.content for copy in trusted)
    return max(
        trusted,
        key=lambda copy: (counts[copy.content], copy.intact is True, copy.stamped, copy.generation),
        default=None,
    )


def _unlike(best: _Copy, copies: Mapping[str, _Copy | None]) -> list[str]:
    return [name for name, copy in copies.items() if copy is None or copy.content != best.content]


def _is_answer(found: object) -> TypeGuard[ObjectInfo | None]:
    return found is None or isinstance(found, ObjectInfo)


def _described(member: str, info: ObjectInfo | None) -> _Copy | None:
    """Return a copy as its description has it, which was not read."""
    if info is None:
        return None
    return _Copy(generation_of(info, member), str(info.size), is_stamped(info), intact=None)


def _is_still(found: object, member: str, copy: _Copy | None) -> bool:
    if isinstance(found, ObjectInfo):
        return copy is not None and generation_of(found, member) == copy.generation
    return found is None and copy is None
