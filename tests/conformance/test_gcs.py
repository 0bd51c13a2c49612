"""The driver of Cloud Storage on the project's own server, under every check."""

from __future__ import annotations

from tests.gcs.harness import gcs
from trove_async.testing.conformance.suite import ConformanceSuite


class TestGCS(ConformanceSuite):
    harness = gcs
