"""`CircuitBreaker`: refuse calls at once while the backend is down."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final, TypeVar, cast

from trove_async.driver.base import Driver
from trove_async.driver.events import Listener
from trove_async.driver.methods import SIGNING
from trove_async.errors import (
    BackendUnavailableError,
    InvalidArgumentError,
    TroveError,
)
from trove_async.layers.base import Call, LayerDriver, Operation
from trove_async.layers.circuit import Circuit, CircuitEvent, CircuitRules, CircuitState
from trove_async.layers.prober import probe_while_open
from trove_async.layers.trial import CountedStream, Trial
from trove_async.layers.verdict import verdict_on
from trove_async.reader import ObjectReader
from trove_async.types import ObjectEvent
from trove_async.values import check_function

__all__ = ["BreakerDriver", "CircuitBreaker", "Prober"]

R = TypeVar("R")

Prober = Callable[[Driver], Awaitable[object]]
"""Tests a backend: it raises if the backend does not work."""

_log = logging.getLogger("trove_async")


class CircuitBreaker:
    """Refuse calls at once while the backend is down, and find out by one call at a time whether it is up again.

    The object is the circuit: put around several drivers, it counts the calls of all of them and opens for all of them.
    So stores of the same backend can share one, and stores of different backends need one each. All of them belong
    to one thread.

    Args:
        name: for errors, events and logs; None for the name of the first driver that it is put around.
        threshold: opens after this number of failures in a row; None for no such limit.
        open_for: seconds that it stays open at least; then one call tests the backend.
        on_transition: called with a `CircuitEvent` after each change of `state`, on the event loop. It must not
            block; what it raises is logged and goes no further.
        ratio: also opens if this share of the calls of the window failed, more than 0 and at most 1.
        window: seconds that ``ratio`` is about, 60 by default.
        minimum: number of calls in the window below which ``ratio`` does not apply, 20 by default.
        jitter: how much longer it may stay open, as a share of ``open_for``, drawn for each opening.
        probe_timeout: seconds after which a probe that has not ended no longer keeps another from beginning.
        prober: True to test the backend by its ``ping`` in a background task, or a function that tests the driver
            that it is given. No call is then spent on testing.
        clock: seconds of a monotonic clock; for tests.

    Raises:
        InvalidArgumentError: a value is out of range, or the values contradict each other.
    """

    def __init__(
        self,
        name: str | None = None,
        threshold: int | None = 5,
        open_for: float = 30.0,
        on_transition: Callable[[CircuitEvent], object] | None = None,
        *,
        ratio: float | None = None,
        window: float | None = None,
        minimum: int | None = None,
        jitter: float = 0.25,
        probe_timeout: float = 30.0,
        prober: Prober | bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if name is not None and not isinstance(name, str):
            raise InvalidArgumentError(f"the name of a circuit breaker is text, not {name!r}")
        if on_transition is not None:
            check_function("on_transition", "a CircuitEvent", on_transition)
        if not (isinstance(prober, bool) or callable(prober)):
            raise InvalidArgumentError(f"prober is True, or a function of a driver, not {prober!r}")
        if not callable(clock):
            raise InvalidArgumentError(f"clock is a function that returns seconds, not {clock!r}")
        self.rules: Final = CircuitRules(
            threshold=threshold,
            open_for=open_for,
            jitter=jitter,
            ratio=ratio,
            window=window,
            minimum=minimum,
            probe_timeout=probe_timeout,
        )
        self.circuit: Final = Circuit(self.rules, self._changed, clock=clock)
        self.prober: Final[Prober | None] = _ping if prober is True else prober or None
        self._name = name
        self._reason = ""
        self._on_transition = on_transition
        self._listeners: list[Listener] = []

    def __call__(self, driver: Driver) -> Driver:
        """Put the circuit breaker around a driver."""
        if self._name is None:
            self._name = driver.name
        return BreakerDriver(driver, self)

    @property
    def name(self) -> str:
        """The name that was given, or that of the first driver that it was put around."""
        return self._name or "unnamed"

    @property
    def state(self) -> CircuitState:
        """``closed``, ``open``, ``half_open`` or ``isolated``; ``open`` until the first probe begins."""
        return self.circuit.state

    @property
    def error(self) -> Exception | None:
        """What opened it; None while it is closed or isolated."""
        return self.circuit.error

    @property
    def open_time(self) -> float:
        """Seconds since it was last closed; 0 while it is closed."""
        return self.circuit.open_time

    @property
    def retry_after(self) -> float | None:
        """Seconds until a probe may begin; None while it is closed or isolated."""
        return self.circuit.until_probe

    @property
    def transitions(self) -> int:
        """The number of changes of `state` so far."""
        return self.circuit.transitions

    def isolate(self) -> None:
        """Refuse every call until `reset`; no probe is made."""
        self.circuit.isolate()

    def reset(self) -> None:
        """Let calls pass, and count from 0. The results of calls that began before change nothing."""
        self.circuit.reset()

    def add_listener(self, listener: Listener) -> None:
        """Call a function with each `CircuitEvent`; it must not raise or block."""
        self._listeners.append(listener)

    def remove_listener(self, listener: Listener) -> None:
        """Undo one `add_listener`."""
        self._listeners.remove(listener)

    def refusal(self) -> BackendUnavailableError:
        """Return the error of a call that is refused now."""
        state, cause = self.state, self.error
        if state == "isolated":
            message = f"the circuit breaker {self.name!r} was isolated by hand; call its reset() to let calls pass"
            return BackendUnavailableError(message, retryable=False)
        wait = (self.retry_after or None) if state == "open" else None
        until = "while a probe tests the backend" if wait is None else f"and tests the backend in {wait:.1f} s"
        message = f"the circuit breaker {self.name!r} is open, {until}; what opened it: {self._reason}"
        refusal = BackendUnavailableError(message, retry_after=wait)
        refusal.__cause__ = cause
        return refusal

    def _changed(self, before: CircuitState, after: CircuitState, error: Exception | None) -> None:
        event = CircuitEvent(self.name, before, after, error)
        if after == "open":  # now, since layers around this one add to the message
            self._reason = error.message if isinstance(error, TroveError) else type(error).__name__
        level = logging.WARNING if after == "open" else logging.INFO
        _log.log(level, "circuit breaker %r: %s, was %s%s", self.name, after, before, f" ({error})" if error else "")
        if self._on_transition is not None:
            try:
                self._on_transition(event)
            except Exception:  # noqa: BLE001 - observers must not change what they observe
                _log.exception("on_transition of the circuit breaker %r failed", self.name)
        for listener in tuple(self._listeners):
            listener(event)

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name!r} {self.state}>"


async def _ping(driver: Driver) -> None:
    await driver.ping()


class BreakerDriver(LayerDriver):
    """A driver with a circuit breaker around it.

    A get counts when its body has ended, and as a probe when it is answered; a watch counts when it is subscribed. A
    signed URL is made without the backend, so that it counts only if that fails.

    Attributes:
        breaker: which one.
    """

    def __init__(self, inner: Driver, breaker: CircuitBreaker) -> None:
        super().__init__(inner)
        self.breaker = breaker
        self._circuit = breaker.circuit
        self._listeners: list[Listener] = []
        self._probing: asyncio.Task[None] | None = None

    async def around(self, operation: Operation, call: Call[R]) -> R:
        """Refuse the operation, or carry it out and report how it ended."""
        circuit = self._circuit
        ticket = circuit.begin()
        if ticket is None:
            raise self.breaker.refusal()
        if operation.name == "watch":
            return cast(R, await self._watch(operation, call, Trial(circuit, ticket)))
        try:
            result = await call()
        except BaseException as error:
            trial = Trial(circuit, ticket)
            # What the source of the body raised passes the driver unchanged, and is nobody's fault here.
            if operation.body is not None and operation.body.failure is error:
                trial.dropped()
            else:
                trial.raised(error)
            raise
        if isinstance(result, ObjectReader) and not result.buffered:
            trial, start, stop = Trial(circuit, circuit.answered(ticket)), result.start, result.stop
            result.wrap(lambda inner: CountedStream(inner, self._begin, trial, start, stop))
        elif operation.name in _UNCERTAIN:
            _UNCERTAIN[operation.name](Trial(circuit, ticket), result)
        else:
            circuit.succeeded(ticket)
        return result

    def _begin(self) -> Trial:
        ticket = self._circuit.begin()
        if ticket is None:
            raise self.breaker.refusal()
        return Trial(self._circuit, ticket)

    async def _watch(self, operation: Operation, call: Call[Any], trial: Trial) -> AsyncGenerator[ObjectEvent, None]:
        options = operation.arguments["options"]

        def ready() -> None:
            trial.succeeded()
            options.on_ready()

        return self._follow(await call(options=replace(options, on_ready=ready)), trial)

    async def _follow(
        self, events: AsyncGenerator[ObjectEvent, None], trial: Trial
    ) -> AsyncGenerator[ObjectEvent, None]:
        try:
            async with aclosing(events):
                async for event in events:
                    yield event
        except BaseException as error:
            trial.raised(error)  # which it does only if the watch was never subscribed
            raise
        trial.dropped()

    def add_listener(self, listener: Listener) -> None:
        """Call a function with each `CircuitEvent`, and pass it on to the inner driver."""
        self._listen(listener)
        super().add_listener(listener)

    def _listen(self, listener: Listener) -> None:
        self._listeners.append(listener)
        self.breaker.add_listener(listener)

    async def start(self) -> None:
        """Begin to probe out of band, if the circuit breaker has a prober."""
        if (prober := self.breaker.prober) is not None and self._probing is None:
            changed = asyncio.Event()
            self._listen(lambda _: changed.set())
            probing = probe_while_open(
                self._circuit, lambda: prober(self.inner), changed, self.breaker.rules.probe_timeout
            )
            self._probing = asyncio.create_task(probing, name="trove-circuit-prober")

    async def close(self) -> None:
        """End the prober, and close the inner driver."""
        for listener in self._listeners:
            self.breaker.remove_listener(listener)
        self._listeners.clear()
        try:
            if self._probing is not None:
                self._probing.cancel()
                await asyncio.wait({self._probing})
        finally:
            await super().close()


def _signed(trial: Trial, _: object) -> None:
    trial.dropped()


def _deleted(trial: Trial, results: Any) -> None:
    """Judge a bulk delete by its keys: a driver whose service has none deletes them one by one."""
    for result in results:
        if result.error is not None and verdict_on(result.error) == "failed":
            trial.raised(result.error)
    trial.succeeded()


_UNCERTAIN: Final[Mapping[str, Callable[[Trial, Any], None]]] = {
    "delete_many": _deleted,
    **dict.fromkeys(SIGNING, _signed),
}
"""Operations that may return although the backend failed, or without asking it."""
