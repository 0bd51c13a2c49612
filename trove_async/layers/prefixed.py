"""`Prefixed`: store everything below a prefix of the keys, and see nothing else."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any, ClassVar, Final, TypeVar, cast

from trove_async.driver.base import Driver
from trove_async.driver.capabilities import Features, LifecycleDriver, LifecycleSweepDriver
from trove_async.driver.methods import METHODS, Method
from trove_async.driver.options import ListOptions, OpenOptions, VersionListOptions, WatchOptions
from trove_async.driver.order import Placed
from trove_async.dsn import DSN
from trove_async.errors import BackendError, BucketNotEmptyError, InvalidArgumentError, InvalidKeyError, TroveError
from trove_async.keys import MAX_KEY_BYTES, check_prefix
from trove_async.layers.base import Call, LayerDriver, Operation
from trove_async.listing import ListPage
from trove_async.reader import ByteStream, ObjectReader, StreamWrapper
from trove_async.signing import URLSigner, find_signer
from trove_async.types import (
    DeleteResult,
    ObjectEvent,
    ObjectInfo,
    ObjectRef,
    Prefix,
    UploadInfo,
    VersionInfo,
    maker_of,
)
from trove_async.version_listing import VersionPage

__all__ = ["Prefixed"]

R = TypeVar("R")
WithKey = TypeVar("WithKey", VersionInfo, UploadInfo, ObjectEvent, DeleteResult)

_SHARED_RULES: Final = (
    "the rules are those of the whole bucket, and setting them would replace those for other keys; "
    "set them in a store without the prefix"
)
_NOT_EMPTY: Final = (
    "the bucket is not empty; it may hold objects whose keys do not begin with the prefix of this store, "
    "which the store does not list"
)


@dataclass(frozen=True)
class Prefixed(Placed):
    """Add ``prefix`` to all keys on their way to the backend, and remove it from all that come back.

    The store then has only the keys that begin with the prefix, in every bucket. The prefix is text and no path: to
    keep ``team/`` apart from ``team-b/``, end it with a slash. An empty prefix changes nothing.
    """

    layer_name: ClassVar[str | None] = "Prefixed"

    prefix: str

    def __post_init__(self) -> None:
        if not isinstance(self.prefix, str):
            raise InvalidArgumentError(f"a prefix is a str, as in Prefixed('team/'), not {type(self.prefix).__name__}")
        try:
            check_prefix(self.prefix)
        except InvalidKeyError as error:
            raise InvalidArgumentError(f"no key can begin with this prefix: {error.message}") from None
        if len(self.prefix.encode()) == MAX_KEY_BYTES:
            raise InvalidArgumentError(f"the prefix has {MAX_KEY_BYTES} bytes, which leaves none for the keys")

    def __call__(self, driver: Driver) -> Driver:
        """Put the layer around a driver; the prefix in its DSN, if there is one, comes first."""
        if not self.prefix and not driver.default_prefix:
            return driver
        return _PrefixedDriver(driver, self.prefix)


class _PrefixedDriver(LayerDriver):
    layer_name: ClassVar[str | None] = Prefixed.layer_name
    drops: ClassVar = {LifecycleDriver: _SHARED_RULES, LifecycleSweepDriver: _SHARED_RULES}

    def __init__(self, inner: Driver, prefix: str) -> None:
        super().__init__(inner)
        self._own_prefix = prefix
        self._names = _Names(inner.default_prefix + prefix)

    async def open(self, dsn: DSN, options: OpenOptions) -> None:
        await self.inner.open(dsn, options)
        self._names = _Names(self.inner.default_prefix + self._own_prefix)
        await self.start()

    @property
    def default_prefix(self) -> str:  # type: ignore[override]
        return ""  # the layer adds it

    @property
    def features(self) -> Features:
        found = super().features
        limits = found.limits
        return replace(found, limits=replace(limits, max_key_size=limits.max_key_size - self._names.size))

    @property
    def url_signer(self) -> URLSigner | None:
        """Signs and verifies URLs by the keys of this store, where the library serves them."""
        signer = find_signer(self.inner)
        return None if signer is None else signer.below(self._names.prefix)

    def check_key(self, key: str) -> None:
        full = self._names.fitting(key)
        try:
            self.inner.check_key(full)
        except TroveError as error:
            self._names.correct(error, [(None, key)])
            raise

    async def settle(self, bucket: str, key: str) -> None:
        await self.inner.settle(bucket, self._names.full(key))

    async def around(self, operation: Operation, call: Call[R]) -> R:
        names = self._names
        changes, restore = _PLANS[operation.name]
        try:
            if changes is _KEY_ALONE:
                result = await call(key=names.prefix + cast(str, operation.key))
            else:
                result = await call(**{name: change(names, operation[name]) for name, change in changes})
        except TroveError as error:
            names.correct_for(error, operation)
            raise
        if restore is None:
            return result
        restored: R = restore(names, operation, result)
        return restored

    async def delete_bucket(self, name: str) -> None:
        try:
            await super().delete_bucket(name)
        except BucketNotEmptyError as error:
            _reword(error, _NOT_EMPTY)
            raise


class _Names:
    """Translates between the keys of the store and those of the backend."""

    __slots__ = ("length", "prefix", "size")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.length = len(prefix)
        self.size = len(prefix.encode())

    def full(self, key: str) -> str:
        """Return the backend's key."""
        return self.prefix + key

    def fitting(self, key: str) -> str:
        """Return the backend's key, or its prefix of a listing.

        Raises:
            InvalidKeyError: it is longer than a key may be.
        """
        full = self.prefix + key
        if len(full) > MAX_KEY_BYTES // 4:  # a character has 4 bytes at most
            size = len(full.encode())
            if size > MAX_KEY_BYTES:
                raise InvalidKeyError(
                    f"with the store's prefix of {self.size} bytes it is {size} bytes of UTF-8, "
                    f"more than {MAX_KEY_BYTES}",
                    key=f"{key[:64]}…",
                )
        return full

    def is_own(self, full: str) -> bool:
        """Whether a key of the backend is one of the store; the prefix itself is none, since a key is not empty."""
        return len(full) > self.length and full.startswith(self.prefix)

    def own(self, full: str) -> str:
        """Return the store's key for a key that the backend has listed.

        Raises:
            BackendError: it is not below the prefix.
        """
        if not full.startswith(self.prefix):
            raise BackendError("the backend answered with a key that does not begin with the prefix of the store")
        return full[self.length :]

    def restored(self, item: WithKey) -> WithKey:
        """Return an item with the store's key."""
        return replace(item, key=self.own(item.key))

    def restored_all(self, items: Sequence[WithKey]) -> list[WithKey]:
        """Return the items that belong to the store, with its keys; the others are objects named like the prefix."""
        return [self.restored(item) for item in items if item.key != self.prefix]

    def correct_for(self, error: TroveError, operation: Operation) -> None:
        """Name the store's keys in an error of an operation; not in one of its body, which may be of another store."""
        if operation.body is not None and operation.body.failure is error:
            return
        arguments = operation.arguments
        ends = [end for end in ("", "src_", "dst_") if f"{end}key" in arguments]
        given = [(arguments[f"{end}bucket"], arguments[f"{end}key"]) for end in ends]
        given += [(value.bucket, value.key) for value in arguments.values() if isinstance(value, ObjectRef)]
        self.correct(error, given)

    def correct(self, error: TroveError, given: Sequence[tuple[str | None, str]]) -> None:
        """Name the store's keys in an error.

        Args:
            error: its ``key``, and its message where that contains the answer of a service, name keys of the backend.
            given: the buckets, None if unknown, and the store's keys that the operation is about.
        """
        if error.key is not None and error.key.startswith(self.prefix):
            error.key = error.key[self.length :]
        for bucket, own in given:
            full = self.full(own)
            message = error.message.replace(repr(full), repr(own))
            if bucket is not None:
                message = message.replace(f"{bucket}/{full}", f"{bucket}/{own}")
            _reword(error, message)


