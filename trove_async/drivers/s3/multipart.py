"""The methods of `MultipartDriver`."""

from __future__ import annotations

from collections.abc import Sequence

from trove_async.body import Chunk
from trove_async.driver import CompleteOptions, HeadOptions, PutOptions
from trove_async.drivers.s3.control import Control
from trove_async.drivers.s3.objects import Objects
from trove_async.drivers.s3.profiles import Profile
from trove_async.drivers.s3.uploads import S3Upload, Uploads
from trove_async.errors import TroveError, UnsupportedError
from trove_async.types import ObjectInfo, PartInfo, UploadInfo
from trove_async.wire.multipart import begin, complete

__all__ = ["Multipart"]


class Multipart:
    """Multipart uploads whose steps the caller controls.

    Args:
        uploads, objects, control: send the requests.
        profile: of the store.
        cleanup_timeout: the time limit in seconds of aborting an upload.
    """

    def __init__(
        self, uploads: Uploads, objects: Objects, control: Control, profile: Profile, cleanup_timeout: float
    ) -> None:
        self._uploads = uploads
        self._objects = objects
        self._control = control
        self._profile = profile
        self._timeout = cleanup_timeout

    async def initiate(self, bucket: str, key: str, options: PutOptions) -> str:
        """Initiate an upload and return its id; if the call is cancelled, no upload stays open."""
        if options.attributes.tags and not self._profile.tagging_header:
            raise UnsupportedError(
                f"services of profile {self._profile.name!r} drop the tags of an upload: set them when it is complete"
            )
        upload = S3Upload(self._uploads, bucket, key, attributes=options.attributes, checksum=options.checksum)
        await begin(upload, self._timeout)
        return upload.id

    async def send_part(self, bucket: str, key: str, upload_id: str, number: int, chunks: Sequence[Chunk]) -> PartInfo:
        """Store a part."""
        return await self._uploads.send_part(bucket, key, upload_id, number, chunks)

    async def complete(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartInfo], options: CompleteOptions
    ) -> ObjectInfo:
        """Complete an upload, and describe the object."""
        upload = S3Upload(self._uploads, bucket, key, conditions=options, upload_id=upload_id)
        made = await complete(upload, parts, self._timeout)
        try:
            info = await self._objects.head(bucket, key, HeadOptions())
        except TroveError:
            return made  # it is stored; the credentials may allow writing only
        return info if info.etag == made.etag else made

    async def abort(self, bucket: str, key: str, upload_id: str) -> None:
        """Abort an upload."""
        await self._uploads.abort(bucket, key, upload_id)

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> Sequence[PartInfo]:
        """Return the parts of an upload."""
        return await self._control.list_parts(bucket, key, upload_id)

    async def list_uploads(self, bucket: str, prefix: str) -> Sequence[UploadInfo]:
        """Return the open uploads."""
        return await self._control.list_multipart_uploads(bucket, prefix)
