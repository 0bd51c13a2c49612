"""Which driver serves which DSN scheme."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
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

_DRIVERS: Final = "trove_async.drivers."

_factories: dict[str, DriverFactory | str] = {}


def register(scheme: str, factory: DriverFactory | str) -> None:
    """Register a driver for the DSNs of a scheme.

    Args:
        scheme: in lower case, without ``://``.
        factory: makes the driver; or ``"module:Class"``, imported when it is needed for the first time.

    Raises:
        DriverRegistrationError: a driver is registered for the scheme, or the scheme is malformed.
    """
    if scheme in _factories:
        raise DriverRegistrationError(f"a driver is already registered for {scheme!r}")
    if not scheme or scheme != scheme.lower() or "://" in scheme:
        raise DriverRegistrationError(f"{scheme!r} is not a scheme: give lower-case letters without '://'")
    _factories[scheme] = factory


def lookup(scheme: str) -> DriverFactory:
    """Return the factory of a scheme's drivers: registered, or an installed package's entry point.

    Raises:
        DriverRegistrationError: no driver is registered; the message names the registered schemes.
        MissingDependencyError: a package that the driver needs is not installed; the message names the extra.
    """
    found: DriverFactory | str | None = _factories.get(scheme)
    if found is None:
        point = _installed().get(scheme)
        if point is None:
            close = get_close_matches(scheme, schemes(), n=1)
            guess = f" (is it {close[0]!r}?)" if close else ""
            raise DriverRegistrationError(
                f"no driver is registered for {scheme!r}{guess}, only for {', '.join(schemes())}; "
                f"packages can add drivers through the entry-point group {ENTRY_POINTS!r}"
            )
        found = point.value
    return _load(scheme, found) if isinstance(found, str) else found


def _load(scheme: str, path: str) -> DriverFactory:
    module, _, attribute = path.partition(":")
    try:
        factory: DriverFactory = getattr(import_module(module), attribute)
    except ImportError as error:
        # The extra of a driver of the library has the name of the driver's package.
        extra = module.removeprefix(_DRIVERS).partition(".")[0] if module.startswith(_DRIVERS) else None
        remedy = error.name if extra is None else f"'trove-async[{extra}]'"
        raise MissingDependencyError(
            f"the driver for {scheme!r} needs the package {error.name!r}: pip install {remedy}"
        ) from error
    return factory


@cache
def _installed() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=ENTRY_POINTS):
        if point.name in found or point.name in _factories:
            raise DriverRegistrationError(f"two installed packages have a driver for {point.name!r}")
        found[point.name] = point
    return found


def schemes() -> list[str]:
    """Return the schemes that can be opened, sorted."""
    return sorted({*_factories, *_installed()})
