"""`RouteDriver`: the driver of a `Route`, which passes each operation on to the member that has the key."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final, cast

from trove_async.driver.capabilities import LifecycleDriver, LifecycleSweepDriver, NotificationDriver
from trove_async.driver.copy_errors import CopyEnd
from trove_async.driver.copying import copy_object
from trove_async.driver.options import WatchOptions
from trove_async.driver.retry import many_requests
from trove_async.errors import CopyNotSupportedError, TroveError
from trove_async.layers.base import Operation
from trove_async.layers.members import MembersDriver, OpenMembers
from trove_async.layers.route import buckets, listing
from trove_async.layers.route.routed import Routed
from trove_async.layers.route.rules import Rules
from trove_async.layers.route.watching import merged_events
from trove_async.types import DeleteResult, ObjectEvent, ObjectInfo, ObjectRef, PartInfo

__all__ = ["PLANS", "RouteDriver"]

_OWN_RULES: Final = "lifecycle rules are those of a whole bucket of one member; set them in the store of the member"


class RouteDriver(MembersDriver):
    """Passes each operation on to the member that has the key.

    Attributes:
        rules: say which member that is.
    """

    name = "route"
    drops: ClassVar[Mapping[type | str, str]] = {LifecycleDriver: _OWN_RULES, LifecycleSweepDriver: _OWN_RULES}

    def __init__(self, members: OpenMembers, rules: Rules) -> None:
        super().__init__(members)
        self.rules: Final = rules
        self._routed: Final = Routed(self.name, self.members, rules, members.cleanup_timeout)
        # A token would have to hold the position of each member, and a member that had no event yet has none.
        self._features = replace(self._features, watch_resume=False)

    def check_bucket(self, bucket: str) -> None:
        """Ask the members to which the rules send keys of the bucket."""
        for member in self.rules.members_below(bucket):
            self.members[member].check_bucket(bucket)

    async def settle(self, bucket: str, key: str) -> None:
        """Ask the member that has the key."""
        await self.members[self.rules.member_of(bucket, key)].settle(bucket, key)

    async def perform(self, operation: Operation) -> Any:
        """Pass an operation on to the member that has the key, or to several."""
        plan = PLANS.get(operation.name)
        if plan is not None:
            return await plan(self._routed, operation)
        member = self.rules.member_of(cast(str, operation.bucket), cast(str, operation.key))
        try:
            return await operation.on(self.members[member])
        except TroveError as error:
            self._routed.name_in(error, member, operation)
            raise

    async def watch(self, bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        """Yield the events of all members whose keys can begin with the prefix, of the keys that they have."""
        members = self.rules.members_below(bucket, options.prefix)
        waiting = set(members)

        def opened(member: str) -> AsyncGenerator[ObjectEvent, None]:
            def ready() -> None:
                waiting.discard(member)
                if not waiting:
                    options.on_ready()

            driver = cast(NotificationDriver, self.members[member])
            return driver.watch(bucket, replace(options, on_ready=ready))

        events = merged_events(
            {member: opened(member) for member in members}, self._routed.cleanup_timeout, self._routed.naming
        )
        try:
            async for member, event in events:
                if self.rules.member_of(bucket, event.key) == member:
                    yield replace(event, resume_token=None) if event.resume_token is not None else event
        finally:
            await events.aclose()


async def _ping(route: Routed, operation: Operation) -> None:
    await route.ask_each([*route.members], operation)


async def _copy(route: Routed, operation: Operation) -> ObjectInfo:
    source_place = (operation["src_bucket"], operation["src_key"])
    target_place = (operation["dst_bucket"], operation["dst_key"])
    source, target = route.rules.member_of(*source_place), route.rules.member_of(*target_place)
    if source == target:
        return cast(ObjectInfo, await route.ask(target, operation))
    with many_requests():
        return await copy_object(
            CopyEnd(route.members[source], *source_place),
            CopyEnd(route.members[target], *target_place),
            operation["options"],
            cleanup_timeout=route.cleanup_timeout,
        )


async def _server_copy(route: Routed, operation: Operation) -> ObjectInfo:
    return cast(ObjectInfo, await _ask_for_copy(route, operation, "copy() streams it"))


async def _copy_part(route: Routed, operation: Operation) -> PartInfo:
    return cast(PartInfo, await _ask_for_copy(route, operation, "read the range, and upload it as a part"))


async def _ask_for_copy(route: Routed, operation: Operation, instead: str) -> Any:
    """Pass a copy on to the member that has the destination, if that member can read the source.

    Raises:
        CopyNotSupportedError: it cannot; the message says what to do instead.
    """
    src: ObjectRef = operation["src"]
    assert operation.bucket is not None
    assert operation.key is not None
    source = route.rules.member_of(*src)
    target = route.rules.member_of(operation.bucket, operation.key)
    if source != target and not route.members[target].shares_backend(route.members[source]):
        raise CopyNotSupportedError(
            f"the source is in the member {source!r} of the Route, the destination in {target!r}, "
            f"and they do not share a backend; {instead}"
        )
    return await route.ask(target, operation)


async def _delete_many(route: Routed, operation: Operation) -> Sequence[DeleteResult]:
    """Delete the keys of each member at once; a member that fails does not keep the others from deleting theirs."""
    bucket, keys = operation["bucket"], operation["keys"]
    places: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(route.rules.member_of(bucket, key), []).append(place)
    failures: dict[str, TroveError] = {}

    async def delete(member: str) -> Sequence[DeleteResult]:
        driver: Any = route.members[member]
        chosen = [keys[place] for place in places[member]]
        try:
            with route.naming(member):
                found: Sequence[DeleteResult] = await driver.delete_many(bucket, chosen)
        except TroveError as error:
            failures[member] = error
            return [DeleteResult(key, error) for key in chosen]
        return found

    found = await route.of_each([*places], delete)
    if failures and len(failures) == len(places):
        raise next(iter(failures.values()))
    results = {place: result for member in places for place, result in zip(places[member], found[member], strict=True)}
    return [results[place] for place in range(len(keys))]


PLANS: Final[Mapping[str, Callable[[Routed, Operation], Awaitable[Any]]]] = {
    "ping": _ping,
    "copy": _copy,
    "server_copy": _server_copy,
    "copy_part": _copy_part,
    "delete_many": _delete_many,
    "list_page": listing.list_page,
    "list_versions_page": listing.list_versions_page,
    "list_multipart_uploads": listing.list_uploads,
    "list_buckets": buckets.list_buckets,
    "create_bucket": buckets.create_bucket,
    "delete_bucket": buckets.delete_bucket,
    "get_versioning": buckets.get_versioning,
    "set_versioning": buckets.set_versioning,
}
"""How the operations are carried out that are not about one key."""
