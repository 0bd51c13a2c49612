"""`Instrumentation`: follow operations from their beginning to their end; what `Observe` and its like are built on.

An operation is under way until its result is there; a get until its reader is closed, a watch until it is closed. An
`Ongoing` stands for it, and is its observer in the sense of `trove_async.driver.events`. It is current only
while the driver works: the user's code that reads an object, takes events or produces a body runs in its own context.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import aclosing
from contextvars import Context
from dataclasses import replace
from time import perf_counter
from types import TracebackType
from typing import Final, Literal, Self, TypeVar, cast, final

from trove_async.driver.base import Driver
from trove_async.driver.events import (
    OBSERVER,
    Attempt,
    AttemptKind,
    AttemptSeries,
    Event,
    OperationObserver,
    RequestRetried,
)
from trove_async.layers.base import Call, LayerDriver, Operation
from trove_async.layers.deadlines import timeout_behind
from trove_async.reader import ByteStream, ObjectReader, StreamWrapper
from trove_async.sources import Chunk, Source
from trove_async.types import ObjectEvent

__all__ = ["Instrumentation", "InstrumentedDriver", "Ongoing", "Outcome", "error_type"]

R = TypeVar("R")

Outcome = Literal["ok", "error", "cancelled"]

_OVER: Final = Operation("an operation that has ended", "", None, None, None, (), ())

_log: Final = logging.getLogger("trove_async.operations")


def error_type(error: BaseException) -> str:
    """Return what stands for an error in metrics, spans and logs: the name of its class, such as ``ThrottledError``."""
    return type(error).__qualname__


class Ongoing(OperationObserver):
    """An operation that is under way. This class counts; subclasses show it.

    The methods that subclasses override may raise: the error is logged and goes no further.

    Attributes:
        operation: what was asked for; without bucket, key and body once the operation has ended.
        owner: the driver that follows it.
        began: `time.perf_counter` at its beginning.
        bytes: of the body, sent or read so far.
        time_to_first_byte: seconds in which the driver worked until the first byte of a get's body was there; None
            before that and for other operations.
        streamed: whether the result is a reader whose body was not there at once.
        retries, hedges: attempts beyond the first, by the reason for them.
        resent: requests that the driver sent again.
        was_ready: whether a watch has subscribed.
        events: that it has yielded.
    """

    # Defaults of the class, and no slots: most operations change few of them.
    owner: Driver | None = None
    bytes = 0
    streamed = False
    time_to_first_byte: float | None = None
    retries = 0
    hedges = 0
    resent = 0
    events = 0
    was_ready = False
    _ended = False

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self._outside = OBSERVER.get()
        self.began = perf_counter()

    def enter(self) -> object:
        """Become current before the driver works; return what `leave` needs."""
        before = OBSERVER.get()
        OBSERVER.set(self)
        return before

    def leave(self, entered: object) -> None:
        """Stop being current. A context that cannot be reset, because the task ended in another one, is no error."""
        OBSERVER.set(cast(OperationObserver | None, entered))

    def step_out(self) -> object:
        """Go back to the context of the operation's caller, for code of the user; return what `leave` needs."""
        before = OBSERVER.get()
        OBSERVER.set(self._outside)
        return before

    def on_event(self, event: Event) -> None:
        """Show an event."""

    def yielding(self) -> None:
        """Count an event that a watch yields now."""
        self.events += 1

    def on_ready(self, duration: float) -> None:
        """Show that a watch has subscribed, after ``duration`` seconds."""

    def on_end(self, duration: float, outcome: Outcome, error: BaseException | None) -> None:
        """Show that the operation has ended; called once.

        Args:
            duration: seconds.
            outcome: of the operation.
            error: what was raised; None exactly if the outcome is ``ok``.
        """

    def series(self, kind: AttemptKind) -> AttemptSeries:
        """Return a series of attempts, which tells `again` of each but the first."""
        return _CountedSeries(self, kind)

    @final
    def again(self, kind: AttemptKind) -> None:
        """Count an attempt that is not the first."""
        if kind == "retry":
            self.retries += 1
        else:
            self.hedges += 1

    @final
    def attempts(self, kind: AttemptKind) -> AttemptSeries:
        """Return a series of attempts; the observer around this one sees them too."""
        try:
            own = AttemptSeries() if self._ended else self.series(kind)
        except Exception:  # noqa: BLE001 - observers must not change what they observe
            self.log_failure()
            own = _CountedSeries(self, kind)
        return own if self._outside is None else _SeriesOfBoth(own, self._outside.attempts(kind))

    @final
    def report(self, event: Event) -> None:
        """Take in an event; the observer around this one sees it too."""
        self.take(event)
        if self._outside is not None:
            self._outside.report(event)

    @final
    def take(self, event: Event) -> None:
        """Take in an event, unless the operation has ended."""
        if self._ended:
            return
        if isinstance(event, RequestRetried):
            self.resent += 1
        try:
            self.on_event(event)
        except Exception:  # noqa: BLE001 - observers must not change what they observe
            self.log_failure()

    @final
    def of(self, owner: Driver) -> Ongoing | None:
        """Return this or the next observer around it that follows the operation for a driver; None if none does."""
        at: OperationObserver | None = self
        while isinstance(at, Ongoing) and at.owner is not owner:
            at = at._outside
        return at if isinstance(at, Ongoing) else None

    @final
    def ready(self) -> None:
        """Take in that a watch has subscribed."""
        if not self.was_ready:
            self.was_ready = True
            try:
                self.on_ready(perf_counter() - self.began)
            except Exception:  # noqa: BLE001 - observers must not change what they observe
                self.log_failure()

    @final
    def end(self, error: BaseException | None) -> None:
        """Take in that the operation has ended, with an error or None; what follows is ignored."""
        if self._ended:
            return
        self._ended = True
        duration = perf_counter() - self.began
        if error is not None:
            error = timeout_behind(error) or error
        outcome: Outcome = "ok" if error is None else "error" if isinstance(error, Exception) else "cancelled"
        try:
            self.on_end(duration, outcome, error)
        except Exception:  # noqa: BLE001 - observers must not change what they observe
            self.log_failure()
        # A connection that the operation has opened keeps its context, and with it this object, while it is open.
        self.operation = _OVER

    @final
    def log_failure(self) -> None:
        """Log the exception that is being handled, as one of this observer and not of the operation."""
        _log.exception("an observer failed on %s", self.operation.name)


