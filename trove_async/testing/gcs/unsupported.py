"""Features of Cloud Storage that the server does not have: a request for one is a 501 that names the feature.

Parameters and headers are those of https://cloud.google.com/storage/docs/json_api/v1 and
https://cloud.google.com/storage/docs/xml-api/reference-headers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from trove_async.testing.gcs.errors import ServiceError, invalid
from trove_async.testing.gcs.http import Request

__all__ = [
    "BUCKET_FIELDS",
    "KMS_HEADER",
    "OBJECT_FIELDS",
    "PUSH_FIELDS",
    "SUBSCRIPTION_FIELDS",
    "TOPIC_FIELDS",
    "check_fields",
    "check_headers",
    "check_parameters",
    "check_path",
    "check_xml_parameters",
    "unsupported",
]

_ACLS: Final = "access control lists"
_CONTEXTS: Final = "object contexts"
_CUSTOMER_KEYS: Final = "customer-supplied encryption keys"
_FOLDERS: Final = "folders"
_IAM: Final = "IAM policies"
_BUCKET_KEYS: Final = "default encryption keys of buckets"
_RETENTION: Final = "retention"
_SOFT_DELETE: Final = "soft delete"
_TOKEN_PARAMETERS: Final = "access tokens in the query"

OBJECT_FIELDS: Final[Mapping[str, str]] = {
    "acl": _ACLS,
    "contexts": _CONTEXTS,
    "customerEncryption": _CUSTOMER_KEYS,
    "retention": _RETENTION,
}
"""Writable fields of an object's resource that it does not have."""

BUCKET_FIELDS: Final[Mapping[str, str]] = {
    "acl": _ACLS,
    "autoclass": "Autoclass",
    "billing": "Requester Pays",
    "cors": "CORS",
    "customPlacementConfig": "dual-regions",
    "defaultObjectAcl": _ACLS,
    "encryption": _BUCKET_KEYS,
    "hierarchicalNamespace": "hierarchical namespaces",
    "ipFilter": "IP filtering",
    "logging": "usage logs",
    "objectRetention": _RETENTION,
    "retentionPolicy": _RETENTION,
    "rpo": "turbo replication",
    "softDeletePolicy": _SOFT_DELETE,
    "website": "static websites",
}
"""Writable fields of a bucket's resource that it does not have."""

SUBSCRIPTION_FIELDS: Final[Mapping[str, str]] = {
    "bigqueryConfig": "BigQuery subscriptions",
    "cloudStorageConfig": "Cloud Storage subscriptions",
    "deadLetterPolicy": "dead letter topics",
    "enableExactlyOnceDelivery": "exactly-once delivery",
    "enableMessageOrdering": "message ordering",
    "filter": "subscription filters",
    "messageTransforms": "message transforms",
    "retryPolicy": "retry policies",
}
"""Fields of a subscription's resource that it does not have."""

TOPIC_FIELDS: Final[Mapping[str, str]] = {
    "ingestionDataSourceSettings": "import topics",
    "kmsKeyName": "customer-managed keys of topics",
    "messageTransforms": "message transforms",
    "schemaSettings": "schemas",
}
"""Fields of a topic's resource that it does not have."""

PUSH_FIELDS: Final[Mapping[str, str]] = {"noWrapper": "unwrapped push", "oidcToken": "authenticated push"}
"""Fields of a push configuration that it does not have."""

