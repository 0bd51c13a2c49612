"""The S3 driver on Ceph's gateway and on moto, under every check; on Ceph through all layers too."""

from __future__ import annotations

from tests.s3.harness import ceph, moto
from trove_async.testing.conformance.suite import ConformanceSuite


class TestS3Ceph(ConformanceSuite):
    harness = ceph


class TestS3Moto(ConformanceSuite):
    harness = moto
