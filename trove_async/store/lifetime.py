"""The lifetime of a store: its event loop and process, and what it has to close."""

from __future__ import annotations

import os
import warnings
import weakref
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Awaitable
from typing import Final, NoReturn, TypeVar, cast

from trove_async.cancellation import finish
from trove_async.driver.base import Driver, capabilities_of
from trove_async.driver.capabilities import Condition, Features, PresignDriver
from trove_async.driver.memory import MemoryBudget
from trove_async.driver.pinning import pinned
from trove_async.errors import (
    ClosedError,
    ForkedError,
    LifetimeError,
    TroveError,
    UnpicklableError,
    UnsupportedError,
    WrongLoopError,
)
from trove_async.keys import check_bucket, check_key
from trove_async.reader import ObjectReader, caller_location
from trove_async.store.ranged import RANGE_SIZE, RangedStream
from trove_async.store.support import capability_words, meaning_of
from trove_async.writer import OpenWriters

__all__ = ["NO_KEY", "Lifetime"]

R = TypeVar("R")

NO_KEY: Final = cast("str", object())
"""The call has no key. It is not None, because a user may give None by mistake, which is refused as a key."""

_open_stores: weakref.WeakSet[Lifetime] = weakref.WeakSet()


def _forget_in_child() -> None:
    for store in list(_open_stores):
        store._unusable_error = ForkedError
        for reader in list(store._readers):
            reader._forget()


os.register_at_fork(after_in_child=_forget_in_child)


class _Locating:
    __slots__ = ("_bucket", "_driver", "_key", "_operation")

    def __init__(self, operation: str, bucket: str | None, key: str | None, driver: str) -> None:
        self._operation = operation
        self._bucket = bucket
        self._key = key
        self._driver = driver

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, TroveError):
            error.locate(self._operation, self._bucket, self._key, self._driver)