def _reword(error: TroveError, message: str) -> None:
    error.message = message
    error.args = (message,)


# What is done to arguments, by the name of the parameter or, for options, of the method. None: nothing.

Change = Callable[[_Names, Any], Any]


def _full_keys(names: _Names, keys: Sequence[str]) -> list[str]:
    return [names.full(key) for key in keys]


def _full_ref(names: _Names, ref: ObjectRef) -> ObjectRef:
    return replace(ref, key=names.full(ref.key))


def _full_listing(names: _Names, options: ListOptions) -> ListOptions:
    after = options.start_after
    return replace(
        options,
        prefix=names.fitting(options.prefix),
        start_after=None if after is None else names.fitting(after),
    )


def _full_options(names: _Names, options: VersionListOptions | WatchOptions) -> VersionListOptions | WatchOptions:
    return replace(options, prefix=names.fitting(options.prefix))


_PARAMETERS: Final[Mapping[str, Change | None]] = {
    "key": _Names.full,
    "src_key": _Names.full,
    "dst_key": _Names.full,
    "prefix": _Names.fitting,
    "keys": _full_keys,
    "src": _full_ref,
    "dst": _full_ref,
    **dict.fromkeys(("bucket", "name", "src_bucket", "dst_bucket", "body", "upload_id", "number", "parts")),
    **dict.fromkeys(("version_id", "enabled", "offset", "length", "tags")),
}

