"""The conformance suite with reads that go through a `Failover`."""

from __future__ import annotations

from tests.drivers.failover_harness import harness as failover
from trove_async.testing.conformance.suite import ConformanceSuite


class TestFailover(ConformanceSuite):
    harness = failover
