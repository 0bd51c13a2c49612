"""The conformance suite on the Azure driver, with Azurite."""

from __future__ import annotations

from tests.azure.harness import azurite
from trove_async.testing.conformance.suite import ConformanceSuite


class TestAzure(ConformanceSuite):
    harness = azurite
