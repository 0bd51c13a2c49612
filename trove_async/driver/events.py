"""What happens inside a store, as layers and drivers report it to those who observe it; `Observe` is one.

**Inside an operation** an observer is found in a context variable, so that nothing has to be passed down. Whoever
may carry out an operation more than once puts each attempt into a ``with``::

    attempts = events.attempts("retry")      # once for each operation
    while True:
        with attempts.begin():               # numbered 1, 2, 3 … by the observer
            return await call()

Everything else that happens is an `Event`::

    events.report(RequestRetried(number=1, error=error, delay=0.2))

If nobody observes the operation, both cost one look at the context variable.

**Outside of operations**, where a background task changes something or a user does so by hand, there is nothing in
the context. What reports such events keeps the listeners that `Driver.add_listener` gives it, and calls each of
them with every event, those that happen inside an operation too (which are then not given to `report` as well)::

    def add_listener(self, listener: Listener) -> None:
        self._listeners.append(listener)
        super().add_listener(listener)       # a layer passes it on

Neither `report`, nor a listener, nor an attempt raises an error of the observer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Self

__all__ = [
    "OBSERVER",
    "Attempt",
    "AttemptKind",
    "AttemptSeries",
    "Event",
    "Listener",
    "OperationObserver",
    "RequestRetried",
    "attempts",
    "report",
]

AttemptKind = Literal["retry", "hedge"]
"""Why there may be several attempts: the last one failed, or it is slow and another one runs beside it."""


class Event:
    """Something that happened; the base class of all events, which are frozen dataclasses."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class RequestRetried(Event):
    """A request of an operation failed and is sent again.

    Attributes:
        number: of the attempt that failed, from 1.
        error: why it failed.
        delay: seconds until the request is sent again.
    """

    number: int
    error: Exception
    delay: float


Listener = Callable[[Event], object]
"""What is called with each event that may happen outside of operations; it never raises and never blocks."""


class Attempt:
    """One attempt. Its ``with`` says when it begins and ends, and with which error; this one is not observed."""

    __slots__ = ()

    def lost_to(self, winner: Attempt) -> None:
        """Say that another attempt was faster; before this one is cancelled."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None


class AttemptSeries:
    """The attempts at one thing; these are not observed."""

    __slots__ = ()

    def begin(self) -> Attempt:
        """Return the next attempt, which begins with its ``with``, in the task that carries it out."""
        return _ATTEMPT


_ATTEMPT: Final = Attempt()
_SERIES: Final = AttemptSeries()


class OperationObserver(ABC):
    """Follows one operation. Its methods must not raise or block."""

    __slots__ = ()

    @abstractmethod
    def attempts(self, kind: AttemptKind) -> AttemptSeries:
        """Return a series of attempts that may begin now."""

    @abstractmethod
    def report(self, event: Event) -> None:
        """Take in an event of the operation."""


OBSERVER: Final[ContextVar[OperationObserver | None]] = ContextVar("OBSERVER", default=None)
"""The observer of the operation that is carried out in this context.

A background task that an operation starts inherits it; what it reports after the operation has ended is ignored.
"""


def attempts(kind: AttemptKind) -> AttemptSeries:
    """Return the series of attempts of a layer that may carry out the current operation more than once."""
    observer = OBSERVER.get()
    return _SERIES if observer is None else observer.attempts(kind)


def report(event: Event) -> None:
    """Report an event of the current operation.

    Where making the event costs something, look at `OBSERVER` first.
    """
    observer = OBSERVER.get()
    if observer is not None:
        observer.report(event)
