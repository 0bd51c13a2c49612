"""The driver for ``sftp://``."""

from trove_async.drivers.sftp.driver import SFTPDriver

__all__ = ["SFTPDriver"]
