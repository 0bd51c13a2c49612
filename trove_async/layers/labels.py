"""What all metrics have in common: labels and boundaries.

The values of labels are few, whatever a store holds: no key and no path is among them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from trove_async.layers.base import Operation
from trove_async.layers.instrumentation import Outcome, error_type

__all__ = ["BUCKETS", "LIFETIMES", "OTHER", "SECONDS", "OperationLabels", "outcome_labels"]

S = TypeVar("S")

BUCKETS: Final = 100
"""How many buckets have a label of their own."""

OTHER: Final = "_OTHER"
"""The label of all other buckets; the word of OpenTelemetry's conventions for values that are too many."""

SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
"""The boundaries of durations: those that OpenTelemetry's conventions advise for ``db.client.operation.duration``."""

LIFETIMES: Final = (1, 10, 60, 600, 3600, 6 * 3600, 24 * 3600)
"""The boundaries of the lifetimes of watches, in seconds."""


def outcome_labels(outcome: Outcome, error: BaseException | None) -> tuple[str, str]:
    """Return the outcome and the type of the error, which is empty where nothing failed."""
    return outcome, error_type(error) if outcome == "error" and error is not None else ""


class OperationLabels(Generic[S]):
    """What is kept for each combination of driver, operation and bucket.

    Args:
        make: makes it from driver, operation and bucket; the bucket is empty unless it is a label.
        bucket_label: whether the bucket is a label.
    """

    def __init__(self, make: Callable[[str, str, str], S], bucket_label: bool) -> None:
        self._make = make
        self._bucket_label = bucket_label
        self._buckets: set[str] = set()
        self._known: dict[Hashable, S] = {}

    def of(self, operation: Operation) -> S:
        """Return what is kept for an operation."""
        bucket = self._bucket_of(operation) if self._bucket_label else ""
        key = operation.driver, operation.name, bucket
        found = self._known.get(key)
        if found is None:
            found = self._known.setdefault(key, self._make(*key))
        return found

    def _bucket_of(self, operation: Operation) -> str:
        """Return the bucket's label; empty if the operation is about none."""
        bucket = operation.bucket
        if bucket is None:
            return ""
        if bucket in self._buckets:
            return bucket
        if len(self._buckets) >= BUCKETS:
            return OTHER
        self._buckets.add(bucket)
        return bucket
