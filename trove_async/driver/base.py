"""The contract between the library and a backend: what a driver promises.

`Trove` is what users hold; a driver is what a backend implements. The portable type validates names,
options and conditions, opens the body, and adds operation, bucket, key and driver to every error. A
driver carries the operation out, under these rules:

- **A put is atomic.** Readers see the whole old object or the whole new one. If the body raises, or the
  call is cancelled or fails before its commit was sent, the old object stays, and no upload, temporary
  file, connection or task is left behind. If the commit was sent, the object is old or new, and whole. No
  commit begins after a cancellation.
- **A cancellation is never swallowed and never becomes another error.** Clean-up goes through
  `trove_async.cancellation.finish`, and has ended when the call returns.
- **Errors** are those of `trove_async.errors`, with the backend's own error as ``__cause__``. A driver
  maps its backend's codes in one table. Exceptions of the body pass unchanged. The key is in ``key`` and not in
  the message, so that a layer that changes keys can change it.
- **Conditions are never ignored.** A driver declares the conditions that it honours, even under races, in
  `Features.conditions`; calls with other conditions never reach it.
- **Memory is bounded**, whatever the size of an object.
- **Listings** are in the order of the keys' UTF-8 bytes; after a put has returned, its object is listed.
- **ETags** are opaque, have no quotes, and agree between put, head, get and list.
- One driver serves any number of tasks of one event loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NoReturn, TypeVar

from trove_async.body import Body
from trove_async.driver.capabilities import CAPABILITIES, Features
from trove_async.driver.events import Listener
from trove_async.driver.options import (
    BucketOptions,
    CopyOptions,
    DeleteOptions,
    GetOptions,
    HeadOptions,
    ListOptions,
    OpenOptions,
    PutOptions,
)
from trove_async.driver.order import Placed, check_order
from trove_async.driver.retry import RetryPolicy
from trove_async.dsn import DSN
from trove_async.errors import InvalidArgumentError, UnpicklableError, UnsupportedError
from trove_async.listing import Item, ListPage, ObjectIterator
from trove_async.reader import ObjectReader
from trove_async.types import BucketInfo, ObjectInfo

__all__ = ["Driver", "Layer", "capabilities_of", "check_layers", "stack_of", "unwrap"]

D = TypeVar("D")


class Driver(Placed, ABC):
    """A backend. Subclass it and implement the abstract methods and any of the capabilities."""

    default_bucket: str | None = None
    """The bucket that the DSN names, if it names one."""

    default_prefix: str = ""
    """What the DSN names behind the bucket: a prefix of keys; see `trove_async.dsn.bucket_and_prefix`.

    The driver itself takes complete keys. `trove_async.open` puts `Prefixed` around it.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The driver's name, such as ``local``; it appears in errors and logs."""

    @property
    def features(self) -> Features:
        """What this server has. Default: everything that the driver implements, and no conditions."""
        return Features(protocols=capabilities_of(self))

    @classmethod
    async def split(cls, dsn: DSN) -> tuple[str, str | None, str]:
        """Split a DSN that names an object into the store's own DSN, the bucket and the key.

        The default takes the first component of the path as the bucket and the remainder as the key. A driver
        whose DSN names a bucket elsewhere, or whose path belongs to the store, overrides it. It may look at the
        backend to find out where the store's part of the path ends.

        Returns:
            The DSN that opens the store, secrets included; the bucket, None if the DSN names none; the
            key, or what keys begin with, empty if the DSN names none.

        Raises:
            InvalidDSNError: it cannot be known where the bucket begins.
        """
        bucket, _, key = dsn.path.removeprefix("/").partition("/")
        return replace(dsn, path="").reveal(), bucket or None, key

    @classmethod
    def check_dsn(cls, dsn: DSN, options: OpenOptions) -> None:
        """Refuse a DSN or settings that `open` would refuse, without asking the backend.

        `trove config check` calls it, and a named store before it is opened, in a thread. It may read files that
        belong to the settings. The default accepts everything.

        Raises:
            InvalidDSNError: a part or parameter is wrong or unknown; see `SettingsParser`.
        """

    @abstractmethod
    async def open(self, dsn: DSN, options: OpenOptions) -> None:
        """Get ready; open no connection that is not needed yet. Called once, before any other method.

        Raises:
            InvalidDSNError: a part or parameter is wrong or unknown; see `SettingsParser`.
        """

    async def start(self) -> None:
        """Begin what a layer needs while it is open; drivers that are no layers do that in `open`.

        `trove_async.open` awaits it for each of its layers, the innermost first. `close` undoes it, and is
        called too if ``start`` raises.
        """

    def use_retry_policy(self, policy: RetryPolicy) -> bool:
        """Try again by this policy, and leave operations of one request to the `Retry` layer that it comes from.

        The layer calls it once the driver is open. A driver that tries again by itself keeps a
        `trove_async.driver.retry.Retries` and gives it the policy; otherwise the attempts of driver and layer multiply.
        One over several drivers calls the method of each. The default does nothing.

        Returns:
            Whether the driver pays its successes into the policy's budget; if not, the layer does.
        """
        return False

    @abstractmethod
    async def close(self) -> None:
        """Release everything; idempotent and final. Running operations fail, or finish first."""

    @abstractmethod
    async def ping(self) -> None:
        """Check that the backend can be reached and accepts the credentials; raise if not."""

    @abstractmethod
    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        """Store an object, and replace an existing one completely: content, metadata, tags and everything else.

        Raises:
            BucketNotFoundError: the bucket does not exist; a replayable body can be read again.
            ObjectAlreadyExistsError: ``if_none_match="*"`` and the object exists.
            PreconditionFailedError: another condition does not hold, for example ``if_match`` on a missing object.
        """

    @abstractmethod
    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        """Open an object or a range of it; ``info`` has the size of the whole object.

        Raises:
            BucketNotFoundError, ObjectNotFoundError, VersionNotFoundError: it does not exist.
            RangeNotSatisfiableError: the range starts at or past the end.
            NotModifiedError: ``if_none_match`` or ``if_modified_since`` does not hold.
            PreconditionFailedError: ``if_match`` or ``if_unmodified_since`` does not hold.
        """

    @abstractmethod
    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        """Describe an object. The errors are those of `get`."""

    @abstractmethod
    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Delete an object, or one version of it; success if it does not exist.

        Raises:
            BucketNotFoundError: the bucket does not exist.
            PreconditionFailedError: the object has another ETag than ``if_match``, or does not exist.
        """

    @abstractmethod
    async def copy(
        self, src_bucket: str, src_key: str, dst_bucket: str, dst_key: str, options: CopyOptions
    ) -> ObjectInfo:
        """Copy an object within the backend, as atomically as a put; also onto itself.

        Errors of the source are marked with `reading_source`, so that `TroveError.copy_phase` is right.

        Raises:
            CopyNotSupportedError: the backend cannot copy this object; nothing was sent. `Trove.copy` then streams it.
            ObjectNotFoundError: names the source.
            BucketNotFoundError: names the bucket that is missing.
            PreconditionFailedError: a condition on source or destination does not hold.
        """

    @abstractmethod
    async def list_page(self, bucket: str, options: ListOptions) -> ListPage:
        """Return one page of a listing; the one listing primitive."""

    def list(self, bucket: str, options: ListOptions) -> ObjectIterator[Item]:
        """Return an iterator over all pages, built on `list_page`."""

        async def fetch(cursor: str | None) -> ListPage:
            page_options = ListOptions(
                prefix=options.prefix,
                delimiter=options.delimiter,
                start_after=options.start_after,
                page_size=options.page_size,
                cursor=options.cursor if cursor is None else cursor,
            )
            return await self.list_page(bucket, page_options)

        return ObjectIterator(
            fetch,
            bucket=bucket,
            prefix=options.prefix,
            delimiter=options.delimiter,
            start_after=options.start_after,
        )

    @abstractmethod
    async def create_bucket(self, name: str, options: BucketOptions) -> None:
        """Create a bucket.

        Raises:
            BucketAlreadyExistsError: it exists. If a service answers success to a duplicate, ask it first.
            InvalidBucketNameError: the backend does not allow the name; before any I/O.
        """

    @abstractmethod
    async def delete_bucket(self, name: str) -> None:
        """Delete an empty bucket.

        Raises:
            BucketNotFoundError: it does not exist.
            BucketNotEmptyError: it holds objects or versions; none of them was deleted.
        """

    @abstractmethod
    async def list_buckets(self) -> Sequence[BucketInfo]:
        """Return the buckets, in the order of their names."""

    def check_key(self, key: str) -> None:
        """Refuse a key that the backend cannot hold; no I/O. The default accepts every valid key.

        Raises:
            InvalidKeyError: says why, and what is allowed.
        """

    def check_bucket(self, bucket: str) -> None:
        """Refuse a bucket name that the backend cannot hold; no I/O.

        Raises:
            InvalidBucketNameError: says why, and what is allowed.
        """

    async def settle(self, bucket: str, key: str) -> None:
        """Wait until `head` shows what became of each write of an object that has ended.

        A layer that counts objects calls it after a write of unknown outcome, before it looks. The default returns at
        once, which is right for a backend: it has carried out the write or not. A driver that finishes writes later by
        itself, such as that of a `Mirror`, decides here what becomes of them. Layers pass the call on.

        Raises:
            UnavailableError: that cannot be decided now.
        """

    def shares_backend(self, other: Driver) -> bool:
        """Tell whether `copy` can take its source from another driver, which is open and of any class.

        The default is False for every other driver. One that overrides it must be sure that both reach the same
        objects with the same credentials.
        """
        return other is self

    def unwrap(self) -> Driver | None:
        """Return the driver that this layer wraps; None if this is not a layer."""
        return None

    def __reduce__(self) -> NoReturn:
        raise UnpicklableError(
            f"the driver {self.name!r} is open and cannot be pickled; pickle the DSN without secrets, or a name of "
            "trove.toml such as 'trove://NAME', and open it where it is used"
        )

    def add_listener(self, listener: Listener) -> None:
        """Call ``listener`` with the events that may happen outside of operations; see `trove_async.driver.events`.

        `Observe` calls this once the driver is open. A layer passes it on to its inner driver, a driver over several
        drivers to each of them; the default, for drivers without such events, does nothing.
        """


def capabilities_of(driver: Driver) -> frozenset[type]:
    """Return the capabilities that a driver implements."""
    return _capabilities_of_class(type(driver))


def _capabilities_of_class(cls: type[Any], _known: dict[type, frozenset[type]] = {}) -> frozenset[type]:  # noqa: B006 - a cache
    found = _known.get(cls)
    if found is None:
        # A layer hides a method with None, which `isinstance` against a Protocol takes for a missing method.
        found = frozenset(
            p for p in CAPABILITIES if all(getattr(cls, method, None) is not None for method in methods_of(p))
        )
        _known[cls] = found
    return found


def methods_of(protocol: type) -> frozenset[str]:
    """Return the names of the methods of a capability."""
    return frozenset(
        name
        for base in protocol.__mro__
        if getattr(base, "_is_protocol", False)
        for name, value in vars(base).items()
        if callable(value) and not name.startswith("_")
    )


def stack_of(outermost: Driver) -> Iterator[Driver]:
    """Yield a driver and what it wraps, the outermost first."""
    at: Driver | None = outermost
    while at is not None:
        yield at
        at = at.unwrap()


Layer = Callable[[Driver], Driver]
"""Puts a layer around a driver: a class of layers, or an object such as `trove_async.Limit`."""


def check_layers(outermost: Driver) -> None:
    """Check the order of the layers around a driver, which may have been made by functions.

    Raises:
        InvalidArgumentError: a layer is around one that it must not be around; the message says the right order.
    """
    check_order(stack_of(outermost))


def unwrap(driver: Driver, kind: type[D]) -> D:
    """Walk down through layers to the driver of a class, for methods that only that class has.

    Raises:
        UnsupportedError: no driver in the stack has that class.
        InvalidArgumentError: ``driver`` is no driver.
    """
    if not isinstance(driver, Driver):
        raise InvalidArgumentError(f"unwrap() takes a driver, such as t.driver of a store t, not {driver!r}")
    for at in stack_of(driver):
        if isinstance(at, kind):
            return at
    raise UnsupportedError(f"there is no {kind.__name__} in {driver!r}", driver=driver.name)
