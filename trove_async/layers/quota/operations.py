"""What each operation of a driver means to a quota."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, NoReturn, TypeAlias, cast

from trove_async.body import Body
from trove_async.driver.base import Driver
from trove_async.driver.copy_errors import reading_source
from trove_async.driver.methods import SIGNING
from trove_async.driver.options import CopyOptions, DeleteOptions, HeadOptions
from trove_async.errors import ConflictError, PreconditionFailedError, TroveError, UnsupportedError
from trove_async.layers.base import Call, Operation
from trove_async.layers.quota.accounting import Accounting, nothing_changed
from trove_async.layers.quota.accounts import Claim, Known, Outcome, Reservation, Slot, Unsure
from trove_async.layers.quota.looking import head_of
from trove_async.layers.quota.steps import reserving
from trove_async.types import DeleteResult, ObjectInfo, ObjectRef, PartInfo, VersioningStatus

__all__ = ["BYPASSES", "HANDLERS", "UNCOUNTED"]

Handler: TypeAlias = Callable[["Quotas", Operation, Call[Any]], Awaitable[Any]]

BYPASSES: Final[Mapping[str, str]] = {
    "PUT": "whoever has such a URL could write without the quota",
    "POST": "whoever has such a form could write without the quota",
    "DELETE": "the quota would not see that the object was deleted",
}
"""The methods of signed URLs that a quota takes away, with the reasons."""

UNCOUNTED: Final = SIGNING - {f"presign_{method.lower()}" for method in BYPASSES} | {
    "delete_lifecycle", "delete_tags", "get", "get_lifecycle", "get_range", "get_tags", "get_version", "get_versioning",
    "head", "initiate_multipart", "list_buckets", "list_multipart_uploads", "list_noncurrent", "list_page",
    "list_parts", "list_versions", "list_versions_page", "ping", "set_lifecycle", "set_tags", "transition", "watch",
}  # fmt: skip
"""The operations that change nothing that is counted."""

_ATTEMPTS: Final = 5
"""How often a copy is begun whose source is replaced in the meantime."""


class Quotas:
    """What the operations work with.

    Args:
        accounting: keeps the books.
        driver: around which the quota is.
    """

    def __init__(self, accounting: Accounting, driver: Driver) -> None:
        self.accounting = accounting
        self.driver = driver
        # Cloud Storage names every object by its generation, also where it keeps no versions.
        self._ids_mean_versions = True
        self._is_surprised = False

    def covers(self, bucket: str, key: str) -> bool:
        """Tell whether a key is under a limit."""
        return bool(self.accounting.coverage.of(bucket, key))

    def written(self, reservations: Sequence[Reservation], info: ObjectInfo) -> list[Outcome]:
        """Return what an object takes up that was written.

        Whether the bucket keeps versions is seen from the object too: somebody else may have changed that.
        """
        has_id = info.version_id not in (None, "null")
        known = {
            VersioningStatus.ENABLED: has_id,
            VersioningStatus.UNVERSIONED: not (has_id and self._ids_mean_versions),
        }
        if has_id and self._ids_mean_versions:
            self._is_surprised = any(one.versioning == VersioningStatus.UNVERSIONED for one in reservations)
        return [Known(info.size, 1) if known.get(cast(Any, one.versioning)) else Unsure.LOOK for one in reservations]

    async def learn(self, bucket: str) -> None:
        """Find out after the first unexpected version id whether such ids mean that the bucket keeps versions."""
        if self._is_surprised:
            self._is_surprised = False
            with suppress(TroveError):  # the object is stored, and the next one tells it too
                status = await self.accounting.versioning(bucket)
                self._ids_mean_versions = status != VersioningStatus.UNVERSIONED


def _slot(operation: Operation) -> Slot:
    assert operation.bucket is not None
    assert operation.key is not None
    return Slot(operation.bucket, operation.key)


async def _write(
    quotas: Quotas,
    claim: Claim,
    body: Body,
    call: Call[Any],
    outcomes: Callable[[Sequence[Reservation], Any], Sequence[Outcome]],
    appends_to: int | None = None,
) -> Any:
    """Carry out a put or part; if its length is unknown, reserve for it while it is read.

    Args:
        quotas, claim, body, call, outcomes: of the operation.
        appends_to: the number of bytes to which it appends the body; None if it stores the body whole, or not at all.
    """

    def is_unchanged(error: BaseException) -> bool:
        if appends_to is None:
            return body.failure is error or nothing_changed(error)
        return body.failure is not error and not body.taken and nothing_changed(error)

    reservations = await quotas.accounting.begin([claim])
    if body.size is not None:
        return await quotas.accounting.carry_on(reservations, call, outcomes, is_unchanged)
    with reserving(body, quotas.accounting.extend, reservations[0], before=appends_to or 0):
        return await quotas.accounting.carry_on(reservations, call, outcomes, is_unchanged)


async def _put(quotas: Quotas, operation: Operation, call: Call[Any]) -> Any:
    slot, body = _slot(operation), operation.body
    assert body is not None
    if not quotas.covers(slot.bucket, slot.key):
        return await call()
    claim = Claim(slot, body.size or 0, 1, writes=True)
    info = await _write(quotas, claim, body, call, quotas.written)
    await quotas.learn(slot.bucket)
    return info


async def _upload_part(quotas: Quotas, operation: Operation, call: Call[Any]) -> Any:
    body = operation.body
    assert body is not None
    slot = _part_slot(operation)
    if not quotas.covers(slot.bucket, slot.key):
        return await call()
    return await _write(quotas, Claim(slot, body.size or 0, writes=True), body, call, _part_stored)


async def _append_part(quotas: Quotas, operation: Operation, call: Call[Any]) -> Any:
    body, offset = operation.body, operation["offset"]
    assert body is not None
    slot = _part_slot(operation)
    if not quotas.covers(slot.bucket, slot.key):
        return await call()
    claim = Claim(slot, offset + (body.size or 0), writes=True)
    return await _write(quotas, claim, body, call, _part_stored, appends_to=offset)


async def _copy_part(quotas: Quotas, operation: Operation, call: Call[Any]) -> Any:
    slot = _part_slot(operation)
    if not quotas.covers(slot.bucket, slot.key):
        return await call()
    return await quotas.accounting.carry_out([Claim(slot, operation["length"], writes=True)], call, _part_stored)


def _part_slot(operation: Operation) -> Slot:
    return _slot(operation)._replace(upload=operation["upload_id"], part=operation["number"])


def _part_stored(_reservations: Sequence[Reservation], part: PartInfo) -> list[Outcome]:
    return [Known(part.size, 0)]


async def _complete(quotas: Quotas, operation: Operation, call: Call[Any]) -> Any:
    slot = _slot(operation)
    if not quotas.covers(slot.bucket, slot.key):
        return await call()
    # The bytes of the object are those of the parts, which stay reserved until it is there.
    claims = [Claim(slot, 0, 1, writes=True), Claim(slot._replace(upload=operation["upload_id"]))]

    def completed(reservations: Sequence[Reservation], info: ObjectInfo) -> list[Outcome]:
        return [*quotas.written(reservations[:1], info), Unsure.GONE]

    return await quotas.accounting.carry_out(claims, call, completed)


async def _abort(quotas: Quotas, operation: Operation, call: Call[Any]) -> Any:
    slot = _slot(operation)
    if not quotas.covers(slot.bucket, slot.key):
        return await call()
    claim = Claim(slot._replace(upload=operation["upload_id"]))
    return await quotas.accounting.carry_out([claim], call, lambda *_: [Unsure.GONE])


def _deleted(reservation: Reservation) -> Outcome:
    """Return what an object takes up that was deleted, with or without its versions."""
    if reservation.versioning == VersioningStatus.UNVERSIONED:
        return Known(0, 0)
    return Unsure.UNCHANGED if reservation.versioning == VersioningStatus.ENABLED else Unsure.LOOK


def _deleted_or_not(reservation: Reservation, error: TroveError | None) -> Outcome:
    if error is None:
        return _deleted(reservation)
    return Unsure.UNCHANGED if nothing_changed(error) else Unsure.LOOK


async def _delete(quotas: Quotas, operation: Operation, call: Call[Any]) -> Any:
    slot = _slot(operation)
    if not quotas.covers(slot.bucket, slot.key):
        return await call()
    options: DeleteOptions = operation["options"]
    if options.version_id is not None:
        return await _delete_version(quotas, operation, call)
    return await quotas.accounting.carry_out([Claim(slot)], call, lambda made, _: [_deleted(made[0])])


async def _expire(quotas: Quotas, operation: Operation, call: Call[Any]) -> Any:
    slot = _slot(operation)
    if not quotas.covers(slot.bucket, slot.key):
        return await call()
    return await quotas.accounting.carry_out([Claim(slot)], call, lambda made, _: [_deleted(made[0])])


async def _delete_version(quotas: Quotas, operation: Operation, call: Call[Any]) -> Any:
    slot = _slot(operation)
    if not quotas.covers(slot.bucket, slot.key):
        return await call()
    return await quotas.accounting.carry_out([Claim(slot)], call, lambda *_: [Unsure.LOOK])


async def _delete_many(quotas: Quotas, operation: Operation, call: Call[Any]) -> Any:
    bucket: str = operation["bucket"]
    keys: Sequence[str] = operation["keys"]
    at = [n for n, key in enumerate(keys) if quotas.covers(bucket, key)]
    if not at:
        return await call()

    def deleted(made: Sequence[Reservation], results: Sequence[DeleteResult]) -> list[Outcome]:
        return [_deleted_or_not(one, results[n].error) for one, n in zip(made, at, strict=True)]

    return await quotas.accounting.carry_out([Claim(Slot(bucket, keys[n])) for n in at], call, deleted)


async def _copy(quotas: Quotas, operation: Operation, call: Call[Any]) -> Any:
    source = ObjectRef(operation["src_bucket"], operation["src_key"], operation["options"].source_version_id)
    return await _copied(quotas, _slot(operation), source, operation["options"], call)


async def _server_copy(quotas: Quotas, operation: Operation, call: Call[Any]) -> Any:
    source: ObjectRef = operation["src"]
    options: CopyOptions = operation["options"] or CopyOptions()
    return await _copied(quotas, _slot(operation), source, options, call)


async def _copied(quotas: Quotas, slot: Slot, source: ObjectRef, options: CopyOptions, call: Call[Any]) -> Any:
    """Make a copy for which the size of its source is reserved.

    The copy is bound to the state of the source that had the size, where the backend can do that.
    """
    if not quotas.covers(slot.bucket, slot.key):
        return await call()
    may_bind = (
        source.version_id is None and options.source_if_match is None and "copy" in quotas.driver.features.conditions
    )
    for _ in range(_ATTEMPTS):
        with reading_source(source.bucket, source.key):
            info = await _source_of(quotas, source)
        changes: dict[str, Any] = {"options": replace(options, source_if_match=info.etag)} if may_bind else {}
        try:
            return await quotas.accounting.carry_out(
                [Claim(slot, info.size, 1, writes=True)], partial(call, **changes), quotas.written
            )
        except PreconditionFailedError:
            if not may_bind or not await _was_replaced(quotas, source, info):
                raise
    raise ConflictError("the source of the copy was replaced again and again while it was copied; try again")


async def _was_replaced(quotas: Quotas, source: ObjectRef, info: ObjectInfo) -> bool:
    """Tell whether an object is another one now."""
    with reading_source(source.bucket, source.key):
        return (await _source_of(quotas, source)).etag != info.etag


async def _source_of(quotas: Quotas, source: ObjectRef) -> ObjectInfo:
    if source.version_id is None:
        return await head_of(quotas.driver, source.bucket, source.key)
    return await quotas.driver.head(source.bucket, source.key, HeadOptions(version_id=source.version_id))


async def _restore_version(quotas: Quotas, operation: Operation, call: Call[Any]) -> Any:
    slot = _slot(operation)
    if not quotas.covers(slot.bucket, slot.key):
        return await call()
    info = await quotas.driver.head(slot.bucket, slot.key, HeadOptions(version_id=operation["version_id"]))
    return await quotas.accounting.carry_out([Claim(slot, info.size, 1, writes=True)], call, quotas.written)


async def _set_versioning(quotas: Quotas, operation: Operation, call: Call[Any]) -> Any:
    bucket: str = operation["bucket"]
    if not quotas.accounting.coverage.touches(bucket):
        return await call()
    return await quotas.accounting.change_versioning(bucket, call)


async def _create_bucket(quotas: Quotas, operation: Operation, call: Call[Any]) -> Any:
    if quotas.accounting.coverage.touches(operation["name"]):
        await quotas.accounting.forget_versioning(operation["name"])
    return await call()


async def _delete_bucket(quotas: Quotas, operation: Operation, call: Call[Any]) -> Any:
    name: str = operation["name"]
    if not quotas.accounting.coverage.touches(name):
        return await call()
    return await quotas.accounting.carry_out([Claim(Slot(name, ""))], call, lambda *_: [Unsure.GONE])


async def _refuse(_quotas: Quotas, operation: Operation, _call: Call[Any]) -> NoReturn:
    method = operation.name.removeprefix("presign_").upper()
    raise UnsupportedError(f"this store signs no URL for {method}: {BYPASSES[method]}")


HANDLERS: Final[Mapping[str, Handler]] = {
    "put": _put,
    "upload_part": _upload_part,
    "append_part": _append_part,
    "copy_part": _copy_part,
    "complete_multipart": _complete,
    "abort_multipart": _abort,
    "delete": _delete,
    "delete_version": _delete_version,
    "delete_many": _delete_many,
    "expire": _expire,
    "copy": _copy,
    "server_copy": _server_copy,
    "restore_version": _restore_version,
    "set_versioning": _set_versioning,
    "create_bucket": _create_bucket,
    "delete_bucket": _delete_bucket,
    **{f"presign_{method.lower()}": _refuse for method in BYPASSES},
}
"""What is done around each operation that changes what is counted."""
