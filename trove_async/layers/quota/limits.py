"""The limits of a `Quota`: what they are for, and which of them a key is under."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from trove_async.errors import InvalidArgumentError, InvalidBucketNameError, InvalidKeyError
from trove_async.keys import check_bucket, check_prefix
from trove_async.values import is_whole

__all__ = ["Coverage", "QuotaLimit", "QuotaUsage", "Scope", "check_known", "check_limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaLimit:
    """How much there may be; None for no limit.

    Attributes:
        bytes: of objects, of their versions, and of the parts of open uploads.
        objects: how many objects and versions.

    Raises:
        InvalidArgumentError: neither is given, one is no whole number or negative, or bytes are given for 0 objects.
    """

    bytes: int | None = None
    objects: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("bytes", self.bytes), ("objects", self.objects)):
            if value is not None and (not is_whole(value) or not 0 <= value < 2**63):
                raise InvalidArgumentError(f"{name} is a whole number from 0 to 2**63 - 1, not {value!r}")
        if self.bytes is None and self.objects is None:
            raise InvalidArgumentError("a limit needs bytes=, objects= or both, as in QuotaLimit(bytes=10 * 2**30)")
        if self.objects == 0 and self.bytes is not None:
            raise InvalidArgumentError("objects=0 allows no object, so bytes= means nothing: leave it out")


@dataclass(frozen=True, slots=True)
class QuotaUsage:
    """A limit and what it counts.

    Attributes:
        quota: the name of the limit: a bucket, ``bucket/prefix``, or empty for the limit of the whole store.
        limit: how much there may be.
        bytes, objects: what is stored, and what is reserved for writes that are under way.
    """

    quota: str
    limit: QuotaLimit
    bytes: int
    objects: int


class Scope(NamedTuple):
    """What a limit is for: the keys of a bucket that begin with a prefix. An empty bucket is the whole store."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, name: object) -> Scope:
        """Return what a name means: ``bucket``, ``bucket/prefix``, or an empty text for the whole store.

        Raises:
            InvalidArgumentError: it means nothing; the message says why.
        """
        if not isinstance(name, str):
            raise InvalidArgumentError(f"a limit is for a bucket or 'bucket/prefix', not {name!r}")
        bucket, _, prefix = name.partition("/")
        try:
            if name:
                check_bucket(bucket)
            check_prefix(prefix)
        except (InvalidBucketNameError, InvalidKeyError) as error:
            raise InvalidArgumentError(f"a limit cannot be for {name!r}: {error.message}") from None
        return cls(bucket, prefix)

    @property
    def name(self) -> str:
        """The text that `parse` takes."""
        return f"{self.bucket}/{self.prefix}" if self.prefix else self.bucket

    def covers(self, bucket: str, key: str) -> bool:
        """Tell whether a key is under the limit."""
        return not self.bucket or (bucket == self.bucket and key.startswith(self.prefix))


def check_limits(limits: object) -> dict[Scope, QuotaLimit]:
    """Return the limits that a user gives, by what they are for.

    Raises:
        InvalidArgumentError: it is no mapping of names to limits, or empty; two limits are for the same keys; or one
            can never be reached, because another one around it is lower.
    """
    if not isinstance(limits, Mapping):
        raise InvalidArgumentError(
            f"limits is a dict, such as {{'media': QuotaLimit(bytes=10 * 2**30)}}, not {type(limits).__name__}"
        )
    if not limits:
        raise InvalidArgumentError("there are no limits: give one, such as {'media': QuotaLimit(bytes=10 * 2**30)}")
    found: dict[Scope, QuotaLimit] = {}
    for name, limit in limits.items():
        scope = Scope.parse(name)
        if scope in found:
            raise InvalidArgumentError(f"two limits are for the bucket {scope.bucket!r}: leave {name!r} out")
        if not isinstance(limit, QuotaLimit):
            raise InvalidArgumentError(f"the limit of {name!r} is a QuotaLimit(bytes=…, objects=…), not {limit!r}")
        found[scope] = limit
    for scope, limit in found.items():
        for outer, around in found.items():
            if outer != scope and outer.covers(*scope):
                _check_nested(scope, limit, outer, around)
    return found


def check_known(wanted: Iterable[Scope], known: Collection[Scope]) -> None:
    """Check that there are limits for what a user names.

    Raises:
        InvalidArgumentError: there is none; the message has those that there are.
    """
    for scope in wanted:
        if scope not in known:
            names = ", ".join(repr(each.name) for each in known) or "nothing"
            raise InvalidArgumentError(f"there is no limit for {scope.name!r}; there are limits for {names}")


def _check_nested(scope: Scope, limit: QuotaLimit, outer: Scope, around: QuotaLimit) -> None:
    for what, inside, outside in (
        ("bytes", limit.bytes, around.bytes),
        ("objects", limit.objects, around.objects),
    ):
        if inside is not None and outside is not None and inside > outside:
            raise InvalidArgumentError(
                f"the limit of {scope.name!r} can never be reached: it allows {inside} {what}, and that of "
                f"{outer.name or 'the whole store'!r}, which it is part of, {outside}; lower it, or raise the other"
            )


class Coverage:
    """Finds the limits that a key is under, however many there are.

    Args:
        scopes: of all limits.
    """

    def __init__(self, scopes: Iterable[Scope]) -> None:
        self._prefixes: dict[str, dict[int, set[str]]] = {}
        for scope in scopes:
            self._prefixes.setdefault(scope.bucket, {}).setdefault(len(scope.prefix), set()).add(scope.prefix)
        self._whole = (Scope("", ""),) if "" in self._prefixes else ()

    def of(self, bucket: str, key: str) -> tuple[Scope, ...]:
        """Return what the limits are for that a key is under."""
        lengths = self._prefixes.get(bucket)
        if lengths is None:
            return self._whole
        found = [Scope(bucket, key[:length]) for length, prefixes in lengths.items() if key[:length] in prefixes]
        return (*self._whole, *found)

    def touches(self, bucket: str) -> bool:
        """Tell whether any key of a bucket is under a limit."""
        return bool(self._whole) or bucket in self._prefixes