class Lifetime:
    """The checks of every call on a store: it is open, in its own loop and process, and the names are valid."""

    def __init__(self, driver: Driver, *, cleanup_timeout: float, transfer_memory: int) -> None:
        self._driver = driver
        self._memory = MemoryBudget(transfer_memory)
        self._name = driver.name
        self._features: Features = driver.features
        self._capabilities = capabilities_of(driver) & self._features.protocols
        self._cleanup_timeout = cleanup_timeout
        self._loop: AbstractEventLoop = get_running_loop()
        self._unusable_error: type[LifetimeError] | None = None
        self._readers: weakref.WeakSet[ObjectReader] = weakref.WeakSet()
        self._writers = OpenWriters()
        self._opened_at = caller_location()
        # Most drivers hold any valid key; those that do not pay for a second check.
        check_key = driver.check_key
        self._check_driver_key = None if getattr(check_key, "__func__", None) is Driver.check_key else check_key
        _open_stores.add(self)

    @property
    def driver(self) -> Driver:
        """The driver, in its layers; `trove_async.unwrap` finds what is beneath."""
        return self._driver

    @property
    def features(self) -> Features:
        """What this server has."""
        return self._features

    @property
    def closed(self) -> bool:
        """Tell whether the store was closed, or cannot be used for another reason."""
        return self._unusable_error is not None

    def supports(self, what: type | str) -> bool:
        """Return whether driver and server support something.

        Args:
            what: a capability: its Protocol, or its name such as ``"versioning"``, ``"watch"`` or ``"tags"``; a method
                of the store, such as ``"presign_put"``; or a condition, such as ``"put_if_match"``. ``"get"``,
                ``"delete"`` and ``"copy"`` are conditions: every store has the methods.

        Raises:
            InvalidArgumentError: there is nothing of that name; the message lists the names. Or it is no Protocol of a
                capability.
        """
        features = self._features
        meaning = meaning_of(what)
        if isinstance(meaning, str):
            return meaning in features.conditions or (
                PresignDriver in self._capabilities and meaning in features.presign_methods
            )
        return meaning is None or meaning in self._capabilities

    def _require(self, capability: type, operation: str) -> None:
        if capability not in self._capabilities:
            raise self._unsupported(f"this store has no {capability_words(capability)} support", operation, capability)

    def _require_condition(self, condition: Condition, operation: str, value: object) -> None:
        if value is not None and condition not in self._features.conditions:
            message = f"this store cannot honour the condition {condition!r}, and does not ignore it"
            raise self._unsupported(message, operation, condition)

    def _unsupported(self, message: str, operation: str, what: type | str) -> UnsupportedError:
        """Return an error that gives the reason too, if a layer has taken away what is missing."""
        reason = self._features.dropped.get(what)
        return UnsupportedError(
            message if reason is None else f"{message}: {reason}", operation=operation, driver=self._name
        )

    def _require_for(self, value: object, capability: type, operation: str) -> None:
        """Refuse an argument that only a capability can honour; it is never dropped silently."""
        if value:
            self._require(capability, operation)

    def _check_usable(self) -> None:
        if self._unusable_error is not None or get_running_loop() is not self._loop:
            self._refuse()

    def _refuse(self) -> None:
        if self._unusable_error is ClosedError:
            raise ClosedError(f"the store was closed; it had been opened at {self._opened_at}", driver=self._name)
        if self._unusable_error is not None:
            raise self._unusable_error(driver=self._name)
        raise WrongLoopError(driver=self._name)

    def _check(self, operation: str, bucket: str, key: str = NO_KEY) -> None:
        """Check that the store is usable and the names are valid; no I/O."""
        if self._unusable_error is not None or get_running_loop() is not self._loop:
            self._refuse()
        self._check_names(operation, bucket, key)

    def _check_names(self, operation: str, bucket: str, key: str = NO_KEY) -> None:
        try:
            check_bucket(bucket)
        except TroveError as error:
            error.locate(operation, driver=self._name)
            raise
        if key is not NO_KEY:
            try:
                check_key(key)
                if self._check_driver_key is not None:
                    self._check_driver_key(key)
            except TroveError as error:
                error.locate(operation, bucket, driver=self._name)
                raise

    def _locating(self, operation: str, bucket: str | None = None, key: str | None = None) -> _Locating:
        """Return a context manager that adds operation, bucket and key to a `TroveError`."""
        return _Locating(operation, bucket, key, self._name)

    async def _run(self, operation: str, bucket: str | None, key: str | None, work: Awaitable[R]) -> R:
        """Await a driver's work, and add operation, bucket and key to a `TroveError`."""
        try:
            return await work
        except TroveError as error:
            error.locate(operation, bucket, key, self._name)
            raise

    def _adopt(
        self, reader: ObjectReader, operation: str, bucket: str, key: str, version_id: str | None = None
    ) -> ObjectReader:
        """Remember a reader that holds something, so that closing the store closes it; a large one reads by ranges."""
        if not reader.buffered:
            self._readers.add(reader)  # for as long as it lives: a reader at its end may seek, and hold something again
            if reader.parallel > 1 and reader.size >= 2 * RANGE_SIZE:
                opener = pinned(self._driver, bucket, key, version_id, reader.info, operation)
                place = reader.start, reader.stop, reader.parallel
                reader.wrap(lambda stream: RangedStream(stream, opener, *place, self._memory))
        return reader

    async def aclose(self) -> None:
        """Close the store and all that was opened through it; idempotent.

        Readers that are open fail from now on, and so does every other use. Writers that were not left are aborted,
        with a `ResourceWarning` for each. It completes also when the calling task is cancelled meanwhile.
        """
        if self._unusable_error is not None:
            return
        if get_running_loop() is not self._loop:
            raise WrongLoopError(driver=self._name)
        self._unusable_error = ClosedError
        _open_stores.discard(self)
        for reader in list(self._readers):
            reader.abort("the store that it was opened through was closed")
        try:
            await finish(
                self._writers.abort(), timeout=self._cleanup_timeout + 2, leftover="writers that were not left"
            )
        finally:
            await finish(self._driver.close(), timeout=self._cleanup_timeout, leftover=f"the {self._name} driver")
            self._writers.warn()

    def __reduce__(self) -> NoReturn:
        raise UnpicklableError(
            "a store is open and cannot be pickled; pickle its DSN without secrets, or a name of trove.toml such as "
            "'trove://NAME', and open it where it is used"
        )

    def __del__(self) -> None:
        if getattr(self, "_unusable_error", ClosedError) is None:
            warnings.warn(
                f"unclosed {self!r}, opened at {self._opened_at}; use it in a with block, or close it",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    def __repr__(self) -> str:
        state = "" if self._unusable_error is None else " closed"
        return f"<{type(self).__name__} {self._name}{state}>"
