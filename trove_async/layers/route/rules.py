"""The rules of a `Route`: which member has which key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from trove_async.errors import InvalidArgumentError
from trove_async.layers.route.globs import Glob
from trove_async.values import check_function

__all__ = ["RouteFunction", "RouteRule", "RouteRuleLike", "Rules"]

RouteFunction = Callable[[str, str], str | None]
"""Gets a bucket and a key, and returns the name of a member, or None to leave the decision to the next rule."""

_ALL_BUCKETS: Final = "*"


@dataclass(frozen=True)
class RouteRule:
    """The member that has the keys that match a glob, in the buckets whose names match another one.

    Attributes:
        glob: of the key. ``*`` does not cross a slash, ``**`` does.
        member: the name of the member.
        bucket: a glob of the bucket's name; by default all buckets.

    Raises:
        InvalidArgumentError: a glob is malformed.
    """

    glob: str
    member: str
    bucket: str = _ALL_BUCKETS

    def __post_init__(self) -> None:
        Glob(self.glob)
        Glob(self.bucket)


RouteRuleLike = RouteRule | tuple[str, str] | RouteFunction
"""A rule, a glob and the name of a member, or a function."""


class _GlobRule:
    """A rule that is ready to be asked."""

    __slots__ = ("bucket", "keys", "member")

    def __init__(self, rule: RouteRule) -> None:
        self.keys: Final = Glob(rule.glob)
        self.bucket: Final = None if rule.bucket in (_ALL_BUCKETS, "**") else Glob(rule.bucket)
        self.member: Final = rule.member

    def applies_to(self, bucket: str) -> bool:
        return self.bucket is None or self.bucket.matches(bucket)

    def __call__(self, bucket: str, key: str) -> str | None:
        return self.member if self.keys.matches(key) and self.applies_to(bucket) else None


class Rules:
    """Say which member has a key. The first rule that names a member decides, and without one the default.

    Args:
        members: the names of all members.
        rules: in their order.
        default: the member of the keys to which no rule applies.

    Raises:
        InvalidArgumentError: a rule is malformed, stands twice, or names an unknown member.
    """

    def __init__(self, members: Iterable[str], rules: Sequence[RouteRuleLike], default: str) -> None:
        self._members: Final = tuple(members)
        self._default: Final = self._known(default, "default")
        self._rules: Final[list[_GlobRule | RouteFunction]] = []
        seen: set[object] = set()
        for given in rules:
            rule = _rule_of(given)
            which = (rule.glob, rule.bucket) if isinstance(rule, RouteRule) else rule
            if which in seen:
                raise InvalidArgumentError(f"the rule {given!r} stands twice, and the second one never decides")
            seen.add(which)
            if isinstance(rule, RouteRule):
                self._known(rule.member, f"the rule {given!r}")
                self._rules.append(_GlobRule(rule))
            else:
                self._rules.append(rule)

    def _known(self, name: object, where: str) -> str:
        if not isinstance(name, str) or name not in self._members:
            raise InvalidArgumentError(
                f"{where} names the unknown member {name!r}; the members are {', '.join(self._members)}"
            )
        return name

    def member_of(self, bucket: str, key: str) -> str:
        """Return the name of the member that has a key.

        Raises:
            InvalidArgumentError: a function raised an exception, or named an unknown member.
        """
        for rule in self._rules:
            if type(rule) is _GlobRule:
                name = rule(bucket, key)
                if name is not None:
                    return name
            elif (answer := self._ask(rule, bucket, key)) is not None:
                return answer
        return self._default

    def _ask(self, function: Callable[[str, str], str | None], bucket: str, key: str) -> str | None:
        try:
            answer = function(bucket, key)
        except Exception as error:
            message = f"the rule {_name_of(function)} of the Route raised {type(error).__name__}: {error}"
            raise InvalidArgumentError(message, bucket=bucket, key=key) from error
        if answer is None or answer in self._members:
            return answer
        message = (
            f"the rule {_name_of(function)} of the Route returned {answer!r}; it returns None or the name of a member: "
            + ", ".join(self._members)
        )
        raise InvalidArgumentError(message, bucket=bucket, key=key)

    def members_below(self, bucket: str, prefix: str = "") -> tuple[str, ...]:
        """Return the names of the members that may have keys of a bucket that begin with a prefix.

        A function may name any member, so that after one all are returned.
        """
        found: dict[str, None] = {}
        for rule in self._rules:
            if not isinstance(rule, _GlobRule):
                return self._members
            if rule.applies_to(bucket) and rule.keys.may_match_below(prefix):
                found[rule.member] = None
                if rule.keys.matches_all_below(prefix):
                    break
        else:
            found[self._default] = None
        return tuple(name for name in self._members if name in found)


def _rule_of(given: RouteRuleLike) -> RouteRule | RouteFunction:
    if isinstance(given, RouteRule):
        return given
    if isinstance(given, tuple):
        if len(given) != 2:
            raise InvalidArgumentError(
                f"a rule is a pair of a glob and a member, as in ('logs/**', 'cold'), a RouteRule or a function, "
                f"not {given!r}"
            )
        return RouteRule(*given)
    check_function("a rule of a Route", "a bucket and a key", given)
    return given


def _name_of(function: RouteFunction) -> str:
    return repr(getattr(function, "__qualname__", function))
