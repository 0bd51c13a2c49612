"""Lifecycle rules as Cloud Storage has them, both ways.

https://cloud.google.com/storage/docs/lifecycle. Its rules have one action each, no name, and are always enabled. So

- one `LifecycleRule` becomes one rule of the service for each of its actions;
- its id is kept as a label of the bucket, whose name is a digest of the rule, so that it is removed with the rule;
- a rule that is disabled has one more condition that no object meets: that it was created before 1970.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from trove_async.drivers.gcs.documents import MALFORMED
from trove_async.errors import BackendError, UnsupportedError
from trove_async.types import LifecycleRule

__all__ = ["from_gcs", "own_labels", "to_gcs"]

_LABEL: Final = "trove-rule-"
_NEVER: Final = "1970-01-01"
_PLAIN = re.compile(r"[a-z0-9_-]{1,63}")
_ENCODED: Final = "x--"
_LONGEST: Final = 63

_CONDITIONS: Final = {
    "Delete": {"age", "isLive", "matchesPrefix", "createdBefore", "daysSinceNoncurrentTime"},
    "SetStorageClass": {"age", "isLive", "matchesPrefix", "createdBefore"},
    "AbortIncompleteMultipartUpload": {"age", "matchesPrefix"},
}
"""The conditions for each action that a `LifecycleRule` can hold."""

Rule = dict[str, Any]


def to_gcs(rules: Iterable[LifecycleRule]) -> tuple[list[Rule], dict[str, str]]:
    """Return rules as the service has them, and the labels that keep their ids.

    Raises:
        UnsupportedError: the service cannot express one of them.
    """
    made: list[Rule] = []
    labels: dict[str, str] = {}
    for rule in rules:
        value = _label_value(rule.id)
        for one in _actions(rule):
            name = _label_name(one)
            if labels.setdefault(name, value) != value:
                raise UnsupportedError(f"the lifecycle rule {rule.id!r} has the same action as another rule")
            made.append(one)
    return made, labels


def _actions(rule: LifecycleRule) -> list[Rule]:
    common: Rule = {"matchesPrefix": [rule.prefix]} if rule.prefix else {}
    if rule.abort_incomplete_days is not None and not rule.enabled:
        raise UnsupportedError(
            f"the lifecycle rule {rule.id!r} aborts uploads and is disabled, which Cloud Storage cannot express"
        )
    off = {} if rule.enabled else {"createdBefore": _NEVER}
    made: list[Rule] = []
    if rule.expiration_days is not None:
        made.append(_rule({"type": "Delete"}, {"age": rule.expiration_days, "isLive": True, **off, **common}))
    if rule.transition_days is not None:
        action = {"type": "SetStorageClass", "storageClass": rule.transition_storage}
        made.append(_rule(action, {"age": rule.transition_days, "isLive": True, **off, **common}))
    if rule.noncurrent_expiration_days is not None:
        condition = {"daysSinceNoncurrentTime": rule.noncurrent_expiration_days, "isLive": False, **off, **common}
        made.append(_rule({"type": "Delete"}, condition))
    if rule.abort_incomplete_days is not None:
        made.append(_rule({"type": "AbortIncompleteMultipartUpload"}, {"age": rule.abort_incomplete_days, **common}))
    return made


def _rule(action: Rule, condition: Rule) -> Rule:
    return {"action": action, "condition": condition}


def from_gcs(rules: Sequence[Rule], labels: Mapping[str, str]) -> list[LifecycleRule]:
    """Return the rules of a bucket; those that other programs have set are named by their position.

    Raises:
        BackendError: one cannot be read.
        UnsupportedError: one has what a `LifecycleRule` cannot hold, such as a condition on the storage class: setting
            the rules again would change what it does.
    """
    found: dict[str, LifecycleRule] = {}
    for number, rule in enumerate(rules, start=1):
        try:
            value = labels.get(_label_name(rule))
            name = f"rule-{number}" if value is None else _id_of(value)
            one = _read(name, rule)
        except MALFORMED as error:
            raise BackendError(f"the answer has a lifecycle rule that cannot be read: {str(error)[:80]!r}") from error
        found[name] = one if name not in found else _joined(found[name], one)
    return list(found.values())


def own_labels(labels: Mapping[str, str]) -> list[str]:
    """Return the names of those of a bucket's labels that keep ids."""
    return [name for name in labels if name.startswith(_LABEL)]


def _read(name: str, rule: Rule) -> LifecycleRule:
    action, condition = rule.get("action") or {}, rule.get("condition") or {}
    kind = str(action.get("type"))
    if kind not in _CONDITIONS:
        _refuse(name, f"the action {kind!r}")
    unknown = sorted(set(condition) - _CONDITIONS[kind])
    if unknown:
        _refuse(name, f"the condition {unknown[0]}")
    prefixes = condition.get("matchesPrefix") or [""]
    if len(prefixes) > 1:
        _refuse(name, "several prefixes")
    before = condition.get("createdBefore")
    if before not in (None, _NEVER):
        _refuse(name, "the condition createdBefore")
    made = LifecycleRule(name, prefix=_text(prefixes[0]), enabled=before is None)
    noncurrent = _days(condition, "daysSinceNoncurrentTime")
    if noncurrent is not None:
        if "age" in condition:
            _refuse(name, "two ages")
        return replace(made, noncurrent_expiration_days=noncurrent)
    age = _days(condition, "age")
    if age is None or condition.get("isLive") is False:
        _refuse(name, "no age of objects")
    if kind == "Delete":
        return replace(made, expiration_days=age)
    if kind == "SetStorageClass":
        return replace(made, transition_days=age, transition_storage=_text(action["storageClass"]))
    return replace(made, abort_incomplete_days=age)


def _days(condition: Rule, name: str) -> int | None:
    value = condition.get(name)
    return None if value is None else int(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} in place of text")
    return value


def _joined(one: LifecycleRule, other: LifecycleRule) -> LifecycleRule:
    days = ("expiration_days", "transition_days", "transition_storage", "noncurrent_expiration_days")
    more = {name: value for name in (*days, "abort_incomplete_days") if (value := getattr(other, name)) is not None}
    return replace(one, **more)


def _label_name(rule: Rule) -> str:
    return _LABEL + hashlib.sha256(json.dumps(rule, sort_keys=True).encode()).hexdigest()[:32]


def _label_value(name: str) -> str:
    if _PLAIN.fullmatch(name) and not name.startswith(_ENCODED):
        return name
    value = _ENCODED + base64.b32encode(name.encode()).decode().rstrip("=").lower()
    if len(value) > _LONGEST:
        raise UnsupportedError(f"the id of the lifecycle rule {name!r} is too long for the label that keeps it")
    return value


def _id_of(value: str) -> str:
    if not value.startswith(_ENCODED):
        return value
    text = value.removeprefix(_ENCODED).upper()
    try:
        return base64.b32decode(text + "=" * (-len(text) % 8)).decode()
    except (Base64Error, UnicodeDecodeError):
        return value


def _refuse(name: str, what: str) -> None:
    raise UnsupportedError(
        f"the lifecycle rule {name[:80]!r} has {what[:80]}, which a LifecycleRule cannot hold; "
        "use the service's own tools for it"
    )
