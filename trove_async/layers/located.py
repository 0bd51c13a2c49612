"""The bucket and the prefix that ``trove://NAME/bucket/prefix`` names in a store."""

from __future__ import annotations

from trove_async.driver.base import Driver
from trove_async.dsn import bucket_and_prefix
from trove_async.layers.base import LayerDriver

__all__ = ["located"]


def located(driver: Driver, path: str) -> Driver:
    """Return a driver with the bucket and the prefix of a path, as if they were in the DSN.

    If the DSN of the driver names a bucket, the path continues behind it and is a prefix.

    Raises:
        InvalidDSNError: the path is malformed.
    """
    named = driver.default_bucket
    bucket, prefix = bucket_and_prefix(path if named is None else f"/{named}{path}")
    return _LocatedDriver(driver, bucket, prefix)


class _LocatedDriver(LayerDriver):
    def __init__(self, inner: Driver, bucket: str | None, prefix: str) -> None:
        super().__init__(inner)
        self._bucket = bucket
        self._prefix = prefix

    @property
    def default_bucket(self) -> str | None:  # type: ignore[override]
        return self._bucket

    @property
    def default_prefix(self) -> str:  # type: ignore[override]
        return self._prefix
