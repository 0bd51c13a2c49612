"""Counting: compare the accounts with what the backend lists, while others write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from functools import partial

from trove_async.layers.quota.accounts import Pending
from trove_async.layers.quota.books import Ledger
from trove_async.layers.quota.limits import Scope
from trove_async.layers.quota.looking import Looker
from trove_async.layers.quota.rules import learn_versioning, reconcile, reconcile_parts
from trove_async.types import VersioningStatus

__all__ = ["count"]

Look = Callable[[Sequence[Pending]], Awaitable[None]]


async def count(ledger: Ledger, looker: Looker, look: Look, scopes: Collection[Scope]) -> None:
    """Correct all accounts under some limits, and what these limits are charged.

    An account that changes while its object is listed is looked at by itself. So the sums are right at the end,
    whatever is written meanwhile.

    Args:
        ledger: where the accounts are.
        looker: lists the objects.
        look: looks at accounts one by one.
        scopes: of the limits.
    """
    for scope in scopes:
        if not any(other.covers(*scope) for other in scopes if other != scope):
            for bucket in await _buckets_of(ledger, looker, scope):
                await _Count(ledger, looker, look, Scope(bucket, scope.prefix)).run()
    for scope in scopes:
        await ledger.write(lambda books, scope=scope: books.sum(scope))  # type: ignore[misc]


async def _buckets_of(ledger: Ledger, looker: Looker, scope: Scope) -> Collection[str]:
    if scope.bucket:
        return [scope.bucket]
    known = await ledger.read(lambda books: books.buckets())
    return sorted({*known, *await looker.buckets()})


class _Count:
    """The count of a bucket, or of what is below a prefix in it."""

    def __init__(self, ledger: Ledger, looker: Looker, look: Look, scope: Scope) -> None:
        self._ledger = ledger
        self._looker = looker
        self._look = look
        self._scope = scope

    async def run(self) -> None:
        bucket = self._scope.bucket
        versioning = await self._looker.versioning(bucket)
        await self._ledger.write(lambda books: learn_versioning(books, bucket, versioning))
        await self._count_objects(versions=versioning != VersioningStatus.UNVERSIONED)
        since = await self._now()
        listed = await self._looker.uploads(self._scope)
        await self._look(
            await self._ledger.write(lambda books: reconcile_parts(books, self._scope, listed, since)),
        )

    async def _count_objects(self, *, versions: bool) -> None:
        after: str | None = None
        # The first object of a page of versions may have been seen in the page before.
        before = since = await self._now()
        async with aclosing(self._looker.objects(self._scope, versions=versions)) as pieces:
            async for piece in pieces:
                compare = partial(
                    reconcile, scope=self._scope, after=after, upto=piece.upto, found=piece.found, since=before,
                    complete=piece.complete,
                )  # fmt: skip
                await self._look(await self._ledger.write(compare))
                after, before, since = piece.upto, since, await self._now()

    async def _now(self) -> int:
        return await self._ledger.read(lambda books: books.clock())
