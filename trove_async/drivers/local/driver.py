"""`LocalDriver`: a store in a directory of this machine."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial

from trove_async.body import Body
from trove_async.driver import (
    CompleteOptions,
    CopyOptions,
    DeleteOptions,
    GetOptions,
    PresignMethod,
    PresignOptions,
    PresignPostOptions,
    PutOptions,
    WatchOptions,
)
from trove_async.drivers.local.core import LocalCore
from trove_async.drivers.local.watch import watch
from trove_async.errors import UnsupportedError
from trove_async.reader import ObjectReader
from trove_async.tree import Checkpoint, Temporary, run_sync
from trove_async.tree.sweep import SweepReport
from trove_async.types import (
    EMPTY,
    FrozenDict,
    LifecycleRule,
    ObjectEvent,
    ObjectInfo,
    PartInfo,
    PresignedPost,
    UploadInfo,
    VersionInfo,
    VersioningStatus,
)

__all__ = ["LocalDriver"]


class LocalDriver(LocalCore):
    """Objects as files: with the root ``/srv/data``, ``a/b.jpg`` of bucket ``pics`` is ``/srv/data/pics/a/b.jpg``.

    Several processes may use one root at once. ``docs/local.md`` tells the layout and the parameters.
    """

    # Multipart

    async def initiate_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        """Begin an upload."""
        uploads = self._tree.uploads
        return await self._run(
            lambda _: uploads.initiate(bucket, key, options),
            slow=self._durable,
            discard=lambda upload_id: run_sync(uploads.forget(bucket, upload_id)),
        )

    async def upload_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> PartInfo:
        """Store a part."""

        async def store(temporary: Temporary, checkpoint: Checkpoint) -> PartInfo:
            return await self._tree.uploads.store_part(bucket, key, upload_id, number, temporary, checkpoint)

        return await self._store(body, lambda: self._tree.uploads.require(bucket, key, upload_id), store)

    async def complete_multipart(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartInfo], options: CompleteOptions
    ) -> ObjectInfo:
        """Join the parts in the kernel and commit them."""

        async def complete(checkpoint: Checkpoint) -> ObjectInfo:
            temporary = await self._fs.create_temporary()
            try:
                return await self._tree.uploads.complete(bucket, key, upload_id, parts, options, temporary, checkpoint)
            finally:
                await self._fs.discard(temporary)

        return await self._run(complete, slow=True)

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Give an upload up."""
        await self._run(lambda _: self._tree.uploads.abort(bucket, key, upload_id), slow=True)

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> Sequence[PartInfo]:
        """Return the parts of an upload."""
        return await self._run(lambda _: self._tree.uploads.parts(bucket, key, upload_id))

    async def list_multipart_uploads(self, bucket: str, prefix: str = "") -> Sequence[UploadInfo]:
        """Return the open uploads."""
        return await self._run(lambda _: self._tree.uploads.list(bucket, prefix), slow=True)

    # Signed URLs

    async def presign_get(self, bucket: str, key: str, options: PresignOptions) -> str:
        """Sign a GET."""
        return self._sign("GET", bucket, key, options)

    async def presign_put(self, bucket: str, key: str, options: PresignOptions) -> str:
        """Sign a PUT."""
        return self._sign("PUT", bucket, key, options)

    async def presign_head(self, bucket: str, key: str, options: PresignOptions) -> str:
        """Sign a HEAD."""
        return self._sign("HEAD", bucket, key, options)

    async def presign_delete(self, bucket: str, key: str, options: PresignOptions) -> str:
        """Sign a DELETE."""
        return self._sign("DELETE", bucket, key, options)

    async def presign_post(self, bucket: str, key: str, options: PresignPostOptions) -> PresignedPost:
        """Refuse: there is no such form here."""
        raise UnsupportedError("local files have no forms: presign a PUT", driver=self.name)

    def _sign(self, method: PresignMethod, bucket: str, key: str, options: PresignOptions) -> str:
        if self.url_signer is None:
            raise UnsupportedError("the store was opened without presign_url", driver=self.name)
        return self.url_signer.sign(method, bucket, key, options)

    # Versions

    async def set_versioning(self, bucket: str, enabled: bool) -> None:
        """Keep versions from now on, or stop to."""
        status = VersioningStatus.ENABLED if enabled else VersioningStatus.SUSPENDED
        await self._run(lambda _: self._tree.objects.set_versioning(bucket, status), slow=self._durable)

    async def get_versioning(self, bucket: str) -> VersioningStatus:
        """Tell what the bucket does."""
        return (await self._run(lambda _: self._tree.buckets.required_settings(bucket))).versioning

    async def list_versions(self, bucket: str, key: str) -> Sequence[VersionInfo]:
        """Return versions and markers."""
        return await self._run(lambda _: self._tree.objects.list_versions(bucket, key))

    async def get_version(self, bucket: str, key: str, version_id: str) -> ObjectReader:
        """Open a version."""
        return await self.get(bucket, key, GetOptions(version_id=version_id))

    async def delete_version(self, bucket: str, key: str, version_id: str) -> None:
        """Delete a version for good."""
        objects = self._tree.objects
        await self._run(partial(objects.delete_version, bucket, key, version_id), slow=self._durable)

    async def restore_version(self, bucket: str, key: str, version_id: str) -> ObjectInfo:
        """Make a copy of a version the latest."""
        return await self.copy(bucket, key, bucket, key, CopyOptions(source_version_id=version_id))

    # News

    async def watch(self, bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        """Yield changes, also those of other processes and of people."""
        await self._run(lambda _: self._tree.buckets.require(bucket))
        # Closed with this generator: one that is merely dropped ends later, in a task of its own.
        async with aclosing(watch(self, self._tree.layout.bucket(bucket), bucket, options)) as events:
            async for event in events:
                yield event

    # Lifecycle

    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        """Store rules."""
        await self._run(lambda _: self._tree.buckets.set_lifecycle(bucket, rules), slow=self._durable)

    async def get_lifecycle(self, bucket: str) -> Sequence[LifecycleRule]:
        """Return the rules."""
        return (await self._run(lambda _: self._tree.buckets.required_settings(bucket))).lifecycle

    async def delete_lifecycle(self, bucket: str) -> None:
        """Remove the rules."""
        await self.set_lifecycle(bucket, ())

    async def expire(self, bucket: str, key: str, if_match: str) -> None:
        """Delete an object, if it is that one."""
        await self.delete(bucket, key, DeleteOptions(if_match=if_match))

    async def transition(self, bucket: str, key: str, storage_class: str, if_match: str) -> None:
        """Note another storage class; the file stays where it is."""
        work = partial(self._tree.change, bucket, key, if_match=if_match, storage_class=storage_class)
        await self._run(work, slow=self._durable)

    async def list_noncurrent(self, bucket: str, prefix: str = "") -> Sequence[VersionInfo]:
        """Return the versions that are not the latest."""
        return await self._run(lambda _: self._tree.objects.list_noncurrent(bucket, prefix), slow=True)

    async def sweep(self) -> SweepReport:
        """Remove what killed processes have left; nothing that belongs to an object, version or open upload.

        Opening a store sweeps the temporaries alone.
        """
        found = await self._call(self._fs.sweep_temporaries)
        swept, self._swept = self._swept + found, 0
        return await self._run(lambda _: self._tree.sweeper.sweep(temporaries=swept), slow=True)

    # Tags

    async def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        """Return an object's tags."""
        return await self._run(lambda _: self._tree.tags(bucket, key))

    async def set_tags(self, bucket: str, key: str, tags: dict[str, str]) -> None:
        """Replace an object's tags."""
        work = partial(self._tree.change, bucket, key, tags=FrozenDict(tags) if tags else EMPTY)
        await self._run(work, slow=self._durable)

    async def delete_tags(self, bucket: str, key: str) -> None:
        """Remove an object's tags."""
        await self.set_tags(bucket, key, {})
