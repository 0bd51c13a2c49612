"""The drivers of the library, one package each; a driver is imported when a DSN first uses its scheme."""

from typing import Final

__all__ = ["BUILTIN"]

BUILTIN: Final = {
    "azure": "trove_async.drivers.azure.driver:AzureDriver",
    "memory": "trove_async.drivers.memory:MemoryDriver",
    "local": "trove_async.drivers.local:LocalDriver",
    "file": "trove_async.drivers.local:LocalDriver",
    "gcs": "trove_async.drivers.gcs.driver:GCSDriver",
    "gs": "trove_async.drivers.gcs.driver:GCSDriver",
    "s3": "trove_async.drivers.s3.driver:S3Driver",
    "sftp": "trove_async.drivers.sftp.driver:SFTPDriver",
}
"""Scheme to ``module:Class``."""
