"""What Cloud Storage's notifications say, and which of them are news.

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

__all__ = ["Notice", "Seen", "read_notice"]

_FINALIZED: Final = "OBJECT_FINALIZE"
_ARCHIVED: Final = "OBJECT_ARCHIVE"
_DELETED: Final = "OBJECT_DELETE"


@dataclass(frozen=True, slots=True)
class Notice:
    """One change, as the service tells it.

    Attributes:
        bucket, key: where.
        generation: of the object that was made, or is no longer the live one; it orders the changes of a key.
        change: `EventType.CREATED`, `EventType.UPDATED` where another was replaced, `EventType.DELETED`, or None for
            what is no news of the object: changes of metadata, and the end of a generation that was replaced.
        permanent: whether the generation is gone for good, which it may have been noncurrent before.
        size: bytes; None where the notification has no payload.
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


def read_notice(attributes: Mapping[str, str], data: bytes | None) -> Notice:
    """Read a message.

    Args:
        attributes: of the message.
        data: its payload: the object's resource, or nothing.

    Raises:
        ValueError: it is no notification of Cloud Storage's.
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
        return Notice(
            attributes["bucketId"],
            attributes["objectId"],
            int(attributes["objectGeneration"]),
            change,
            kind == _DELETED,
            _size(attributes, data),
            moment.astimezone(UTC),
        )
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"it is no notification of Cloud Storage's: {error!r}") from error


def _size(attributes: Mapping[str, str], data: bytes | None) -> int | None:
    if not data or attributes.get("payloadFormat") != "JSON_API_V1":
        return None
    resource: Any = json.loads(data)
    return int(resource["size"]) if "size" in resource else None


class Seen:
    """The last change of each key that one watch has been told of; it tells news from repetitions.

    Subscriptions deliver at least once and in any order. A change of a generation that is older than the last one of
    its key is no news, nor is one that says what was said already.

    Args:
        versioned: whether the bucket keeps, or kept, generations that are not live. The end of one of them is no
            news of the object, and looks like the end of a live one: it counts if that one was seen to be live.
        capacity: keys that are remembered.
    """

    def __init__(self, versioned: bool, capacity: int = MEMORY) -> None:
        self._versioned = versioned
        self._capacity = capacity
        self._last: OrderedDict[str, tuple[int, bool]] = OrderedDict()  # the generation, and whether it is live

    def classify(self, notice: Notice) -> EventType | None:
        """Return what has happened; None if it is no news."""
        if notice.change is None:
            return None
        deleted = notice.change is EventType.DELETED
        generation, live = self._last.get(notice.key, (0, False))
        if generation > notice.generation or (generation == notice.generation and not (live and deleted)):
            return None
        if deleted and notice.permanent and self._versioned and generation != notice.generation:
            return None
        self._last[notice.key] = (notice.generation, not deleted)
        self._last.move_to_end(notice.key)
        if len(self._last) > self._capacity:
            self._last.popitem(last=False)
        if deleted:
            return EventType.DELETED
        return EventType.UPDATED if live else notice.change
