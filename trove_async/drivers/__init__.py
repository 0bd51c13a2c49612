"""The drivers that come with the library, one room each; imported when a DSN first asks for one."""

from typing import Final

__all__ = ["BUILTIN"]

BUILTIN: Final = {
    "memory": "trove_async.drivers.memory:MemoryDriver",
    "local": "trove_async.drivers.local:LocalDriver",
    "file": "trove_async.drivers.local:LocalDriver",
    "s3": "trove_async.drivers.s3.driver:S3Driver",
}
"""Scheme to ``module:Class``."""
