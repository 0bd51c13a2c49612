"""The JSON resources of buckets and objects.

The properties are those of https://cloud.google.com/storage/docs/json_api/v1/objects#resource and
https://cloud.google.com/storage/docs/json_api/v1/buckets#resource.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

from trove_async.testing.gcs.errors import ServiceError, invalid
from trove_async.testing.gcs.http import JSON_HEADERS, Request, Response, json_response
from trove_async.testing.gcs.partial import ANY, Tree, parsed, select
from trove_async.testing.gcs.state import WRITABLE, Bucket, Storage, StoredObject
from trove_async.testing.gcs.unsupported import OBJECT_FIELDS, check_fields

__all__ = [
    "PROJECT_NUMBER",
    "answer",
    "answer_object",
    "answer_page",
    "bucket_resource",
    "check_metadata",
    "check_name",
    "object_resource",
    "set_kms_key",
    "stamp",
    "writable",
]

_TEXTS: Final = (
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "contentType",
    "customTime",
)
_KMS_KEY: Final = re.compile(r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+")
_METADATA_LIMIT: Final = 8192
_NAME_LIMIT: Final = 1024
_RENDERED: Final = 4
_CHALLENGES: Final = ".well-known/acme-challenge/"
_STORAGE_CLASSES: Final = frozenset(
    ("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE", "MULTI_REGIONAL", "REGIONAL", "DURABLE_REDUCED_AVAILABILITY")
)
PROJECT_NUMBER: Final = "123456789012"
"""The number of every project."""


@lru_cache(maxsize=4096)
def stamp(moment: float) -> str:
    """Return a time in RFC 3339 with milliseconds."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def object_resource(storage: Storage, found: StoredObject) -> dict[str, Any]:
    """Return the resource of an object's generation."""
    base_url = storage.base_url
    path = f"/b/{found.bucket}/o/{quote(found.name, safe='')}"
    generation = str(found.generation)
    created = stamp(found.created)
    resource: dict[str, Any] = {
        "kind": "storage#object",
        "id": f"{found.bucket}/{found.name}/{generation}",
        "selfLink": f"{base_url}/storage/v1{path}",
        "mediaLink": f"{base_url}/download/storage/v1{path}?generation={generation}&alt=media",
        "name": found.name,
        "bucket": found.bucket,
        "generation": generation,
        "metageneration": str(found.metageneration),
        "size": str(len(found.data)),
        "crc32c": found.content.crc32c,
        "etag": found.etag,
        "timeCreated": created,
        "updated": stamp(found.updated),
        "timeStorageClassUpdated": stamp(found.class_updated),
        "timeFinalized": created,
        **found.fields,
    }
    if found.content.md5 is not None:
        resource["md5Hash"] = found.content.md5
    if found.content.components is not None:
        resource["componentCount"] = found.content.components
    if found.deleted is not None:
        resource["timeDeleted"] = stamp(found.deleted)
    return resource


def bucket_resource(storage: Storage, bucket: Bucket) -> dict[str, Any]:
    """Return the resource of a bucket."""
    return {
        "kind": "storage#bucket",
        "id": bucket.name,
        "selfLink": f"{storage.base_url}/storage/v1/b/{bucket.name}",
        "projectNumber": PROJECT_NUMBER,
        "name": bucket.name,
        "metageneration": str(bucket.metageneration),
        "location": "US",
        "locationType": "multi-region",
        "storageClass": "STANDARD",
        "etag": bucket.etag,
        "timeCreated": stamp(bucket.created),
        "updated": stamp(bucket.updated),
        **bucket.fields,
    }


def check_name(name: object) -> None:
    """Refuse an invalid name of an object (https://cloud.google.com/storage/docs/objects#naming).

    Raises:
        ServiceError: 400.
    """
    if not name:
        raise ServiceError(400, "required", "Required parameter: name", location=("parameter", "name"))
    if not isinstance(name, str):
        raise invalid("Invalid value for: name")
    try:
        size = len(name) if name.isascii() else len(name.encode())
    except UnicodeEncodeError as error:
        raise invalid("The object name is not valid Unicode.") from error
    if size > _NAME_LIMIT:
        raise invalid(f"The maximum object length is 1024 characters, but got a name with {size} bytes.")
    if "\n" in name or "\r" in name or name in (".", "..") or name.startswith(_CHALLENGES):
        raise invalid(f"Invalid object name: '{name}'")


