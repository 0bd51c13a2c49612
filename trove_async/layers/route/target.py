"""`Route`: one store over several, each of which has the keys that rules assign to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field

from trove_async.driver.base import Driver
from trove_async.driver.opening import Member, Target
from trove_async.driver.options import OpenOptions
from trove_async.dsn import is_store_name
from trove_async.errors import InvalidArgumentError
from trove_async.layers.members import open_members
from trove_async.layers.route.driver import RouteDriver
from trove_async.layers.route.rules import RouteRuleLike, Rules

__all__ = ["Route"]


@dataclass(frozen=True)
class Route(Target):
    """One store over several: rules say which of them has which key. Give it to `trove_async.open` in place of a DSN.

    The first rule that names a member decides. A rule is a pair of a glob and a member, as in ``("logs/**", "cold")``,
    a `RouteRule`, which can have a glob of the bucket too, or a function that gets the bucket and the key, and returns
    the name of a member or None. A function returns the same answer for the same key at any time: otherwise a get does
    not find what a put has stored.

    Attributes:
        members: the stores by names of your choice: DSNs, targets, open drivers, or a `Member` that has layers of its
            own. What is given as a DSN or a target is opened and closed with the store.
        rules: in the order in which they are asked.
        default: the member that has all other keys.

    Raises:
        InvalidArgumentError: there is no member, a name is malformed, or a rule is malformed, stands twice, or names an
            unknown member.
        InvalidDSNError: a DSN is malformed.
    """

    members: Mapping[str, str | Driver | Target | Member]
    rules: Sequence[RouteRuleLike] = ()
    _: KW_ONLY
    default: str
    _members: Mapping[str, Member] = field(init=False, repr=False, compare=False)
    _rules: Rules = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.members, Mapping) or not self.members:
            raise InvalidArgumentError(
                f"the members of a Route are stores by name, as in {{'hot': 'memory://'}}, not {_shown(self.members)}"
            )
        for name in self.members:
            if not isinstance(name, str) or not is_store_name(name):
                raise InvalidArgumentError(
                    f"the name of a member is a letter and letters, digits, '_' and '-', not {name!r}"
                )
        if isinstance(self.rules, str | Mapping) or callable(self.rules) or not hasattr(self.rules, "__iter__"):
            raise InvalidArgumentError(
                f"the rules of a Route are a list, as in [('logs/**', 'cold')], not {self.rules!r}"
            )
        members = {name: Member.of(member) for name, member in self.members.items()}
        object.__setattr__(self, "rules", tuple(self.rules))
        object.__setattr__(self, "members", members)  # a repr must not show the secrets of a DSN
        object.__setattr__(self, "_members", members)
        object.__setattr__(self, "_rules", Rules(members, self.rules, self.default))

    async def open(self, options: OpenOptions) -> Driver:
        """Open the members, one after another; if one fails, the others are closed again.

        Raises:
            TroveError: a member cannot be opened; a note of the error names it.
        """
        return RouteDriver(await open_members(self._members, options), self._rules)


def _shown(members: object) -> str:
    return repr(members) if isinstance(members, Mapping) else type(members).__name__
