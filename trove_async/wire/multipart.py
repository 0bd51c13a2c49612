"""Uploads in parts: the algorithm once, for every service that has them.

`put_in_parts` cuts a body, sends the parts in parallel, and completes the upload. Whatever happens, either the object
is made, whole, or no upload stays open: the request that begins one is awaited, since only its answer tells what to
abort; a completion that was sent is awaited, since an abort that overtakes it can take away parts that it is making an
object of; and one whose answer was lost is settled by a look at the object. After a cancellation neither is sent.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from typing import Final, Generic, TypeVar

from trove_async.body import Body, Chunk, Piece
from trove_async.cancellation import finish, shielded
from trove_async.driver.memory import BUDGET, TRANSFER_MEMORY, MemoryBudget, Share
from trove_async.driver.pace import Pace
from trove_async.driver.part_plan import MIB, PartPlan
from trove_async.driver.retry import Attempts, Retries, many_requests
from trove_async.errors import ConflictError, TroveError
from trove_async.types import ObjectInfo
from trove_async.wire.client import settle
from trove_async.wire.parts import PartSource, in_parallel

__all__ = [
    "MIB",
    "PartPlan",
    "Upload",
    "again",
    "begin",
    "complete",
    "make_of_parts",
    "opened",
    "pace_of_copies",
    "put_in_parts",
]

P = TypeVar("P")
_FEW: Final = 8
"""How many parts are under way at once at first."""

_COPIES: Final = 12
"""How many parts that the service copies by itself are under way at once at most: nothing measures their rate."""

_CONFLICTS: Final = 3
"""How often a body is uploaded whose completion conflicts with another write."""


class Upload(ABC, Generic[P]):
    """One upload in parts: what a service brings.

    Attributes:
        completed: whether it has become an object, so that there is nothing to abort.
    """

    completed = False

    @abstractmethod
    def __str__(self) -> str:
        """Return what is left behind if the upload is given up: its id, key and bucket."""

    @abstractmethod
    async def begin(self) -> None:
        """Open the upload."""

    @abstractmethod
    async def send(self, number: int, chunks: Sequence[Piece]) -> P:
        """Store a part."""

    async def make(self, parts: Sequence[P], timeout: float) -> ObjectInfo:
        """Do what a completion takes, by `complete` of this module; a service may need requests before it.

        Args:
            parts: in the order of their numbers.
            timeout: seconds for which a completion is awaited after a cancellation.
        """
        return await complete(self, parts, timeout)

    @abstractmethod
    async def complete(self, parts: Sequence[P]) -> ObjectInfo:
        """Make the object of the parts, which are in the order of their numbers, in one request.

        Raises:
            ConflictError: another write of the object is under way; the upload is lost.
        """

    @abstractmethod
    async def find(self, parts: Sequence[P]) -> ObjectInfo | None:
        """Return the object if it is the one that the upload was to become; None if it is another or missing."""

    @abstractmethod
    async def abort(self) -> None:
        """Give the upload up and free its parts; one that is not open is success."""


async def begin(upload: Upload[P], timeout: float) -> None:
    """Open an upload; if the call is cancelled, none stays open.

    Args:
        upload: to open.
        timeout: seconds that clean-up may take.
    """
    is_open = False

    async def work() -> None:
        nonlocal is_open
        await upload.begin()
        is_open = True

    try:
        await shielded(work(), timeout=timeout, leftover=str(upload))
    except asyncio.CancelledError:
        if is_open:
            await _give_up(upload, timeout)
        raise


async def complete(upload: Upload[P], parts: Sequence[P], timeout: float) -> ObjectInfo:
    """Make the object of parts. Once the request was sent it is awaited, also by a caller that was cancelled.

    After a cancellation it is neither sent nor sent again.

    Args:
        upload: to complete.
        parts: in the order of their numbers.
        timeout: seconds for which a completion is awaited after a cancellation.
    """

    async def work() -> ObjectInfo:
        try:
            made = await upload.complete(parts)
        except TroveError as error:
            found = await settle(error, lambda: upload.find(parts))
            if found is None:
                raise
            made = found
        upload.completed = True
        return made

    with many_requests():
        return await shielded(work(), timeout=timeout, leftover=f"the completion of {upload}")


@asynccontextmanager
async def opened(upload: Upload[P], timeout: float) -> AsyncGenerator[Upload[P], None]:
    """Open an upload, and abort it if it was not completed when the block ends."""
    await begin(upload, timeout)
    try:
        yield upload
    finally:
        if not upload.completed:
            await _give_up(upload, timeout)


async def _give_up(upload: Upload[P], timeout: float) -> None:
    await finish(upload.abort(), timeout=timeout, leftover=str(upload))


async def make_of_parts(
    upload: Upload[P],
    jobs: AsyncGenerator[Callable[[], Awaitable[P]], None],
    *,
    pace: Pace,
    timeout: float,
) -> ObjectInfo:
    """Open an upload, carry out the jobs that store its parts, and complete it.

    Args:
        upload: to become an object.
        jobs: in the order of the parts.
        pace: how many are under way at once.
        timeout: seconds that clean-up may take.
    """
    with many_requests():
        async with opened(upload, timeout):
            return await upload.make(await in_parallel(jobs, pace), timeout)


def pace_of_copies(concurrency: int) -> Pace:
    """Return how many parts that the service copies by itself are under way at once.

    Args:
        concurrency: the maximum of the store.
    """
    few = min(concurrency, _COPIES)
    return Pace(few, few)


async def put_in_parts(
    body: Body,
    source: PartSource,
    first: list[Chunk],
    plan: PartPlan,
    new_upload: Callable[[], Upload[P]],
    *,
    concurrency: int,
    timeout: float,
    retries: Retries,
) -> ObjectInfo:
    """Store a body of more than one part, in bounded memory.

    A few parts are sent at once, and more if the whole is faster then. Parts that are held in memory take it from the
    store's budget.

    A completion that conflicts with another write takes the upload with it; a body that can be read again is then
    uploaded anew (https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html).

    Args:
        body: of the put.
        source: of the body, from which ``first`` was taken.
        first: the first part.
        plan: the sizes of the parts.
        new_upload: returns an upload that is not open yet.
        concurrency: how many parts are under way at once at most.
        timeout: seconds that clean-up may take.
        retries: of the store.
    """
    conflicts = Attempts(retries.policy, _CONFLICTS)
    with many_requests():
        while True:
            upload = new_upload()
            try:
                # The jobs end before their parts do, so that the share is not theirs to close.
                with closing(Share(BUDGET.get() or MemoryBudget(TRANSFER_MEMORY))) as share:
                    jobs = _jobs(upload, body, source, first, plan, share)
                    return await make_of_parts(upload, jobs, pace=Pace(concurrency, _FEW), timeout=timeout)
            except ConflictError as error:
                if error.ambiguous or not body.replayable:
                    raise
                await conflicts.failed(error)
            source, first = await again(body, plan)


async def again(body: Body, plan: PartPlan) -> tuple[PartSource, list[Chunk]]:
    """Return the source and the first part of a body that is read again from its first byte."""
    if body.buffer is None:
        await body.rewind()
    source = PartSource(body)
    return source, await source.take(plan.size_for(1, body.size))


async def _jobs(
    upload: Upload[P], body: Body, source: PartSource, first: list[Chunk], plan: PartPlan, share: Share
) -> AsyncGenerator[Callable[[], Awaitable[P]], None]:
    """Yield what stores each part, which is read only when there is someone to send it, and memory for it."""

    async def store(number: int, pieces: Sequence[Piece], held: int) -> P:
        part = await upload.send(number, pieces)
        share.give(held)
        return part

    pieces: Sequence[Piece] = first
    number, held = 1, await share.take(0)
    while True:
        yield partial(store, number, pieces, held)
        if source.ended:
            return
        number += 1
        size = plan.size_for(number, body.size)
        held = await share.take(size) if source.holds else 0
        pieces = await source.take_pieces(size)