class Instrumentation(ABC):
    """Makes an `Ongoing` of each operation. One instrumentation may serve several stores."""

    @abstractmethod
    def begin(self, operation: Operation) -> Ongoing:
        """Return what follows an operation that begins now."""

    def on_event(self, event: Event) -> None:
        """Take in an event that may happen outside of operations, such as a transition of a circuit."""


class InstrumentedDriver(LayerDriver):
    """Follows every operation of a driver.

    Args:
        inner: the driver.
        instrumentation: is notified of the operations; what it raises is logged and goes no further.
    """

    def __init__(self, inner: Driver, instrumentation: Instrumentation) -> None:
        super().__init__(inner)
        self._instrumentation = instrumentation

    async def start(self) -> None:
        """Listen to what happens outside of operations."""
        self.inner.add_listener(self._listen)

    def _listen(self, event: Event) -> None:
        try:
            self._instrumentation.on_event(event)
        except Exception:  # noqa: BLE001 - observers must not change what they observe
            _log.exception("an observer failed on %r", event)
        # Every observer listens, so that each shows the event in its own operation alone.
        observer = OBSERVER.get()
        ongoing = observer.of(self) if isinstance(observer, Ongoing) else None
        if ongoing is not None:
            ongoing.take(event)

    async def around(self, operation: Operation, call: Call[R]) -> R:
        """Follow an operation."""
        try:
            ongoing = self._instrumentation.begin(operation)
        except Exception:  # noqa: BLE001 - observers must not change what they observe
            _log.exception("an observer failed on %s", operation.name)
            return await call()
        ongoing.owner = self
        body = operation.body
        if body is not None and not body.replayable:
            body.wrap(lambda source: _OutsideSource(source, ongoing))
        if operation.name == "watch":
            return cast(R, await _watch(ongoing, cast(Call[AsyncGenerator[ObjectEvent, None]], call)))
        entered = ongoing.enter()
        try:
            result = await call()
        except BaseException as error:
            ongoing.leave(entered)
            if body is not None:
                ongoing.bytes = body.taken
            ongoing.end(error)
            raise
        ongoing.leave(entered)
        if body is not None:
            ongoing.bytes = body.taken
        elif isinstance(result, ObjectReader):
            opened = perf_counter() - ongoing.began
            if not result.buffered:
                ongoing.streamed = True
                result.wrap(lambda stream: _ObservedStream(stream, ongoing, opened))
                return result
            ongoing.bytes = result.size
            ongoing.time_to_first_byte = opened
        ongoing.end(None)
        return result


