"""What the generated classes of the sync API stand on: an object of the async API, and the portal that runs it."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from trove_async.driver.base import Driver
from trove_async.driver.capabilities import Features
from trove_async.portal import Portal
from trove_async.reader import caller_location
from trove_async.store import Bucket, Trove

__all__ = ["BucketBase", "Lifetime"]


class Lifetime:
    """The lifetime of a store: it is open until `close`, and any number of threads may use it."""

    def __init__(self, portal: Portal, store: Trove) -> None:
        self._portal = portal
        self._async = store
        store._opened_at = caller_location()

    @property
    def driver(self) -> Driver:
        """The driver, in its layers, which is async; `trove_async.unwrap` finds what is beneath."""
        return self._async.driver

    @property
    def features(self) -> Features:
        """What this server has."""
        return self._async.features

    @property
    def closed(self) -> bool:
        """Tell whether the store was closed, or cannot be used for another reason."""
        return self._async.closed

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
        return self._async.supports(what)

    def close(self) -> None:
        """Close the store and all that was opened through it; idempotent.

        Readers that are open fail from now on, and so does every other use. Writers that were not left are aborted,
        with a `ResourceWarning` for each. In a forked child it does nothing: the store is that of the parent.
        """
        if not self._async.closed:
            self._portal.call(self._async.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> str | tuple[Any, ...]:
        return self._async.__reduce__()  # which raises

    def __repr__(self) -> str:
        return repr(self._async)


class BucketBase:
    """A bucket of a store."""

    __slots__ = ("_async", "_portal")

    def __init__(self, portal: Portal, bucket: Bucket) -> None:
        self._portal = portal
        self._async = bucket

    @property
    def name(self) -> str:
        """The name of the bucket."""
        return self._async.name

    def __repr__(self) -> str:
        return repr(self._async)
