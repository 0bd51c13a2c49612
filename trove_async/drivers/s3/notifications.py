"""Parse S3's notifications in each of their formats.

The formats: S3's own (https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html),
EventBridge's (https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html), and either of them in the
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
    """A notification of one change.

    Attributes:
        bucket, key: of the object.
        change: `EventType.CREATED` for any write of the object, `EventType.DELETED`, or None if the object did not
            change: tags, restores, and the permanent deletion of one version, since the service does not say
            whether it was the latest.
        size, etag, version_id: of the object; None if the service does not send them.
        time: when the change was made.
        sequencer: orders the changes of one key; None if the service sends none.
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
        """Values that distinguish one write from another if there is no sequencer."""
        return self.etag, self.version_id

    def event(self, kind: EventType) -> ObjectEvent:
        """Return the event of this type for a consumer."""
        if kind is EventType.DELETED:
            return ObjectEvent(kind, self.bucket, self.key, time=self.time)
        return ObjectEvent(kind, self.bucket, self.key, self.size, self.etag, self.version_id, self.time)


def read_notifications(body: str) -> list[S3Notification]:
    """Parse the body of a message; the test message that S3 sends when notifications are set up has no notifications.

    Raises:
        ValueError: the message has none of the known formats.
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
        raise ValueError(f"not a notification of S3: {error!r}") from error
    raise ValueError("not a notification of S3: neither Records nor an EventBridge event")


def _of_record(record: Mapping[str, Any]) -> S3Notification:
    name = record["eventName"].removeprefix("s3:")
    found = record["s3"]["object"]
    version = found.get("versionId") or None
    return _notification(
        record["s3"]["bucket"]["name"],
        # Encoded like a form field: "+" for a space.
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
        # Sequencers are compared as text after the shorter one was padded with zeros on the right. Without trailing
        # zeros no padding is needed.
        sequencer.upper().rstrip("0") if sequencer else None,
    )
