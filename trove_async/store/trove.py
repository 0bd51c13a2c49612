"""`Trove`: an open store."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from trove_async.cancellation import CLEANUP_TIMEOUT, finish
from trove_async.driver.base import Driver, Layer
from trove_async.driver.memory import TRANSFER_MEMORY
from trove_async.driver.opening import Target, checked_layers, named_target, open_stack
from trove_async.driver.options import BucketOptions, OpenOptions
from trove_async.dsn import is_name
from trove_async.errors import (
    BucketAlreadyExistsError,
    InvalidArgumentError,
    InvalidBucketNameError,
    LifetimeError,
    TroveError,
)
from trove_async.opening import Opening
from trove_async.store.bucket import Bucket
from trove_async.store.capabilities import CapabilityVerbs
from trove_async.types import BucketInfo
from trove_async.values import is_whole

__all__ = ["Trove", "open"]


class Trove(CapabilityVerbs):
    """An open store, returned by `trove_async.open`. Any number of tasks of its loop may use it."""

    async def ping(self) -> None:
        """Check that the backend can be reached and accepts the credentials; raise the error if not."""
        self._check_usable()
        await self._run("ping", None, None, self._driver.ping())

    def bucket(self, name: str | None = None) -> Bucket:
        """Return a bucket, whose methods are those of the store without their first argument.

        No I/O: the bucket need not exist. Without a name it is the bucket of the DSN.
        """
        chosen = self._driver.default_bucket if name is None else name
        if chosen is None:
            raise InvalidBucketNameError("no bucket is given, and the DSN names no bucket", operation="bucket")
        self._check("bucket", chosen)
        return Bucket(self, chosen)

    async def create_bucket(self, name: str, *, region: str | None = None, exist_ok: bool = False) -> Bucket:
        """Create a bucket and return it.

        Args:
            name: 1 to 255 bytes without slash; services allow less.
            region: of the bucket, on services with regions.
            exist_ok: True to return an existing bucket.

        Raises:
            BucketAlreadyExistsError: it exists, and ``exist_ok`` is False.
        """
        self._check("create_bucket", name)
        with self._locating("create_bucket", name):
            self._driver.check_bucket(name)
        try:
            await self._run("create_bucket", name, None, self._driver.create_bucket(name, BucketOptions(region=region)))
        except BucketAlreadyExistsError:
            if not exist_ok:
                raise
        return Bucket(self, name)

    async def delete_bucket(self, name: str) -> None:
        """Delete an empty bucket.

        Raises:
            BucketNotFoundError: it does not exist.
            BucketNotEmptyError: it has objects or versions; nothing was deleted.
        """
        self._check("delete_bucket", name)
        await self._run("delete_bucket", name, None, self._driver.delete_bucket(name))

    async def list_buckets(self) -> list[BucketInfo]:
        """Return the buckets, in the order of their names."""
        self._check_usable()
        return [*await self._run("list_buckets", None, None, self._driver.list_buckets())]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


async def _open(
    target: str | Driver | Target, layers: Iterable[Layer], options: OpenOptions, transfer_memory: int
) -> Trove:
    _check_loop()
    try:
        driver = await open_stack(target, layers, options)
        try:
            return Trove(driver, cleanup_timeout=options.cleanup_timeout, transfer_memory=transfer_memory)
        except BaseException:
            await finish(driver.close(), timeout=options.cleanup_timeout, leftover=f"the {driver.name} driver")
            raise
    except TroveError as error:
        error.locate("open")
        raise


def _check_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise LifetimeError(
            "no asyncio event loop is running: trove_async needs asyncio, and does not work under trio",
            operation="open",
        ) from None


def open(
    dsn: str | Driver | Target,
    *,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    layers: Iterable[Layer] = (),
    cleanup_timeout: float = CLEANUP_TIMEOUT,
    transfer_memory: int = TRANSFER_MEMORY,
    **settings: Any,
) -> Opening[Trove]:
    """Open a store: ``async with trove_async.open(dsn) as t``; or ``t = await trove_async.open(dsn)`` and ``aclose()``.

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

    Raises (when awaited or entered):
        InvalidDSNError: a part of the DSN is wrong or unknown; the message has no secrets.
        ConfigError: the configuration has no store of that name, or is wrong; the message has file, line and key.
        MissingDependencyError: the driver's package is not installed; the message names the extra.
        NotFoundError, AccessDeniedError: the DSN refers to something missing or inaccessible.
    """
    if not cleanup_timeout > 0:
        raise InvalidArgumentError("cleanup_timeout must be more than 0 seconds", operation="open")
    if not is_whole(transfer_memory) or transfer_memory < 0:
        raise InvalidArgumentError(
            f"transfer_memory is a whole number of bytes, 0 or more, not {transfer_memory!r}", operation="open"
        )
    try:
        checked = checked_layers(layers)
        if isinstance(dsn, str) and is_name(dsn):
            dsn = named_target(dsn, config)
        elif config is not None:
            settings["config"] = config  # the SFTP driver has a parameter of this name
    except TroveError as error:
        error.locate("open")
        raise
    options = OpenOptions(settings=settings, cleanup_timeout=cleanup_timeout)
    return Opening(lambda: _open(dsn, checked, options, transfer_memory))
