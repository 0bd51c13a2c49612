"""The conformance suite on the local driver, through every stack of layers."""

from __future__ import annotations

from tests.drivers.local_harness import harness as local
from trove_async.testing.conformance.suite import ConformanceSuite


class TestLocal(ConformanceSuite):
    harness = local
