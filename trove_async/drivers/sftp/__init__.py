"""The driver for ``sftp://``."""

from trove_async.drivers.sftp.driver import SFTPDriver
from trove_async.drivers.sftp.errors import HostKeyChangedError, HostKeyUnknownError

__all__ = ["HostKeyChangedError", "HostKeyUnknownError", "SFTPDriver"]
