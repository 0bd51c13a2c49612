"""Apply lifecycle rules for drivers whose backend does not.

The driver is a `LifecycleSweepDriver` and may have further capabilities, which no single type expresses.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from trove_async.driver.capabilities import MultipartDriver, VersioningDriver
from trove_async.driver.options import HeadOptions, ListOptions
from trove_async.errors import InvalidArgumentError, NotFoundError, PreconditionFailedError
from trove_async.listing import Item
from trove_async.types import LifecycleReport, LifecycleRule, ObjectInfo

__all__ = ["apply_lifecycle"]


async def apply_lifecycle(
    driver: Any, capabilities: frozenset[type], bucket: str, now: datetime | None
) -> LifecycleReport:
    """Apply a bucket's rules once.

    An object that is replaced meanwhile is not changed: each expiry and transition has the ETag that was old
    enough as its condition.
    """
    if now is None:
        now = datetime.now(UTC)
    elif now.tzinfo is None:
        raise InvalidArgumentError("now has no time zone; give an aware datetime, such as datetime.now(UTC)")
    report = LifecycleReport()
    for rule in await driver.get_lifecycle(bucket):
        if not rule.enabled:
            continue
        if rule.expiration_days is not None or rule.transition_days is not None:
            report += await _sweep_objects(driver, bucket, rule, now)
        if rule.noncurrent_expiration_days is not None and VersioningDriver in capabilities:
            report += await _sweep_versions(driver, bucket, rule, now)
        if rule.abort_incomplete_days is not None and MultipartDriver in capabilities:
            report += await _sweep_uploads(driver, bucket, rule, now)
    return report


def _older(than_days: int | None, since: datetime | None, now: datetime) -> bool:
    return than_days is not None and since is not None and (now - since).days >= than_days


async def _sweep_objects(driver: Any, bucket: str, rule: LifecycleRule, now: datetime) -> LifecycleReport:
    expired = transitioned = 0
    item: Item
    async for item in driver.list(bucket, ListOptions(prefix=rule.prefix)):
        if not isinstance(item, ObjectInfo):
            continue
        try:
            if _older(rule.expiration_days, item.last_modified, now):
                await driver.expire(bucket, item.key, item.etag)
                expired += 1
            elif rule.transition_storage is not None and _older(rule.transition_days, item.last_modified, now):
                info = await driver.head(bucket, item.key, HeadOptions())
                if info.storage_class != rule.transition_storage:
                    await driver.transition(bucket, item.key, rule.transition_storage, item.etag)
                    transitioned += 1
        except (PreconditionFailedError, NotFoundError):
            continue  # it was replaced or deleted since it was listed
    return LifecycleReport(expired=expired, transitioned=transitioned)


async def _sweep_versions(driver: Any, bucket: str, rule: LifecycleRule, now: datetime) -> LifecycleReport:
    expired = 0
    for version in await driver.list_noncurrent(bucket, rule.prefix):
        if _older(rule.noncurrent_expiration_days, version.last_modified, now):
            await driver.delete_version(bucket, version.key, version.version_id)
            expired += 1
    return LifecycleReport(noncurrent_expired=expired)


async def _sweep_uploads(driver: Any, bucket: str, rule: LifecycleRule, now: datetime) -> LifecycleReport:
    aborted = 0
    for upload in await driver.list_multipart_uploads(bucket, rule.prefix):
        if _older(rule.abort_incomplete_days, upload.initiated_at, now):
            await driver.abort_multipart(bucket, upload.key, upload.upload_id)
            aborted += 1
    return LifecycleReport(uploads_aborted=aborted)
