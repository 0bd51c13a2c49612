"""The conformance suite on the SFTP driver: on OpenSSH's server, and in a long run on asyncssh's."""

from __future__ import annotations

import pytest

from tests.sftp.harness import asyncssh, openssh
from trove_async.testing.conformance.suite import ConformanceSuite


class TestSFTPOpenSSH(ConformanceSuite):
    harness = openssh


@pytest.mark.long
class TestSFTPAsyncSSH(ConformanceSuite):
    harness = asyncssh
