"""Convert lifecycle rules to and from S3's format.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_LifecycleRule.html
"""

from __future__ import annotations

from typing import Any

from trove_async.errors import UnsupportedError
from trove_async.types import LifecycleRule

__all__ = ["from_s3", "to_s3"]

# The elements of a rule of S3 that a `LifecycleRule` can represent.
_KNOWN = {
    "": {
        "ID",
        "Status",
        "Filter",
        "Prefix",
        "Expiration",
        "Transitions",
        "NoncurrentVersionExpiration",
        "AbortIncompleteMultipartUpload",
    },
    "Filter": {"Prefix"},
    "Expiration": {"Days"},
    "Transitions": {"Days", "StorageClass"},
    "NoncurrentVersionExpiration": {"NoncurrentDays"},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation"},
}


def to_s3(rule: LifecycleRule) -> dict[str, Any]:
    """Convert a rule to the parameter of PutBucketLifecycleConfiguration."""
    result: dict[str, Any] = {
        "ID": rule.id,
        "Status": "Enabled" if rule.enabled else "Disabled",
        "Filter": {"Prefix": rule.prefix},
    }
    if rule.expiration_days is not None:
        result["Expiration"] = {"Days": rule.expiration_days}
    if rule.transition_days is not None:
        result["Transitions"] = [{"Days": rule.transition_days, "StorageClass": rule.transition_storage}]
    if rule.noncurrent_expiration_days is not None:
        result["NoncurrentVersionExpiration"] = {"NoncurrentDays": rule.noncurrent_expiration_days}
    if rule.abort_incomplete_days is not None:
        result["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": rule.abort_incomplete_days}
    return result


def from_s3(rule: dict[str, Any]) -> LifecycleRule:
    """Convert a rule of a bucket.

    Raises:
        UnsupportedError: a `LifecycleRule` cannot represent the rule, for example a filter by tags: setting the
            converted rules would change it.
    """
    name = rule.get("ID", "")
    _check(name, "", rule)
    transitions = rule.get("Transitions") or [{}]
    if len(transitions) > 1:
        _refuse(name, "several transitions")
    parts = {part: rule.get(part) or {} for part in _KNOWN if part not in ("", "Transitions")}
    for part, value in (*parts.items(), ("Transitions", transitions[0])):
        _check(name, part, value)
    return LifecycleRule(
        id=name,
        prefix=parts["Filter"].get("Prefix") or rule.get("Prefix") or "",
        enabled=rule.get("Status") == "Enabled",
        expiration_days=parts["Expiration"].get("Days"),
        transition_days=transitions[0].get("Days"),
        transition_storage=transitions[0].get("StorageClass"),
        noncurrent_expiration_days=parts["NoncurrentVersionExpiration"].get("NoncurrentDays"),
        abort_incomplete_days=parts["AbortIncompleteMultipartUpload"].get("DaysAfterInitiation"),
    )


def _check(name: str, part: str, value: dict[str, Any]) -> None:
    # Some servers send False or an empty list for an absent element.
    unknown = sorted(key for key, given in value.items() if key not in _KNOWN[part] and given not in (False, [], None))
    if unknown:
        _refuse(name, f"{part}.{unknown[0]}" if part else unknown[0])


def _refuse(name: str, what: str) -> None:
    raise UnsupportedError(
        f"the lifecycle rule {name!r} has {what}, which a LifecycleRule cannot represent; use the service's own tools"
    )