_OPTIONS: Final[Mapping[str, Change]] = {
    "list_page": _full_listing,
    "list_versions_page": _full_options,
    "watch": _full_options,
}

# What is done to results, by the name of the method. None: nothing.

Restore = Callable[[_Names, Operation, Any], Any]

_attributes = attrgetter(*[field.name for field in fields(ObjectInfo)][1:])
"""Returns all fields but the key, which is the first. `replace` takes three times as long; a page has 1,000 objects."""

_make_info = maker_of(ObjectInfo)


def _with_key(info: ObjectInfo, key: str) -> ObjectInfo:
    return _make_info(key, *_attributes(info))


def _info(_names: _Names, operation: Operation, info: ObjectInfo) -> ObjectInfo:
    return _make_info(operation.key, *_attributes(info))


def _reader(names: _Names, operation: Operation, reader: ObjectReader) -> ObjectReader:
    reader.info = _info(names, operation, reader.info)
    reader.wrap(lambda stream: _CorrectingStream(stream, names, operation))
    return reader


def _page(names: _Names, _operation: Operation, page: ListPage) -> ListPage:
    return ListPage(
        [_with_key(info, names.own(info.key)) for info in page.objects if info.key != names.prefix],
        [Prefix(names.own(group.prefix)) for group in page.prefixes],
        page.cursor,
    )


def _version_page(names: _Names, _operation: Operation, page: VersionPage) -> VersionPage:
    return replace(page, versions=names.restored_all(page.versions))


def _items(names: _Names, _operation: Operation, items: Sequence[Any]) -> Sequence[Any]:
    return names.restored_all(items)


def _deletions(names: _Names, operation: Operation, results: Sequence[DeleteResult]) -> Sequence[DeleteResult]:
    for result in results:
        if result.error is not None:
            names.correct(result.error, [(operation.bucket, names.own(result.key))])
    return [names.restored(result) for result in results]


async def _events(
    names: _Names, operation: Operation, events: AsyncGenerator[ObjectEvent, None]
) -> AsyncGenerator[ObjectEvent, None]:
    try:
        async with aclosing(events):
            async for event in events:
                if names.is_own(event.key):
                    yield names.restored(event)
    except TroveError as error:
        names.correct_for(error, operation)
        raise


_RESULTS: Final[Mapping[str, Restore | None]] = {
    **dict.fromkeys(("put", "head", "copy", "server_copy", "complete_multipart", "restore_version"), _info),
    **dict.fromkeys(("get", "get_range", "get_version"), _reader),
    **dict.fromkeys(("list_versions", "list_multipart_uploads"), _items),
    "list_page": _page,
    "list_versions_page": _version_page,
    "delete_many": _deletions,
    "watch": _events,
    **dict.fromkeys(("ping", "delete", "create_bucket", "delete_bucket", "list_buckets")),
    **dict.fromkeys(("initiate_multipart", "upload_part", "append_part", "copy_part", "abort_multipart", "list_parts")),
    **dict.fromkeys(("presign_get", "presign_put", "presign_head", "presign_delete", "presign_post")),
    **dict.fromkeys(("set_versioning", "get_versioning", "delete_version", "get_tags", "set_tags", "delete_tags")),
}


_KEY_ALONE: Final[tuple[tuple[str, Change], ...]] = (("key", _Names.full),)
"""What is done to the arguments of most operations."""


def _plan(method: Method) -> tuple[tuple[tuple[str, Change], ...], Restore | None]:
    """Return what is done to the arguments and to the result of a method.

    Raises:
        KeyError: a parameter or the method is not known here. It could name a key, which would bypass the prefix.
    """
    changes = []
    for name in method.parameters:
        change = _OPTIONS.get(method.name) if name == "options" else _PARAMETERS[name]
        if change is not None:
            changes.append((name, change))
    return _KEY_ALONE if changes == [*_KEY_ALONE] else tuple(changes), _RESULTS[method.name]


_PLANS: Final = {
    name: _plan(method)
    for name, method in METHODS.items()
    if name not in ("open", "close") and method.capability not in _PrefixedDriver.drops
}


class _CorrectingStream(StreamWrapper):
    """Names the store's keys in errors."""

    def __init__(self, inner: ByteStream, names: _Names, operation: Operation) -> None:
        super().__init__(inner)
        self._names = names
        self._operation = operation

    async def read(self, size: int) -> bytes:
        return await self._corrected(self.inner.read(size))

    async def seek(self, offset: int) -> None:
        await self._corrected(self.inner.seek(offset))

    async def _corrected(self, work: Awaitable[R]) -> R:
        try:
            return await work
        except TroveError as error:
            self._names.correct_for(error, self._operation)
            raise