def writable(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the writable properties of a resource in a request; others are ignored.

    Raises:
        ServiceError: 501; one belongs to a feature that the server does not have.
    """
    check_fields(document, OBJECT_FIELDS)
    fields = {key: value for key, value in document.items() if key in WRITABLE and value is not None}
    if isinstance(fields.get("metadata"), dict):
        fields["metadata"] = {key: value for key, value in fields["metadata"].items() if value is not None}
    return fields


def set_kms_key(fields: dict[str, Any], key: str | None) -> None:
    """Set the customer-managed key of a new object; its content stays as it is.

    Source: https://cloud.google.com/storage/docs/encryption/customer-managed-keys.

    Raises:
        ServiceError: 400; it is not the name of a key.
    """
    if not key:
        return
    if _KMS_KEY.fullmatch(key) is None:
        raise invalid(f"Malformed Cloud KMS crypto key: {key}")
    fields["kmsKeyName"] = f"{key}/cryptoKeyVersions/1"


def check_metadata(fields: dict[str, Any]) -> None:
    """Refuse invalid properties of an object.

    Raises:
        ServiceError: 400.
    """
    for name in _TEXTS:
        value = fields.get(name)
        if value is not None and (not isinstance(value, str) or "\n" in value or "\r" in value):
            raise invalid(f"Invalid value for: {name}")
    metadata = fields.get("metadata")
    if metadata is not None:
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise invalid("Invalid value for: metadata")
        try:
            size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
        except UnicodeEncodeError as error:
            raise invalid("Invalid value for: metadata") from error
        if size > _METADATA_LIMIT:
            raise invalid(f"The metadata for your object is too large: {size} bytes, at most {_METADATA_LIMIT}.")
    storage_class = fields.get("storageClass")
    if storage_class is not None and str(storage_class) not in _STORAGE_CLASSES:
        raise invalid(f"Invalid argument: storage class {storage_class}")


def answer_object(request: Request, storage: Storage, found: StoredObject) -> Response:
    """Return the resource of an object's generation, or the selected ``fields`` of it.

    Raises:
        ServiceError: 400; ``fields`` is not valid.
    """
    if request.raw_query and request.query.get("fields"):
        return answer(request, object_resource(storage, found))
    return Response(200, JSON_HEADERS, _rendered(storage, found))


def answer_page(
    request: Request, storage: Storage, document: dict[str, Any], items: Sequence[StoredObject]
) -> Response:
    """Return a page of objects, or the selected ``fields`` of it.

    Raises:
        ServiceError: 400; ``fields`` is not valid.
    """
    wanted = request.query.get("fields", "")
    tree: Tree | None = None
    if wanted:
        tree = parsed(wanted, document["kind"])
        document = select(document, tree)
        tree = tree.get("items", tree.get(ANY))
        items = items if tree is not None else ()
    if not items:
        return json_response(document)
    head = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()[:-1]
    listed = b",".join([_rendered(storage, item, wanted, tree) for item in items])
    return Response(200, JSON_HEADERS, b"".join((head, b"," if document else b"", b'"items":[', listed, b"]}")))


def _rendered(storage: Storage, found: StoredObject, wanted: str = "", tree: Tree | None = None) -> bytes:
    known = found.rendered.get(wanted)
    if known is None:
        resource = object_resource(storage, found)
        parts = select(resource, tree) if tree else resource
        known = json.dumps(parts, separators=(",", ":"), ensure_ascii=False).encode()
        if len(found.rendered) < _RENDERED:
            found.rendered[wanted] = known
    return known


def answer(request: Request, value: dict[str, Any], status: int = 200) -> Response:
    """Return a resource, or the selected ``fields`` of it.

    Raises:
        ServiceError: 400; ``fields`` is not valid.
    """
    wanted = request.query.get("fields") if request.raw_query else None
    return json_response(select(value, parsed(wanted, value["kind"])) if wanted else value, status)
