"""A layer: a driver around a driver, which has just the capabilities of what it wraps.

A layer is a class made of `LayerDriver`. To do something around every operation, override `around`;
to change one operation, override its method. The class of each instance is composed when a
driver is wrapped, so that ``isinstance(layer, MultipartDriver)`` says the truth::

    class Announce(LayerDriver):
        async def around(self, operation, call):
            print(operation.name, operation.key)
            return await call()

    async with trove_async.open("memory://", layers=[Announce]) as t: ...
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, cast

from trove_async.body import Body
from trove_async.driver.base import Driver, capabilities_of, methods_of
from trove_async.driver.capabilities import (
    BulkDeleteDriver,
    Features,
    LifecycleDriver,
    LifecycleSweepDriver,
    MultipartDriver,
    NotificationDriver,
    PresignDriver,
    RangeDriver,
    ServerCopyDriver,
    TaggingDriver,
    VersioningDriver,
)
from trove_async.driver.options import (
    BucketOptions,
    CompleteOptions,
    CopyOptions,
    DeleteOptions,
    GetOptions,
    HeadOptions,
    ListOptions,
    OpenOptions,
    PresignOptions,
    PresignPostOptions,
    PutOptions,
    WatchOptions,
)
from trove_async.listing import ListPage
from trove_async.reader import ObjectReader
from trove_async.types import (
    BucketInfo,
    DeleteResult,
    LifecycleRule,
    ObjectEvent,
    ObjectInfo,
    ObjectRef,
    PartInfo,
    PresignedPost,
    UploadInfo,
    VersionInfo,
    VersioningStatus,
)

if TYPE_CHECKING:
    from trove_async.dsn import DSN

__all__ = ["LayerDriver", "Operation"]

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Operation:
    """What a layer is asked to do.

    Attributes:
        name: of the driver's method.
        driver: the name of the innermost driver.
        bucket, key: what it is about, None where it is about none; of a copy the destination.
        body: of a put or part.
    """

    name: str
    driver: str
    bucket: str | None = None
    key: str | None = None
    body: Body | None = None


class LayerDriver(Driver):
    """Passes every operation on to another driver, through `around`.

    Attributes:
        drops: capabilities that the layer takes away, each with the reason.
        inner: the driver that it is around.
    """

    drops: ClassVar[Mapping[type, str]] = {}

    def __new__(cls, inner: Driver, *args: Any, **kwargs: Any) -> Self:
        """Make an instance of the class that has what ``inner`` has, and the layer keeps."""
        keeps = capabilities_of(inner) - frozenset(cls.drops)
        return cast(Self, object.__new__(_composed(cls, keeps)))

    def __init__(self, inner: Driver) -> None:
        self.inner = inner
        self._name = inner.name

    async def around(self, operation: Operation, call: Callable[[], Awaitable[R]]) -> R:
        """Do something before and after an operation; the default does nothing.

        Call ``call()`` and return what it returns. Whoever calls it again must see to it that
        ``operation.body`` is replayable, and rewind it.
        """
        return await call()

    def _around(
        self, name: str, bucket: str | None, key: str | None, call: Callable[[], Awaitable[R]], body: Body | None = None
    ) -> Awaitable[R]:
        return self.around(Operation(name, self._name, bucket, key, body), call)

    @property
    def name(self) -> str:
        """The name of the innermost driver."""
        return self._name

    @property
    def default_bucket(self) -> str | None:  # type: ignore[override]
        """The bucket that the DSN names, where it names one."""
        return self.inner.default_bucket

    @property
    def features(self) -> Features:
        """What the inner driver's server has, less what the layer drops."""
        features = self.inner.features
        return replace(features, protocols=features.protocols - frozenset(self.drops)) if self.drops else features

    def check_key(self, key: str) -> None:
        """Ask the inner driver."""
        self.inner.check_key(key)

    def check_bucket(self, bucket: str) -> None:
        """Ask the inner driver."""
        self.inner.check_bucket(bucket)

    def unwrap(self) -> Driver:
        """Return the driver that this one is around."""
        return self.inner

    def __repr__(self) -> str:
        return f"<{type(self).__name__} around {self.inner!r}>"

    async def open(self, dsn: DSN, options: OpenOptions) -> None:
        """Open the inner driver."""
        await self.inner.open(dsn, options)

    async def close(self) -> None:
        """Close the inner driver."""
        await self.inner.close()

    async def ping(self) -> None:
        """Ping the inner driver."""
        await self._around("ping", None, None, self.inner.ping)

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        """Pass it on."""
        return await self._around("put", bucket, key, lambda: self.inner.put(bucket, key, body, options), body)

    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        """Pass it on."""
        return await self._around("get", bucket, key, lambda: self.inner.get(bucket, key, options))

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        """Pass it on."""
        return await self._around("head", bucket, key, lambda: self.inner.head(bucket, key, options))

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Pass it on."""
        await self._around("delete", bucket, key, lambda: self.inner.delete(bucket, key, options))

    async def copy(
        self, src_bucket: str, src_key: str, dst_bucket: str, dst_key: str, options: CopyOptions
    ) -> ObjectInfo:
        """Pass it on."""
        return await self._around(
            "copy", dst_bucket, dst_key, lambda: self.inner.copy(src_bucket, src_key, dst_bucket, dst_key, options)
        )

    async def list_page(self, bucket: str, options: ListOptions) -> ListPage:
        """Pass it on."""
        return await self._around("list_page", bucket, None, lambda: self.inner.list_page(bucket, options))

    async def create_bucket(self, name: str, options: BucketOptions) -> None:
        """Pass it on."""
        await self._around("create_bucket", name, None, lambda: self.inner.create_bucket(name, options))

    async def delete_bucket(self, name: str) -> None:
        """Pass it on."""
        await self._around("delete_bucket", name, None, lambda: self.inner.delete_bucket(name))

    async def list_buckets(self) -> Sequence[BucketInfo]:
        """Pass it on."""
        return await self._around("list_buckets", None, None, self.inner.list_buckets)


# What follows is mixed into a layer's class for each capability that the inner driver has.


class _Mixin(LayerDriver):
    inner: Any  # it has the capability that the mixin is for: see _composed


class _Multipart(_Mixin):
    async def initiate_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        return await self._around(
            "initiate_multipart", bucket, key, lambda: self.inner.initiate_multipart(bucket, key, options)
        )

    async def upload_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> PartInfo:
        return await self._around(
            "upload_part", bucket, key, lambda: self.inner.upload_part(bucket, key, upload_id, number, body), body
        )

    async def complete_multipart(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartInfo], options: CompleteOptions
    ) -> ObjectInfo:
        return await self._around(
            "complete_multipart",
            bucket,
            key,
            lambda: self.inner.complete_multipart(bucket, key, upload_id, parts, options),
        )

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        await self._around("abort_multipart", bucket, key, lambda: self.inner.abort_multipart(bucket, key, upload_id))

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> Sequence[PartInfo]:
        return await self._around("list_parts", bucket, key, lambda: self.inner.list_parts(bucket, key, upload_id))

    async def list_multipart_uploads(self, bucket: str, prefix: str = "") -> Sequence[UploadInfo]:
        return await self._around(
            "list_multipart_uploads", bucket, None, lambda: self.inner.list_multipart_uploads(bucket, prefix)
        )


class _Presign(_Mixin):
    async def presign_get(self, bucket: str, key: str, options: PresignOptions) -> str:
        return await self._around("presign_get", bucket, key, lambda: self.inner.presign_get(bucket, key, options))

    async def presign_put(self, bucket: str, key: str, options: PresignOptions) -> str:
        return await self._around("presign_put", bucket, key, lambda: self.inner.presign_put(bucket, key, options))

    async def presign_head(self, bucket: str, key: str, options: PresignOptions) -> str:
        return await self._around("presign_head", bucket, key, lambda: self.inner.presign_head(bucket, key, options))

    async def presign_delete(self, bucket: str, key: str, options: PresignOptions) -> str:
        return await self._around(
            "presign_delete", bucket, key, lambda: self.inner.presign_delete(bucket, key, options)
        )

    async def presign_post(self, bucket: str, key: str, options: PresignPostOptions) -> PresignedPost:
        return await self._around("presign_post", bucket, key, lambda: self.inner.presign_post(bucket, key, options))


class _Versioning(_Mixin):
    async def set_versioning(self, bucket: str, enabled: bool) -> None:
        await self._around("set_versioning", bucket, None, lambda: self.inner.set_versioning(bucket, enabled))

    async def get_versioning(self, bucket: str) -> VersioningStatus:
        return await self._around("get_versioning", bucket, None, lambda: self.inner.get_versioning(bucket))

    async def list_versions(self, bucket: str, key: str) -> Sequence[VersionInfo]:
        return await self._around("list_versions", bucket, key, lambda: self.inner.list_versions(bucket, key))

    async def get_version(self, bucket: str, key: str, version_id: str) -> ObjectReader:
        return await self._around("get_version", bucket, key, lambda: self.inner.get_version(bucket, key, version_id))

    async def delete_version(self, bucket: str, key: str, version_id: str) -> None:
        await self._around("delete_version", bucket, key, lambda: self.inner.delete_version(bucket, key, version_id))

    async def restore_version(self, bucket: str, key: str, version_id: str) -> ObjectInfo:
        return await self._around(
            "restore_version", bucket, key, lambda: self.inner.restore_version(bucket, key, version_id)
        )


class _Notification(_Mixin):
    async def watch(self, bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        # A subscription has no end to be "around" of; a layer that cares overrides this.
        async with aclosing(self.inner.watch(bucket, options)) as events:
            async for event in events:
                yield event


class _Lifecycle(_Mixin):
    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        await self._around("set_lifecycle", bucket, None, lambda: self.inner.set_lifecycle(bucket, rules))

    async def get_lifecycle(self, bucket: str) -> Sequence[LifecycleRule]:
        return await self._around("get_lifecycle", bucket, None, lambda: self.inner.get_lifecycle(bucket))

    async def delete_lifecycle(self, bucket: str) -> None:
        await self._around("delete_lifecycle", bucket, None, lambda: self.inner.delete_lifecycle(bucket))


class _LifecycleSweep(_Mixin):
    async def expire(self, bucket: str, key: str, if_match: str) -> None:
        await self._around("expire", bucket, key, lambda: self.inner.expire(bucket, key, if_match))

    async def transition(self, bucket: str, key: str, storage_class: str, if_match: str) -> None:
        await self._around(
            "transition", bucket, key, lambda: self.inner.transition(bucket, key, storage_class, if_match)
        )

    async def list_noncurrent(self, bucket: str, prefix: str = "") -> Sequence[VersionInfo]:
        return await self._around("list_noncurrent", bucket, None, lambda: self.inner.list_noncurrent(bucket, prefix))


class _Range(_Mixin):
    async def get_range(self, bucket: str, key: str, offset: int, length: int) -> ObjectReader:
        return await self._around("get_range", bucket, key, lambda: self.inner.get_range(bucket, key, offset, length))


class _ServerCopy(_Mixin):
    async def server_copy(self, src: ObjectRef, dst: ObjectRef, options: CopyOptions | None = None) -> ObjectInfo:
        return await self._around("server_copy", dst.bucket, dst.key, lambda: self.inner.server_copy(src, dst, options))


class _Tagging(_Mixin):
    async def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        return await self._around("get_tags", bucket, key, lambda: self.inner.get_tags(bucket, key))

    async def set_tags(self, bucket: str, key: str, tags: dict[str, str]) -> None:
        await self._around("set_tags", bucket, key, lambda: self.inner.set_tags(bucket, key, tags))

    async def delete_tags(self, bucket: str, key: str) -> None:
        await self._around("delete_tags", bucket, key, lambda: self.inner.delete_tags(bucket, key))


class _BulkDelete(_Mixin):
    async def delete_many(self, bucket: str, keys: Sequence[str]) -> Sequence[DeleteResult]:
        return await self._around("delete_many", bucket, None, lambda: self.inner.delete_many(bucket, keys))


_MIXINS: dict[type, type[_Mixin]] = {
    MultipartDriver: _Multipart,
    PresignDriver: _Presign,
    VersioningDriver: _Versioning,
    NotificationDriver: _Notification,
    LifecycleDriver: _Lifecycle,
    LifecycleSweepDriver: _LifecycleSweep,
    RangeDriver: _Range,
    ServerCopyDriver: _ServerCopy,
    TaggingDriver: _Tagging,
    BulkDeleteDriver: _BulkDelete,
}


@cache
def _composed(layer: type[LayerDriver], keeps: frozenset[type]) -> type[LayerDriver]:
    """Return the class of a layer around a driver of these capabilities.

    A layer may override a capability's method; around a driver that lacks the capability the method
    is taken out of its class again, since a layer invents nothing. None is what `isinstance` against
    a Protocol takes for a method that is not there.
    """
    mixins = [mixin for protocol, mixin in _MIXINS.items() if protocol in keeps]
    names = set().union(*(methods_of(protocol) for protocol in _MIXINS))
    lacking = names.difference(*(methods_of(protocol) for protocol in keeps)) if keeps else names
    hidden = {name: None for name in lacking if hasattr(layer, name)}
    bases = tuple(mixins) if layer is LayerDriver and mixins else (layer, *mixins)
    return type(layer.__name__, bases, {"__module__": layer.__module__, **hidden})
