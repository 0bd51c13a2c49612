"""Which driver serves which DSN scheme; and `Registry`, for whatever else installed packages can add by a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from trove_async.driver.base import Driver
from trove_async.errors import DriverRegistrationError, MissingDependencyError, TroveError
from trove_async.guesses import guess

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["DRIVERS", "DriverFactory", "Registry", "import_path", "lookup", "register", "schemes"]

DriverFactory = Callable[[], Driver]
"""Makes a driver that is not open yet; a driver's class is one."""

_DRIVERS: Final = "trove_async.drivers."


def import_path(path: str) -> Any:
    """Import what is named by ``"module:name"``.

    It lets a module use what stands above it in the package, at the time when it is needed.
    """
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)


class Registry:
    """Things of one kind by their names: registered ones, and entry points of installed packages.

    Args:
        kind: what they are, such as ``driver``, for messages.
        group: the entry-point group in which a package names its own, ``name = "module:object"``.
        error: raised for names that clash.
        entries: those of the library.

    Attributes:
        entries: what is registered: an object, or ``"module:object"``, imported when it is needed for the first time.
    """

    def __init__(
        self, kind: str, group: str, error: type[TroveError], entries: Mapping[str, object] | None = None
    ) -> None:
        self.kind = kind
        self.group = group
        self.entries: dict[str, object] = dict(entries or {})
        self._error = error
        self._found: dict[str, EntryPoint] | None = None

    def names(self) -> list[str]:
        """Return the names, sorted."""
        return sorted({*self.entries, *self._installed()})

    def get(self, name: str) -> Any:
        """Return what has a name; None if nothing has it.

        Raises:
            MissingDependencyError: a package that it needs is not installed; the message names the extra.
        """
        found = self.entries.get(name)
        if found is None:
            point = self._installed().get(name)
            if point is None:
                return None
            found = point.value
        return self._load(name, found) if isinstance(found, str) else found

    def unknown(self, name: str) -> str:
        """Return the message that nothing has a name, with the nearest one and all others."""
        names = self.names()
        return (
            f"no {self.kind} is registered for {name!r}{guess(name, names)}, only for {', '.join(names)}; "
            f"packages can add {self.kind}s through the entry-point group {self.group!r}"
        )

    def _load(self, name: str, path: str) -> object:
        try:
            return import_path(path)
        except ImportError as error:
            # The extra of a driver of the library has the name of the driver's package.
            extra = path.removeprefix(_DRIVERS).partition(".")[0] if path.startswith(_DRIVERS) else None
            remedy = error.name if extra is None else f"'trove-async[{extra}]'"
            raise MissingDependencyError(
                f"the {self.kind} for {name!r} needs the package {error.name!r}: pip install {remedy}"
            ) from error

    def _installed(self) -> Mapping[str, EntryPoint]:
        if self._found is None:
            from importlib.metadata import entry_points  # takes as long to import as a tenth of the library

            found: dict[str, EntryPoint] = {}
            for point in entry_points(group=self.group):
                if point.name in found or point.name in self.entries:
                    raise self._error(f"two installed packages have a {self.kind} for {point.name!r}")
                found[point.name] = point
            self._found = found
        return self._found


_BUILTIN: Final = import_path("trove_async.drivers:BUILTIN")
DRIVERS: Final = Registry("driver", "trove_async.drivers", DriverRegistrationError, _BUILTIN)
"""The drivers by the schemes of their DSNs."""


def register(scheme: str, factory: DriverFactory | str) -> None:
    """Register a driver for the DSNs of a scheme.

    Args:
        scheme: in lower case, without ``://``.
        factory: makes the driver; or ``"module:Class"``, imported when it is needed for the first time.

    Raises:
        DriverRegistrationError: a driver is registered for the scheme, or the scheme is malformed.
    """
    if scheme in DRIVERS.entries:
        raise DriverRegistrationError(f"a driver is already registered for {scheme!r}")
    if not scheme or scheme != scheme.lower() or "://" in scheme:
        raise DriverRegistrationError(f"{scheme!r} is not a scheme: give lower-case letters without '://'")
    DRIVERS.entries[scheme] = factory


def lookup(scheme: str) -> DriverFactory:
    """Return the factory of a scheme's drivers: registered, or an installed package's entry point.

    Raises:
        DriverRegistrationError: no driver is registered; the message names the registered schemes.
        MissingDependencyError: a package that the driver needs is not installed; the message names the extra.
    """
    factory: DriverFactory | None = DRIVERS.get(scheme)
    if factory is None:
        raise DriverRegistrationError(DRIVERS.unknown(scheme))
    return factory


def schemes() -> list[str]:
    """Return the schemes that can be opened, sorted."""
    return DRIVERS.names()
