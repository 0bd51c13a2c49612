"""Opening drivers with their layers: for `trove_async.open`, and for the members of a store over several stores."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, ClassVar, Final, cast

from trove_async.cancellation import finish
from trove_async.driver.base import Driver, Layer, check_layers, stack_of
from trove_async.driver.options import OpenOptions
from trove_async.driver.order import Placed, check_order
from trove_async.driver.registry import import_path, lookup
from trove_async.dsn import DSN, NAMED, check_no_secret, is_name, parse_dsn
from trove_async.errors import DriverRegistrationError, InvalidArgumentError, InvalidDSNError
from trove_async.types import EMPTY

__all__ = ["Member", "Target", "checked_layers", "driver_of", "named_target", "open_stack"]

_PREFIX_LAYER: Final = "trove_async.layers.prefixed:Prefixed"
"""The layer for the prefix in a DSN: its module is above this one, and is imported when it is needed."""

_NAMED_STORE: Final = "trove_async.config:NamedStore"
"""The target for a name of the configuration; above this module too."""

_CACHE: Final = "Cache"
"""The `Placed.layer_name` of the layer that must not be around the one for the prefix."""


class Target(ABC):
    """What `trove_async.open` opens in place of a DSN, such as a `trove_async.Mirror`.

    A target is a description: it holds nothing open, and may be opened any number of times.

    Attributes:
        takes_settings: whether `open` reads ``options.settings``; otherwise they are refused.
    """

    takes_settings: ClassVar[bool] = False

    @abstractmethod
    async def open(self, options: OpenOptions) -> Driver:
        """Open what it describes, and return a driver that closes all that was opened for it.

        Raises:
            TroveError: something cannot be opened; what was opened before it is closed again.
        """


@dataclass(frozen=True)
class Member:
    """One of the stores of a store over several stores, with layers of its own.

    Attributes:
        target: a DSN, a target, or a driver that is open and stays open.
        layers: wrap the driver, the first one innermost.
        settings: the driver's parameters, as in the query of the DSN, but with values of any type.
    """

    target: str | Driver | Target
    layers: Iterable[Layer] = ()
    settings: Mapping[str, Any] = field(default=EMPTY, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", checked_layers(self.layers))
        if isinstance(self.target, str):
            if is_name(self.target) and "://" not in self.target:
                raise InvalidDSNError(
                    f"{self.target!r} has no scheme followed by '://'; write 'trove://{self.target}' for a store of "
                    "trove.toml"
                )
            parse_dsn(self.target)
        else:
            _check_target(self.target, self.settings)

    @classmethod
    def of(cls, given: str | Driver | Target | Member) -> Member:
        """Return what is given as a member.

        Raises:
            InvalidDSNError: it is malformed, or none of the kinds of a member.
        """
        return given if isinstance(given, Member) else cls(given)

    def __repr__(self) -> str:
        target = str(parse_dsn(self.target)) if isinstance(self.target, str) else self.target
        return f"<Member {target!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        check_no_secret(parse_dsn(self.target) if isinstance(self.target, str) else DSN(""), self.settings)
        return Member, (self.target, self.layers, self.settings)


def named_target(name: str, config: object = None) -> Target:
    """Return the target for a name of the configuration, or for ``trove://NAME/bucket/prefix``.

    Args:
        name: what is opened.
        config: where the name stands; see `trove_async.open`.

    Raises:
        ConfigError, InvalidDSNError: it is malformed.
    """
    return cast(Target, import_path(_NAMED_STORE).of(name, config))


def driver_of(dsn: DSN) -> Driver:
    """Return a driver for a DSN, which is not open yet.

    Raises:
        InvalidDSNError: no driver is registered for its scheme.
        MissingDependencyError: a package that the driver needs is not installed; the message names the extra.
    """
    try:
        factory = lookup(dsn.scheme)
    except DriverRegistrationError as error:
        raise InvalidDSNError(error.message) from None
    driver = factory()
    if not isinstance(driver, Driver):
        raise DriverRegistrationError(
            f"what is registered for {dsn.scheme!r} makes a {type(driver).__name__}, not a Driver"
        )
    return driver


async def open_stack(
    target: str | Driver | Target,
    layers: Iterable[Layer],
    options: OpenOptions,
) -> Driver:
    """Open a target, wrap its driver in layers, start them, and return the outermost; it closes all of them.

    If anything fails, all that was opened is closed again, and so is a driver that was given open.

    Raises:
        InvalidDSNError: the DSN is wrong, or ``target`` is something else.
        InvalidArgumentError: a layer is none, or the order of the layers is wrong.
    """
    driver = await _open_driver(target, options)
    started = driver
    try:
        for layer in _wrap(driver, _with_prefix(driver, layers)):
            started = layer
            await layer.start()
    except BaseException:
        await _close(started, options)
        raise
    return started


async def _open_driver(target: str | Driver | Target, options: OpenOptions) -> Driver:
    if not isinstance(target, str):
        _check_target(target, options.settings)
        return target if isinstance(target, Driver) else await target.open(options)
    dsn = parse_dsn(target)
    if dsn.scheme == NAMED:
        return await named_target(target).open(options)
    driver = driver_of(dsn)
    try:
        await driver.open(dsn, options)
    except BaseException:
        await _close(driver, options)
        raise
    return driver


def _check_target(target: object, settings: Mapping[str, Any]) -> None:
    """Refuse what is neither a driver nor a target, and settings for one of them."""
    if isinstance(target, os.PathLike):
        raise InvalidDSNError("a path is not a DSN; write f'local://{path}' with an absolute path")
    if isinstance(target, type):
        raise InvalidDSNError(f"{target.__name__} is a class; give a DSN such as 'memory://', or a driver that is open")
    if not isinstance(target, Driver | Target):
        raise InvalidDSNError(f"a DSN is a str such as 'local:///srv/data', not {type(target).__name__}")
    if settings and not (isinstance(target, Target) and target.takes_settings):
        what = "a driver that is already open" if isinstance(target, Driver) else "a store over several stores"
        raise InvalidArgumentError(f"{sorted(settings)[0]!r} is not an argument of open() with {what}")


async def _close(driver: Driver, options: OpenOptions) -> None:
    await finish(driver.close(), timeout=options.cleanup_timeout, leftover=f"the {driver.name} driver")


def _with_prefix(driver: Driver, layers: Iterable[Layer]) -> Iterable[Layer]:
    """Return the layers and the one for a prefix in the DSN: innermost, but around a cache, which sees whole keys."""
    if not driver.default_prefix:
        return layers
    given = tuple(layers)
    caches = [at for at, layer in enumerate(given, 1) if isinstance(layer, Placed) and layer.layer_name == _CACHE]
    beneath = caches[-1] if caches else 0
    return (*given[:beneath], import_path(_PREFIX_LAYER)(""), *given[beneath:])


def _wrap(driver: Driver, layers: Iterable[Layer]) -> list[Driver]:
    """Wrap a driver in layers and return them, innermost first; one layer may be several drivers."""
    outermost = driver
    for layer in layers:
        made: object = layer(outermost)
        if not isinstance(made, Driver):
            raise _no_layer(layer)
        outermost = made
    check_layers(outermost)
    return [*takewhile(lambda at: at is not driver, stack_of(outermost))][::-1]


def checked_layers(layers: object) -> tuple[Layer, ...]:
    """Return what is given as layers.

    Raises:
        InvalidArgumentError: it is known before any I/O to be something else, or to be in a wrong order.
    """
    if callable(layers) or isinstance(layers, str) or not isinstance(layers, Iterable):
        given = "one layer" if callable(layers) else repr(layers)
        raise InvalidArgumentError(f"layers is a list of layers, such as layers=[Limit(8)], not {given}")
    found = tuple(layers)
    for layer in found:
        if isinstance(layer, type) and not issubclass(layer, Driver):
            raise InvalidArgumentError(
                f"{layer.__name__} in layers is a class; write {layer.__name__}(…) to make a layer"
            )
        if isinstance(layer, Target):
            raise InvalidArgumentError(f"{type(layer).__name__} is no layer; give it to open() in place of the DSN")
        if not callable(layer):
            raise _no_layer(layer)
    check_order(reversed(found))
    return found


def _no_layer(given: object) -> InvalidArgumentError:
    return InvalidArgumentError(f"a layer is called with a driver and returns a driver; {given!r} does not")
