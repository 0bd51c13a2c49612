"""Buckets in the JSON API (https://cloud.google.com/storage/docs/json_api/v1/buckets)."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Final

from trove_async.testing.gcs.conditions import Preconditions
from trove_async.testing.gcs.errors import ServiceError, invalid, required
from trove_async.testing.gcs.http import Request, Response, mapping
from trove_async.testing.gcs.lifecycle import CONDITIONS
from trove_async.testing.gcs.listing import page_size
from trove_async.testing.gcs.resources import PROJECT_NUMBER, answer, bucket_resource
from trove_async.testing.gcs.state import Bucket, Storage
from trove_async.testing.gcs.unsupported import BUCKET_FIELDS, check_fields

__all__ = ["Buckets", "check_bucket_name"]

_LABEL_KEY: Final = re.compile(r"[a-z][\w-]{0,62}")
_LABELS: Final = 64
_RULES: Final = 100
_CLASSES: Final = frozenset(("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"))
_COMPONENT: Final = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")
_WRITABLE: Final = BUCKET_FIELDS.keys() | {
    "defaultEventBasedHold",
    "iamConfiguration",
    "labels",
    "lifecycle",
    "location",
    "storageClass",
    "versioning",
}


def check_bucket_name(name: object) -> str:
    """Return the name of a new bucket if it is valid (https://cloud.google.com/storage/docs/buckets#naming).

    Raises:
        ServiceError: 400.
    """
    if not name:
        raise required("name")
    if (
        not isinstance(name, str)
        or not 3 <= len(name) <= (222 if "." in name else 63)
        or not all(_COMPONENT.fullmatch(part) for part in name.split("."))
        or name.startswith("goog")
        or "google" in name
        or _is_address(name)
    ):
        raise invalid(f"Invalid bucket name: '{name}'", xml_code="InvalidBucketName")
    return name


def _is_address(name: str) -> bool:
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


class Buckets:
    """The collection ``buckets``."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def insert(self, request: Request) -> Response:
        """Answer ``POST /b``.

        Raises:
            ServiceError: the request is refused.
        """
        if not request.query.get("project"):
            raise required("project")
        given = request.json()
        name = check_bucket_name(given.get("name"))
        fields = _set(given)
        _check(fields)
        fields["location"] = str(fields.get("location", "US")).upper()
        return self._answer(request, self.storage.create_bucket(name, fields))

    def get(self, request: Request, name: str) -> Response:
        """Answer ``GET /b/{bucket}``.

        Raises:
            ServiceError: 404, 412 or 304.
        """
        bucket = self.storage.bucket(name)
        Preconditions.of(request).check_bucket(bucket, reading=True)
        return self._answer(request, bucket)

    def list(self, request: Request) -> Response:
        """Answer ``GET /b``; all buckets belong to one project.

        Raises:
            ServiceError: 400; a parameter is missing or not valid.
        """
        if not request.query.get("project"):
            raise required("project")
        size = page_size(request)
        prefix, token = request.query.get("prefix", ""), request.query.get("pageToken", "")
        after = _loaded(token) if token else ""
        names = sorted(name for name in self.storage.buckets if name.startswith(prefix) and name > after)
        document: dict[str, Any] = {"kind": "storage#buckets"}
        if names:
            document["items"] = [bucket_resource(self.storage, self.storage.buckets[name]) for name in names[:size]]
        if len(names) > size:
            document["nextPageToken"] = base64.urlsafe_b64encode(names[size - 1].encode()).decode()
        return answer(request, document)

    def patch(self, request: Request, name: str) -> Response:
        """Answer ``PATCH``: null removes a field, and absent fields stay, in nested objects too.

        Raises:
            ServiceError: the request is refused.
        """
        bucket = self._writable(request, name)
        changes = {key: value for key, value in request.json().items() if key in _WRITABLE}
        return self._change(request, bucket, _merged(bucket.fields, changes))

    def update(self, request: Request, name: str) -> Response:
        """Answer ``PUT``: all writable fields are replaced.

        Raises:
            ServiceError: the request is refused.
        """
        bucket = self._writable(request, name)
        fields = _set(request.json())
        fields["location"] = bucket.fields["location"]
        return self._change(request, bucket, fields)

    def delete(self, request: Request, name: str) -> Response:
        """Answer ``DELETE``.

        Raises:
            ServiceError: 409 if there are objects or noncurrent generations, 404 or 412.
        """
        bucket = self._writable(request, name)
        if bucket.objects:
            message = "The bucket you tried to delete is not empty."
            raise ServiceError(409, "conflict", message, xml_code="BucketNotEmpty")
        del self.storage.buckets[name]
        return Response(204)

    def test_permissions(self, request: Request, name: str) -> Response:
        """Answer ``GET /b/{bucket}/iam/testPermissions``: all permissions are granted.

        Raises:
            ServiceError: 404.
        """
        self.storage.bucket(name)
        asked = [item.partition("=")[2] for item in request.raw_query.split("&") if item.startswith("permissions=")]
        return answer(request, {"kind": "storage#testIamPermissionsResponse", "permissions": asked})

    def service_account(self, request: Request, project: str) -> Response:
        """Answer ``GET /projects/{project}/serviceAccount``: the account that publishes notifications."""
        address = f"service-{PROJECT_NUMBER}@gs-project-accounts.iam.gserviceaccount.com"
        return answer(request, {"kind": "storage#serviceAccount", "email_address": address})

    def _writable(self, request: Request, name: str) -> Bucket:
        bucket = self.storage.bucket(name)
        Preconditions.of(request).check_bucket(bucket)
        return bucket

    def _change(self, request: Request, bucket: Bucket, fields: dict[str, Any]) -> Response:
        _check(fields)
        bucket.fields = fields
        bucket.touch()
        return self._answer(request, bucket)

    def _answer(self, request: Request, bucket: Bucket) -> Response:
        return answer(request, bucket_resource(self.storage, bucket))


def _set(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key in _WRITABLE and value is not None}


def _merged(before: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(before)
    for key, value in changes.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and key != "lifecycle":
            merged[key] = _merged(mapping(merged, key), value)
        else:
            merged[key] = value
    return merged


def _loaded(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except ValueError as error:
        raise invalid(f"Invalid value for parameter pageToken: {token}") from error


def _check(fields: dict[str, Any]) -> None:
    check_fields(fields, BUCKET_FIELDS)
    if str(fields.get("storageClass", "STANDARD")) not in _CLASSES:
        raise invalid(f"Invalid argument: storage class {fields['storageClass']}")
    mapping(fields, "versioning")
    labels = mapping(fields, "labels")
    if len(labels) > _LABELS or not all(_is_label(key, value) for key, value in labels.items()):
        raise invalid("Invalid argument: labels")
    rules = mapping(fields, "lifecycle").get("rule") or []
    if not isinstance(rules, list) or len(rules) > _RULES or not all(_is_rule(rule) for rule in rules):
        raise invalid("Invalid argument: lifecycle")


def _is_label(key: object, value: object) -> bool:
    # https://cloud.google.com/storage/docs/tags-and-labels#bucket-labels
    return (
        isinstance(key, str)
        and isinstance(value, str)
        and _LABEL_KEY.fullmatch(key) is not None
        and key == key.lower()
        and len(value) <= 63
        and value == value.lower()
    )


def _is_rule(rule: object) -> bool:
    if not isinstance(rule, dict) or not isinstance(rule.get("condition"), dict):
        return False
    if rule["condition"].keys() - CONDITIONS:
        return False
    action = mapping(rule, "action")
    if action.get("type") == "SetStorageClass":
        return action.get("storageClass") in _CLASSES
    return action.get("type") in ("Delete", "AbortIncompleteMultipartUpload")
