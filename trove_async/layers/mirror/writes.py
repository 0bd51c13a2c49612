"""Writing to a mirror: an intent, all members at the same time, and a record of what was missed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar

from trove_async.body import Body
from trove_async.cancellation import finish, to_the_end
from trove_async.checksums import Checksum
from trove_async.driver.conditions import check_write
from trove_async.driver.options import DeleteOptions, PutOptions
from trove_async.errors import BackendUnavailableError, TroveError
from trove_async.layers.mirror.claims import Claims
from trove_async.layers.mirror.fleet import Fleet, Replica, failures, over
from trove_async.layers.mirror.generations import new_generation, public, stamped
from trove_async.layers.mirror.queue import RepairQueue
from trove_async.layers.mirror.reads import Reads
from trove_async.layers.mirror.records import Claim, Intent, Kind
from trove_async.layers.mirror.repairs import Repairs
from trove_async.layers.mirror.settling import Settler
from trove_async.layers.mirror.tee import Tee
from trove_async.types import ObjectInfo

__all__ = ["Writes"]

R = TypeVar("R")

_DELETE: Final = DeleteOptions()


class Writes:
    """The writes of a mirror.

    Args:
        fleet: the members.
        queue: records intents and repairs.
        claims: keep other writers of a key out.
        reads: for conditions.
        settler: finds out what became of a write that did not end as it should.
        repairs: check an object that the members may not agree about.
    """

    def __init__(
        self,
        fleet: Fleet,
        queue: RepairQueue,
        claims: Claims,
        reads: Reads,
        settler: Settler,
        repairs: Repairs,
    ) -> None:
        self._repairs = repairs
        self._fleet = fleet
        self._queue = queue
        self._claims = claims
        self._reads = reads
        self._settler = settler

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        """Store an object at all members that can be reached."""
        targets = self._fleet.writable()
        intent = Intent(bucket=bucket, key=key, kind="put", generation=new_generation())
        member_options = stamped(options, intent.generation)
        if body.buffer is not None:
            return await self._put_buffer(intent, targets, body, options, member_options)
        if options.if_match or options.if_none_match:  # refused before the body is read, if it will be refused
            await self._decide(intent, await self._queued(intent), options.if_match, options.if_none_match)
        return await self._put_stream(intent, targets, body, options, member_options)

    async def _put_buffer(
        self, intent: Intent, targets: list[Replica], body: Body, options: PutOptions, member_options: PutOptions
    ) -> ObjectInfo:
        data = body.buffer
        await body.finish_buffer()
        assert member_options.checksum is not None
        algorithm = member_options.checksum.algorithm

        async def put(replica: Replica) -> ObjectInfo:
            copy = Body(data, checksum=Checksum(algorithm))
            return await replica.driver.put(intent.bucket, intent.key, copy, member_options)

        async with self._claims.claimed(intent) as claim:
            await self._decide_or_end(claim, options.if_match, options.if_none_match)
            outcomes = await self._settled(claim, self._fleet.ask(targets, put))
            return await self._described(claim, outcomes)

    async def _put_stream(
        self, intent: Intent, targets: list[Replica], body: Body, options: PutOptions, member_options: PutOptions
    ) -> ObjectInfo:
        """Read the body before the key is claimed, so that a slow one keeps nobody from writing the key."""
        tee = Tee(body, [replica.name for replica in targets])

        async def put(replica: Replica) -> ObjectInfo:
            copy = tee.body(replica.name, member_options.checksum)
            try:
                return await replica.driver.put(intent.bucket, intent.key, copy, member_options)
            finally:
                tee.close(replica.name)

        putting = asyncio.create_task(self._fleet.ask(targets, put), name="trove-mirror-put")
        try:
            await tee.pump()
            async with self._claims.claimed(intent) as claim:
                await self._decide_or_end(claim, options.if_match, options.if_none_match)
                tee.commit()
                return await self._described(claim, await self._settled(claim, putting))
        finally:
            await self._ended(putting)

    async def _ended(self, putting: asyncio.Task[Any]) -> None:
        """Wait until no member is written any more; cancel what was not begun to be committed."""
        if not putting.done():
            putting.cancel()
            await finish(over([putting]), timeout=self._fleet.cleanup_timeout, leftover="puts to members of a mirror")

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Delete an object at all members that can be reached."""
        targets = self._fleet.writable()
        detail = "" if options.if_match in (None, "*") else str(options.if_match)
        intent = Intent(bucket=bucket, key=key, kind="delete", generation=new_generation(), detail=detail)
        async with self._claims.claimed(intent) as claim:
            await self._decide_or_end(claim, options.if_match, None)
            call = self._fleet.ask(targets, lambda replica: replica.driver.delete(bucket, key, _DELETE))
            await self._concluded(claim, await self._settled(claim, call))

    async def set_tags(
        self, bucket: str, key: str, tags: Mapping[str, str], call: Callable[[Replica], Coroutine[Any, Any, None]]
    ) -> None:
        """Change the tags of all good copies that can be reached; ``call`` does so at one member."""
        detail = json.dumps(dict(tags))
        intent = Intent(bucket=bucket, key=key, kind="tags", generation=new_generation(), detail=detail)
        async with self._claims.claimed(intent) as claim:
            try:
                targets = self._fleet.writable(without=claim.repairs)
            except BackendUnavailableError:
                await self._withdraw(claim)
                raise
            outcomes = await self._settled(claim, self._fleet.ask(targets, call))
            await self._concluded(claim, outcomes, kind="put")

    async def change_bucket(
        self, bucket: str, kind: Kind, call: Callable[[Replica], Coroutine[Any, Any, bool]]
    ) -> bool:
        """Create or delete a bucket at all members that can be reached.

        Args:
            bucket: its name.
            kind: what is done.
            call: does it at one member; False if the member had nothing to do.

        Returns:
            What the first member has returned.
        """
        self._fleet.writable()  # raises if they are too few
        targets = self._fleet.healthy  # all of them: without the bucket, a member could not take over
        intent = Intent(bucket=bucket, key="", kind=kind, generation=new_generation())
        async with self._claims.claimed(intent) as claim:
            outcomes = await self._settled(claim, self._fleet.ask(targets, call))
            await self._concluded(claim, outcomes)
            return next(outcome for outcome in outcomes.values() if isinstance(outcome, bool))

    async def settle(self, bucket: str, key: str) -> None:
        """Claim a key, for which every earlier write of it is settled, and write nothing.

        Raises:
            BackendUnavailableError: a member that may have an earlier write cannot be reached.
        """
        intent = Intent(bucket=bucket, key=key, kind="put", generation=new_generation())
        async with self._claims.claimed(intent, self._require_settled) as claim:
            await self._withdraw(claim)

    async def _require_settled(self, claim: Claim) -> None:
        if await self._settler.settle(claim) == "unknown":
            raise self._fleet.unavailable(
                "a member that may have an earlier write of this key cannot be reached", [*claim.repairs]
            )

    async def _queued(self, intent: Intent) -> Mapping[str, Any]:
        return await self._queue.repairs(intent.bucket, intent.key)

    async def _decide(
        self, intent: Intent, repairs: Mapping[str, Any], if_match: str | None, if_none_match: str | None
    ) -> None:
        etag = await self._reads.etag(intent.bucket, intent.key, repairs)
        check_write(etag, if_match, if_none_match)

    async def _decide_or_end(self, claim: Claim, if_match: str | None, if_none_match: str | None) -> None:
        """Evaluate the conditions of a write under its claim, and end the claim if they do not hold."""
        if if_match is None and if_none_match is None:
            return
        try:
            await self._decide(claim.intent, claim.repairs, if_match, if_none_match)
        except BaseException:
            await self._withdraw(claim)
            raise

    async def _settled(self, claim: Claim, calls: Awaitable[R]) -> R:
        """Await the calls to the members; if that is cancelled, find out what they have done, and record it."""
        try:
            return await calls
        except BaseException:
            leftover = f"a write of {claim.intent.bucket}/{claim.intent.key}, until a repair settles it"
            await finish(self._settler.settle(claim), timeout=self._fleet.cleanup_timeout, leftover=leftover)
            raise

    async def _described(self, claim: Claim, outcomes: Mapping[str, ObjectInfo | Exception]) -> ObjectInfo:
        await self._concluded(claim, outcomes)
        name, info = next((name, found) for name, found in outcomes.items() if isinstance(found, ObjectInfo))
        return public(info, name)

    async def _concluded(
        self, claim: Claim, outcomes: Mapping[str, object | Exception], kind: Kind | None = None
    ) -> None:
        """End a claim by what the members have answered.

        Raises:
            BackendUnavailableError: some members have the write, but fewer than the quorum; it is ambiguous.
            TroveError: no member has the write.
        """
        written = [name for name, outcome in outcomes.items() if not isinstance(outcome, Exception)]
        errors = failures(outcomes)
        if not written:
            raise await self._refused(claim, errors)
        missed = [name for name in self._fleet.names if name not in written]
        behind = [name for name in written if name in claim.repairs]
        end = self._queue.end(claim.intent, reached=behind, missed=missed, kind=kind)
        try:
            await to_the_end(end, timeout=self._fleet.cleanup_timeout, leftover="the record of a write")
        except TroveError as error:
            error.ambiguous = True  # the members have it, and whoever settles the intent decides
            # If somebody else has already done so, this write may have come after a newer one at some members.
            self._repairs.suspect(claim.intent.bucket, claim.intent.key, again=True)
            raise
        if len(written) < self._fleet.quorum:
            raise BackendUnavailableError(
                f"{len(written)} of {len(self._fleet.names)} members have the write, and {self._fleet.quorum} were "
                "required; repairs will bring it to the others",
                ambiguous=True,
            ) from errors[0]

    async def _refused(self, claim: Claim, errors: list[Exception]) -> Exception:
        """Return the error of a write that no member has confirmed."""
        error = errors[0]
        if not any(_is_ambiguous(one) for one in errors):
            await self._withdraw(claim)
        elif await self._settler.settle(claim) != "absent" and isinstance(error, TroveError):
            error.ambiguous = True
        return error

    async def _withdraw(self, claim: Claim) -> None:
        leftover = f"the intent to write {claim.intent.bucket}/{claim.intent.key}"
        await finish(self._queue.withdraw(claim.intent), timeout=self._fleet.cleanup_timeout, leftover=leftover)


def _is_ambiguous(error: Exception) -> bool:
    # What is no error of the library says nothing about what the member did.
    return not isinstance(error, TroveError) or error.ambiguous
