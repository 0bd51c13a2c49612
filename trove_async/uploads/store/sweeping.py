"""Removes uploads that nobody continued, and what processes that were killed have left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from trove_async.cancellation import CLEANUP_TIMEOUT, to_the_end
from trove_async.errors import (
    InvalidArgumentError,
    ObjectNotFoundError,
    PreconditionFailedError,
    TroveError,
    UploadNotFoundError,
)
from trove_async.uploads.info import FileInfo
from trove_async.uploads.store.entry import Context
from trove_async.uploads.store.states import Stored

__all__ = ["ORPHANS", "SweepReport", "has_expired", "remove", "sweep", "take_turn"]

ORPHANS: Final = timedelta(days=7)
"""Age from which an open upload of the backend that no state names is aborted."""

_AT_ONCE: Final = 16
"""States that are read at once: one after another, a sweep of many uploads would take longer than until the next."""

_TURN: Final = "place/swept"  # no id of an upload has a slash

_log = logging.getLogger("trove_async.uploads")


@dataclass(slots=True)
class SweepReport:
    """What a sweep has removed, or would remove.

    Attributes:
        expired: ids of the uploads that nobody continued.
        forgotten: ids of the finished uploads of which the state was removed; their objects stay.
        aborted: keys of the backend's uploads that no state named.
        deleted: keys of the store's own objects that no state named.
        failed: what could not be removed, with the error; the next sweep tries it again.
    """

    expired: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    failed: list[tuple[str, TroveError]] = field(default_factory=list)


async def remove(context: Context, stored: Stored, *, unless_changed: bool = False) -> bool:
    """Remove an upload: its state first, so that it is gone for everybody, then its bytes.

    Args:
        context: of the store.
        stored: its state.
        unless_changed: whether an upload that was continued meanwhile stays, where the store can tell.

    Returns:
        False if it stays.
    """
    state = stored.state
    if not await context.states.delete(state.info.id, stored.etag if unless_changed else None):
        return False
    if state.backend_id:
        await context.store.abort_multipart(state.bucket, state.key, state.backend_id)
    if state.info.is_partial or state.info.digests:
        await context.store.delete(context.states.bucket, context.states.data_key(state.info.id))
    return True


async def take_turn(context: Context, every: timedelta) -> timedelta:
    """Note that this process sweeps now, unless a process began to less than ``every`` ago.

    Returns:
        Zero if this process has the turn; otherwise the time until the next turn, at most ``every``.
    """
    key, now = context.states.key(_TURN), context.now()
    etag = None
    try:
        async with context.store.get(context.states.bucket, key) as reader:
            etag = reader.info.etag
            left = datetime.fromisoformat((await reader.read()).decode()) + every - now
    except ObjectNotFoundError:
        left = timedelta(0)
    if timedelta(0) < left <= every:  # if it is more, a clock was wrong
        return left
    body = now.isoformat().encode()
    try:
        await context.states.put_beside(key, body, etag)
    except (PreconditionFailedError, ObjectNotFoundError):
        return every  # another process has just taken it
    return timedelta(0)


async def sweep(
    context: Context,
    now: datetime,
    orphans: timedelta | None,
    *,
    busy: Collection[str] = frozenset(),
    dry_run: bool = False,
) -> SweepReport:
    """Remove what has expired, and what nothing refers to; a dry run removes nothing.

    Args:
        context: of the store.
        now: the time that expiry is compared with.
        orphans: age from which what nothing refers to is removed; None to keep it.
        busy: ids of the uploads that this process uses; they stay.
        dry_run: only report.

    Raises:
        InvalidArgumentError: the time is not aware, or the age is negative.
    """
    if not isinstance(now, datetime) or now.tzinfo is None:
        raise InvalidArgumentError(f"now is an aware datetime, not {now!r}")
    if orphans is not None and not (isinstance(orphans, timedelta) and orphans >= timedelta(0)):
        raise InvalidArgumentError(f"orphans is a timedelta of 0 or more, or None, not {orphans!r}")
    report = SweepReport()
    open_uploads: set[str] = set()
    ids: set[str] = set()
    buckets = {context.bucket, context.states.bucket}
    async for upload_id, stored in _described(context):
        ids.add(upload_id)
        if isinstance(stored, TroveError):
            if not isinstance(stored, UploadNotFoundError):
                _failed(report, upload_id, stored)
                orphans = None  # it may be a state that names an upload
            continue
        state = stored.state
        open_uploads.add(state.backend_id)
        buckets.add(state.bucket)
        if state.info.expires_at is not None and state.info.expires_at <= now and upload_id not in busy:
            done = report.forgotten if state.info.is_finished else report.expired
            await _attempt(report, upload_id, _remove(context, stored, done, dry_run))
    if orphans is not None:
        for bucket in sorted(buckets):
            await _attempt(report, bucket, _abort(context, bucket, now - orphans, open_uploads, report, dry_run))
        await _attempt(report, context.states.bucket, _delete(context, now - orphans, ids, report, dry_run))
    return report


async def _described(context: Context) -> AsyncIterator[tuple[str, Stored | TroveError]]:
    """Yield the id of each upload with its state, or with the error of reading it; some are read at once."""

    async def read(upload_id: str) -> tuple[str, Stored | TroveError]:
        try:
            return upload_id, await context.states.describe(upload_id)
        except TroveError as error:
            return upload_id, error

    batch: list[str] = []
    async for upload_id in context.states.ids():
        batch.append(upload_id)
        if len(batch) == _AT_ONCE:
            for found in await asyncio.gather(*map(read, batch)):
                yield found
            batch.clear()
    for found in await asyncio.gather(*map(read, batch)):
        yield found


async def _attempt(report: SweepReport, what: str, work: Awaitable[None]) -> None:
    try:
        await work
    except TroveError as error:
        _failed(report, what, error)


def _failed(report: SweepReport, what: str, error: TroveError) -> None:
    _log.warning("%s could not be swept: %s", what, error)
    report.failed.append((what, error))


async def _remove(context: Context, stored: Stored, done: list[str], dry_run: bool) -> None:
    upload_id = stored.state.info.id
    if not dry_run:
        work = remove(context, stored, unless_changed=True)
        if not await to_the_end(work, timeout=CLEANUP_TIMEOUT, leftover=f"the upload {upload_id}"):
            return
    done.append(upload_id)


async def _abort(
    context: Context, bucket: str, before: datetime, known: set[str], report: SweepReport, dry_run: bool
) -> None:
    for upload in await context.store.list_multipart_uploads(bucket):
        if upload.upload_id not in known and upload.initiated_at is not None and upload.initiated_at < before:
            if not dry_run:
                await context.store.abort_multipart(bucket, upload.key, upload.upload_id)
            report.aborted.append(upload.key)


async def _delete(context: Context, before: datetime, known: set[str], report: SweepReport, dry_run: bool) -> None:
    async for upload_id, found in context.states.data_objects():
        if upload_id not in known and found.last_modified is not None and found.last_modified < before:
            if not dry_run:
                await context.store.delete(context.states.bucket, found.key)
            report.deleted.append(found.key)


def has_expired(info: FileInfo, now: datetime) -> bool:
    """Tell whether an upload has expired; one that is finished stays until it is swept."""
    return not info.is_finished and info.expires_at is not None and info.expires_at <= now
