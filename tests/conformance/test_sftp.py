"""The SFTP driver on OpenSSH's server and on asyncssh's, under every check."""

from __future__ import annotations

from tests.sftp.harness import asyncssh, openssh
from trove_async.testing.conformance.suite import ConformanceSuite


class TestSFTPOpenSSH(ConformanceSuite):
    harness = openssh


class TestSFTPAsyncSSH(ConformanceSuite):
    harness = asyncssh
