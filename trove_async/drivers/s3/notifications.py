"""What S3's messages about changes say, in each of their shapes.

The shapes: S3's own notifications (https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html),
those of EventBridge (https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html), and either inside the
envelope of an SNS topic without raw delivery.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

from trove_async.types import EventType, ObjectEvent

__all__ = ["S3Notification", "read_notifications"]

_MARKED = frozenset({"ObjectRemoved:DeleteMarkerCreated", "LifecycleExpiration:DeleteMarkerCreated"})
_REMOVED = frozenset({"ObjectRemoved:Delete", "LifecycleExpiration:Delete"})


@dataclass(frozen=True, slots=True)
class S3Notification:
    """One change, as the service tells it.

    Attributes:
        bucket, key: where.
        change: `EventType.CREATED` for whatever wrote the object, `EventType.DELETED`, or None for what is no news of
            the object: tags, restores, and the removal of one version for good, of which the
            service does not say whether it was the latest.
        size, etag, version_id: as the service says them; None if it does not.
        time: when the service had carried the change out.
        sequencer: orders the changes of one key; None where the service has none.
    """

    bucket: str
    key: str
    change: EventType | None
    size: int | None
    etag: str | None
    version_id: str | None
    time: datetime
    sequencer: str | None

    @property
    def state(self) -> tuple[str | None, str | None]:
        """What tells one write from another where there is no sequencer."""
        return self.etag, self.version_id

    def event(self, kind: EventType) -> ObjectEvent:
        """Return the event of that kind for a consumer."""
        if kind is EventType.DELETED:
            return ObjectEvent(kind, self.bucket, self.key, time=self.time)
        return ObjectEvent(kind, self.bucket, self.key, self.size, self.etag, self.version_id, self.time)


def read_notifications(body: str) -> list[S3Notification]:
    """Read the body of a message; the test message that S3 sends when notifications are set up has no notifications.

    Raises:
        ValueError: it is none of the known shapes.
    """
    try:
        message = json.loads(body)
        if message.get("Type") == "Notification":
            message = json.loads(message["Message"])
        if "Records" in message:
            return [_of_record(record) for record in message["Records"]]
        if message.get("source") == "aws.s3":
            return [_of_bridge(message)]
        if message.get("Event") == "s3:TestEvent":
            return []
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"it is no message of S3's: {error!r}") from error
    raise ValueError("it is no message of S3's: neither Records, nor of EventBridge")


def _of_record(record: Mapping[str, Any]) -> S3Notification:
    name = record["eventName"].removeprefix("s3:")
    found = record["s3"]["object"]
    version = found.get("versionId") or None
    return _notification(
        record["s3"]["bucket"]["name"],
        # As a form's field is: "+" for a space.
        unquote_plus(found["key"], errors="strict"),
        _change(name.startswith("ObjectCreated:"), name in _MARKED, name in _REMOVED, version),
        found,
        found.get("eTag"),
        version,
        record["eventTime"],
    )


def _of_bridge(message: Mapping[str, Any]) -> S3Notification:
    kind, detail = message["detail-type"], message["detail"]
    found = detail["object"]
    version = found.get("version-id") or None
    deleted = kind == "Object Deleted"
    marked = deleted and detail.get("deletion-type") == "Delete Marker Created"
    return _notification(
        detail["bucket"]["name"],
        found["key"],
        _change(kind == "Object Created", marked, deleted, version),
        found,
        found.get("etag"),
        version,
        message["time"],
    )


def _change(created: bool, marked: bool, removed: bool, version: str | None) -> EventType | None:
    if created:
        return EventType.CREATED
    if marked or (removed and version in (None, "null")):
        return EventType.DELETED
    return None


def _notification(
    bucket: str,
    key: str,
    change: EventType | None,
    found: Mapping[str, Any],
    etag: str | None,
    version: str | None,
    time: str,
) -> S3Notification:
    if not (isinstance(bucket, str) and isinstance(key, str) and bucket and key):
        raise ValueError("bucket or key is missing")
    moment = datetime.fromisoformat(time)
    if moment.tzinfo is None:
        raise ValueError(f"the time {time!r} has no zone")
    sequencer = found.get("sequencer")
    return S3Notification(
        bucket,
        key,
        change,
        found.get("size"),
        etag.strip('"') if etag else None,
        version,
        moment.astimezone(UTC),
        # The shorter of two is padded with zeros on the right, then they compare as text; without the zeros at the
        # end that is how all of them compare.
        sequencer.upper().rstrip("0") if sequencer else None,
    )
