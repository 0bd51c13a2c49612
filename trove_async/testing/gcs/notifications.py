"""Notification configurations of buckets, and their messages.

https://cloud.google.com/storage/docs/json_api/v1/notifications and
https://cloud.google.com/storage/docs/pubsub-notifications.
"""

from __future__ import annotations

import base64
import json
import re
import time
from datetime import UTC, datetime
from typing import Any, Final

from trove_async.testing.gcs.errors import invalid, not_found, required
from trove_async.testing.gcs.http import Request, Response, mapping
from trove_async.testing.gcs.pubsub import PubSub
from trove_async.testing.gcs.resources import answer, object_resource
from trove_async.testing.gcs.state import Bucket, Event, Storage

__all__ = ["Notifications"]

_TOPIC: Final = re.compile(r"//pubsub\.googleapis\.com/(projects/[^/]+/topics/[^/]+)")
_FORMATS: Final = ("JSON_API_V1", "NONE")
_TYPES: Final = ("OBJECT_FINALIZE", "OBJECT_METADATA_UPDATE", "OBJECT_DELETE", "OBJECT_ARCHIVE")
_CONFIGURATIONS: Final = 100
_PER_TYPE: Final = 10
_SETTINGS: Final = ("topic", "payload_format", "event_types", "object_name_prefix", "custom_attributes")


class Notifications:
    """The collection ``notificationConfigs`` of each bucket, and the publisher of its messages."""

    def __init__(self, storage: Storage, pubsub: PubSub) -> None:
        self.storage = storage
        self.pubsub = pubsub
        storage.listeners.append(self._publish)

    def insert(self, request: Request, bucket_name: str) -> Response:
        """Answer ``POST /b/{bucket}/notificationConfigs``.

        Raises:
            ServiceError: the request is refused.
        """
        bucket = self.storage.bucket(bucket_name)
        given = request.json()
        settings = {name: given[name] for name in _SETTINGS if given.get(name)}
        self._check(bucket, settings)
        bucket.notifications_made += 1
        identity = str(bucket.notifications_made)
        path = f"/storage/v1/b/{bucket_name}/notificationConfigs/{identity}"
        resource = {
            "kind": "storage#notification",
            "id": identity,
            "etag": identity,
            "selfLink": f"{self.storage.base_url}{path}",
            **settings,
        }
        bucket.notifications[identity] = resource
        return answer(request, resource)

    def get(self, request: Request, bucket: str, identity: str) -> Response:
        """Answer ``GET /b/{bucket}/notificationConfigs/{id}``.

        Raises:
            ServiceError: 404.
        """
        return answer(request, self._found(self.storage.bucket(bucket), identity))

    def list(self, request: Request, bucket: str) -> Response:
        """Answer ``GET /b/{bucket}/notificationConfigs``.

        Raises:
            ServiceError: 404.
        """
        document: dict[str, Any] = {"kind": "storage#notifications"}
        if self.storage.bucket(bucket).notifications:
            document["items"] = list(self.storage.bucket(bucket).notifications.values())
        return answer(request, document)

    def delete(self, request: Request, bucket_name: str, identity: str) -> Response:
        """Answer ``DELETE /b/{bucket}/notificationConfigs/{id}``.

        Raises:
            ServiceError: 404.
        """
        bucket = self.storage.bucket(bucket_name)
        self._found(bucket, identity)
        del bucket.notifications[identity]
        return Response(204)

    def _found(self, bucket: Bucket, identity: str) -> dict[str, Any]:
        found = bucket.notifications.get(identity)
        if found is None:
            raise not_found(f"The specified notification configuration does not exist: {identity}")
        return found

    def _check(self, bucket: Bucket, settings: dict[str, Any]) -> None:
        if "topic" not in settings:
            raise required("topic")
        mapping(settings, "custom_attributes")
        topic = _TOPIC.fullmatch(str(settings["topic"]))
        if topic is None:
            raise invalid(f"Invalid Google Cloud Pub/Sub topic: {settings['topic']}")
        if topic[1] not in self.pubsub.topics:
            raise invalid(f"Cloud Pub/Sub topic not found: {topic[1]}")
        if settings.get("payload_format") not in _FORMATS:
            raise invalid("You must specify a valid payload format: JSON_API_V1 or NONE")
        types = settings.get("event_types") or list(_TYPES)
        unknown = [kind for kind in types if kind not in _TYPES]
        if unknown:
            raise invalid(f"Invalid event type: {unknown[0]}")
        there = list(bucket.notifications.values())
        busiest = max(sum(kind in (it.get("event_types") or _TYPES) for it in there) for kind in types)
        if len(there) >= _CONFIGURATIONS or busiest >= _PER_TYPE:
            raise invalid("Too many overlapping notification configurations on the bucket.")

    def _publish(self, event: Event) -> None:
        for identity, settings in event.bucket.notifications.items():
            if event.type not in (settings.get("event_types") or _TYPES):
                continue
            if event.object.name.startswith(settings.get("object_name_prefix", "")):
                topic = _TOPIC.fullmatch(settings["topic"])
                assert topic is not None
                self.pubsub.publish(topic[1], self._message(event, identity, settings))

    def _message(self, event: Event, identity: str, settings: dict[str, Any]) -> dict[str, Any]:
        bucket, found = event.bucket.name, event.object
        attributes = {
            **(mapping(settings, "custom_attributes")),
            "notificationConfig": f"projects/_/buckets/{bucket}/notificationConfigs/{identity}",
            "eventType": event.type,
            "payloadFormat": settings["payload_format"],
            "bucketId": bucket,
            "objectId": found.name,
            "objectGeneration": str(found.generation),
            "eventTime": datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        if event.overwrote is not None:
            attributes["overwroteGeneration"] = str(event.overwrote)
        if event.overwritten_by is not None:
            attributes["overwrittenByGeneration"] = str(event.overwritten_by)
        message: dict[str, Any] = {"attributes": attributes}
        if settings["payload_format"] == "JSON_API_V1":
            resource = json.dumps(object_resource(self.storage, found), indent=2)
            message["data"] = base64.b64encode(resource.encode()).decode()
        return message
