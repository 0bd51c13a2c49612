"""Lifecycle rules as S3 has them, both ways.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_LifecycleRule.html
"""

from __future__ import annotations

from typing import Any

from trove_async.errors import UnsupportedError
from trove_async.types import LifecycleRule

__all__ = ["from_s3", "to_s3"]

# What a rule of S3 may have, and a `LifecycleRule` holds.
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
    """Return a rule as the parameter of PutBucketLifecycleConfiguration has it."""
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
    """Return a rule of a bucket.

    Raises:
        UnsupportedError: it has what a `LifecycleRule` cannot hold, such as a filter by tags: whoever
            set the rules again would change what it does.
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
    # False and an empty list say that there is none of it, as some servers like to.
    unknown = sorted(key for key, given in value.items() if key not in _KNOWN[part] and given not in (False, [], None))
    if unknown:
        _refuse(name, f"{part}.{unknown[0]}" if part else unknown[0])


def _refuse(name: str, what: str) -> None:
    raise UnsupportedError(
        f"the lifecycle rule {name!r} has {what}, which a LifecycleRule cannot hold; use the service's own tools for it"
    )