async def _watch(ongoing: Ongoing, call: Call[AsyncGenerator[ObjectEvent, None]]) -> AsyncGenerator[ObjectEvent, None]:
    options = ongoing.operation.arguments["options"]
    on_ready = options.on_ready

    def ready() -> None:
        ongoing.ready()
        on_ready()

    entered = ongoing.enter()
    try:
        events = await call(options=replace(options, on_ready=ready))
    except BaseException as error:
        ongoing.leave(entered)
        ongoing.end(error)
        raise
    ongoing.leave(entered)
    return _follow(ongoing, events)


async def _follow(ongoing: Ongoing, events: AsyncGenerator[ObjectEvent, None]) -> AsyncGenerator[ObjectEvent, None]:
    try:
        async with aclosing(events):
            while True:
                # A generator must not be current across a yield: the user's code would run in its context.
                entered = ongoing.enter()
                try:
                    event = await anext(events, None)
                finally:
                    ongoing.leave(entered)
                if event is None:
                    break
                ongoing.yielding()
                yield event
    except GeneratorExit:
        ongoing.end(None)
        raise
    except BaseException as error:
        ongoing.end(error)
        raise
    ongoing.end(None)


class _ObservedStream(StreamWrapper):
    """Counts what is read, and ends the operation when the reader releases the stream."""

    def __init__(self, inner: ByteStream, ongoing: Ongoing, opened: float) -> None:
        super().__init__(inner)
        self._ongoing = ongoing
        self._worked = opened
        self._error: BaseException | None = None

    async def read(self, size: int) -> bytes:
        ongoing = self._ongoing
        began = perf_counter()
        entered = ongoing.enter()
        try:
            chunk = await self.inner.read(size)
        except BaseException as error:
            self._error = error
            raise
        finally:
            ongoing.leave(entered)
            if ongoing.time_to_first_byte is None:
                self._worked += perf_counter() - began
        self._error = None
        if chunk:
            ongoing.bytes += len(chunk)
            if ongoing.time_to_first_byte is None:
                ongoing.time_to_first_byte = self._worked
        return chunk

    async def seek(self, offset: int) -> None:
        entered = self._ongoing.enter()
        try:
            await self.inner.seek(offset)
        except BaseException as error:
            self._error = error
            raise
        finally:
            self._ongoing.leave(entered)

    def context(self) -> Context:
        entered = self._ongoing.enter()
        try:
            return self.inner.context()
        finally:
            self._ongoing.leave(entered)

    def abort(self) -> None:
        self.inner.abort()
        self._ongoing.end(self._error)

    async def aclose(self) -> None:
        entered = self._ongoing.enter()
        try:
            await self.inner.aclose()
        finally:
            self._ongoing.leave(entered)
        self._ongoing.end(self._error)


class _OutsideSource(Source):
    """A source that runs the user's code, in the user's context."""

    def __init__(self, inner: Source, ongoing: Ongoing) -> None:
        self._inner = inner
        self._ongoing = ongoing
        self.size, self.cleanup_timeout = inner.size, inner.cleanup_timeout

    async def read(self) -> Chunk:
        entered = self._ongoing.step_out()
        try:
            return await self._inner.read()
        finally:
            self._ongoing.leave(entered)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _CountedSeries(AttemptSeries):
    __slots__ = ("_begun", "_kind", "_ongoing")

    def __init__(self, ongoing: Ongoing, kind: AttemptKind) -> None:
        self._ongoing = ongoing
        self._kind = kind
        self._begun = False

    def begin(self) -> Attempt:
        if self._begun:
            self._ongoing.again(self._kind)
        self._begun = True
        return super().begin()


class _SeriesOfBoth(AttemptSeries):
    """The attempts at an operation that two observers follow."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, inner: AttemptSeries, outer: AttemptSeries) -> None:
        self._inner = inner
        self._outer = outer

    def begin(self) -> Attempt:
        return _AttemptOfBoth(self._inner.begin(), self._outer.begin())


class _AttemptOfBoth(Attempt):
    __slots__ = ("_inner", "_outer")

    def __init__(self, inner: Attempt, outer: Attempt) -> None:
        self._inner = inner
        self._outer = outer

    def lost_to(self, winner: Attempt) -> None:
        assert isinstance(winner, _AttemptOfBoth)
        self._inner.lost_to(winner._inner)
        self._outer.lost_to(winner._outer)

    def __enter__(self) -> Self:
        self._outer.__enter__()
        self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._inner.__exit__(kind, error, traceback)
        self._outer.__exit__(kind, error, traceback)
