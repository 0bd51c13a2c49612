"""The notifications of Cloud Storage, and which of them are events.

https://cloud.google.com/storage/docs/pubsub-notifications
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from trove_async.driver.queues import MEMORY
from trove_async.types import EventType, ObjectEvent

__all__ = ["GCSNotification", "LastGenerations", "read_notification"]

_FINALIZED: Final = "OBJECT_FINALIZE"
_ARCHIVED: Final = "OBJECT_ARCHIVE"
_DELETED: Final = "OBJECT_DELETE"


@dataclass(frozen=True, slots=True)
class GCSNotification:
    """One change, as the service reports it.

    Attributes:
        bucket, key: of the object.
        generation: of the object that was created, or is not the live one any more; it orders the changes of a key.
        change: `EventType.CREATED`, `EventType.UPDATED` if another object was replaced, `EventType.DELETED`, or None if
            it is not an event: a change of metadata, and the end of a generation that was replaced.
        permanent: whether the generation was deleted permanently; it may have been noncurrent before.
        size: bytes; None if the notification has no payload.
        time: when the change was made.
    """

    bucket: str
    key: str
    generation: int
    change: EventType | None
    permanent: bool
    size: int | None
    time: datetime

    def event(self, kind: EventType) -> ObjectEvent:
        """Return the event of that kind for a consumer."""
        if kind is EventType.DELETED:
            return ObjectEvent(kind, self.bucket, self.key, time=self.time)
        etag = str(self.generation)
        return ObjectEvent(kind, self.bucket, self.key, self.size, etag, etag, self.time)


def read_notification(attributes: Mapping[str, str], data: bytes | None) -> GCSNotification:
    """Read a message.

    Args:
        attributes: of the message.
        data: its payload: the object's resource, or nothing.

    Raises:
        ValueError: it is not a notification of Cloud Storage.
    """
    try:
        kind = attributes["eventType"]
        moment = datetime.fromisoformat(attributes["eventTime"])
        if moment.tzinfo is None:
            raise ValueError("the time has no zone")
        change: EventType | None = None
        if kind == _FINALIZED:
            change = EventType.UPDATED if attributes.get("overwroteGeneration") else EventType.CREATED
        elif kind in (_ARCHIVED, _DELETED) and not attributes.get("overwrittenByGeneration"):
            change = EventType.DELETED
        return GCSNotification(
            attributes["bucketId"],
            attributes["objectId"],
            int(attributes["objectGeneration"]),
            change,
            kind == _DELETED,
            _size(attributes, data),
            moment.astimezone(UTC),
        )
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"it is not a notification of Cloud Storage: {str(error)[:200]!r}") from error


def _size(attributes: Mapping[str, str], data: bytes | None) -> int | None:
    if not data or attributes.get("payloadFormat") != "JSON_API_V1":
        return None
    resource: Any = json.loads(data)
    return int(resource["size"]) if "size" in resource else None


class LastGenerations:
    """The last change of each key that one watch has seen; it drops repeated and late notifications.

    Subscriptions deliver at least once and in any order. A change of a generation that is older than the last one of
    its key is dropped, and so is a repeated one.

    Args:
        versioned: whether the bucket has, or may have, noncurrent generations. The deletion of one of them is not an
            event, but looks like the deletion of a live one: it counts if the watch saw that generation as live.
        capacity: keys that are remembered.
    """

    def __init__(self, versioned: bool, capacity: int = MEMORY) -> None:
        self._versioned = versioned
        self._capacity = capacity
        self._last: OrderedDict[str, tuple[int, bool]] = OrderedDict()  # the generation, and whether it is live

    def classify(self, notification: GCSNotification) -> EventType | None:
        """Return the type of the event; None if it is not one."""
        if notification.change is None:
            return None
        deleted = notification.change is EventType.DELETED
        generation, live = self._last.get(notification.key, (0, False))
        if generation > notification.generation or (generation == notification.generation and not (live and deleted)):
            return None
        if deleted and notification.permanent and self._versioned and generation != notification.generation:
            return None
        self._last[notification.key] = (notification.generation, not deleted)
        self._last.move_to_end(notification.key)
        if len(self._last) > self._capacity:
            self._last.popitem(last=False)
        if deleted:
            return EventType.DELETED
        return EventType.UPDATED if live else notification.change
