"""Copies within the service: in one request, or in parts if the object is too large for one."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Final

from trove_async.checksums import Checksum
from trove_async.driver import CompleteOptions, CopyOptions, HeadOptions, ObjectAttributes, reading_source
from trove_async.drivers.s3.client import Client, Headers
from trove_async.drivers.s3.control import Control
from trove_async.drivers.s3.headers import version_of
from trove_async.drivers.s3.objects import Objects
from trove_async.drivers.s3.profiles import Profile
from trove_async.drivers.s3.settings import S3Settings
from trove_async.drivers.s3.uploads import S3Upload, Uploads, plan_for
from trove_async.errors import (
    BackendError,
    BucketNotFoundError,
    CopyNotSupportedError,
    NotFoundError,
    ObjectChangedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    RangeNotSatisfiableError,
    TransientError,
    VersionNotFoundError,
)
from trove_async.ranges import check_within
from trove_async.types import ObjectInfo, ObjectRef, PartInfo
from trove_async.wire.client import same_object, settle
from trove_async.wire.errors import condition_error, copying
from trove_async.wire.fields import etag_of
from trove_async.wire.multipart import MIB, make_of_parts, pace_of_copies
from trove_async.wire.sigv4 import encode_path, encode_query
from trove_async.wire.xml import parse, text

__all__ = ["Copies"]

_PART_SIZE: Final = 256 * MIB
"""The size of a part that the service copies: it needs no memory in this process, and fewer requests are cheaper."""

_NOTHING: Final = hashlib.md5(b"", usedforsecurity=False).hexdigest()
"""The ETag of a part without bytes."""


class Copies:
    """Copies.

    Args:
        client: sends the requests.
        objects, uploads, control: the requests about objects, parts and tags.
        settings, profile: of the store.
        cleanup_timeout: the time limit in seconds of aborting an upload.
    """

    def __init__(
        self,
        client: Client,
        objects: Objects,
        uploads: Uploads,
        control: Control,
        settings: S3Settings,
        profile: Profile,
        cleanup_timeout: float,
    ) -> None:
        self._client = client
        self._objects = objects
        self._uploads = uploads
        self._control = control
        self._settings = settings
        self._profile = profile
        self._timeout = cleanup_timeout
        self._limit = profile.max_copy_size
        self._plan = plan_for(settings, profile)

    async def copy(
        self, src_bucket: str, src_key: str, dst_bucket: str, dst_key: str, options: CopyOptions
    ) -> ObjectInfo:
        """Copy an object."""
        conditions = CompleteOptions(if_match=options.if_match, if_none_match=options.if_none_match)
        self._objects.write_conditions(conditions.if_match, conditions.if_none_match)
        source = await self._source(src_bucket, src_key, options)
        named = self._source_headers(source, src_bucket, src_key, options)
        in_parts = source.size > self._limit
        attributes = options.replace
        read_tags = partial(self._tags, src_bucket, src_key, options.source_version_id)
        # An upload is opened with the attributes. S3 also refuses to copy an object onto itself unless something
        # changes; "replacing" the attributes by the same ones is enough.
        if attributes is None and (in_parts or (src_bucket, src_key) == (dst_bucket, dst_key)):
            attributes = ObjectAttributes.of(source, await read_tags())
        try:
            with copying():
                if in_parts and attributes is not None:
                    self._require_part_copies(src_key)
                    return await self._copy_in_parts(source, named, dst_bucket, dst_key, attributes, conditions)
                return await self._copy_whole(source, named, dst_bucket, dst_key, attributes, conditions, read_tags)
        except ObjectChangedError:
            raise  # the source
        except PreconditionFailedError as error:
            with reading_source(src_bucket, src_key):
                await self._require_unchanged(error, source, src_bucket, src_key, options)
            raise condition_error(error, options.if_none_match) from error
        except ObjectNotFoundError as error:
            raise ObjectNotFoundError("the source was deleted meanwhile", bucket=src_bucket, key=src_key) from error

    async def _require_unchanged(
        self, error: PreconditionFailedError, source: ObjectInfo, bucket: str, key: str, options: CopyOptions
    ) -> None:
        """Find out which condition of a copy failed: that the source has not changed, or that on the destination.

        Raises:
            ObjectChangedError: the source was replaced, or there is no condition on the destination.
        """
        if options.if_match is not None or options.if_none_match is not None:
            wanted = HeadOptions(version_id=options.source_version_id, if_match=source.etag)
            try:
                await self._objects.head(bucket, key, wanted)
            except PreconditionFailedError:
                pass
            else:
                return
        raise ObjectChangedError(
            "the source was replaced while it was copied",
            status=error.status,
            request_id=error.request_id,
            ambiguous=error.ambiguous,
        ) from error

    async def _source(self, bucket: str, key: str, options: CopyOptions) -> ObjectInfo:
        wanted = HeadOptions(version_id=options.source_version_id, if_match=options.source_if_match)
        with reading_source(bucket, key):
            return await self._objects.head(bucket, key, wanted)

    async def _tags(self, bucket: str, key: str, version_id: str | None) -> dict[str, str]:
        if not self._profile.tags:
            return {}
        with reading_source(bucket, key):
            return await self._control.get_tags(bucket, key, version_id)

    def _source_headers(self, source: ObjectInfo, bucket: str, key: str, options: CopyOptions) -> Headers:
        """Return the headers with the source, and the condition that it has not changed."""
        named = self._named(ObjectRef(bucket, key, options.source_version_id or source.version_id))
        return [*named, ("x-amz-copy-source-if-match", f'"{source.etag}"')]

    def _named(self, source: ObjectRef) -> Headers:
        name = f"/{source.bucket}/{encode_path(source.key)}"
        if source.version_id is not None:
            name += "?" + encode_query([("versionId", source.version_id)])
        return [("x-amz-copy-source", name), *self._settings.customer_key_headers(source=True)]

    async def _copy_whole(
        self,
        source: ObjectInfo,
        named: Headers,
        bucket: str,
        key: str,
        attributes: ObjectAttributes | None,
        conditions: CompleteOptions,
        read_tags: Callable[[], Awaitable[dict[str, str]]],
    ) -> ObjectInfo:
        conditional = conditions.if_match is not None or conditions.if_none_match is not None
        headers = named + self._objects.encryption
        headers += self._objects.write_conditions(conditions.if_match, conditions.if_none_match)
        if attributes is not None:
            headers += self._objects.attribute_headers(attributes, _checksum_of(source))
            headers += [("x-amz-metadata-directive", "REPLACE")]
            if self._profile.tags:
                headers += [("x-amz-tagging-directive", "REPLACE")]
        elif (kept := source.storage_class or self._settings.storage_class) is not None:
            # A copy gets the default storage class unless the request names another.
            headers += [("x-amz-storage-class", kept)]
        try:
            response, content = await self._client.document(
                "PUT", bucket, key, headers=headers, writes=True, once=not conditional
            )
            etag = _copied_etag(content)
        except (TransientError, BackendError) as error:
            made = (
                None
                if conditional
                else await settle(error, lambda: self._stored(source, bucket, key, attributes, read_tags))
            )
            if made is None:
                raise
            return made
        if attributes is not None and attributes.tags and not self._profile.tagging_header:
            await self._uploads.tag(bucket, key, attributes.tags)
        version_id = version_of(response.headers)
        if version_id is None and not self._profile.copy_version_ids:
            version_id = await self._version_of(bucket, key, etag)
        return self._copied(source, key, attributes, etag, version_id)

    async def _stored(
        self,
        source: ObjectInfo,
        bucket: str,
        key: str,
        attributes: ObjectAttributes | None,
        read_tags: Callable[[], Awaitable[dict[str, str]]],
    ) -> ObjectInfo | None:
        """Return the object if it is the copy. Without a condition, it does not matter who wrote it."""
        found = await self._objects.head(bucket, key, HeadOptions())
        if not same_object(found, self._copied(source, key, attributes, source.etag, None)):
            return None
        tags = await read_tags() if attributes is None else attributes.tags
        return found if not self._profile.tags or await self._control.get_tags(bucket, key) == tags else None

    async def _version_of(self, bucket: str, key: str, etag: str) -> str | None:
        try:
            made = await self._objects.head(bucket, key, HeadOptions(if_match=etag))
        except (NotFoundError, PreconditionFailedError):
            return None  # it was replaced meanwhile
        return made.version_id

    def _copied(
        self, source: ObjectInfo, key: str, attributes: ObjectAttributes | None, etag: str, version_id: str | None
    ) -> ObjectInfo:
        if attributes is None:
            return replace(source, key=key, etag=etag, version_id=version_id, last_modified=None)
        info = self._objects.written(key, source.size, {}, etag, attributes, None)
        return replace(info, version_id=version_id, checksums=source.checksums)

    async def _copy_in_parts(
        self,
        source: ObjectInfo,
        named: Headers,
        bucket: str,
        key: str,
        attributes: ObjectAttributes,
        conditions: CompleteOptions,
    ) -> ObjectInfo:
        upload = S3Upload(
            self._uploads, bucket, key, attributes=attributes, checksum=_checksum_of(source), conditions=conditions
        )
        jobs = self._jobs(source.size, upload, named)
        pace = pace_of_copies(self._settings.part_concurrency)
        return await make_of_parts(upload, jobs, pace=pace, timeout=self._timeout)

    async def _jobs(
        self, size: int, upload: S3Upload, named: Headers
    ) -> AsyncGenerator[Callable[[], Awaitable[PartInfo]], None]:
        part_size = max(self._plan.size_for(1, size), min(_PART_SIZE, self._limit))
        for number, start in enumerate(range(0, size, part_size), start=1):
            stop = min(start + part_size, size)
            yield partial(self._copy_part, upload, named, number, start, stop)

    async def _copy_part(self, upload: S3Upload, named: Headers, number: int, start: int, stop: int) -> PartInfo:
        try:
            return await self._send_part(upload.bucket, upload.key, upload.id, named, number, start, stop)
        except PreconditionFailedError as error:
            # The conditions on the destination belong to the completion.
            raise ObjectChangedError("the source was replaced while it was copied") from error

    async def _send_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        named: Headers,
        number: int,
        start: int,
        stop: int,
        *,
        writes: bool = False,
    ) -> PartInfo:
        query = encode_query([("partNumber", str(number)), ("uploadId", upload_id)])
        headers = [*named, ("x-amz-copy-source-range", f"bytes={start}-{stop - 1}"), *self._objects.customer_key]
        _, content = await self._client.document("PUT", bucket, key, query=query, headers=headers, writes=writes)
        return PartInfo(number, _copied_etag(content), stop - start)

    def _require_part_copies(self, key: str) -> None:
        """Refuse a source whose key the service may read as the key of another object.

        Raises:
            CopyNotSupportedError: the key has a percent sign, which Ceph 16 decodes twice in this request.
        """
        if "%" in key and not self._profile.percent_in_copies:
            raise CopyNotSupportedError(
                f"services of profile {self._profile.name!r} may decode a percent sign in the key of the source twice, "
                "and copy a part from another object"
            )

    async def copy_part(
        self, bucket: str, key: str, upload_id: str, number: int, src: ObjectRef, offset: int, length: int
    ) -> PartInfo:
        """Make a part of an upload of a range of an object, in one request where the service refuses other ranges.

        The request is sent again like that of any part: the same number again replaces the part.
        """
        self._require_part_copies(src.key)
        named = self._named(src)
        try:
            with copying():
                part = await self._send_part(
                    bucket, key, upload_id, named, number, offset, offset + length, writes=True
                )
        except BucketNotFoundError as error:
            if src.bucket != bucket:
                await self._objects.require_bucket(bucket)
            error.bucket = src.bucket
            with reading_source(src.bucket, src.key):
                raise
        except ObjectNotFoundError as error:
            kind = ObjectNotFoundError if src.version_id is None else VersionNotFoundError
            with reading_source(src.bucket, src.key):
                raise kind(status=error.status, request_id=error.request_id) from error
        except (VersionNotFoundError, RangeNotSatisfiableError):
            with reading_source(src.bucket, src.key):
                raise
        copied = 0 if part.etag == _NOTHING else length
        if copied and not self._profile.bounded_copies:
            copied = await self._uploads.size_of_part(bucket, key, upload_id, number)
        with reading_source(src.bucket, src.key):
            check_within(offset, length, offset + copied)
        return part


def _copied_etag(content: bytes) -> str:
    """Return the ETag in the answer to a copy.

    Raises:
        BackendError: the answer does not come from the service; the error is ambiguous.
    """
    try:
        etag = text(parse(content), "ETag")
        if not etag:
            raise BackendError("the answer to a copy has no ETag: is the endpoint an S3 service?")
    except BackendError as error:
        error.ambiguous = True
        raise
    return etag_of(etag)


def _checksum_of(source: ObjectInfo) -> Checksum | None:
    return next((Checksum(*item) for item in source.checksums.items()), None)
