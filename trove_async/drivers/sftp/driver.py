"""`SFTPDriver`: a store in a directory of a server that one can log in to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial

from trove_async.body import Body
from trove_async.driver import (
    CompleteOptions,
    PresignMethod,
    PresignOptions,
    PresignPostOptions,
    PutOptions,
    WatchOptions,
)
from trove_async.driver.polling import poll
from trove_async.drivers.sftp.core import Checkpoint, SFTPCore
from trove_async.drivers.sftp.expiry import Expiry
from trove_async.drivers.sftp.objects import refuse_conditions
from trove_async.errors import UnsupportedError
from trove_async.tree import Temporary
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
)

__all__ = ["SFTPDriver"]


class SFTPDriver(SFTPCore):
    """Objects as files: with the root ``/srv/data``, ``a/b.jpg`` of bucket ``pics`` is ``/srv/data/pics/a/b.jpg``.

    Several clients may use one root at once. ``docs/sftp.md`` tells the layout and the parameters.
    """

    # Multipart

    async def initiate_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        """Begin an upload."""
        uploads = self._tree.uploads
        return await self._run(
            lambda _: uploads.initiate(bucket, key, options),
            repeat=False,
            uncertain=True,
            discard=lambda upload_id: uploads.forget(bucket, upload_id),
        )

    async def upload_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> PartInfo:
        """Store a part."""

        async def store(temporary: Temporary, check: Checkpoint) -> PartInfo:
            return await self._tree.uploads.store_part(bucket, key, upload_id, number, temporary, check)

        return await self._store_stream(body, lambda: self._tree.uploads.require(bucket, key, upload_id), store)

    async def complete_multipart(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartInfo], options: CompleteOptions
    ) -> ObjectInfo:
        """Join the parts at the server and commit them."""
        refuse_conditions(options.if_match, options.if_none_match)
        if options.if_none_match is not None:
            raise UnsupportedError("an upload over SFTP is completed without a condition", driver=self.name)

        async def complete(check: Checkpoint) -> ObjectInfo:
            temporary = await self._fs.create_temporary()
            try:
                return await self._tree.uploads.complete(bucket, key, upload_id, parts, options, temporary, check)
            finally:
                await self._fs.discard(temporary)

        return await self._run(complete, slots=3, repeat=False, uncertain=True)

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Give an upload up."""
        await self._run(lambda _: self._tree.uploads.abort(bucket, key, upload_id))

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> Sequence[PartInfo]:
        """Return the parts of an upload."""
        return await self._run(lambda _: self._tree.uploads.parts(bucket, key, upload_id))

    async def list_multipart_uploads(self, bucket: str, prefix: str = "") -> Sequence[UploadInfo]:
        """Return the open uploads."""
        return await self._run(lambda _: self._tree.uploads.list(bucket, prefix))

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
        raise UnsupportedError("files have no forms: presign a PUT", driver=self.name)

    def _sign(self, method: PresignMethod, bucket: str, key: str, options: PresignOptions) -> str:
        if self.url_signer is None:
            raise UnsupportedError("the store was opened without presign_url", driver=self.name)
        return self.url_signer.sign(method, bucket, key, options)

    # News

    async def watch(self, bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        """Yield changes, also those of other clients and of people, found by listing again and again."""
        async with aclosing(poll(self.list_page, bucket, options)) as events:
            async for event in events:
                yield event

    # Lifecycle

    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        """Store rules."""
        await self._run(lambda _: self._tree.buckets.change(bucket, lifecycle=tuple(rules)))

    async def get_lifecycle(self, bucket: str) -> Sequence[LifecycleRule]:
        """Return the rules."""
        return (await self._run(lambda _: self._tree.buckets.required_settings(bucket))).lifecycle

    async def delete_lifecycle(self, bucket: str) -> None:
        """Remove the rules."""
        await self.set_lifecycle(bucket, ())

    async def expire(self, bucket: str, key: str, if_match: str) -> None:
        """Remove an object, if it is that one."""
        await self._run(Expiry(self._tree.remote, bucket, key, if_match).remove, slots=1)

    async def transition(self, bucket: str, key: str, storage_class: str, if_match: str) -> None:
        """Note another storage class; the file stays where it is."""
        await self._run(partial(self._tree.change, bucket, key, if_match=if_match, storage_class=storage_class))

    async def list_noncurrent(self, bucket: str, prefix: str = "") -> Sequence[VersionInfo]:
        """Return nothing: no versions are kept."""
        await self._run(lambda _: self._tree.buckets.require(bucket))
        return []

    async def sweep(self) -> SweepReport:
        """Remove what clients that are gone have left; nothing that belongs to an object or open upload.

        Opening a store sweeps the temporaries alone.
        """
        swept, self._swept = self._swept, 0
        swept += await self._run(lambda _: self._leases.sweep())
        return await self._run(lambda _: self._tree.sweeper.sweep(temporaries=swept), slots=4)

    # Tags

    async def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        """Return an object's tags."""
        _, attributes = await self._run(lambda _: self._tree.remote.head(bucket, key), slots=1)
        return dict(attributes.tags)

    async def set_tags(self, bucket: str, key: str, tags: dict[str, str]) -> None:
        """Replace an object's tags."""
        await self._run(partial(self._tree.change, bucket, key, tags=FrozenDict(tags) if tags else EMPTY))

    async def delete_tags(self, bucket: str, key: str) -> None:
        """Remove an object's tags."""
        await self.set_tags(bucket, key, {})