_PARAMETERS: Final[Mapping[str, str]] = {
    "access_token": _TOKEN_PARAMETERS,
    "callback": "JSONP",
    "copySourceAcl": _ACLS,
    "destinationPredefinedAcl": _ACLS,
    "dropContextGroups": _CONTEXTS,
    "enableObjectRetention": _RETENTION,
    "filter": _CONTEXTS,
    "includeFoldersAsPrefixes": _FOLDERS,
    "oauth_token": _TOKEN_PARAMETERS,
    "overrideUnlockedRetention": _RETENTION,
    "predefinedAcl": _ACLS,
    "predefinedDefaultObjectAcl": _ACLS,
    "restoreToken": _SOFT_DELETE,
    "returnPartialSuccess": "partial lists of buckets",
    "softDeleted": _SOFT_DELETE,
}
_COLLECTIONS: Final[Mapping[str, str]] = {
    "acl": _ACLS,
    "anywhereCaches": "Anywhere Cache",
    "bulkRestore": _SOFT_DELETE,
    "channels": "object change notification",
    "defaultObjectAcl": _ACLS,
    "folders": _FOLDERS,
    "hmacKeys": "the management of HMAC keys",
    "iam": _IAM,
    "lockRetentionPolicy": _RETENTION,
    "managedFolders": "managed folders",
    "operations": "long-running operations",
    "relocate": "bucket relocation",
    "restore": _SOFT_DELETE,
    "storageLayout": "storage layouts",
    "watch": "object change notification",
}
_HEADERS: Final[tuple[tuple[str, str], ...]] = (
    ("x-goog-encryption-", _CUSTOMER_KEYS),
    ("x-goog-copy-source-encryption-", _CUSTOMER_KEYS),
    ("x-goog-acl", _ACLS),
    ("x-goog-grant-", _ACLS),
    ("x-goog-object-lock-", _RETENTION),
    ("x-goog-bypass-governance-retention", _RETENTION),
    ("x-goog-tagging", "object tags"),
    ("x-amz-", "headers of Amazon S3"),
)
_SUBRESOURCES: Final[Mapping[str, str]] = {
    "acl": _ACLS,
    "Expires": "signatures of version 2",
    "GoogleAccessId": "signatures of version 2",
    "Signature": "signatures of version 2",
    "fetch-owner": "owners in lists",
    "generation-marker": "lists of generations in the XML API",
    "legal-hold": "holds in the XML API",
    "retention": _RETENTION,
    "tagging": "object tags",
    "versions": "lists of generations in the XML API",
    **dict.fromkeys(
        (
            "billing",
            "compose",
            "cors",
            "encryption",
            "encryptionConfig",
            "lifecycle",
            "location",
            "logging",
            "object-lock",
            "policy",
            "storageClass",
            "versioning",
            "website",
        ),
        "the subresource in the XML API",
    ),
}
_XML_OBJECT: Final = frozenset(
    (
        "generation",
        "max-parts",
        "part-number-marker",
        "partNumber",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
        "upload_id",
        "uploadId",
        "uploads",
        "userProject",
    )
)
_XML_LIST: Final = frozenset(
    (
        "continuation-token",
        "delimiter",
        "encoding-type",
        "list-type",
        "marker",
        "max-keys",
        "prefix",
        "start-after",
        "userProject",
    )
)
_XML_UPLOADS: Final = frozenset(("key-marker", "max-uploads", "prefix", "upload-id-marker", "uploads", "userProject"))
KMS_HEADER: Final = "x-goog-encryption-kms-key-name"
"""The header that names a customer-managed key."""

_CHECKED: Final = ("x-goog-", "x-amz-")


def unsupported(feature: str) -> ServiceError:
    """Return a 501 that names a feature."""
    return ServiceError(501, "notImplemented", f"GCSServer does not implement {feature}.")


def check_headers(request: Request) -> None:
    """Refuse headers that ask for a feature.

    Raises:
        ServiceError: 501.
    """
    for name in request.headers:
        if name.startswith(_CHECKED):
            for prefix, feature in _HEADERS:
                if name.startswith(prefix) and name != KMS_HEADER:
                    raise unsupported(f"{feature} ({name})")


def check_parameters(query: Mapping[str, str]) -> None:
    """Refuse parameters of the JSON API that ask for a feature.

    Raises:
        ServiceError: 501.
    """
    for name, value in query.items():
        if name in _PARAMETERS and value.lower() != "false":
            raise unsupported(f"{_PARAMETERS[name]} ({name})")


def check_xml_parameters(query: Mapping[str, str], *, of_object: bool) -> None:
    """Refuse parameters that the XML API does not take, or that ask for a feature.

    Raises:
        ServiceError: 400 or 501.
    """
    known = _XML_OBJECT if of_object else _XML_UPLOADS if "uploads" in query else _XML_LIST
    for name, value in query.items():
        if name in known or name.lower().startswith("x-goog-") or value.lower() == "false":
            continue
        if name in _SUBRESOURCES:
            raise unsupported(f"{_SUBRESOURCES[name]} ({name})")
        raise invalid(f"Unknown parameter: {name}")


def check_path(path: Sequence[str]) -> None:
    """Refuse a path of the JSON API that belongs to a feature.

    Raises:
        ServiceError: 501.
    """
    match path:
        case ["b", _, "o", _, word, *_] if word in _COLLECTIONS:
            pass
        case ["b", _, "o", ("bulkRestore" | "watch") as word]:
            pass
        case [("b" | "projects"), _, word, *_] if word in _COLLECTIONS:
            pass
        case ["channels" as word, *_]:
            pass
        case _:
            return
    raise unsupported(f"{_COLLECTIONS[word]} ({word})")


def check_fields(document: Mapping[str, Any], features: Mapping[str, str]) -> None:
    """Refuse a resource that sets a field of one of these features; a field that is empty or switched off is ignored.

    Raises:
        ServiceError: 501.
    """
    for name, value in document.items():
        if name in features and not _is_off(value):
            raise unsupported(f"{features[name]} ({name})")


def _is_off(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(_is_off(item) for item in value.values())
    return not value or value in ("0", "DEFAULT")
