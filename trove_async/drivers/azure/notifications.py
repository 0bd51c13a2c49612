"""The events of Event Grid about blobs, in the messages of a storage queue; no I/O.

Both schemas of https://learn.microsoft.com/azure/event-grid/event-schema-blob-storage are read: Event Grid's own and
CloudEvents 1.0. A message is the JSON of one event, usually in base64.
"""

from __future__ import annotations

import base64
import json
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from trove_async.drivers.azure.names import OWN
from trove_async.types import EventType, ObjectEvent

__all__ = ["AzureNotification", "read_notifications"]

_CHANGES: Final = {
    "Microsoft.Storage.BlobCreated": EventType.CREATED,
    "Microsoft.Storage.BlobDeleted": EventType.DELETED,
}
_SUBJECT: Final = "/blobServices/default/containers/"


@dataclass(frozen=True, slots=True)
class AzureNotification:
    """One event.

    Attributes:
        bucket, key: of the blob.
        change: ``CREATED`` for every write, also one that replaced a blob; None for what changes no object.
        size, etag: of the blob; None if the event does not say.
        time: when it happened.
        sequencer: the later of two events of one key has the greater one; None if the event has none.
    """

    bucket: str
    key: str
    change: EventType | None
    size: int | None
    etag: str | None
    time: datetime
    sequencer: tuple[int, str] | None

    @property
    def state(self) -> tuple[str | None]:
        """What tells one write from another if there is no sequencer."""
        return (self.etag,)

    def event(self, kind: EventType) -> ObjectEvent:
        """Return what a watch yields."""
        if kind is EventType.DELETED:
            return ObjectEvent(kind, self.bucket, self.key, time=self.time)
        return ObjectEvent(kind, self.bucket, self.key, self.size, self.etag, time=self.time)


def read_notifications(text: str) -> list[AzureNotification]:
    """Read a message of a queue.

    Raises:
        ValueError: it is no event of Event Grid about a blob.
    """
    try:
        found = json.loads(_plain(text))
        events = found if isinstance(found, list) else [found]
        return [_notification(event) for event in events]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"it is no event of Event Grid about a blob: {error!r}") from error


def _plain(text: str) -> str | bytes:
    stripped = text.strip()
    if stripped[:1] in ("{", "["):
        return stripped
    try:
        return base64.b64decode(stripped, validate=True)
    except Base64Error as error:
        raise ValueError("neither JSON nor base64") from error


def _notification(event: Mapping[str, Any]) -> AzureNotification:
    # CloudEvents say `type` and `time` for what Event Grid's own schema calls `eventType` and `eventTime`.
    kind, time = event.get("eventType") or event["type"], event.get("eventTime") or event["time"]
    subject, data = event["subject"], event["data"]
    if not subject.startswith(_SUBJECT):
        raise ValueError(f"the subject {subject!r} is no blob")
    bucket, separator, key = subject.removeprefix(_SUBJECT).partition("/blobs/")
    if not (bucket and separator and key):
        raise ValueError(f"the subject {subject!r} is no blob")
    moment = datetime.fromisoformat(_microseconds(time))
    if moment.tzinfo is None:
        raise ValueError(f"the time {time!r} has no zone")
    etag, size = data.get("eTag"), data.get("contentLength")
    if not (size is None or isinstance(size, int)):
        raise ValueError(f"the size {size!r} is no number")
    change = _CHANGES.get(kind)
    return AzureNotification(
        bucket,
        key,
        # An empty blob is made where a blob is about to be written by another of Azure's protocols.
        None if key[0] == OWN or data.get("api") == "CreateFile" else change,
        size if change is EventType.CREATED else None,
        etag.strip('"') if etag else None,
        moment.astimezone(UTC),
        _order(data["sequencer"]) if data.get("sequencer") else None,
    )


def _microseconds(time: str) -> str:
    """Return a time to the microsecond: the service gives tenths of it."""
    head, point, tail = time.partition(".")
    if not point:
        return time
    digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
    return f"{head}.{digits[:6]}{tail[len(digits) :]}"


def _order(sequencer: str) -> tuple[int, str]:
    """Return what sequencers are compared by: those of the same length compare as text."""
    bare = sequencer.upper().lstrip("0")
    return len(bare), bare
