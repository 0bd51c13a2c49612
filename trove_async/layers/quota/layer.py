"""`Quota`: limit the bytes and objects of buckets and prefixes."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from trove_async.driver.base import Driver
from trove_async.dsn import check_no_secret, parse_dsn
from trove_async.errors import InvalidArgumentError
from trove_async.layers.base import Call, LayerDriver, Operation
from trove_async.layers.quota.accounting import Accounting
from trove_async.layers.quota.accounts import usage_of
from trove_async.layers.quota.books import Ledger
from trove_async.layers.quota.limits import QuotaLimit, QuotaUsage, Scope, check_known, check_limits
from trove_async.layers.quota.operations import BYPASSES, HANDLERS, UNCOUNTED, Quotas
from trove_async.layers.quota.process import ProcessLedger
from trove_async.values import is_number

if TYPE_CHECKING:
    from trove_async.database import Database

__all__ = ["Quota", "QuotaDriver"]

R = TypeVar("R")

_log: Final = logging.getLogger("trove_async.quota")


@dataclass(frozen=True)
class Quota:
    """Refuse writes that would exceed a limit with a `QuotaExceededError`, which is a `StorageFullError`.

    Attributes:
        limits: a `QuotaLimit` for each bucket (``"media"``), prefix (``"media/tenants/a/"``) or, with an empty name,
            for the whole store. A key may be under several, and all of them hold. None for those that the database has.
        database: where it is counted: the URL of a SQLite or PostgreSQL database, or one that is connected. All
            processes that share it have the limits of the one that was opened last. None counts in the memory of this
            process, for each open store by itself: other processes, and other stores, know nothing of it.
        lease: seconds after which others settle what a process had reserved that has died.

    Raises:
        InvalidArgumentError: the limits are malformed or contradict each other, or there are none and no database.
        InvalidDSNError: the URL of the database is wrong.
        MissingDependencyError: the packages for databases are not installed.
    """

    limits: Mapping[str, QuotaLimit] | None = None
    _: KW_ONLY
    database: str | Database | None = field(default=None, repr=False)
    lease: float = 30.0
    _scopes: Mapping[Scope, QuotaLimit] | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if self.limits is not None:
            object.__setattr__(self, "_scopes", check_limits(self.limits))
            object.__setattr__(self, "limits", MappingProxyType(dict(self.limits)))
        elif self.database is None:
            raise InvalidArgumentError(
                "Quota needs limits, such as Quota({'media': QuotaLimit(bytes=10 * 2**30)}), "
                "or a database that has them"
            )
        if not (is_number(self.lease) and 0 < self.lease < math.inf):
            raise InvalidArgumentError(f"lease is a number of seconds, more than 0, not {self.lease!r}")
        if self.database is not None:
            _check_database(self.database)

    def __reduce__(self) -> tuple[Any, ...]:
        if isinstance(self.database, str):
            check_no_secret(parse_dsn(self.database))
        limits = None if self.limits is None else dict(self.limits)
        return partial(Quota, database=self.database, lease=self.lease), (limits,)

    def __call__(self, driver: Driver) -> Driver:
        """Put the layer around a driver."""
        return QuotaDriver(driver, self._scopes, self._ledger())

    def _ledger(self) -> Ledger:
        if self.database is None:
            return ProcessLedger()
        from trove_async.layers.quota.database.ledger import DatabaseLedger

        return DatabaseLedger(self.database, self.lease)


def _check_database(database: object) -> None:
    from trove_async.database import Database
    from trove_async.database.url import parse_url

    if isinstance(database, str):
        parse_url(database)
    elif not isinstance(database, Database):
        raise InvalidArgumentError(
            f"database is the URL of a database, a Database that is connected, or None; not {database!r}"
        )


class QuotaDriver(LayerDriver):
    """A driver with a `Quota` around it; ``trove_async.unwrap(t.driver, QuotaDriver)`` returns that of a store.

    Args:
        inner: the driver.
        limits: None for those that the ledger has.
        ledger: where it is counted.
    """

    drops: ClassVar[Mapping[type | str, str]] = dict[type | str, str](BYPASSES.items())

    def __init__(self, inner: Driver, limits: Mapping[Scope, QuotaLimit] | None, ledger: Ledger) -> None:
        super().__init__(inner)
        self._limits = limits
        self._accounting = Accounting(inner, ledger)
        self._is_shared = not ledger.immediate
        self._quotas = Quotas(self._accounting, inner)

    async def start(self) -> None:
        """Count what is there, unless the database knows."""
        if not self._is_shared:
            _log.info("the quota is counted in this process alone: what others write is not limited")
        await self._accounting.open(self._limits)

    async def close(self) -> None:
        """Close the driver, then the books, in which operations that were under way have still written."""
        try:
            await super().close()
        finally:
            await self._accounting.close()

    async def around(self, operation: Operation, call: Call[R]) -> R:
        """Reserve what an operation needs before it begins."""
        if operation.name in UNCOUNTED:
            return await call()
        result: Any = await HANDLERS[operation.name](self._quotas, operation, call)
        return result  # type: ignore[no-any-return]

    @property
    def is_shared(self) -> bool:
        """Whether all processes with the same database are counted; else this store alone is."""
        return self._is_shared

    async def usage(self) -> list[QuotaUsage]:
        """Return all limits and what they count, in the order of their names."""
        return [usage_of(total) for total in await self._accounting.usage()]

    async def recount(self, *names: str) -> list[QuotaUsage]:
        """List everything under limits and correct what they count, while others may write; return these limits.

        It finds what a service has removed by itself, such as by lifecycle rules, and what was written without the
        quota.

        Args:
            *names: of the limits; all limits if there is no name.

        Raises:
            InvalidArgumentError: there is no limit of a name.
        """
        wanted = [Scope.parse(name) for name in names]
        known = [total.scope for total in await self._accounting.usage()]
        check_known(wanted, known)
        chosen = wanted or known
        await self._accounting.recount(chosen)
        return [usage for usage in await self.usage() if Scope.parse(usage.quota) in chosen]
