"""`Reference`: what the text ``NAME`` or ``trove://NAME/bucket/prefix`` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

from trove_async.cancellation import finish
from trove_async.driver.base import Driver
from trove_async.driver.opening import Target
from trove_async.driver.options import OpenOptions
from trove_async.driver.registry import import_path
from trove_async.dsn import DSN, NAMED, is_store_name, parse_dsn
from trove_async.errors import InvalidDSNError
from trove_async.types import EMPTY

__all__ = ["Reference", "Within"]

_LOCATED: Final = "trove_async.layers.located:located"
"""The layer for bucket and prefix: its module is above this one, and is imported when it is needed."""


@dataclass(frozen=True)
class Reference:
    """A name of the configuration.

    Attributes:
        name: of the store.
        path: what follows the name, from its first slash: it continues the DSN of the store.
        settings: the parameters.
    """

    name: str
    path: str = ""
    settings: Mapping[str, str] = field(default=EMPTY, repr=False)

    @classmethod
    def of(cls, text: str) -> Reference:
        """Parse it.

        Raises:
            InvalidDSNError: it is malformed.
        """
        if is_store_name(text):
            return cls(text)
        dsn = parse_dsn(text)
        if dsn.user is not None or dsn.port is not None or not is_store_name(dsn.host):
            raise InvalidDSNError(
                f"write {NAMED}://NAME or {NAMED}://NAME/bucket/prefix; a name begins with a letter and has letters, "
                "digits, '-' and '_'"
            )
        return cls(dsn.host, dsn.path, dsn.params)

    def __str__(self) -> str:
        return str(DSN(NAMED, host=self.name, path=self.path, params=self.settings))

    def within(self, store: Target) -> Target:
        """Return the target for the bucket and the prefix that the path names in a store."""
        return Within(store, self.path) if self.path.strip("/") else store


@dataclass(frozen=True)
class Within(Target):
    """A bucket of a store, or a prefix of its keys.

    Attributes:
        store: which one.
        path: the bucket and the prefix; only the prefix if the DSN of the store names a bucket.
    """

    takes_settings: ClassVar[bool] = True

    store: Target
    path: str

    async def open(self, options: OpenOptions) -> Driver:
        """Open the store."""
        driver = await self.store.open(options)
        try:
            located: Driver = import_path(_LOCATED)(driver, self.path)
        except BaseException:
            await finish(driver.close(), timeout=options.cleanup_timeout, leftover=f"the {driver.name} driver")
            raise
        return located
