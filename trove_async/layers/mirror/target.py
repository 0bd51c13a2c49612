"""`Mirror`: the description of a mirror, which `trove_async.open` opens."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from trove_async.driver.base import Driver, unwrap
from trove_async.driver.opening import Member, Target
from trove_async.driver.options import OpenOptions
from trove_async.dsn import check_no_secret, parse_dsn
from trove_async.errors import InvalidArgumentError, InvalidDSNError, UnsupportedError
from trove_async.layers.breaker import CircuitBreaker
from trove_async.layers.members import named, open_members
from trove_async.layers.mirror.fleet import Fleet, Replica, new_breaker
from trove_async.values import is_number, is_whole

if TYPE_CHECKING:
    from trove_async.database import Database

__all__ = ["Mirror"]

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}\Z")

Given = str | Driver | Target | Member


@dataclass(frozen=True)
class Mirror(Target):
    """Keep a copy of every object in each of several stores: ``trove.open(trove.Mirror([dsn, dsn], queue=…))``.

    A write is acknowledged when ``write_quorum`` members have it. What the others have missed waits in the queue until
    it is repaired; a queued copy is no replica, and is not read. ``docs/mirror.md`` says what is promised.

    Attributes:
        members: at least two DSNs, drivers, targets or `trove_async.Member`; a list names them "0", "1" and so on, a
            mapping gives names of their own. Reads prefer the first ones.
        queue: the URL of a database, as for `trove_async.database.connect`, or one that is open and stays open. All
            processes that use the mirror share it, and all writes go through the mirror.
        write_quorum: the number of members that must have a write; the majority by default.
        stale_reads: True to read a copy that waits for repair if no other one can be reached.
        repair_every: seconds between two looks at the queue; None to repair only when ``repair()`` is called.
        test_every: seconds between two tests of a member that is down.
        claim_seconds: the time after which a write is settled by somebody else if its process has died.
        list_etags: False to save the request for each listed object that finds out its ETag. Listings then have an ETag
            that no condition matches.

    Raises:
        InvalidArgumentError, InvalidDSNError: a value is wrong.
        MissingDependencyError: the packages for databases are not installed.
    """

    members: Sequence[Given] | Mapping[str, Given]
    queue: str | Database = field(repr=False)
    write_quorum: int | None = None
    stale_reads: bool = False
    repair_every: float | None = 5.0
    test_every: float = 5.0
    claim_seconds: float = 30.0
    list_etags: bool = True

    def __post_init__(self) -> None:
        members = _members(self.members)
        _check_distinct(members)
        object.__setattr__(self, "members", members)
        count = len(self.members)
        if count < 2:
            raise InvalidArgumentError("a mirror has two members or more")
        quorum = count // 2 + 1 if self.write_quorum is None else self.write_quorum
        if not (is_whole(quorum) and 1 <= quorum <= count):
            raise InvalidArgumentError(f"write_quorum is a whole number from 1 to {count}, not {self.write_quorum!r}")
        object.__setattr__(self, "write_quorum", quorum)
        if self.queue is None:
            raise InvalidArgumentError(
                "a mirror needs a queue that outlives the process, such as queue='sqlite:///repair.db'"
            )
        if isinstance(self.queue, str):
            from trove_async.database.url import parse_url  # it needs packages of its own

            try:
                parse_url(self.queue)
            except InvalidDSNError as error:
                raise InvalidDSNError(f"queue is no URL of a database: {error.message}") from None
        elif not hasattr(self.queue, "write"):
            raise InvalidArgumentError(f"queue is the URL of a database, or an open database, not {self.queue!r}")
        for name in ("repair_every", "test_every", "claim_seconds"):
            value = getattr(self, name)
            if not (is_number(value) and 0 < value < 1e9) and not (name == "repair_every" and value is None):
                raise InvalidArgumentError(f"{name} is a number of seconds, above 0 and below 1e9, not {value!r}")

    def __getstate__(self) -> dict[str, object]:
        if isinstance(self.queue, str):
            check_no_secret(parse_dsn(self.queue))
        return self.__dict__

    async def open(self, options: OpenOptions) -> Driver:
        """Open the queue and the members, and begin to repair."""
        from trove_async.layers.mirror.driver import MirrorDriver  # they need packages of their own
        from trove_async.layers.mirror.queue import RepairQueue

        assert isinstance(self.members, Mapping)
        given = {name: Member.of(member) for name, member in self.members.items()}
        breakers = {name: self._breaker(name) for name in given}
        guarded = {
            name: Member(member.target, layers=[*member.layers, breakers[name]], settings=member.settings)
            for name, member in given.items()
        }
        async with AsyncExitStack() as stack:
            queue = await RepairQueue.open(self.queue)
            stack.push_async_callback(queue.aclose)
            await queue.register({name: _identity(member) for name, member in given.items()})
            members = await open_members(guarded, options)
            stack.push_async_callback(members.close)
            for name, member in members.drivers.items():
                _check_plain(name, member, MirrorDriver)
            replicas = [Replica(name, driver, breakers[name]) for name, driver in members.drivers.items()]
            fleet = self._fleet(replicas, options.cleanup_timeout)
            driver = MirrorDriver(members, fleet, queue, self)
            driver.begin()
            stack.pop_all()
            return driver

    def _breaker(self, name: str) -> CircuitBreaker:
        """Return the circuit breaker of a member."""
        return new_breaker(name, self.test_every)

    def _fleet(self, replicas: Sequence[Replica], cleanup_timeout: float) -> Fleet:
        """Return what decides which members are written."""
        assert self.write_quorum is not None
        return Fleet(replicas, self.write_quorum, cleanup_timeout)


def _members(given: object) -> dict[str, Member]:
    if isinstance(given, Mapping):
        for name in given:
            if not isinstance(name, str) or not _NAME.match(name):
                raise InvalidArgumentError(f"the name of a member is 1 to 32 of a-z, 0-9, - and _, not {name!r}")
        return {name: Member.of(member) for name, member in given.items()}
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InvalidArgumentError(f"members is a list or a mapping of DSNs or drivers, not {given!r}")
    return named(given)


def _check_plain(name: str, driver: Driver, mirror: type[Driver]) -> None:
    """Refuse a mirror as a member of a mirror: the hidden metadata of one would be that of the other."""
    with suppress(UnsupportedError):
        unwrap(driver, mirror)
        raise InvalidArgumentError(f"the member {name!r} is a mirror itself; give its members to this one")


def _check_distinct(members: Mapping[str, Member]) -> None:
    """Refuse two members that are the same store: there would be one copy where two are expected."""
    seen: list[tuple[str, Member]] = []
    for name, member in members.items():
        for other, before in seen:
            if _is_same(member, before):
                raise InvalidArgumentError(
                    f"members {other!r} and {name!r} are the same store, {member!r}; "
                    "a mirror needs a store for each copy"
                )
        seen.append((name, member))


def _is_same(one: Member, other: Member) -> bool:
    if isinstance(one.target, Driver):
        return one.target is other.target and not (one.layers or other.layers)
    return bool(_identity(one)) and (one.target, one.settings) == (other.target, other.settings)


def _identity(member: Member) -> str:
    """Return what a member is, whatever its credentials; empty if that cannot be known."""
    if not isinstance(member.target, str):
        return ""
    dsn = parse_dsn(member.target)
    if dsn.scheme == "memory" and not dsn.host:
        return ""
    place = f"{dsn.scheme}://{dsn.host}{'' if dsn.port is None else f':{dsn.port}'}{dsn.path}"
    endpoint = member.settings.get("endpoint", dsn.params.get("endpoint"))
    return f"{place} at {endpoint}" if endpoint else place
