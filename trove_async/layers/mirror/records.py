"""What a repair queue records: writes that are under way, and copies that are to be repaired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from secrets import token_hex
from typing import Literal

__all__ = ["Claim", "Intent", "Kind", "Pending", "Repair"]

Kind = Literal["put", "delete", "tags", "create_bucket", "delete_bucket", "repair", "rewrite"]
"""What a write does. ``repair`` changes nothing that a reader can see; ``rewrite`` repairs a copy that looks right
and is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A write of one key that is under way. Nobody else writes the key meanwhile.

    Attributes:
        bucket, key: what is written; the key is empty if it is the bucket.
        kind: what the write does.
        generation: of the new object, or of the deletion.
        detail: what else is needed to settle the write if its process dies: the ETag that a deletion depends on, the
            new tags as JSON.
        token: proves who has begun it, or taken it over; a new one for each.
    """

    bucket: str
    key: str
    kind: Kind
    generation: str
    detail: str = ""
    token: str = field(default_factory=lambda: token_hex(8))


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """A copy that is not what it should be.

    Attributes:
        bucket, key: of the object; the key is empty if the bucket itself is to be created or deleted.
        member: which has the copy.
        kind: what brings the copy up to date.
        generation: that the copy should have, or of the deletion.
        queued_at: when it was found out.
        attempts: how often a repair has failed.
        error: why it failed last; empty if it was not tried.
    """

    bucket: str
    key: str
    member: str
    kind: Kind
    generation: str
    queued_at: datetime
    attempts: int
    error: str

    @property
    def place(self) -> tuple[str, str, str]:
        """The bucket, the key and the member."""
        return self.bucket, self.key, self.member


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write a key.

    Attributes:
        intent: the write that was asked for, or one that somebody has begun and not ended: it is to be settled first.
        repairs: of the key, by member.
    """

    intent: Intent
    repairs: Mapping[str, Repair]


@dataclass(frozen=True, slots=True)
class Pending:
    """The repairs that wait for one member.

    Attributes:
        copies: their number. Such a copy is no replica.
        oldest: when the one that waits longest was queued.
        failing: the number of those that were tried and failed.
        error: why one of those failed; empty if none did.
    """

    copies: int
    oldest: datetime
    failing: int
    error: str = ""
