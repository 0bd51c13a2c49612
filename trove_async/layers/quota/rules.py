"""The rules of a quota: how accounts and limits change when operations begin and end.

Two writes of one object may be under way at the same time, and nobody knows which of them will stay. So an account is
charged with the most that may be there: what is there now, or the largest of the writes that may replace it, and in a
bucket that keeps versions all of them. Once all have ended, somebody looks at the object, and the account is exact
again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from trove_async.errors import LeaseLostError, QuotaExceededError
from trove_async.layers.quota.accounts import (
    Account,
    Claim,
    Known,
    Outcome,
    Pending,
    Reservation,
    Slot,
    Total,
    Unsure,
)
from trove_async.layers.quota.books import UNCLEAR, Books
from trove_async.layers.quota.limits import Scope
from trove_async.types import VersioningStatus

__all__ = [
    "Size",
    "Unasked",
    "begin",
    "extend",
    "learn_versioning",
    "reconcile",
    "reconcile_parts",
    "record",
    "record_bucket",
    "settle",
]

Size = tuple[int, int]
"""Bytes and objects."""

_NOTHING: Final[Size] = (0, 0)

_NEVER: Final = -1
"""A time before every change: what was seen then proves nothing."""


class Unasked(Exception):  # noqa: N818 - it is no failure: whoever catches it asks, and begins again
    """It is not known whether a bucket keeps versions."""

    def __init__(self, bucket: str) -> None:
        super().__init__(bucket)
        self.bucket = bucket


def begin(books: Books, claims: Sequence[Claim], missing: Collection[str] = ()) -> list[Reservation]:
    """Reserve what an operation needs.

    Args:
        books: what is known.
        claims: only the first one may be for something that does not fit.
        missing: buckets that do not exist.

    Raises:
        QuotaExceededError: a limit does not allow it; nothing was reserved.
        Unasked: ask whether the bucket keeps versions, and begin again.
    """
    return [_begin(books, claim, missing) for claim in claims]


def _begin(books: Books, claim: Claim, missing: Collection[str]) -> Reservation:
    slot = claim.slot
    versioning = books.versioning(slot.bucket)
    if versioning is None:
        if slot.bucket not in missing:
            raise Unasked(slot.bucket)
        versioning = VersioningStatus.UNVERSIONED
    adds = claim.writes and not slot.upload and versioning != VersioningStatus.UNVERSIONED
    reservation = Reservation(books.owner, claim.number, slot, claim.bytes, claim.objects, adds, versioning)
    account = books.account(slot)
    _charge(books, account, [*_running(books, account), reservation], enforce=True)
    books.reserve(reservation)
    account.running += 1
    account.changes += 1
    books.save(account)
    return reservation


def extend(books: Books, reservation: Reservation, nbytes: int) -> Reservation:
    """Reserve more bytes for an operation that is under way; return its new reservation.

    Raises:
        QuotaExceededError: a limit does not allow it; the reservation stays as it was.
        LeaseLostError: it is not there any more: the process is taken for dead.
    """
    account = books.account(reservation.slot)
    running = _running(books, account)
    larger = replace(reservation, bytes=nbytes)
    if reservation not in running:
        raise LeaseLostError("what was reserved for the write is gone: the process stood still for too long")
    _charge(books, account, [larger if one == reservation else one for one in running], enforce=True)
    books.reserve(larger)
    books.save(account)
    return larger


def settle(books: Books, reservation: Reservation, outcome: Outcome) -> list[Pending]:
    """Take in how an operation has ended; return the accounts that somebody has to look at now."""
    slot = reservation.slot
    account = books.account(slot)
    account.changes += 1
    held = books.release(reservation)
    if held is not None:
        account.running -= 1
    pending: list[Pending] = []
    if slot.upload and not slot.part:
        pending = _settle_upload(books, slot, outcome)
    elif not slot.key:
        _settle_bucket(books, account, outcome)
    else:
        certain = held is not None and _is_certain(books, held)
        _apply(account, held or reservation, outcome, certain=certain)
    _recharge(books, account)
    return [*pending, Pending(slot, account.changes)] if account.is_idle else pending


def _is_certain(books: Books, reservation: Reservation) -> bool:
    """Tell whether the bucket kept versions, or kept none, from the beginning of an operation to its end."""
    if reservation.slot.upload:
        return True
    return reservation.versioning != UNCLEAR and books.versioning(reservation.slot.bucket) == reservation.versioning


def _apply(account: Account, reservation: Reservation, outcome: Outcome, *, certain: bool) -> None:
    if outcome is Unsure.UNCHANGED:
        return
    if certain and isinstance(outcome, Known):
        if reservation.adds:
            account.bytes += outcome.bytes
            account.objects += outcome.objects
            account.peak_bytes += outcome.bytes
            account.peak_objects += outcome.objects
            return
        if not account.running and not account.unsure:
            account.hold(outcome.bytes, outcome.objects)
            return
    # Either what was asked for is there now, or what another operation has left.
    nbytes, objects = (
        (outcome.bytes, outcome.objects) if isinstance(outcome, Known) else (reservation.bytes, reservation.objects)
    )
    if reservation.adds:
        account.peak_bytes += nbytes
        account.peak_objects += objects
    else:
        account.peak_bytes = max(account.peak_bytes, nbytes)
        account.peak_objects = max(account.peak_objects, objects)
    account.unsure = True


def _settle_upload(books: Books, slot: Slot, outcome: Outcome) -> list[Pending]:
    """Take in how the completion or abortion of an upload has ended."""
    if outcome is Unsure.UNCHANGED:
        return []
    parts = books.parts(Scope(slot.bucket, slot.key), slot.upload)
    if outcome is Unsure.GONE:
        _vanish(books, parts)
        return []
    for part in parts:
        part.unsure = True
        part.changes += 1
        books.save(part)
    return [Pending(part.slot, part.changes) for part in parts if part.is_idle]


def _settle_bucket(books: Books, account: Account, outcome: Outcome) -> None:
    if outcome is Unsure.GONE:
        _empty(books, account.slot.bucket)
    elif outcome is not Unsure.UNCHANGED:
        account.unsure = True


def _empty(books: Books, bucket: str) -> None:
    scope = Scope(bucket, "")
    _vanish(books, [*books.objects(scope, None, None), *books.parts(scope)])
    books.set_versioning(bucket, None)


def _vanish(books: Books, accounts: Iterable[Account]) -> None:
    """Take in that what the accounts are for does not exist any more."""
    for account in accounts:
        account.changes += 1
        if account.running:
            account.unsure = True
        else:
            account.hold(0, 0)
        _recharge(books, account)


def record(books: Books, pending: Pending, size: Size, versioning: str | None = None) -> None:
    """Take in what somebody has seen, unless something has begun or ended since; then somebody else looks.

    Args:
        books: what is known.
        pending: what was looked at.
        size: what is there.
        versioning: whether the bucket keeps versions, if that was seen too.
    """
    if versioning is not None:
        learn_versioning(books, pending.slot.bucket, versioning)
    account = books.account(pending.slot)
    if account.changes != pending.changes or account.running:
        return
    account.changes += 1
    account.hold(*size)
    _recharge(books, account)


def learn_versioning(books: Books, bucket: str, versioning: str | None) -> None:
    """Take in whether a bucket keeps versions, unless somebody is just changing it."""
    if not books.account(Slot(bucket, "")).running and books.versioning(bucket) != versioning:
        books.set_versioning(bucket, versioning)


def record_bucket(books: Books, pending: Pending, versioning: str | None) -> None:
    """Take in whether a bucket keeps versions, as `record` does; None if it does not exist."""
    account = books.account(pending.slot)
    if account.changes != pending.changes or account.running:
        return
    record(books, pending, _NOTHING)
    if versioning is None:
        _empty(books, pending.slot.bucket)
    else:
        books.set_versioning(pending.slot.bucket, versioning)


def reconcile(
    books: Books,
    scope: Scope,
    after: str | None,
    upto: str | None,
    found: Mapping[str, Size],
    since: int,
    *,
    complete: bool = True,
) -> list[Pending]:
    """Compare the accounts of objects with what was listed, and correct them.

    Args:
        books: what is known.
        scope: the bucket, and what the keys begin with.
        after, upto: what was listed, as for `Books.objects`.
        found: the sizes of the objects.
        since: the time of the books before the listing.
        complete: False if objects that were not found may have versions.

    Returns:
        The accounts that have changed since, and differ: somebody has to look at them one by one.
    """
    accounts = {account.slot.key: account for account in books.objects(scope, after, upto)}
    pending: list[Pending] = []
    for key in {**found, **accounts}:
        account = accounts.get(key) or books.account(Slot(scope.bucket, key))
        is_seen = complete or key in found
        pending += _correct(books, account, found.get(key, _NOTHING), since if is_seen else _NEVER)
    return pending


def _correct(books: Books, account: Account, size: Size, since: int) -> list[Pending]:
    if (account.bytes, account.objects) == size and not account.unsure:
        return []
    account.changes += 1
    if account.running or account.touched >= since:
        account.unsure = True
    else:
        account.hold(*size)
    _recharge(books, account)
    return [Pending(account.slot, account.changes)] if account.is_idle else []


def reconcile_parts(
    books: Books, scope: Scope, listed: Mapping[tuple[str, str], Mapping[int, int]], since: int
) -> list[Pending]:
    """Compare the accounts of parts with what was listed, and correct them, as `reconcile` does.

    Args:
        books: what is known.
        scope: the bucket, and what the keys begin with.
        listed: for each upload, by its key and id, the sizes of the parts by their numbers.
        since: the time of the books before the listing.
    """
    accounts = {account.slot: account for account in books.parts(scope)}
    known = {(slot.key, slot.upload) for slot in accounts}
    found = {
        Slot(scope.bucket, key, upload, number): size
        for (key, upload), parts in listed.items()
        if (key, upload) in known or not _is_written(books, Slot(scope.bucket, key), since)
        for number, size in parts.items()
    }
    pending: list[Pending] = []
    for slot in {**found, **accounts}:
        account = accounts.get(slot) or books.account(slot)
        pending += _correct(books, account, (found.get(slot, 0), 0), since)
    return pending


def _is_written(books: Books, slot: Slot, since: int) -> bool:
    """Tell whether a driver may have made an upload by itself, for a put for which its bytes are reserved."""
    account = books.account(slot)
    return account.running > 0 or account.touched >= since


def _running(books: Books, account: Account) -> Sequence[Reservation]:
    return books.reservations(account.slot) if account.running else ()


def _recharge(books: Books, account: Account) -> None:
    _charge(books, account, _running(books, account), enforce=False)
    books.save(account)


def _charge(books: Books, account: Account, running: Sequence[Reservation], *, enforce: bool) -> None:
    """Charge the limits with the most that an account may hold.

    Raises:
        QuotaExceededError: ``enforce``, and a limit does not allow it; nothing was changed.
    """
    replacing = [one for one in running if not one.adds]
    nbytes = max([account.peak_bytes, *(one.bytes for one in replacing)])
    objects = max([account.peak_objects, *(one.objects for one in replacing)])
    nbytes += sum(one.bytes for one in running if one.adds)
    objects += sum(one.objects for one in running if one.adds)
    more_bytes, more_objects = nbytes - account.charged_bytes, objects - account.charged_objects
    if more_bytes or more_objects:
        totals = books.totals(account.slot.bucket, account.slot.key)
        if enforce:
            for total in totals:
                _check(total, account.slot, more_bytes, more_objects)
        for total in totals:
            books.charge(total, more_bytes, more_objects)
    account.charged_bytes, account.charged_objects = nbytes, objects


def _check(total: Total, slot: Slot, nbytes: int, objects: int) -> None:
    limit = total.limit
    for resource, most, used, asked in (
        ("bytes", limit.bytes, total.bytes, nbytes),
        ("objects", limit.objects, total.objects, objects),
    ):
        if most is not None and asked > 0 and used + asked > most:
            quota = total.scope.name
            raise QuotaExceededError(
                f"the quota of {quota!r} allows {most} {resource}: {used} are stored or reserved, and the write needs "
                f"{asked} more; delete objects, or raise the limit"
                if quota
                else f"the quota of the store allows {most} {resource}: {used} are stored or reserved, and the write "
                f"needs {asked} more; delete objects, or raise the limit",
                quota=quota,
                resource=resource,
                limit=most,
                used=used,
                asked=asked,
                bucket=slot.bucket,
                key=slot.key,
            )
