"""`ConfiguredStore`: what a table of the configuration describes, with its secrets, ready to be opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NoReturn

from trove_async.config.document import Document
from trove_async.config.lines import KeyPath, written
from trove_async.config.making import named_in
from trove_async.config.reference import Within
from trove_async.driver.base import Driver, Layer
from trove_async.driver.opening import Member, Target, checked_layers, driver_of, open_stack
from trove_async.driver.options import OpenOptions
from trove_async.dsn import parse_dsn
from trove_async.errors import ConfigError, InvalidArgumentError, UnpicklableError
from trove_async.types import EMPTY

__all__ = ["ConfiguredStore"]


@dataclass(frozen=True, repr=False)
class ConfiguredStore(Target):
    """A store with its settings and layers.

    Attributes:
        document, path: where its table stands.
        dsn_path: where its DSN stands.
        target: a DSN, another store of the configuration, or a store over several stores.
        settings: of the driver.
        layers: the first one innermost.
    """

    takes_settings: ClassVar[bool] = True

    document: Document
    path: KeyPath
    dsn_path: KeyPath
    target: str | Target
    settings: Mapping[str, Any] = field(default=EMPTY)
    layers: tuple[Layer, ...] = ()

    @property
    def all_layers(self) -> tuple[Layer, ...]:
        """The layers, and beneath them those of the store that it is a name for."""
        inner = self.target.store if isinstance(self.target, Within) else self.target
        return (*inner.all_layers, *self.layers) if isinstance(inner, ConfiguredStore) else self.layers

    def member(self) -> Member:
        """Return it as a member of a store over several stores: with its DSN, by which a `Mirror` knows it again."""
        if isinstance(self.target, str):
            return Member(self.target, self.layers, self.settings)
        inner = self.target.member() if isinstance(self.target, ConfiguredStore) else None
        if inner is None or not isinstance(inner.target, str):
            return Member(self)
        return Member(inner.target, (*inner.layers, *self.layers), {**inner.settings, **self.settings})

    def check(self, more: Mapping[str, Any]) -> None:
        """Check the DSN and the settings, without I/O.

        Args:
            more: settings that replace those of the configuration.

        Raises:
            ConfigError: the driver would refuse them, or the order of the layers is wrong.
            MissingDependencyError: a package that the driver needs is not installed.
        """
        try:
            checked_layers(self.all_layers)
        except InvalidArgumentError as error:
            raise self.document.error(error.message, *self.path, "layers") from error
        if not isinstance(self.target, str):
            return
        with self.blaming(more):
            dsn = parse_dsn(self.target)
            driver_of(dsn).check_dsn(dsn, OpenOptions(settings={**self.settings, **more}))

    async def open(self, options: OpenOptions) -> Driver:
        """Open it, with its layers.

        Raises:
            ConfigError: the driver or a layer refuses something that the configuration says.
            TroveError: it cannot be opened.
        """
        both = {**self.settings, **options.settings}
        with self.blaming(options.settings):
            return await open_stack(self.target, self.layers, replace(options, settings=both))

    @contextmanager
    def blaming(self, more: Mapping[str, Any]) -> Iterator[None]:
        """Give an error the place of what it is about: the setting that it names, else the DSN.

        Args:
            more: settings from elsewhere, about which an error passes unchanged.
        """
        try:
            yield
        except ConfigError:
            raise
        except InvalidArgumentError as error:
            blamed = named_in(error.message, {**self.settings, **more})
            if blamed in more:
                raise
            at = self.dsn_path if blamed is None else (*self.path, blamed)
            placed = self.document.error(error.message, *at)
            for note in getattr(error, "__notes__", ()):
                placed.add_note(note)
            raise placed from None  # the cause may show a secret

    def __repr__(self) -> str:
        return f"<ConfiguredStore {written(self.path)}>"

    def __reduce__(self) -> NoReturn:
        raise UnpicklableError(
            "a store of the configuration may hold secrets and cannot be pickled or stored; use its name, such as "
            "'trove://NAME', and open it where it is used"
        )
