"""The conformance suite on the driver of Cloud Storage, with the project's own server."""

from __future__ import annotations

from tests.gcs.harness import gcs
from trove_async.testing.conformance.suite import ConformanceSuite


class TestGCS(ConformanceSuite):
    harness = gcs
