"""What a quota knows: an account for each object and part, and the reservations of operations that are under way."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from typing import Final, NamedTuple

from trove_async.layers.quota.limits import QuotaLimit, QuotaUsage, Scope

__all__ = ["Account", "Claim", "Known", "Outcome", "Pending", "Reservation", "Slot", "Total", "Unsure", "usage_of"]

_numbers: Final = count(1)


class Slot(NamedTuple):
    """What an account is for.

    - An object, with all of its versions: ``Slot(bucket, key)``.
    - A part of an open upload: ``Slot(bucket, key, upload, number)``; the number 0 is the upload as a whole.
    - A bucket as a whole: ``Slot(bucket, "")``. Accounts for a whole hold nothing: they are there while an operation
      on it is under way.
    """

    bucket: str
    key: str
    upload: str = ""
    part: int = 0


@dataclass(slots=True)
class Account:
    """What an object or a part takes up.

    Attributes:
        slot: which it is.
        bytes, objects: what was there when it was last known.
        peak_bytes, peak_objects: the most that may be there, because of operations that have ended in a way that is
            unclear. They equal ``bytes`` and ``objects`` unless ``unsure``.
        charged_bytes, charged_objects: what the limits are charged: the peak, and what running operations may add.
        running: how many operations are under way.
        changes: how many operations have begun or ended; what was seen before a change proves nothing after it.
        unsure: True if somebody has to look at the backend, once nothing runs.
        touched: when it last changed, by the clock of the books.
    """

    slot: Slot
    bytes: int = 0
    objects: int = 0
    peak_bytes: int = 0
    peak_objects: int = 0
    charged_bytes: int = 0
    charged_objects: int = 0
    running: int = 0
    changes: int = 0
    unsure: bool = False
    touched: int = 0

    def hold(self, nbytes: int, objects: int) -> None:
        """Take in what is there, which is certain."""
        self.bytes = self.peak_bytes = nbytes
        self.objects = self.peak_objects = objects
        self.unsure = False

    @property
    def is_idle(self) -> bool:
        """Whether it is unsure and nothing runs that would look at the backend at its end."""
        return self.unsure and not self.running


@dataclass(frozen=True, slots=True)
class Claim:
    """What an operation needs.

    Attributes:
        slot: what it changes.
        bytes, objects: how much there will be; of the object alone, without older versions.
        writes: False for a deletion.
        number: names the reservation.
    """

    slot: Slot
    bytes: int = 0
    objects: int = 0
    writes: bool = False
    number: int = field(default_factory=_numbers.__next__)


@dataclass(frozen=True, slots=True)
class Reservation:
    """A claim that was granted to an operation, until it has ended.

    Attributes:
        owner, number: name it; the owner is a store that is open in a process.
        slot, bytes, objects: of the claim.
        adds: True if what is there stays beside the new, as an older version does.
        versioning: whether the bucket kept versions when the operation began: a `VersioningStatus`, or `UNCLEAR`.
    """

    owner: str
    number: int
    slot: Slot
    bytes: int
    objects: int
    adds: bool
    versioning: str


@dataclass(slots=True)
class Total:
    """A limit, and what it is charged."""

    scope: Scope
    limit: QuotaLimit
    bytes: int
    objects: int


def usage_of(total: Total) -> QuotaUsage:
    """Return a limit as users see it."""
    return QuotaUsage(total.scope.name, total.limit, total.bytes, total.objects)


@dataclass(frozen=True, slots=True)
class Known:
    """An operation has ended, and it is certain how much there is, or with ``Reservation.adds`` how much was added."""

    bytes: int
    objects: int


class Unsure(Enum):
    """How an operation has ended, without a size."""

    UNCHANGED = "nothing has changed"
    LOOK = "it has to be looked up"
    GONE = "the upload or bucket does not exist any more, with all of its accounts"


Outcome = Known | Unsure


class Pending(NamedTuple):
    """An account of which somebody has to look what is there, and its changes before the look."""

    slot: Slot
    changes: int
