"""`Trove`: an open store.

Written by ``python -m tests.sync_surface --write``; not to be edited.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from trove_async.cancellation import CLEANUP_TIMEOUT
from trove_async.driver.base import Driver, Layer
from trove_async.driver.memory import TRANSFER_MEMORY
from trove_async.driver.opening import Target
from trove_async.portal import current
from trove_async.store import open as async_open
from trove_async.sync.store.bucket import Bucket
from trove_async.sync.store.capabilities import CapabilityVerbs
from trove_async.types import BucketInfo

__all__ = ["Trove", "open"]


class Trove(CapabilityVerbs):
    """An open store, returned by `trove_async.sync.open`. Any number of threads may use it."""

    def ping(self) -> None:
        """Check that the backend can be reached and accepts the credentials; raise the error if not."""
        self._portal.call(lambda: self._async.ping())

    def bucket(self, name: str | None = None) -> Bucket:
        """Return a bucket, whose methods are those of the store without their first argument.

        No I/O: the bucket need not exist. Without a name it is the bucket of the DSN.
        """
        return Bucket(self._portal, self._portal.run(lambda: self._async.bucket(name)))

    def create_bucket(self, name: str, *, region: str | None = None, exist_ok: bool = False) -> Bucket:
        """Create a bucket and return it.

        Args:
            name: 1 to 255 bytes without slash; services allow less.
            region: of the bucket, on services with regions.
            exist_ok: True to return an existing bucket.

        Raises:
            BucketAlreadyExistsError: it exists, and ``exist_ok`` is False.
        """
        return Bucket(
            self._portal, self._portal.call(lambda: self._async.create_bucket(name, region=region, exist_ok=exist_ok))
        )

    def delete_bucket(self, name: str) -> None:
        """Delete an empty bucket.

        Raises:
            BucketNotFoundError: it does not exist.
            BucketNotEmptyError: it has objects or versions; nothing was deleted.
        """
        self._portal.call(lambda: self._async.delete_bucket(name))

    def list_buckets(self) -> list[BucketInfo]:
        """Return the buckets, in the order of their names."""
        return self._portal.call(lambda: self._async.list_buckets())


def open(
    dsn: str | Driver | Target,
    *,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    layers: Iterable[Layer] = (),
    cleanup_timeout: float = CLEANUP_TIMEOUT,
    transfer_memory: int = TRANSFER_MEMORY,
    **settings: Any,
) -> Trove:
    """Open a store: ``with trove_async.sync.open(dsn) as t``; or ``t = trove_async.sync.open(dsn)`` and ``close()``.

    Args:
        dsn: ``memory://``, ``local:///srv/data``, …; see ``docs/dsn.md``. Or a name of the configuration, such as
            ``media``, or ``trove://media/bucket/prefix``; see ``docs/configuration.md``. Or a store over several
            stores; or an open driver.
        config: where the name stands: the path of a file, or a mapping like one. None for ``TROVE_CONFIG``, else
            ``trove.toml`` of the current directory, else that of ``~/.config/trove``. With a DSN it is a setting.
        layers: wrap the driver, the first one innermost; see ``docs/layers.md``. They are outside of those of the
            configuration.
        cleanup_timeout: the time limit in seconds of clean-up after a failure or cancellation.
        transfer_memory: bytes that all large reads together may request ahead of those who read, and that the parts of
            large puts may take beyond one for each put; 0 for none.
        **settings: the driver's parameters, as in the query of the DSN, but with values of any type. They replace those
            of the configuration.

    Raises:
        InvalidDSNError: a part of the DSN is wrong or unknown; the message has no secrets.
        ConfigError: the configuration has no store of that name, or is wrong; the message has file, line and key.
        MissingDependencyError: the driver's package is not installed; the message names the extra.
        NotFoundError, AccessDeniedError: the DSN refers to something missing or inaccessible.
    """
    portal = current()
    return Trove(
        portal,
        portal.call(
            lambda: async_open(
                dsn,
                config=config,
                layers=layers,
                cleanup_timeout=cleanup_timeout,
                transfer_memory=transfer_memory,
                **settings,
            )
        ),
    )
