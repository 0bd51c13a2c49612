"""Watch a bucket without asyncio."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from trove_async.portal import Portal
from trove_async.store import watch
from trove_async.types import ObjectEvent

__all__ = ["Watch"]


class Watch:
    """The result of ``watch``: a context manager and an iterator of events.

    Entering it subscribes: every later change is seen. Without ``with``, the first step of ``for`` subscribes, and
    `close` unsubscribes. A step that is interrupted, for example by Ctrl-C, loses no event: the next step gets it.
    """

    def __init__(self, portal: Portal, watch: watch.Watch) -> None:
        self._portal = portal
        self._async = watch

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ObjectEvent:
        try:
            return self._portal.call(self._async.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        """Unsubscribe, and end the work of the subscription; idempotent.

        The iteration of another thread, which waits for an event, ends.
        """
        self._portal.call(self._async.aclose)

    def __enter__(self) -> Self:
        self._portal.call(self._async.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
