"""The methods for uploads in parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack, cast

from trove_async.body import BodyLike, Progress
from trove_async.driver.capabilities import AppendDriver, MultipartDriver, PartCopyDriver
from trove_async.driver.options import CompleteOptions
from trove_async.errors import InvalidArgumentError, InvalidPartError, InvalidRangeError
from trove_async.keys import check_prefix
from trove_async.store.arguments import (
    UPLOAD_ARGUMENTS,
    PutArguments,
    UploadArguments,
    check_keywords,
    check_parts,
    plain_etag,
    put_options,
)
from trove_async.store.lifetime import NO_KEY
from trove_async.store.objects import ObjectVerbs
from trove_async.types import ObjectInfo, ObjectRef, PartInfo, UploadInfo
from trove_async.values import is_whole

__all__ = ["MultipartVerbs"]


class MultipartVerbs(ObjectVerbs):
    """Uploads in parts; those that a store does not have raise `UnsupportedError` before any I/O."""

    async def initiate_multipart(self, bucket: str, key: str, **arguments: Unpack[UploadArguments]) -> str:
        """Begin an upload in parts and return its id, with which any process can continue.

        Args:
            bucket, key: the object that the upload becomes when it is completed.
            content_type, metadata, tags, storage_class, cache_control, content_disposition, content_encoding,
            content_language, checksum: as for `put`.
        """
        check_keywords("initiate_multipart", arguments, UPLOAD_ARGUMENTS)
        driver = self._capable(MultipartDriver, "initiate_multipart", bucket, key)
        with self._locating("initiate_multipart", bucket, key):
            options = put_options(key, cast(PutArguments, arguments), self._features.limits)
        self._require_write_support("initiate_multipart", options)
        return await self._run("initiate_multipart", bucket, key, driver.initiate_multipart(bucket, key, options))

    async def upload_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
        data: BodyLike,
        *,
        size: int | None = None,
        on_progress: Progress | None = None,
    ) -> PartInfo:
        """Store a part; in any order and in parallel. The same number again replaces the part.

        Args:
            bucket, key, upload_id: the upload.
            number: from 1 to ``features.limits.max_parts``.
            data: as for ``put``; all parts except the last have ``features.limits.min_part_size`` bytes or more.
            size, on_progress: as for ``put``.

        Raises:
            UploadNotFoundError: the upload is not open.
        """
        driver = self._capable(MultipartDriver, "upload_part", bucket, key)
        with self._locating("upload_part", bucket, key):
            self._check_part_number(number)
            body = self._body(data, None, size, on_progress)
        try:
            await self._run("upload_part", bucket, key, body.prepare())
            with self._locating("upload_part", bucket, key):
                self._check_part_size(body.size or 0)
            return await self._run("upload_part", bucket, key, driver.upload_part(bucket, key, upload_id, number, body))
        finally:
            await self._close_body(body)

    async def append_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
        offset: int,
        data: BodyLike,
        *,
        size: int | None = None,
        on_progress: Progress | None = None,
    ) -> PartInfo:
        """Append to a part, or begin it; its bytes from ``offset`` on are replaced.

        If it fails, what was written stays in the part, and `list_parts` shows its size: append there to go on. Only
        one call at a time may append to a part.

        Args:
            bucket, key, upload_id, number: as for `upload_part`.
            offset: at which ``data`` begins; at most the size of the part, and 0 if it does not exist.
            data, size, on_progress: as for ``put``.

        Returns:
            The part, with its whole size.

        Raises:
            UploadNotFoundError: the upload is not open.
            InvalidPartError: ``offset`` is larger than the part.
        """
        driver = self._capable(AppendDriver, "append_part", bucket, key)
        with self._locating("append_part", bucket, key):
            self._check_part_number(number)
            if not is_whole(offset) or offset < 0:
                raise InvalidPartError(f"the offset in a part is 0 or more bytes, not {offset!r}")
            body = self._body(data, None, size, on_progress)
        try:
            await self._run("append_part", bucket, key, body.prepare())
            with self._locating("append_part", bucket, key):
                self._check_part_size(offset + (body.size or 0))
            work = driver.append_part(bucket, key, upload_id, number, offset, body)
            return await self._run("append_part", bucket, key, work)
        finally:
            await self._close_body(body)

    async def copy_part(
        self, bucket: str, key: str, upload_id: str, number: int, src: ObjectRef, offset: int, length: int
    ) -> PartInfo:
        """Make a part of a range of an object, or of the version that ``src`` names; its bytes stay at the backend.

        Args:
            bucket, key, upload_id, number: as for `upload_part`.
            src: the object, in any bucket of the store.
            offset, length: the range, which is not empty.

        Raises:
            CopyNotSupportedError: the backend cannot copy this range; nothing was sent. Read it, and upload it.
            UploadNotFoundError: the upload is not open.
            ObjectNotFoundError, VersionNotFoundError: names the source.
            RangeNotSatisfiableError: the object ends before the range does.
        """
        driver = self._capable(PartCopyDriver, "copy_part", bucket, key)
        self._check_names("copy_part", src.bucket, src.key)
        with self._locating("copy_part", bucket, key):
            self._check_part_number(number)
            if not (is_whole(offset) and is_whole(length)) or offset < 0 or length < 1:
                raise InvalidRangeError(
                    f"copy_part needs an offset of 0 or more and a length of 1 or more, not {offset!r} and {length!r}"
                )
            self._check_part_size(length)
        work = driver.copy_part(bucket, key, upload_id, number, src, offset, length)
        return await self._run("copy_part", bucket, key, work)

    async def complete_multipart(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[PartInfo],
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> ObjectInfo:
        """Make the object from the given parts, as atomically as a put; other parts are dropped.

        If it fails, the upload stays open, and can be completed again or aborted.

        Raises:
            InvalidPartError: there are no parts, they do not ascend, or one is missing, too small or was replaced.
            UploadNotFoundError: the upload is not open.
            PreconditionFailedError, ObjectAlreadyExistsError: a condition does not hold.
        """
        driver = self._capable(MultipartDriver, "complete_multipart", bucket, key)
        with self._locating("complete_multipart", bucket, key):
            if if_match is not None and if_none_match is not None:
                raise InvalidArgumentError("give if_match or if_none_match, not both")
            for value in (if_match, if_none_match):
                self._require_condition("complete", "complete_multipart", value)
            checked = check_parts(parts)
            options = CompleteOptions(if_match=plain_etag(if_match), if_none_match=plain_etag(if_none_match))
        work = driver.complete_multipart(bucket, key, upload_id, checked, options)
        return await self._run("complete_multipart", bucket, key, work)

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Give an upload up and free its parts; one that is not open is success."""
        driver = self._capable(MultipartDriver, "abort_multipart", bucket, key)
        await self._run("abort_multipart", bucket, key, driver.abort_multipart(bucket, key, upload_id))

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> list[PartInfo]:
        """Return the parts that are stored, in the order of their numbers.

        Raises:
            UploadNotFoundError: the upload is not open.
        """
        driver = self._capable(MultipartDriver, "list_parts", bucket, key)
        return [*await self._run("list_parts", bucket, key, driver.list_parts(bucket, key, upload_id))]

    async def list_multipart_uploads(self, bucket: str, prefix: str = "") -> list[UploadInfo]:
        """Return the open uploads, in the order of their keys, then of their start times."""
        driver = self._capable(MultipartDriver, "list_multipart_uploads", bucket)
        with self._locating("list_multipart_uploads", bucket):
            check_prefix(prefix)
        work = driver.list_multipart_uploads(bucket, prefix)
        return [*await self._run("list_multipart_uploads", bucket, None, work)]

    def _check_part_number(self, number: int) -> None:
        most = self._features.limits.max_parts
        if not isinstance(number, int) or not 1 <= number <= most:
            raise InvalidPartError(f"a part's number is 1 to {most}, not {number!r}")

    def _check_part_size(self, size: int) -> None:
        most = self._features.limits.max_part_size
        if most is not None and size > most:
            raise InvalidPartError(f"the part has {size} bytes, more than {most}")

    def _capable(self, capability: type[Any], operation: str, bucket: str, key: str = NO_KEY) -> Any:
        """Return the driver, if it has the capability; raise otherwise."""
        self._check_usable()
        self._require(capability, operation)
        self._check_names(operation, bucket, key)
        return self._driver
