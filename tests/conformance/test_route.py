"""The conformance suite on a `Route` over memory and local files."""

from __future__ import annotations

from tests.drivers.route_harness import harness as route
from trove_async.testing.conformance.suite import ConformanceSuite


class TestRoute(ConformanceSuite):
    harness = route
