"""Objects in the JSON API: metadata, downloads, lists, updates and deletion.

https://cloud.google.com/storage/docs/json_api/v1/objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from trove_async.testing.gcs.conditions import Preconditions, check_http_conditions
from trove_async.testing.gcs.downloads import media
from trove_async.testing.gcs.errors import ServiceError, invalid
from trove_async.testing.gcs.http import Request, Response
from trove_async.testing.gcs.listing import Selection, page, page_document
from trove_async.testing.gcs.resources import answer_object, answer_page, check_metadata, writable
from trove_async.testing.gcs.state import WRITABLE, Storage, StoredObject
from trove_async.testing.gcs.unsupported import OBJECT_FIELDS, check_fields

__all__ = ["Objects"]

_CHANGEABLE = WRITABLE - {"storageClass"}


class Objects:
    """The methods of the collection ``objects`` that create no objects."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def get(self, request: Request, bucket: str, name: str) -> Response:
        """Answer ``GET /b/{bucket}/o/{object}``, with the bytes if ``alt=media``.

        Raises:
            ServiceError: the request is refused.
        """
        found = self._found(request, bucket, name)
        Preconditions.of(request).check(found, reading=True)
        check_http_conditions(request, found.etag, found.updated)
        if request.query.get("alt") == "media":
            return media(request, found)
        return answer_object(request, self.storage, found)

    def list(self, request: Request, bucket: str) -> Response:
        """Answer ``GET /b/{bucket}/o``.

        Raises:
            ServiceError: the request is refused.
        """
        found = page(self.storage.bucket(bucket), Selection.of(request))
        return answer_page(request, self.storage, page_document(found), found.items)

    def patch(self, request: Request, bucket: str, name: str) -> Response:
        """Answer ``PATCH``: null removes a field, and absent fields stay.

        Raises:
            ServiceError: the request is refused.
        """
        found = self._writable(request, bucket, name)
        changes = request.json()
        check_fields(changes, OBJECT_FIELDS)
        fields = dict(found.fields)
        for key, value in changes.items():
            if key not in _CHANGEABLE:
                continue
            if key == "metadata" and isinstance(value, dict):
                value = {**(fields.get("metadata") or {}), **value}
                value = {entry: text for entry, text in value.items() if text is not None} or None
            if value is None:
                fields.pop(key, None)
            else:
                fields[key] = value
        return self._change(request, found, fields)

    def update(self, request: Request, bucket: str, name: str) -> Response:
        """Answer ``PUT``: all writable fields are replaced.

        Raises:
            ServiceError: the request is refused.
        """
        found = self._writable(request, bucket, name)
        fields = {key: value for key, value in found.fields.items() if key not in _CHANGEABLE}
        fields.update({key: value for key, value in writable(request.json()).items() if key in _CHANGEABLE})
        return self._change(request, found, fields)

    def delete(self, request: Request, bucket: str, name: str) -> Response:
        """Answer ``DELETE``; a generation in the request is deleted permanently.

        Raises:
            ServiceError: the request is refused.
        """
        found = self._writable(request, bucket, name)
        holder = self.storage.bucket(bucket)
        permanently = request.integer("generation") is not None or not holder.versioned
        self.storage.delete(holder, found, permanently=permanently)
        return Response(204)

    def _found(self, request: Request, bucket: str, name: str) -> StoredObject:
        generation = request.integer("generation") if request.raw_query else None
        return self.storage.find(self.storage.bucket(bucket), name, generation)

    def _writable(self, request: Request, bucket: str, name: str) -> StoredObject:
        found = self._found(request, bucket, name)
        Preconditions.of(request).check(found)
        check_http_conditions(request, found.etag, found.updated)
        return found

    def _change(self, request: Request, found: StoredObject, fields: dict[str, Any]) -> Response:
        check_metadata(fields)
        _check_custom_time(found.fields, fields)
        found.fields = fields
        self.storage.changed(self.storage.bucket(found.bucket), found)
        return answer_object(request, self.storage, found)


def _check_custom_time(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    # https://cloud.google.com/storage/docs/metadata#custom-time
    if before.get("customTime") == after.get("customTime"):
        return
    try:
        new = datetime.fromisoformat(after["customTime"])
        if before.get("customTime") is not None and new < datetime.fromisoformat(before["customTime"]):
            raise invalid("Custom time cannot be set to a value earlier than the existing one.")
    except KeyError as error:
        raise invalid("Custom time cannot be removed.") from error
    except (ValueError, TypeError) as error:
        raise ServiceError(400, "invalid", "Invalid value for: customTime") from error
