"""The conformance suite with a `Dedup`."""

from __future__ import annotations

import pytest

from tests.managed.dedup_harness import local, memory, postgres
from trove_async.testing.conformance.suite import ConformanceSuite


class TestDedup(ConformanceSuite):
    harness = memory


@pytest.mark.long
class TestDedupLocal(ConformanceSuite):
    harness = local


@pytest.mark.long
class TestDedupPostgres(ConformanceSuite):
    harness = postgres
