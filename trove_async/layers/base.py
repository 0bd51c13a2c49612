"""A layer: a driver around a driver, which has exactly the capabilities of the driver that it wraps.

A layer is a subclass of `LayerDriver`. Every operation goes through its `around`, with all arguments, which it
may change::

    class Announce(LayerDriver):
        async def around(self, operation, call):
            print(operation.name, operation.key)
            return await call()

    async with trove_async.open("memory://", layers=[Announce]) as t: ...

The class of each instance is composed when a driver is wrapped, so that ``isinstance(layer, MultipartDriver)``
is true exactly if the wrapped driver has that capability and the layer does not drop it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import cache
from typing import Any, ClassVar, Final, Protocol, Self, TypeVar, cast

from trove_async.body import Body
from trove_async.driver.base import Driver, capabilities_of, methods_of
from trove_async.driver.capabilities import CAPABILITIES, Features
from trove_async.driver.events import Listener
from trove_async.driver.methods import METHODS, Method
from trove_async.driver.options import GetOptions, OpenOptions, WatchOptions
from trove_async.driver.retry import RetryPolicy
from trove_async.dsn import DSN
from trove_async.types import ObjectEvent

__all__ = ["Call", "LayerDriver", "Operation"]

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
F = TypeVar("F", bound=Callable[..., Any])


class Operation:
    """What a layer is asked to do. It is not changed: `Call` passes other arguments on.

    Args:
        name, driver, bucket, key, body: see below.
        parameters: the names of the arguments.
        values: of the arguments, in the same order.

    Attributes:
        name: of the driver's method.
        driver: the name of the innermost driver.
        bucket, key: what it is about, None if it is about none; of a copy the destination.
        body: of a put or part.
    """

    # A frozen dataclass takes five times as long to make, once for each layer and operation.
    __slots__ = ("_parameters", "_values", "body", "bucket", "driver", "key", "name")

    def __init__(
        self,
        name: str,
        driver: str,
        bucket: str | None,
        key: str | None,
        body: Body | None,
        parameters: Sequence[str],
        values: tuple[Any, ...],
    ) -> None:
        self.name = name
        self.driver = driver
        self.bucket = bucket
        self.key = key
        self.body = body
        self._parameters = parameters
        self._values = values

    @property
    def arguments(self) -> Mapping[str, Any]:
        """All arguments by the names that the contract gives them, such as ``options``."""
        return dict(zip(self._parameters, self._values, strict=True))

    def __getitem__(self, name: str) -> Any:
        """Return one of the `arguments`; faster than to make the mapping of all."""
        return self._values[self._parameters.index(name)]

    @property
    def part_of(self) -> str | None:
        """The method of the store, as ``download``, if this reads one of the ranges of a large object for it.

        It is then a request of an operation that is under way, and none of its own.
        """
        options = self._values[-1] if self._values else None
        return options.part_of if isinstance(options, GetOptions) else None

    def on(self, driver: Driver, **changes: Any) -> Any:
        """Ask a driver for the same; ``changes`` replace the `arguments` of the same names.

        Returns:
            What the driver's method returns: a coroutine, or for ``watch`` an async generator.
        """
        values = METHODS[self.name].change(self._values, changes) if changes else self._values
        return getattr(driver, self.name)(*values)

    def __repr__(self) -> str:
        return f"<Operation {self.name} bucket={self.bucket!r} key={self.key!r}>"


class Call(Protocol[R_co]):
    """Passes an operation on to the driver inside, with some of its arguments changed."""

    def __call__(self, **changes: Any) -> Awaitable[R_co]:
        """Call the driver; ``changes`` replace the `Operation.arguments` of the same names."""


def operation_maker(described: Method) -> Callable[[str, tuple[Any, ...]], Operation]:
    """Return a function that makes the `Operation` of a method from the name of the driver and all arguments."""
    name, parameters = described.name, described.parameters

    def position(*wanted: str) -> int:
        # For what the method does not have: the position of the None that is put behind the arguments.
        return next((at for at, parameter in enumerate(parameters) if parameter in wanted), -1)

    bucket_at, key_at = position("bucket", "dst_bucket", "name"), position("key", "dst_key")
    body_at, target_at = position("body"), position("dst")

    def make(driver: str, args: tuple[Any, ...]) -> Operation:
        given = (*args, None)
        bucket, key = given[bucket_at], given[key_at]
        if target_at >= 0:
            bucket, key = given[target_at]
        return Operation(name, driver, bucket, key, given[body_at], parameters, args)

    return make


def _pass(operation: Operation, layer: LayerDriver) -> Any:
    """Carry an operation out through a layer.

    The layer inside of it gets the same object, unless arguments were changed: to make another one takes longer than
    all else that a layer costs.
    """

    def call(**changes: Any) -> Any:
        inner: Any = layer.inner
        if changes:
            return operation.on(inner, **changes)
        if operation.name in layer._inner_passes:
            return _pass(operation, inner)
        return getattr(inner, operation.name)(*operation._values)

    return layer.around(operation, call)


def _forward(method: F) -> F:
    """Return a method that passes a method of the contract on through `LayerDriver.around`."""
    described = METHODS[method.__name__]
    name, count = described.name, len(described.parameters)
    operation = operation_maker(described)

    def forward(self: LayerDriver, *args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != count:
            args = described.bind(args, kwargs)
        return _pass(operation(self._name, args), self)

    made: Any = forward
    made.passes = True
    made.__name__, made.__qualname__ = name, f"LayerDriver.{name}"
    made.__doc__, made.__signature__ = "Pass the operation on.", described.signature
    return cast(F, made)


async def _watch(self: LayerDriver, bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
    """Pass the events on."""
    inner: Any = self.inner
    method, arguments = METHODS["watch"], (bucket, options)

    async def call(**changes: Any) -> AsyncGenerator[ObjectEvent, None]:
        events: AsyncGenerator[ObjectEvent, None]
        events = inner.watch(*method.change(arguments, changes))
        return events

    operation = Operation(method.name, self._name, bucket, None, None, method.parameters, arguments)
    # `around` returns before the first event, so that none of its scopes is open across a yield.
    async with aclosing(await self.around(operation, call)) as events:
        async for event in events:
            yield event


class LayerDriver(Driver):
    """Passes every operation on to another driver, through `around`.

    Attributes:
        drops: what the layer takes away, each with the reason: capabilities, conditions such as
            ``"put_if_match"``, and methods of signed URLs such as ``"PUT"``.
        inner: the driver that it is around.
    """

    drops: ClassVar[Mapping[type | str, str]] = {}

    _passes: ClassVar[frozenset[str]] = frozenset()
    """The methods that do nothing but pass the operation on through `around`."""

    def __new__(cls, inner: Driver, *args: Any, **kwargs: Any) -> Self:
        """Make an instance of the class that has what ``inner`` has, and the layer keeps."""
        keeps = capabilities_of(inner).difference(cls.drops)
        return cast(Self, object.__new__(_composed(cls, keeps)))

    def __init__(self, inner: Driver) -> None:
        self.inner = inner
        self._name = inner.name
        self._inner_passes = inner._passes if isinstance(inner, LayerDriver) else frozenset()
        if type(self).check_key is LayerDriver.check_key:
            # Every operation asks, and passes the layers in between at once.
            self.check_key = inner.check_key  # type: ignore[method-assign]

    def around(self, operation: Operation, call: Call[R]) -> Awaitable[R]:
        """Do something before and after an operation, by an ``async def``; the default does nothing.

        Await ``call()`` and return what it returns; ``call(options=…)`` passes other options on, and so for every
        name in `Operation.arguments`. Whoever calls it again must see to it that ``operation.body`` is
        replayable, and rewind it.

        For ``watch``, ``call()`` returns the async generator of the events, which subscribes at its first
        step. To follow or change the events, return another async generator that closes this one.
        """
        return call()

    @property
    def name(self) -> str:
        """The name of the innermost driver."""
        return self._name

    @property
    def default_bucket(self) -> str | None:  # type: ignore[override]
        """The bucket that the DSN names, if it names one."""
        return self.inner.default_bucket

    @property
    def default_prefix(self) -> str:  # type: ignore[override]
        """The prefix of keys that the DSN names and no layer adds yet; empty if there is none."""
        return self.inner.default_prefix

    @property
    def features(self) -> Features:
        """What the inner driver's server has, less what the layer drops."""
        return self.inner.features.without(self.drops) if self.drops else self.inner.features

    def check_key(self, key: str) -> None:
        """Ask the inner driver."""
        self.inner.check_key(key)

    def check_bucket(self, bucket: str) -> None:
        """Ask the inner driver."""
        self.inner.check_bucket(bucket)

    async def settle(self, bucket: str, key: str) -> None:
        """Pass the call on."""
        await self.inner.settle(bucket, key)

    def use_retry_policy(self, policy: RetryPolicy) -> bool:
        """Pass the policy on."""
        return self.inner.use_retry_policy(policy)

    def unwrap(self) -> Driver:
        """Return the driver that this one is around."""
        return self.inner

    def add_listener(self, listener: Listener) -> None:
        """Pass the listener on to the inner driver."""
        self.inner.add_listener(listener)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} around {self.inner!r}>"

    async def open(self, dsn: DSN, options: OpenOptions) -> None:
        """Open the inner driver, then start the layer."""
        await self.inner.open(dsn, options)
        await self.start()

    async def close(self) -> None:
        """Close the inner driver."""
        await self.inner.close()

    ping = _forward(Driver.ping)
    put = _forward(Driver.put)
    get = _forward(Driver.get)
    head = _forward(Driver.head)
    delete = _forward(Driver.delete)
    copy = _forward(Driver.copy)
    list_page = _forward(Driver.list_page)
    create_bucket = _forward(Driver.create_bucket)
    delete_bucket = _forward(Driver.delete_bucket)
    list_buckets = _forward(Driver.list_buckets)


