"""Settling a write whose outcome nobody knows: by a look at the members."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Literal

from trove_async.errors import NotFoundError, UnavailableError
from trove_async.layers.mirror.fleet import Fleet, Replica
from trove_async.layers.mirror.generations import generation_of
from trove_async.layers.mirror.queue import RepairQueue
from trove_async.layers.mirror.records import Claim, Kind

__all__ = ["Settled", "Settler"]

Settled = Literal["committed", "absent", "unknown"]
"""``committed``: a member has the write, and repairs are queued for the others. ``absent``: none has it, and the intent
is gone. ``unknown``: none that can be reached has it; the intent stays."""


_BACK: Final[Mapping[Kind, Kind]] = {"create_bucket": "delete_bucket", "delete_bucket": "create_bucket"}
"""The repair that undoes a write; for objects, it is a copy."""


class Settler:
    """Finds out what became of writes.

    Args:
        fleet: the members.
        queue: has the intents.
    """

    def __init__(self, fleet: Fleet, queue: RepairQueue) -> None:
        self._fleet = fleet
        self._queue = queue

    async def settle(self, claim: Claim, *, wait: bool = True) -> Settled:
        """End a claim by what the members have; it lasts no longer, whatever is found.

        Args:
            claim: of the write.
            wait: whether the intent stays if only members that cannot be reached may have the write. Otherwise it is
                dropped, and their copies are repaired from one that is good and does not have it.
        """
        have, lack, unknown = await self._sorted(claim)
        if have:
            kind: Kind = "put" if claim.intent.kind == "tags" else claim.intent.kind
            await self._queue.end(claim.intent, reached=have, missed=[*lack, *unknown], kind=kind)
            return "committed"
        if unknown and (wait or not set(lack).difference(claim.repairs)):
            await self._queue.abandon(claim.intent)
            return "unknown"
        await self._queue.end(claim.intent, missed=unknown, kind=_BACK.get(claim.intent.kind, "put"))
        return "absent"

    async def _sorted(self, claim: Claim) -> tuple[list[str], list[str], list[str]]:
        """Return the members that have the write, that lack it, and that cannot say."""
        asked = self._fleet.replicas
        if claim.intent.kind == "tags":  # which says nothing about the content of a copy that is not good
            asked = [replica for replica in asked if replica.name not in claim.repairs]
        seen = await self._fleet.ask(asked, lambda replica: self._look(replica, claim))
        if claim.intent.kind == "delete":
            seen = _deletion(seen, claim)
        have = [name for name, found in seen.items() if found is True]
        lack = [name for name, found in seen.items() if found is False]
        return have, lack, [name for name in seen if name not in have and name not in lack]

    async def _look(self, replica: Replica, claim: Claim) -> Any:
        """Return whether a member has the write; of a deletion the generation that the member has, None if none."""
        if not replica.healthy:
            raise UnavailableError("the member is down")
        intent = claim.intent
        match intent.kind:
            case "create_bucket" | "delete_bucket":
                names = [bucket.name for bucket in await replica.driver.list_buckets()]
                return (intent.bucket in names) == (intent.kind == "create_bucket")
            case "tags":
                return await self._has_tags(replica, claim)
            case _:
                info = await replica.head(intent.bucket, intent.key)
        generation = None if info is None else generation_of(info, replica.name)
        return generation if intent.kind == "delete" else generation == intent.generation

    async def _has_tags(self, replica: Replica, claim: Claim) -> bool:
        driver: Any = replica.driver
        try:
            found = await driver.get_tags(claim.intent.bucket, claim.intent.key)
        except NotFoundError:
            return False
        return bool(found == json.loads(claim.intent.detail))


def _deletion(seen: dict[str, Any], claim: Claim) -> dict[str, Any]:
    """Return for each member whether it has carried out a deletion, by the generations that they have.

    A member whose copy was not good before may have lacked the object all along. A condition of the deletion was
    evaluated before the first member was written: if a good copy has another ETag, it did not hold.
    """
    good = {name: found for name, found in seen.items() if name not in claim.repairs}
    present = {found for found in good.values() if isinstance(found, str)}
    if claim.intent.detail and present - {claim.intent.detail}:
        return dict.fromkeys(seen, False)
    begun = any(found is None for found in good.values())
    return {name: found if isinstance(found, Exception) else begun and found is None for name, found in seen.items()}
