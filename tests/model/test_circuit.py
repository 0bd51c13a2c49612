"""The circuit of a circuit breaker against a model: late results, probes that are given up, isolation by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from trove_async.errors import UnavailableError
from trove_async.layers.circuit import Circuit, CircuitRules, CircuitState

THRESHOLD, OPEN_FOR, JITTER, PROBE_TIMEOUT = 3, 30, 0.5, 20
LEGAL = {
    ("closed", "open"),
    ("open", "half_open"),
    ("half_open", "closed"),
    ("half_open", "open"),
    ("open", "closed"),  # by hand
    ("closed", "isolated"),
    ("open", "isolated"),
    ("half_open", "isolated"),
    ("isolated", "closed"),
}


@dataclass(eq=False)
class Call:
    """A call that was let pass, and the number of changes of state at that time."""

    ticket: int
    era: int


class CircuitMachine(RuleBasedStateMachine):
    """Calls that end in any order, at any time."""

    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.drawn = 0.0
        self.changes: list[tuple[CircuitState, CircuitState]] = []
        rules = CircuitRules(threshold=THRESHOLD, open_for=OPEN_FOR, jitter=JITTER, probe_timeout=PROBE_TIMEOUT)
        self.circuit = Circuit(
            rules,
            lambda before, after, _: self.changes.append((before, after)),
            clock=lambda: self.now,
            random=lambda: self.drawn,
        )
        self.state: CircuitState = "closed"
        self.era = 0
        self.failures = 0
        self.blocked_until = 0.0
        self.probe: Call | None = None

    def enter(self, state: CircuitState) -> None:
        self.state = state
        self.era += 1
        self.failures = 0
        self.probe = None

    @rule(seconds=st.integers(-5, 60))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule(drawn=st.floats(0, 1), target=calls)
    def a_call_begins(self, drawn: float) -> object:
        self.drawn = drawn
        ticket = self.circuit.begin()
        if self.state == "closed":
            assert ticket is not None
            return Call(ticket, self.era)
        if self.state == "isolated" or self.now < self.blocked_until:
            assert ticket is None
            return multiple()
        assert ticket is not None
        if self.state == "open":
            self.enter("half_open")
        self.probe = Call(ticket, self.era)
        self.blocked_until = self.now + PROBE_TIMEOUT
        return self.probe

    @rule(call=consumes(calls), outcome=st.sampled_from(["succeeded", "failed", "dropped"]), drawn=st.floats(0, 1))
    def a_call_ends(self, call: Call, outcome: Literal["succeeded", "failed", "dropped"], drawn: float) -> None:
        self.drawn = drawn
        if outcome == "succeeded":
            self.circuit.succeeded(call.ticket)
        elif outcome == "failed":
            self.circuit.failed(call.ticket, UnavailableError("down"))
        else:
            self.circuit.dropped(call.ticket)
        if call.era != self.era:
            return
        if self.state == "closed":
            self.failures = {"succeeded": 0, "failed": self.failures + 1, "dropped": self.failures}[outcome]
            if self.failures == THRESHOLD:
                self.open(drawn)
        elif outcome == "succeeded":
            self.enter("closed")
        elif call is self.probe:
            if outcome == "failed":
                self.open(drawn)
            else:
                self.blocked_until = self.now

    @rule(call=consumes(calls), target=calls)
    def a_call_is_answered(self, call: Call) -> Call:
        ticket = self.circuit.answered(call.ticket)
        if call.era != self.era or self.state != "half_open":
            assert ticket == call.ticket
            return call
        self.enter("closed")
        return Call(ticket, self.era)

    def open(self, drawn: float) -> None:
        self.enter("open")
        self.blocked_until = self.now + OPEN_FOR * (1 + JITTER * drawn)

    @rule()
    def somebody_isolates(self) -> None:
        self.circuit.isolate()
        if self.state != "isolated":
            self.enter("isolated")

    @rule()
    def somebody_resets(self) -> None:
        self.circuit.reset()
        self.enter("closed")

    @invariant()
    def circuit_and_model_agree(self) -> None:
        assert self.circuit.state == self.state
        assert self.circuit.transitions == len(self.changes)
        assert set(self.changes) <= LEGAL
        assert (self.circuit.error is not None) == (self.state in ("open", "half_open"))
        wait = max(0.0, self.blocked_until - self.now) if self.state in ("open", "half_open") else None
        assert self.circuit.until_probe == wait


TestCircuit = CircuitMachine.TestCase
TestCircuit.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
