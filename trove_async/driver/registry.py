"""Which driver serves which DSN scheme."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from trove_async.driver.base import Driver
from trove_async.errors import DriverRegistrationError, MissingDependencyError

__all__ = ["DriverFactory", "lookup", "register", "schemes"]

DriverFactory = Callable[[], Driver]
"""Makes a driver that is not open yet; a driver's class is one."""

ENTRY_POINTS = "trove_async.drivers"
"""The entry-point group in which an installed package names its drivers, ``scheme = "module:Class"``."""

_ROOMS: Final = "trove_async.drivers."

_factories: dict[str, DriverFactory | str] = {}


def register(scheme: str, factory: DriverFactory | str) -> None:
    """Have DSNs of a scheme served by a driver.

    Args:
        scheme: in lower case, without ``://``.
        factory: makes the driver; or ``"module:Class"``, imported when it is first needed.

    Raises:
        DriverRegistrationError: the scheme is taken, by a driver of the library too.
    """
    if scheme in _factories:
        raise DriverRegistrationError(f"a driver is registered for {scheme!r} already")
    if not scheme or scheme != scheme.lower() or "://" in scheme:
        raise DriverRegistrationError(f"{scheme!r} is no scheme: give lower-case letters without '://'")
    _factories[scheme] = factory


def lookup(scheme: str) -> DriverFactory:
    """Return what makes drivers for a scheme: registered, or named by an installed package's entry point.

    Raises:
        DriverRegistrationError: nothing is; names the schemes that there are.
        MissingDependencyError: the driver's package is not installed; names the extra.
    """
    found: DriverFactory | str | None = _factories.get(scheme)
    if found is None:
        point = _installed().get(scheme)
        if point is None:
            raise DriverRegistrationError(
                f"no driver is registered for {scheme!r}; there are {', '.join(schemes())}, "
                f"and packages can bring more through the entry-point group {ENTRY_POINTS!r}"
            )
        found = point.value
    return _load(scheme, found) if isinstance(found, str) else found


def _load(scheme: str, path: str) -> DriverFactory:
    module, _, attribute = path.partition(":")
    try:
        factory: DriverFactory = getattr(import_module(module), attribute)
    except ImportError as error:
        # A driver of ours has an extra of its room's name; of others only the package is known.
        room = module.removeprefix(_ROOMS).partition(".")[0] if module.startswith(_ROOMS) else None
        remedy = error.name if room is None else f"'trove-async[{room}]'"
        raise MissingDependencyError(
            f"the driver for {scheme!r} needs the package {error.name!r}: pip install {remedy}"
        ) from error
    return factory


@cache
def _installed() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=ENTRY_POINTS):
        if point.name in found or point.name in _factories:
            raise DriverRegistrationError(f"two installed packages bring a driver for {point.name!r}")
        found[point.name] = point
    return found


def schemes() -> list[str]:
    """Return the schemes that can be opened, sorted."""
    return sorted({*_factories, *_installed()})
