"""Copies within the service: in one request, or in parts where the object is too large for one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Final

from trove_async.checksums import Checksum
from trove_async.driver import CompleteOptions, CopyOptions, HeadOptions, ObjectAttributes
from trove_async.drivers.s3.client import Client, Headers
from trove_async.drivers.s3.control import Control
from trove_async.drivers.s3.headers import version_of
from trove_async.drivers.s3.objects import Objects, condition_error
from trove_async.drivers.s3.profiles import Profile
from trove_async.drivers.s3.settings import S3Settings
from trove_async.drivers.s3.uploads import OpenUpload, Uploads, part_size_for
from trove_async.errors import (
    BackendError,
    BucketNotFoundError,
    NotFoundError,
    ObjectNotFoundError,
    PreconditionFailedError,
)
from trove_async.types import ObjectInfo, PartInfo
from trove_async.wire.fields import etag_of
from trove_async.wire.parts import in_parallel
from trove_async.wire.sigv4 import encode_path, encode_query
from trove_async.wire.xml import parse, text

__all__ = ["Copies"]

_PART_SIZE: Final = 256 * 1024 * 1024
"""Bytes of a part that the service copies: no memory of ours is needed, and fewer requests are cheaper."""


class Copies:
    """Copies.

    Args:
        client: sends the requests.
        objects, uploads, control: do what is done to objects, parts and tags.
        settings, profile: of the store.
    """

    def __init__(
        self,
        client: Client,
        objects: Objects,
        uploads: Uploads,
        control: Control,
        settings: S3Settings,
        profile: Profile,
    ) -> None:
        self._client = client
        self._objects = objects
        self._uploads = uploads
        self._control = control
        self._settings = settings
        self._profile = profile
        self._limit = profile.max_copy_size

    async def copy(
        self, src_bucket: str, src_key: str, dst_bucket: str, dst_key: str, options: CopyOptions
    ) -> ObjectInfo:
        """Copy an object."""
        conditions = CompleteOptions(if_match=options.if_match, if_none_match=options.if_none_match)
        self._objects.write_conditions(conditions.if_match, conditions.if_none_match)
        source = await self._source(src_bucket, src_key, options)
        named = self._source_headers(source, src_bucket, src_key, options)
        in_parts = source.size > self._limit
        described = options.replace
        # An upload begins with the description. And S3 refuses to copy an object onto itself unless something is to
        # change; the description may be "changed".
        if described is None and (in_parts or (src_bucket, src_key) == (dst_bucket, dst_key)):
            tags = await self._tags(src_bucket, src_key, options.source_version_id)
            described = ObjectAttributes.of(source, tags)
        try:
            if in_parts:
                assert described is not None
                return await self._copy_in_parts(source, named, dst_bucket, dst_key, described, conditions)
            return await self._copy_whole(source, named, dst_bucket, dst_key, described, conditions)
        except PreconditionFailedError as error:
            raise condition_error(error, conditions) from error
        except ObjectNotFoundError as error:
            raise ObjectNotFoundError("the source was deleted meanwhile", bucket=src_bucket, key=src_key) from error

    async def _source(self, bucket: str, key: str, options: CopyOptions) -> ObjectInfo:
        wanted = HeadOptions(version_id=options.source_version_id, if_match=options.source_if_match)
        try:
            return await self._objects.head(bucket, key, wanted)
        except NotFoundError as error:
            error.locate("copy", bucket, None if isinstance(error, BucketNotFoundError) else key)
            raise

    async def _tags(self, bucket: str, key: str, version_id: str | None) -> dict[str, str]:
        return await self._control.get_tags(bucket, key, version_id) if self._profile.tags else {}

    def _source_headers(self, source: ObjectInfo, bucket: str, key: str, options: CopyOptions) -> Headers:
        """Return the headers that name the source, and hold it to what was seen of it."""
        name = f"/{bucket}/{encode_path(key)}"
        version_id = options.source_version_id or source.version_id
        if version_id is not None:
            name += "?" + encode_query([("versionId", version_id)])
        return [
            ("x-amz-copy-source", name),
            ("x-amz-copy-source-if-match", f'"{source.etag}"'),
            *self._settings.customer_key_headers(source=True),
        ]

    async def _copy_whole(
        self,
        source: ObjectInfo,
        named: Headers,
        bucket: str,
        key: str,
        described: ObjectAttributes | None,
        conditions: CompleteOptions,
    ) -> ObjectInfo:
        headers = named + self._objects.encryption
        headers += self._objects.write_conditions(conditions.if_match, conditions.if_none_match)
        if described is not None:
            headers += self._objects.description(described, _checksum_of(source))
            headers += [("x-amz-metadata-directive", "REPLACE")]
            if self._profile.tags:
                headers += [("x-amz-tagging-directive", "REPLACE")]
        elif (kept := source.storage_class or self._settings.storage_class) is not None:
            # A copy is in the default class unless the request names another.
            headers += [("x-amz-storage-class", kept)]
        response, content = await self._client.document("PUT", bucket, key, headers=headers, writes=True)
        if described is not None and described.tags and not self._profile.tagging_header:
            await self._uploads.tag(bucket, key, described.tags)
        etag = text(parse(content), "ETag")
        if not etag:
            raise BackendError("the answer to a copy has no ETag: is the endpoint an S3 service?")
        version_id = version_of(response.headers)
        if version_id is None and not self._profile.copy_version_ids:
            version_id = await self._version_of(bucket, key, etag_of(etag))
        return self._copied(source, key, described, etag_of(etag), version_id)

    async def _version_of(self, bucket: str, key: str, etag: str) -> str | None:
        try:
            made = await self._objects.head(bucket, key, HeadOptions(if_match=etag))
        except (NotFoundError, PreconditionFailedError):
            return None  # it was replaced meanwhile
        return made.version_id

    def _copied(
        self, source: ObjectInfo, key: str, described: ObjectAttributes | None, etag: str, version_id: str | None
    ) -> ObjectInfo:
        if described is None:
            return replace(source, key=key, etag=etag, version_id=version_id, last_modified=None)
        info = self._objects.written(key, source.size, {}, etag, described, None)
        return replace(info, version_id=version_id, checksums=source.checksums)

    async def _copy_in_parts(
        self,
        source: ObjectInfo,
        named: Headers,
        bucket: str,
        key: str,
        described: ObjectAttributes,
        conditions: CompleteOptions,
    ) -> ObjectInfo:
        async with self._uploads.open(bucket, key, described, _checksum_of(source)) as upload:
            parts = await in_parallel(self._jobs(source.size, upload, named), self._settings.part_concurrency)
            headers, etag = await self._uploads.finish(upload, parts, conditions)
        return self._copied(source, key, described, etag, version_of(headers))

    async def _jobs(
        self, size: int, upload: OpenUpload, named: Headers
    ) -> AsyncGenerator[Callable[[], Awaitable[PartInfo]], None]:
        part_size = max(part_size_for(size, self._settings, self._profile), min(_PART_SIZE, self._limit))
        for number, start in enumerate(range(0, size, part_size), start=1):
            stop = min(start + part_size, size)
            yield partial(self._copy_part, upload, named, number, start, stop)

    async def _copy_part(self, upload: OpenUpload, named: Headers, number: int, start: int, stop: int) -> PartInfo:
        query = encode_query([("partNumber", str(number)), ("uploadId", upload.id)])
        headers = [*named, ("x-amz-copy-source-range", f"bytes={start}-{stop - 1}"), *self._objects.customer_key]
        _, content = await self._client.document("PUT", upload.bucket, upload.key, query=query, headers=headers)
        return PartInfo(number, etag_of(text(parse(content), "ETag") or ""), stop - start)


def _checksum_of(source: ObjectInfo) -> Checksum | None:
    return next((Checksum(*item) for item in source.checksums.items()), None)
