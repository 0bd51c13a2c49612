"""The buckets of a `Route`: a bucket exists if each member to which the rules send keys of it has it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from trove_async.cancellation import finish
from trove_async.driver.capabilities import VersionListingDriver
from trove_async.driver.options import BucketOptions, ListOptions, VersionListOptions
from trove_async.errors import (
    BucketAlreadyExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
)
from trove_async.layers.base import Operation
from trove_async.layers.route.routed import Routed
from trove_async.types import BucketInfo, VersioningStatus

__all__ = ["create_bucket", "delete_bucket", "get_versioning", "list_buckets", "set_versioning"]

_LEAST_FIRST: Final = (VersioningStatus.UNVERSIONED, VersioningStatus.SUSPENDED, VersioningStatus.ENABLED)

_NOT_EMPTY: Final = (
    "the bucket is not empty in the member {!r}; it may hold objects whose keys the rules of the Route send elsewhere, "
    "which the Route does not list"
)


async def list_buckets(route: Routed, operation: Operation) -> Sequence[BucketInfo]:
    """Return the buckets that exist in all of their members; each with the time at which the last one got it."""
    listed = await route.ask_each([*route.members], operation)
    found = {member: {bucket.name: bucket.created_at for bucket in buckets} for member, buckets in listed.items()}
    buckets: list[BucketInfo] = []
    for name in sorted({name for names in found.values() for name in names}):
        members = route.rules.members_below(name)
        if all(name in found[member] for member in members):
            times = [time for member in members if (time := found[member][name]) is not None]
            buckets.append(BucketInfo(name, max(times, default=None)))
    return buckets


async def create_bucket(route: Routed, operation: Operation) -> None:
    """Create a bucket in each of its members that has none; if one fails, delete those that were created."""
    name = operation["name"]
    created: list[str] = []

    async def create(member: str) -> None:
        try:
            await route.ask(member, operation)
        except BucketAlreadyExistsError:
            return
        created.append(member)

    async def undo(member: str) -> None:
        if member in created:
            await route.members[member].delete_bucket(name)

    await _in_each(route, route.rules.members_below(name), create, undo, f"the bucket {name!r}")
    if not created:
        raise BucketAlreadyExistsError()


async def delete_bucket(route: Routed, operation: Operation) -> None:
    """Delete a bucket in each of its members, after a look whether one of them holds anything."""
    name = operation["name"]
    members = [member for member in route.rules.members_below(name) if await _require_empty(route, member, name)]
    if not members:
        raise BucketNotFoundError()

    async def delete(member: str) -> None:
        try:
            await route.ask(member, operation)
        except BucketNotFoundError:
            return  # also if two members are of one backend
        except BucketNotEmptyError as error:
            raise _not_empty(member) from error

    async def undo(member: str) -> None:
        try:
            await route.members[member].create_bucket(name, BucketOptions())
        except BucketAlreadyExistsError:
            return

    await _in_each(route, members, delete, undo, f"the missing bucket {name!r}")


async def _require_empty(route: Routed, member: str, name: str) -> bool:
    """Tell whether a member has a bucket, and raise if there is anything in it."""
    driver: Any = route.members[member]
    with route.naming(member):
        try:
            if VersionListingDriver in driver.features.protocols:
                page = await driver.list_versions_page(name, VersionListOptions(page_size=1))
                found = page.versions
            else:
                listed = await driver.list_page(name, ListOptions(page_size=1))
                found = listed.objects
        except BucketNotFoundError:
            return False
    if found:
        raise _not_empty(member)
    return True


def _not_empty(member: str) -> BucketNotEmptyError:
    return BucketNotEmptyError(_NOT_EMPTY.format(member))


async def set_versioning(route: Routed, operation: Operation) -> None:
    """Start or stop keeping versions in each of the members; if one fails, change the others back."""
    bucket = operation["bucket"]
    members = route.rules.members_below(bucket)
    if len(members) == 1:
        await route.ask(members[0], operation)
        return
    before: dict[str, VersioningStatus] = await _statuses(route, bucket)

    async def change(member: str) -> None:
        await route.ask(member, operation)

    async def undo(member: str) -> None:
        driver: Any = route.members[member]
        if (before[member] is VersioningStatus.ENABLED) is not operation["enabled"]:
            await driver.set_versioning(bucket, before[member] is VersioningStatus.ENABLED)

    await _in_each(route, [*before], change, undo, f"the versioning of {bucket!r}")


async def get_versioning(route: Routed, operation: Operation) -> VersioningStatus:
    """Return what all members do; where they differ, what the one that does least does."""
    statuses = await _statuses(route, operation["bucket"])
    return min(statuses.values(), key=_LEAST_FIRST.index)


async def _statuses(route: Routed, bucket: str) -> dict[str, VersioningStatus]:
    async def ask(member: str) -> VersioningStatus:
        driver: Any = route.members[member]
        with route.naming(member):
            status: VersioningStatus = await driver.get_versioning(bucket)
        return status

    return await route.of_each(route.rules.members_below(bucket), ask)


async def _in_each(
    route: Routed,
    members: Sequence[str],
    do: Callable[[str], Awaitable[None]],
    undo: Callable[[str], Awaitable[None]],
    leftover: str,
) -> None:
    """Do something in one member after another; if one fails or is cancelled, undo it in all that were tried."""
    tried: list[str] = []

    async def undo_all() -> None:
        for member in reversed(tried):
            await undo(member)

    try:
        for member in members:
            tried.append(member)
            await do(member)
    except BaseException:
        await finish(undo_all(), timeout=route.cleanup_timeout, leftover=f"{leftover} in {', '.join(tried)}")
        raise