_MIXINS: Final[Mapping[type, type[LayerDriver]]] = {
    capability: type(
        f"_{capability.__name__}Layer",
        (LayerDriver,),
        {name: _watch if name == "watch" else _forward(getattr(capability, name)) for name in methods_of(capability)},
    )
    for capability in CAPABILITIES
}
"""What is mixed into the class of a layer for each capability that the inner driver has."""


@cache
def _composed(layer: type[LayerDriver], keeps: frozenset[type]) -> type[LayerDriver]:
    """Return the class of a layer around a driver with these capabilities.

    A layer may override a method of a capability. Around a driver without the capability the method is hidden by
    None, which `isinstance` against a Protocol takes for a missing method: a layer adds no capability.
    """
    mixins = [mixin for capability, mixin in _MIXINS.items() if capability in keeps]
    kept = frozenset().union(*(methods_of(capability) for capability in keeps))
    hidden = {
        name: None
        for name, method in METHODS.items()
        if method.capability is not None and name not in kept and hasattr(layer, name)
    }
    bases = tuple(mixins) if layer is LayerDriver and mixins else (layer, *mixins)
    made = cast(type[LayerDriver], type(layer.__name__, bases, {"__module__": layer.__module__, **hidden}))
    made._passes = frozenset(name for name in METHODS if hasattr(getattr(made, name, None), "passes"))
    return made
