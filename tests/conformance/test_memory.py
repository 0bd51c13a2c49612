"""The conformance suite on the memory driver, through every stack of layers."""

from __future__ import annotations

from tests.drivers.memory_harness import harness as memory
from trove_async.testing.conformance.suite import ConformanceSuite


class TestMemory(ConformanceSuite):
    harness = memory
