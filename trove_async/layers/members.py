"""`MembersDriver`: the base of the stores over several stores, which have what all of their members have."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import fields
from functools import cache, reduce
from typing import Any, ClassVar, Final, Self, TypeVar, cast

from trove_async.cancellation import finish
from trove_async.driver.base import Driver, capabilities_of, methods_of
from trove_async.driver.capabilities import CAPABILITIES, Features, Limits
from trove_async.driver.events import Listener
from trove_async.driver.methods import METHODS
from trove_async.driver.opening import Member, Target, open_stack
from trove_async.driver.options import OpenOptions
from trove_async.driver.retry import RetryPolicy
from trove_async.dsn import DSN
from trove_async.layers.base import LayerDriver, Operation, operation_maker

__all__ = ["MembersDriver", "OpenMembers", "named", "open_members", "shared_features"]

F = TypeVar("F", bound=Callable[..., Any])


class OpenMembers:
    """The members of a store, open, by their names and in their order.

    Attributes:
        drivers: the outermost driver of each member.
        cleanup_timeout: the time limit in seconds of closing each.
    """

    def __init__(self, drivers: Mapping[str, Driver], closing: AsyncExitStack, options: OpenOptions) -> None:
        self.drivers = drivers
        self.cleanup_timeout = options.cleanup_timeout
        self._closing = closing

    async def close(self) -> None:
        """Close the members that were opened for the store, the last one first; idempotent."""
        await self._closing.aclose()


async def open_members(members: Mapping[str, Member], options: OpenOptions) -> OpenMembers:
    """Open members, one after another; if one fails, the others are closed again.

    Raises:
        TroveError: a member cannot be opened; a note of the error names the member.
    """
    async with AsyncExitStack() as stack:
        drivers: dict[str, Driver] = {}
        for name, member in members.items():
            try:
                drivers[name] = await stack.enter_async_context(_opened(name, member, options))
            except Exception as error:
                error.add_note(f"while the member {name!r} was opened")
                raise
        return OpenMembers(drivers, stack.pop_all(), options)


@asynccontextmanager
async def _opened(name: str, member: Member, options: OpenOptions) -> AsyncGenerator[Driver, None]:
    target = member.target
    if isinstance(target, Driver):
        target = _KeptOpen(target) if member.layers or target.default_prefix else target
    opening = OpenOptions(settings=member.settings, cleanup_timeout=options.cleanup_timeout)
    driver = await open_stack(target, member.layers, opening)
    try:
        yield driver
    finally:
        if driver is not member.target:
            await finish(driver.close(), timeout=options.cleanup_timeout, leftover=f"the member {name!r}")


class _KeptOpen(LayerDriver):
    """Keeps the driver of a member open that was given open, when the layers of the member are closed."""

    async def close(self) -> None:
        """Leave the inner driver open."""


def _perform(method: F) -> F:
    """Return a method that passes a method of the contract to `MembersDriver.perform`."""
    described = METHODS[method.__name__]
    count = len(described.parameters)
    operation = operation_maker(described)

    def perform(self: MembersDriver, *args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != count:
            args = described.bind(args, kwargs)
        return self.perform(operation(self.name, args))

    made: Any = perform
    made.__name__, made.__qualname__ = described.name, f"MembersDriver.{described.name}"
    made.__doc__, made.__signature__ = "Perform the operation on the members.", described.signature
    return cast(F, made)


class MembersDriver(Driver):
    """A driver over several open drivers, which has the capabilities that all of them have.

    A subclass implements `perform`, and ``watch`` if it keeps `NotificationDriver`.

    Attributes:
        drops: what is taken away although the members have it, each with the reason; as for `LayerDriver`.
        members: the drivers by their names.
    """

    drops: ClassVar[Mapping[type | str, str]] = {}

    def __new__(cls, members: OpenMembers, *args: Any, **kwargs: Any) -> Self:
        """Make an instance of the class that has what all members have, and the store keeps."""
        shared = frozenset.intersection(*(capabilities_of(driver) for driver in members.drivers.values()))
        return cast(Self, object.__new__(_composed(cls, shared.difference(cls.drops))))

    def __init__(self, members: OpenMembers) -> None:
        self.members = members.drivers
        self._open_members = members
        self._features = shared_features(members.drivers).without(self.drops)

    @abstractmethod
    async def perform(self, operation: Operation) -> Any:
        """Carry out an operation, with `Operation.on` the members."""

    @property
    def features(self) -> Features:
        """What the servers of all members have, less what the store drops."""
        return self._features

    @property
    def default_bucket(self) -> str | None:  # type: ignore[override]
        """The bucket that the DSNs of all members name."""
        named = {driver.default_bucket for driver in self.members.values()}
        return named.pop() if len(named) == 1 else None

    def check_key(self, key: str) -> None:
        """Ask each member."""
        for driver in self.members.values():
            driver.check_key(key)

    def check_bucket(self, bucket: str) -> None:
        """Ask each member."""
        for driver in self.members.values():
            driver.check_bucket(bucket)

    def use_retry_policy(self, policy: RetryPolicy) -> bool:
        """Pass the policy on to each member."""
        taken = [driver.use_retry_policy(policy) for driver in self.members.values()]
        return any(taken)

    def add_listener(self, listener: Listener) -> None:
        """Pass the listener on to each member."""
        for driver in self.members.values():
            driver.add_listener(listener)

    async def open(self, dsn: DSN, options: OpenOptions) -> None:
        """Do nothing: the members are open."""

    async def close(self) -> None:
        """Close the members that were opened for the store."""
        await self._open_members.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {dict(self.members)!r}>"

    ping = _perform(Driver.ping)
    put = _perform(Driver.put)
    get = _perform(Driver.get)
    head = _perform(Driver.head)
    delete = _perform(Driver.delete)
    copy = _perform(Driver.copy)
    list_page = _perform(Driver.list_page)
    create_bucket = _perform(Driver.create_bucket)
    delete_bucket = _perform(Driver.delete_bucket)
    list_buckets = _perform(Driver.list_buckets)


_METHODS: Final[Mapping[type, Mapping[str, Any]]] = {
    capability: {name: _perform(getattr(capability, name)) for name in methods_of(capability) if name != "watch"}
    for capability in CAPABILITIES
}


@cache
def _composed(store: type[MembersDriver], keeps: frozenset[type]) -> type[MembersDriver]:
    """Return the class of a store over members with these capabilities; it hides the methods of the others."""
    added = {name: method for capability in keeps for name, method in _METHODS[capability].items()}
    kept = frozenset().union(*(methods_of(capability) for capability in keeps))
    hidden = {name: None for name, method in METHODS.items() if method.capability is not None and name not in kept}
    own = {name for name in added if hasattr(store, name)}
    namespace = {name: method for name, method in added.items() if name not in own}
    return type(store.__name__, (store,), {"__module__": store.__module__, **namespace, **hidden})


def shared_features(members: Mapping[str, Driver]) -> Features:
    """Return what the servers of all members have; the reason for what is missing names a member that lacks it."""
    found = {name: driver.features for name, driver in members.items()}
    shared = reduce(_both, found.values())
    lost: dict[type | str, str] = {}
    for name, features in found.items():
        for what in (*features.protocols, *features.conditions, *features.presign_methods):
            lacking = [
                other
                for other, its in found.items()
                if what not in its.protocols and what not in its.conditions and what not in its.presign_methods
            ]
            if lacking:
                reason = found[lacking[0]].dropped.get(what, "it has no such thing")
                lost.setdefault(what, f"the member {lacking[0]!r} lacks it, which {name!r} has: {reason}")
    return shared.without(lost)


def _both(one: Features, other: Features) -> Features:
    return Features(
        protocols=one.protocols & other.protocols,
        conditions=one.conditions & other.conditions,
        presign_methods=one.presign_methods & other.presign_methods,
        watch_resume=one.watch_resume and other.watch_resume,
        native=one.native & other.native,
        limits=_tightest(one.limits, other.limits),
        dropped={**other.dropped, **one.dropped},
    )


def _tightest(one: Limits, other: Limits) -> Limits:
    def tighter(name: str) -> int | None:
        values: list[int] = [value for value in (getattr(one, name), getattr(other, name)) if value is not None]
        if not values:
            return None
        return max(values) if name in _THE_LARGEST else min(values)

    return Limits(**{field.name: cast(Any, tighter(field.name)) for field in fields(Limits)})


_THE_LARGEST: Final = frozenset({"min_part_size", "equal_parts"})
"""The limits of which the largest, or True, is the tightest."""


def named(members: Sequence[str | Driver | Target | Member]) -> dict[str, Member]:
    """Return members that have no names of their own with the names ``"0"``, ``"1"`` and so on."""
    return {str(number): Member.of(member) for number, member in enumerate(members)}
