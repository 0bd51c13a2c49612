"""The local driver: objects as files that a person can look at."""

from trove_async.drivers.local.driver import LocalDriver

__all__ = ["LocalDriver"]
