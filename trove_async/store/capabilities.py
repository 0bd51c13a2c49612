"""The methods that only some stores have; others raise `UnsupportedError` before any I/O."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, Unpack, cast

from trove_async.driver.capabilities import (
    LifecycleDriver,
    LifecycleSweepDriver,
    NotificationDriver,
    PresignDriver,
    PresignMethod,
    RangeDriver,
    ServerCopyDriver,
    TaggingDriver,
    VersioningDriver,
    VersionListingDriver,
)
from trove_async.driver.copy_errors import CopyEnd
from trove_async.driver.copying import copy_on_server
from trove_async.driver.options import CopyOptions, VersionListOptions, WatchOptions
from trove_async.errors import InvalidArgumentError, InvalidRangeError, TroveError, UnsupportedError
from trove_async.keys import check_prefix, check_tags
from trove_async.listing import ObjectIterator
from trove_async.reader import ObjectReader
from trove_async.store.arguments import (
    PRESIGN_ARGUMENTS,
    PRESIGN_POST_ARGUMENTS,
    PresignArguments,
    PresignPostArguments,
    check_keywords,
    check_lifecycle,
    check_page_size,
    presign_options,
    presign_post_options,
)
from trove_async.store.bulk import BulkDelete
from trove_async.store.multipart import MultipartVerbs
from trove_async.store.sweep import apply_lifecycle
from trove_async.store.watch import Watch
from trove_async.types import (
    EventType,
    LifecycleReport,
    LifecycleRule,
    ObjectInfo,
    ObjectRef,
    PresignedPost,
    VersionInfo,
    VersioningStatus,
)
from trove_async.version_listing import VersionIterator, VersionPage

__all__ = ["CapabilityVerbs"]


class CapabilityVerbs(MultipartVerbs):
    """Presign, versions, watch, lifecycle, ranges, server copy and tags."""

    # Presign

    async def presign_get(self, bucket: str, key: str, **options: Unpack[PresignArguments]) -> str:
        """Return a URL that reads the object, for ``expires`` seconds (default 3,600).

        Other arguments: ``version_id``, ``response_content_type``, ``response_content_disposition``.
        """
        return await self._presign("GET", bucket, key, options)

    async def presign_put(self, bucket: str, key: str, **options: Unpack[PresignArguments]) -> str:
        """Return a URL that writes the object, for ``expires`` seconds (default 3,600).

        With ``content_type`` and ``content_length`` the request must have just these.
        """
        return await self._presign("PUT", bucket, key, options)

    async def presign_head(self, bucket: str, key: str, **options: Unpack[PresignArguments]) -> str:
        """Return a URL that describes the object; where ``features.presign_methods`` has HEAD."""
        return await self._presign("HEAD", bucket, key, options)

    async def presign_delete(self, bucket: str, key: str, **options: Unpack[PresignArguments]) -> str:
        """Return a URL that deletes the object; where ``features.presign_methods`` has DELETE."""
        return await self._presign("DELETE", bucket, key, options)

    async def presign_post(self, bucket: str, key: str, **options: Unpack[PresignPostArguments]) -> PresignedPost:
        """Return a form with which a browser stores an object; where ``features.presign_methods`` has POST.

        Args:
            bucket, key: where the file goes.
            options: ``max_size`` and ``min_size`` (default 0) in bytes, ``expires`` in seconds (default
                3,600), ``content_type``, which the form must then carry.
        """
        driver = self._signing("POST", bucket, key)
        with self._locating("presign_post", bucket, key):
            check_keywords("presign_post", options, PRESIGN_POST_ARGUMENTS)
            chosen = presign_post_options(self._features.limits, **options)
        return await self._run("presign_post", bucket, key, driver.presign_post(bucket, key, chosen))

    def _signing(self, method: PresignMethod, bucket: str, key: str) -> PresignDriver:
        operation = f"presign_{method.lower()}"
        driver: PresignDriver = self._capable(PresignDriver, operation, bucket, key)
        if method not in self._features.presign_methods:
            raise self._unsupported(f"this store cannot sign {method}", operation, method)
        return driver

    async def _presign(self, method: PresignMethod, bucket: str, key: str, arguments: PresignArguments) -> str:
        operation = f"presign_{method.lower()}"
        driver = self._signing(method, bucket, key)
        with self._locating(operation, bucket, key):
            check_keywords(operation, arguments, PRESIGN_ARGUMENTS)
            options = presign_options(self._features.limits, **arguments)
        return cast(str, await self._run(operation, bucket, key, getattr(driver, operation)(bucket, key, options)))

    # Versioning

    async def set_versioning(self, bucket: str, enabled: bool) -> None:
        """Start or stop keeping versions of the bucket's objects; existing versions stay.

        Raises:
            InvalidArgumentError: ``enabled`` is not True or False.
        """
        driver = self._capable(VersioningDriver, "set_versioning", bucket)
        if not isinstance(enabled, bool):  # "suspended" would start it
            with self._locating("set_versioning", bucket):
                raise InvalidArgumentError(f"enabled is True or False, not {enabled!r}")
        await self._run("set_versioning", bucket, None, driver.set_versioning(bucket, enabled))

    async def get_versioning(self, bucket: str) -> VersioningStatus:
        """Tell whether the bucket keeps versions."""
        driver = self._capable(VersioningDriver, "get_versioning", bucket)
        return await self._run("get_versioning", bucket, None, driver.get_versioning(bucket))

    async def list_versions(self, bucket: str, key: str) -> list[VersionInfo]:
        """Return versions and delete markers of a key, newest first."""
        driver = self._capable(VersioningDriver, "list_versions", bucket, key)
        return [*await self._run("list_versions", bucket, key, driver.list_versions(bucket, key))]

    async def get_version(self, bucket: str, key: str, version_id: str) -> ObjectReader:
        """Open a version; as ``get(version_id=…)``.

        Raises:
            VersionNotFoundError: there is none, or it is a delete marker.
        """
        driver = self._capable(VersioningDriver, "get_version", bucket, key)
        reader = await self._run("get_version", bucket, key, driver.get_version(bucket, key, version_id))
        return self._adopt(reader, "get_version", bucket, key, version_id)

    async def delete_version(self, bucket: str, key: str, version_id: str) -> None:
        """Delete a version permanently; the next newest becomes the latest. Success if it does not exist."""
        driver = self._capable(VersioningDriver, "delete_version", bucket, key)
        await self._run("delete_version", bucket, key, driver.delete_version(bucket, key, version_id))

    async def restore_version(self, bucket: str, key: str, version_id: str) -> ObjectInfo:
        """Copy a version, which makes the copy the latest version.

        Raises:
            VersionNotFoundError, CopyError: it does not exist, or is a delete marker; or as for `copy`.
        """
        driver = self._capable(VersioningDriver, "restore_version", bucket, key)
        end, options = CopyEnd(self._driver, bucket, key), CopyOptions(source_version_id=version_id)
        restore = partial(driver.restore_version, bucket, key, version_id)
        return await copy_on_server(end, end, options, operation="restore_version", send=restore)

    def list_all_versions(
        self, bucket: str, prefix: str = "", *, page_size: int = 1000, cursor: str | None = None
    ) -> VersionIterator:
        """List the versions and delete markers of a bucket: ``async for version in t.list_all_versions(…)``.

        They come in the order of the keys' UTF-8 bytes, those of one key newest first; those of deleted objects too.
        An object that was stored while the bucket kept no versions is the version ``null``.

        Args:
            bucket: an existing bucket.
            prefix: only keys that begin with it; a string, not a path: ``foo`` matches ``foobar``.
            page_size: the number of versions per request, 1 to 1,000; a hint.
            cursor: continue at a `VersionIterator.cursor`, for the same bucket and prefix.

        Raises:
            UnsupportedError: at once; the store has no versions, or cannot list those of a bucket.
            InvalidCursorError: at once; the cursor is malformed or of another listing.
            BucketNotFoundError: at the first step.
        """
        driver: VersionListingDriver = self._capable(VersionListingDriver, "list_all_versions", bucket)

        async def fetch(page: str | None) -> VersionPage:
            self._check_usable()
            options = VersionListOptions(prefix=prefix, page_size=page_size, cursor=page)
            return await self._run("list_all_versions", bucket, None, driver.list_versions_page(bucket, options))

        with self._locating("list_all_versions", bucket):
            check_prefix(prefix)
            check_page_size(page_size)
            return VersionIterator(fetch, bucket=bucket, prefix=prefix, cursor=cursor)

    def empty_bucket(self, bucket: str, versions: bool = False, *, raise_errors: bool = True) -> BulkDelete:
        """Delete all objects of a bucket: await it for their number, or ``async for`` over a `DeleteResult` for each.

        What is written meanwhile may stay. Uploads in parts stay; see `list_multipart_uploads`.

        Args:
            bucket: an existing bucket.
            versions: True to delete all versions and delete markers permanently too, where the store keeps versions;
                `delete_bucket` then succeeds. False leaves them, and adds a delete marker for each object in a bucket
                that keeps versions.
            raise_errors: as for `delete_many`.

        Raises:
            UnsupportedError: at once, with ``versions=True``; the store keeps versions and cannot list those of a
                bucket.
            BucketNotFoundError: at the first step.
            BulkError: at the end, with ``failed`` and ``deleted_count``.
        """
        self._check("empty_bucket", bucket)
        if versions and self.supports(VersioningDriver):
            self._require(VersionListingDriver, "empty_bucket")
            return self._bulk_delete("empty_bucket", bucket, _ahead(self.list_all_versions(bucket)), raise_errors)
        return self._bulk_delete("empty_bucket", bucket, _keys(self.list(bucket)), raise_errors)

    # Notifications

    def watch(
        self,
        bucket: str,
        *,
        prefix: str = "",
        events: Iterable[EventType | str] | None = None,
        buffer_size: int = 10_000,
        poll_interval: float = 5.0,
        resume_token: str | None = None,
    ) -> Watch:
        """Watch a bucket: ``async with t.watch(…) as events: async for event in events``.

        Args:
            bucket: an existing bucket.
            prefix: only keys that begin with it.
            events: only these types; default all.
            buffer_size: the number of events that may wait before `WatchOverflowError`.
            poll_interval: seconds between listings, if the driver has to poll.
            resume_token: continue after the event that had it, if ``features.watch_resume``.

        Raises (when entered or at the first step):
            BucketNotFoundError: the bucket does not exist.
        """
        driver = self._capable(NotificationDriver, "watch", bucket)
        with self._locating("watch", bucket):
            check_prefix(prefix)
            if not isinstance(buffer_size, int) or buffer_size < 1:
                raise InvalidArgumentError("buffer_size must be 1 or more")
            if not poll_interval > 0:
                raise InvalidArgumentError("poll_interval must be more than 0 seconds")
            if resume_token is not None and not self._features.watch_resume:
                raise UnsupportedError("this store cannot resume a watch")
            try:
                wanted = frozenset(EventType) if events is None else frozenset(EventType(e) for e in events)
            except ValueError as error:
                raise InvalidArgumentError(f"{error}; there are {', '.join(EventType)}") from None

        def subscribe(on_ready: Any) -> Any:
            self._check_usable()
            return driver.watch(
                bucket,
                WatchOptions(
                    prefix=prefix,
                    events=wanted,
                    buffer_size=buffer_size,
                    poll_interval=poll_interval,
                    resume_token=resume_token,
                    on_ready=on_ready,
                ),
            )

        return Watch(
            subscribe,
            locate=lambda error: error.locate("watch", bucket, driver=self._name),
            cleanup_timeout=self._cleanup_timeout,
        )

    # Lifecycle

    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        """Replace the bucket's lifecycle rules.

        Raises:
            InvalidLifecycleError: a rule contradicts itself; before any I/O.
        """
        driver = self._capable(LifecycleDriver, "set_lifecycle", bucket)
        with self._locating("set_lifecycle", bucket):
            checked = check_lifecycle(rules)
        await self._run("set_lifecycle", bucket, None, driver.set_lifecycle(bucket, checked))

    async def get_lifecycle(self, bucket: str) -> list[LifecycleRule]:
        """Return the bucket's lifecycle rules; empty if there are none."""
        driver = self._capable(LifecycleDriver, "get_lifecycle", bucket)
        return [*await self._run("get_lifecycle", bucket, None, driver.get_lifecycle(bucket))]

    async def delete_lifecycle(self, bucket: str) -> None:
        """Remove the bucket's lifecycle rules."""
        driver = self._capable(LifecycleDriver, "delete_lifecycle", bucket)
        await self._run("delete_lifecycle", bucket, None, driver.delete_lifecycle(bucket))

    async def apply_lifecycle(self, bucket: str, *, now: datetime | None = None) -> LifecycleReport:
        """Apply the lifecycle rules of a bucket, if no service does; call it about once a day.

        Args:
            bucket: an existing bucket.
            now: the time to use as the present, aware; default: the current time.

        Raises:
            UnsupportedError: the service applies the rules itself, or the store has no lifecycle rules.
        """
        driver = self._capable(LifecycleSweepDriver, "apply_lifecycle", bucket)
        work = apply_lifecycle(driver, self._capabilities, bucket, now)
        return await self._run("apply_lifecycle", bucket, None, work)

    # Ranges and server-side copy

    async def get_range(self, bucket: str, key: str, offset: int, length: int = -1) -> ObjectReader:
        """Open a range: ``length`` bytes from ``offset``, to the end with -1.

        Raises:
            RangeNotSatisfiableError: it starts at or past the end.
        """
        driver = self._capable(RangeDriver, "get_range", bucket, key)
        if offset < 0 or length < -1:
            message = f"get_range needs an offset of 0 or more and a length of -1 or more, not {offset} and {length}"
            raise InvalidRangeError(message, operation="get_range", bucket=bucket, key=key, driver=self._name)
        reader = await self._run("get_range", bucket, key, driver.get_range(bucket, key, offset, length))
        return self._adopt(reader, "get_range", bucket, key)

    async def server_copy(self, src: ObjectRef, dst: ObjectRef) -> ObjectInfo:
        """Copy an object, or the version that ``src`` names, without its bytes passing through this process.

        Raises:
            CopyNotSupportedError: the backend cannot copy this object; nothing was sent. `copy` would stream it.
            TroveError: as for `copy`.
        """
        driver = self._capable(ServerCopyDriver, "server_copy", src.bucket, src.key)
        self._check_names("server_copy", dst.bucket, dst.key)
        options = CopyOptions(source_version_id=src.version_id)
        source, target = (CopyEnd(self._driver, ref.bucket, ref.key) for ref in (src, dst))
        send = partial(driver.server_copy, src, dst, options)
        return await copy_on_server(source, target, options, operation="server_copy", send=send)

    # Tags

    async def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        """Return an object's tags."""
        driver = self._capable(TaggingDriver, "get_tags", bucket, key)
        return await self._run("get_tags", bucket, key, driver.get_tags(bucket, key))

    async def set_tags(self, bucket: str, key: str, tags: Mapping[str, str]) -> None:
        """Replace an object's tags; the object and its ETag do not change."""
        driver = self._capable(TaggingDriver, "set_tags", bucket, key)
        with self._locating("set_tags", bucket, key):
            checked = dict(check_tags(tags))
        await self._run("set_tags", bucket, key, driver.set_tags(bucket, key, checked))

    async def delete_tags(self, bucket: str, key: str) -> None:
        """Remove an object's tags."""
        driver = self._capable(TaggingDriver, "delete_tags", bucket, key)
        await self._run("delete_tags", bucket, key, driver.delete_tags(bucket, key))


async def _keys(objects: ObjectIterator[ObjectInfo]) -> AsyncIterator[str]:
    with _emptying():
        async for info in objects:
            yield info.key


async def _ahead(listing: VersionIterator) -> AsyncIterator[VersionInfo]:
    """Yield the versions of a listing, and fetch each page before the one in front of it is used.

    A page begins after the last version of the page in front of it. Some services list nothing after a version that was
    deleted meanwhile.
    """
    before: Sequence[VersionInfo] = ()
    with _emptying():
        async for page in listing.pages():
            for version in before:
                yield version
            before = page
        for version in before:
            yield version


@contextmanager
def _emptying() -> Iterator[None]:
    """Name the operation that the user called in an error of its listing."""
    try:
        yield
    except TroveError as error:
        error.operation = "empty_bucket"
        raise
