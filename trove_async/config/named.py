"""`NamedStore`: a store by its name in the configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, cast

from trove_async.config.config import Config
from trove_async.config.document import VARIABLE, Document, Source
from trove_async.config.reference import Reference
from trove_async.driver.base import Driver
from trove_async.driver.opening import Target
from trove_async.driver.options import OpenOptions
from trove_async.driver.registry import DRIVERS
from trove_async.dsn import DSN, check_no_secret
from trove_async.errors import ConfigError, InvalidArgumentError, UnpicklableError

__all__ = ["NamedStore"]


@dataclass(frozen=True)
class NamedStore(Target):
    """A store of the configuration, which is read whenever the store is opened.

    It may be pickled, since it holds no secret.

    Attributes:
        reference: the name and what follows it.
        config: where the name stands; see `trove_async.open`.
    """

    takes_settings: ClassVar[bool] = True

    reference: Reference
    config: Source | None = field(default=None, repr=False)

    @classmethod
    def of(cls, text: str, config: object = None) -> NamedStore:
        """Return the target for ``NAME`` or ``trove://NAME/bucket/prefix``.

        Raises:
            InvalidDSNError: the text is malformed.
            InvalidArgumentError: the configuration is neither a path nor a mapping.
        """
        reference = Reference.of(text)
        if not (config is None or isinstance(config, str | Mapping) or hasattr(config, "__fspath__")):
            raise InvalidArgumentError(f"config is the path of a file, or a mapping, not {type(config).__name__}")
        return cls(reference, cast("Source | None", config))

    async def open(self, options: OpenOptions) -> Driver:
        """Read the configuration, and open the store.

        Raises:
            ConfigError: there is none, it has no such store, or is wrong.
            TroveError: the store cannot be opened.
        """
        settings = {**self.reference.settings, **options.settings}
        store = await asyncio.to_thread(self._found, settings)
        return await self.reference.within(store).open(replace(options, settings=settings))

    def _found(self, settings: Mapping[str, Any]) -> Target:
        config = Config.find() if self.config is None else Config.load(self.config)
        name = self.reference.name
        if config is None:
            nearest = f"{name}://" if name in DRIVERS.entries else "local:///srv/data"
            raise ConfigError(
                f"{name!r} is no DSN such as {nearest!r}, and there is no configuration in "
                f"which it could be the name of a store: no trove.toml, and none that {VARIABLE} names"
            )
        return config.resolve(name, settings)

    def __reduce__(self) -> tuple[Any, ...]:
        check_no_secret(DSN("trove", host=self.reference.name), self.reference.settings)
        if isinstance(self.config, Mapping) and Document.of(self.config).secrets():
            raise UnpicklableError(
                "the configuration holds a secret, which must not be pickled or stored; write it to a trove.toml, and "
                "give its path"
            )
        return NamedStore, (self.reference, self.config)
