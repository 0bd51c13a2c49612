"""Q: lifecycle rules, which expire or move objects by age."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from trove_async.driver import LifecycleDriver, LifecycleSweepDriver
from trove_async.errors import BucketNotFoundError, InvalidLifecycleError
from trove_async.testing.conformance.context import Context, requires
from trove_async.testing.conformance.counting import CallCounter
from trove_async.types import LifecycleReport, LifecycleRule

__all__ = ["LifecycleRuleChecks"]

RULES = [
    LifecycleRule("expire-logs", prefix="logs/", expiration_days=30),
    LifecycleRule("off", prefix="tmp/", enabled=False, expiration_days=1),
    LifecycleRule("uploads", abort_incomplete_days=7),
]

INVALID_RULES = {
    "nothing-to-do": [LifecycleRule("a")],
    "zero-days": [LifecycleRule("a", expiration_days=0)],
    "negative-days": [LifecycleRule("a", abort_incomplete_days=-1)],
    "no-id": [LifecycleRule("", expiration_days=1)],
    "same-id-twice": [LifecycleRule("a", expiration_days=1), LifecycleRule("a", prefix="b", expiration_days=2)],
    "no-storage-class": [LifecycleRule("a", transition_days=1)],
    "no-transition-days": [LifecycleRule("a", transition_storage="COLD", expiration_days=1)],
    "expires-before-it-moves": [
        LifecycleRule("a", transition_days=30, transition_storage="COLD", expiration_days=30),
    ],
}


class LifecycleRuleChecks:
    """Rules are stored with the bucket; if the service does not apply them, the sweeper does."""

    @requires(LifecycleDriver)
    async def test_q01_rules_round_trip(self, ctx: Context) -> None:
        """Setting rules replaces all of them, deleting removes all, and another store sees the same rules."""
        other = await ctx.reopen()
        assert await ctx.store.get_lifecycle(ctx.bucket) == []
        await ctx.store.set_lifecycle(ctx.bucket, RULES)
        assert sorted(await other.get_lifecycle(ctx.bucket), key=lambda rule: rule.id) == RULES
        await ctx.store.set_lifecycle(ctx.bucket, RULES[:1])
        assert await other.get_lifecycle(ctx.bucket) == RULES[:1]
        await ctx.store.delete_lifecycle(ctx.bucket)
        await ctx.store.delete_lifecycle(ctx.bucket)
        assert await other.get_lifecycle(ctx.bucket) == []
        for call in (
            lambda: ctx.store.get_lifecycle(ctx.missing_bucket),
            lambda: ctx.store.set_lifecycle(ctx.missing_bucket, RULES),
            lambda: ctx.store.delete_lifecycle(ctx.missing_bucket),
        ):
            with pytest.raises(BucketNotFoundError):
                await call()

    @requires(LifecycleSweepDriver)
    async def test_q01_sweeper_expires_what_is_old(self, ctx: Context) -> None:
        """Objects with the rule's prefix and age are deleted, all others stay; a disabled rule does nothing."""
        for key in ("logs/a", "logs/b", "tmp/a", "kept"):
            await ctx.store.put(ctx.bucket, key, b"x")
        await ctx.store.set_lifecycle(ctx.bucket, RULES)
        now = datetime.now(UTC)
        assert await ctx.store.apply_lifecycle(ctx.bucket, now=now + timedelta(days=29)) == LifecycleReport()
        report = await ctx.store.apply_lifecycle(ctx.bucket, now=now + timedelta(days=31))
        assert report == LifecycleReport(expired=2)
        assert [found.key for found in await ctx.store.list(ctx.bucket).all()] == ["kept", "tmp/a"]
        assert await ctx.store.apply_lifecycle(ctx.bucket, now=now + timedelta(days=31)) == LifecycleReport()

    @requires(LifecycleSweepDriver)
    async def test_q01_sweeper_moves_what_is_old(self, ctx: Context) -> None:
        """They get the rule's storage class, once; nothing else about the object changes."""
        await ctx.store.put(ctx.bucket, "key", b"data", metadata={"m": "1"})
        before = await ctx.store.head(ctx.bucket, "key")
        rule = LifecycleRule("cool", transition_days=10, transition_storage="COLD")
        await ctx.store.set_lifecycle(ctx.bucket, [rule])
        later = datetime.now(UTC) + timedelta(days=11)
        assert await ctx.store.apply_lifecycle(ctx.bucket, now=later) == LifecycleReport(transitioned=1)
        assert await ctx.store.apply_lifecycle(ctx.bucket, now=later) == LifecycleReport()
        after = await ctx.store.head(ctx.bucket, "key")
        assert (before.storage_class, after.storage_class) == (None, "COLD")
        assert (after.etag, after.last_modified, after.metadata) == (before.etag, before.last_modified, before.metadata)
        assert await ctx.store.read(ctx.bucket, "key") == b"data"

    @requires(LifecycleDriver)
    @pytest.mark.parametrize("rules", INVALID_RULES.values(), ids=INVALID_RULES)
    async def test_q02_invalid_rule_is_rejected(self, ctx: Context, rules: list[LifecycleRule]) -> None:
        """It is refused before any I/O, and the existing rules stay."""
        counter = CallCounter()
        store = await ctx.reopen(counter)
        await ctx.store.set_lifecycle(ctx.bucket, RULES[:1])
        with pytest.raises(InvalidLifecycleError):
            await store.set_lifecycle(ctx.bucket, rules)
        assert counter.calls == []
        assert await ctx.store.get_lifecycle(ctx.bucket) == RULES[:1]
