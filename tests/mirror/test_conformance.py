"""The conformance suite on a mirror; an ordinary run has the checks of what a mirror itself decides."""

from __future__ import annotations

import pytest

from tests.mirror.harness import harness as mirror
from trove_async.testing.conformance.suite import ConformanceSuite

_ORDINARY = [
    *("B1", "B2", "B3", "B4", "B5"),
    *(f"C{number}" for number in range(1, 30)),
    *("P1", "P2", "P3", "P4", "P5", "R1", "R2", "R3", "M1", "M2", "T1", "T2", "T3", "T4", "D1", "D2", "D3", "Y1", "Y2"),
]


@pytest.mark.long(but=_ORDINARY)
class TestMirror(ConformanceSuite):
    harness = mirror
