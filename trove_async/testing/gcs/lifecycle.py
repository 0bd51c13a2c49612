"""Lifecycle rules, applied when a test asks for it (https://cloud.google.com/storage/docs/lifecycle)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from trove_async.testing.gcs.state import Bucket, Storage, StoredObject
from trove_async.testing.gcs.xml_multipart import MultipartUploads

__all__ = ["CONDITIONS", "apply_lifecycle"]

_DAY: Final = 86400
_COLDER: Final = ("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE")

Test = Callable[[Bucket, StoredObject, Any, float], bool]


def apply_lifecycle(storage: Storage, uploads: MultipartUploads, now: float) -> int:
    """Apply the rules of all buckets at a time, and return the number of actions.

    An object that several rules match is deleted if one of them says so, else it gets the coldest class, as documented.
    """
    done = 0
    for bucket in storage.buckets.values():
        rules = (bucket.fields.get("lifecycle") or {}).get("rule") or []
        done += _abort(bucket, uploads, rules, now)
        for found in list(bucket.generations()):
            actions = [rule["action"] for rule in rules if _matches(bucket, found, rule, now)]
            done += _act(storage, bucket, found, actions, now)
    return done


def _act(storage: Storage, bucket: Bucket, found: StoredObject, actions: list[dict[str, Any]], now: float) -> int:
    if any(action["type"] == "Delete" for action in actions):
        if found.hold() is not None:
            return 0
        storage.delete(bucket, found, permanently=found.deleted is not None or not bucket.versioned)
        return 1
    wanted = [action["storageClass"] for action in actions if action["type"] == "SetStorageClass"]
    coldest = max(wanted, key=_COLDER.index, default=None)
    if coldest is None or coldest == found.fields["storageClass"]:
        return 0
    found.fields["storageClass"] = coldest
    found.class_updated = now
    found.rendered.clear()
    return 1


def _abort(bucket: Bucket, uploads: MultipartUploads, rules: list[dict[str, Any]], now: float) -> int:
    done = 0
    for rule in rules:
        if rule["action"]["type"] != "AbortIncompleteMultipartUpload":
            continue
        condition = rule["condition"]
        for upload in [upload for upload in uploads.uploads.values() if upload.bucket == bucket.name]:
            aged = upload.begun + condition.get("age", 0) * _DAY <= now
            if aged and _is_named(upload.name, condition):
                del uploads.uploads[upload.id]
                done += 1
    return done


def _matches(bucket: Bucket, found: StoredObject, rule: Mapping[str, Any], now: float) -> bool:
    condition = rule["condition"]
    if rule["action"]["type"] == "AbortIncompleteMultipartUpload" or not _is_named(found.name, condition):
        return False
    return all(
        test(bucket, found, condition[name], now) for name, test in _TESTS.items() if condition.get(name) is not None
    )


def _is_named(name: str, condition: Mapping[str, Any]) -> bool:
    prefixes, suffixes = condition.get("matchesPrefix"), condition.get("matchesSuffix")
    return (not prefixes or name.startswith(tuple(prefixes))) and (not suffixes or name.endswith(tuple(suffixes)))


def _moment(text: str) -> float:
    value = datetime.fromisoformat(text)
    return datetime.fromisoformat(f"{text}T00:00:00+00:00").timestamp() if value.tzinfo is None else value.timestamp()


def _custom_time(found: StoredObject) -> float | None:
    text = found.fields.get("customTime")
    return None if text is None else _moment(text)


def _newer(bucket: Bucket, found: StoredObject) -> int:
    return sum(version.generation > found.generation for version in bucket.objects[found.name])


def _since(begin: float | None, days: int, now: float) -> bool:
    return begin is not None and begin + days * _DAY <= now


def _before(moment: float | None, date: str) -> bool:
    return moment is not None and moment < _moment(date)


_TESTS: Final[dict[str, Test]] = {
    "age": lambda _bucket, found, days, now: _since(found.created, days, now),
    "createdBefore": lambda _bucket, found, date, _now: _before(found.created, date),
    "customTimeBefore": lambda _bucket, found, date, _now: _before(_custom_time(found), date),
    "daysSinceCustomTime": lambda _bucket, found, days, now: _since(_custom_time(found), days, now),
    "daysSinceNoncurrentTime": lambda _bucket, found, days, now: _since(found.deleted, days, now),
    "isLive": lambda _bucket, found, live, _now: live == (found.deleted is None),
    "matchesStorageClass": lambda _bucket, found, classes, _now: found.fields["storageClass"] in classes,
    "noncurrentTimeBefore": lambda _bucket, found, date, _now: _before(found.deleted, date),
    "numNewerVersions": lambda bucket, found, number, _now: _newer(bucket, found) >= number,
}
CONDITIONS: Final = _TESTS.keys() | {"matchesPrefix", "matchesSuffix"}
"""The conditions that a rule may have."""
