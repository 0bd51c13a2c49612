"""The conformance suite on the S3 driver: on Ceph's gateway, and in a long run on moto."""

from __future__ import annotations

from typing import Final

import pytest

from tests.s3.harness import ceph, moto
from trove_async.testing.conformance.suite import ConformanceSuite

CEPH_CANNOT: Final = ("C10", "M5", "U5", "Y11")
"""The checks that moto passes and Ceph does not pass or declare: they run on moto in every run."""


class TestS3Ceph(ConformanceSuite):
    harness = ceph


@pytest.mark.long(but=CEPH_CANNOT)
class TestS3Moto(ConformanceSuite):
    harness = moto
