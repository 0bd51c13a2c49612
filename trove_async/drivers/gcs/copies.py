"""Copies within the service: by rewriting, which takes several requests where the service wants time.

https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from trove_async.driver import CopyOptions, HeadOptions, check_read, reading_source
from trove_async.driver.put_settling import Settling, find_for
from trove_async.driver.retry import until_uncontended
from trove_async.drivers.gcs.addressing import resource_path
from trove_async.drivers.gcs.client import Client, Query
from trove_async.drivers.gcs.conditions import under_condition
from trove_async.drivers.gcs.documents import ambiguous_if_malformed, mapping, resource, text_if_any
from trove_async.drivers.gcs.objects import Objects
from trove_async.drivers.gcs.resources import CHECKSUM, FIELDS, info_of_resource, tags_of
from trove_async.drivers.gcs.settings import GCSSettings
from trove_async.errors import (
    BackendError,
    CopyPhase,
    ObjectNotFoundError,
    TransientError,
    TroveError,
    VersionNotFoundError,
)
from trove_async.types import ObjectInfo
from trove_async.wire.client import same_object, settle
from trove_async.wire.errors import copying

__all__ = ["Copies"]

_KEPT: Final = (
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "contentType",
    "contexts",
    "customTime",
    "metadata",
    "storageClass",
)
"""The members of a resource that describe an object, and that a copy keeps."""

_SOURCE: Final = ("fields", f"{FIELDS},crc32c,customTime,contexts")
_ANSWER: Final = ("fields", f"done,rewriteToken,totalBytesRewritten,resource({FIELDS})")

_Resource = Mapping[str, Any]


class Copies:
    """Copies.

    Args:
        client: sends the requests.
        objects: find source and destination, and describe the copy.
        settings: of the store.
    """

    def __init__(self, client: Client, objects: Objects, settings: GCSSettings) -> None:
        self._client = client
        self._objects = objects
        self._settings = settings

    async def copy(
        self, src_bucket: str, src_key: str, dst_bucket: str, dst_key: str, options: CopyOptions
    ) -> ObjectInfo:
        """Copy the generation of an object that is found first; if it was replaced meanwhile, the next one."""

        async def attempt() -> ObjectInfo:
            source = await self._source(src_bucket, src_key, options)
            path = f"{resource_path(src_bucket, src_key)}/rewriteTo{resource_path(dst_bucket, dst_key)}"
            return await self._copy(source, path, dst_bucket, dst_key, options)

        lost = VersionNotFoundError if options.source_version_id is None else ()
        message = "the source is replaced too often to be copied"
        try:
            return await until_uncontended(attempt, lost=lost, message=message)
        except TransientError as error:
            if isinstance(error.__cause__, VersionNotFoundError):
                error.copy_phase = CopyPhase.READ
            raise

    async def _source(self, bucket: str, key: str, options: CopyOptions) -> _Resource:
        with reading_source(bucket, key):
            found = await self._objects.resource(bucket, key, options.source_version_id, _SOURCE)
            check_read(info_of_resource(key, found), HeadOptions(if_match=options.source_if_match))
            return found

    async def _copy(self, source: _Resource, path: str, bucket: str, key: str, options: CopyOptions) -> ObjectInfo:
        content = self._description(source, key, options)
        named: Query = [_ANSWER, ("sourceGeneration", str(source["generation"]))]
        if self._settings.kms_key is not None:
            named.append(("destinationKmsKeyName", self._settings.kms_key))

        look = partial(self._stored, source, content, bucket, key, options)
        find = find_for(options.if_match, options.if_none_match, look)
        settling = None if find is None else Settling(find)

        async def write(conditions: Query) -> ObjectInfo:
            return await self._rewrite(path, bucket, key, named + conditions, content, settling)

        try:
            with copying():
                return await under_condition(options, write, lambda: self._objects.etag(bucket, key))
        except ObjectNotFoundError as error:
            raise VersionNotFoundError(
                status=error.status, request_id=error.request_id, ambiguous=error.ambiguous
            ) from error
        except TroveError as error:
            made = await settle(error, lambda: self._stored(source, content, bucket, key, options))
            if made is None:
                raise
            return made

    def _description(self, source: _Resource, key: str, options: CopyOptions) -> dict[str, Any]:
        """Return all that describes the copy: what is left out may become the bucket's default."""
        if options.replace is None:
            return self._objects.held({name: source[name] for name in _KEPT if name in source})
        content = self._objects.resource_of(key, options.replace)
        # The checksum is that of the bytes, which are the same.
        if (kept := mapping(source, "metadata").get(CHECKSUM)) is not None:
            content.setdefault("metadata", {})[CHECKSUM] = kept
        del content["name"]
        return content

    async def _stored(
        self, source: _Resource, content: _Resource, bucket: str, key: str, options: CopyOptions
    ) -> ObjectInfo | None:
        """Return the object if it is the copy; who wrote it does not matter unless there was a condition."""
        if options.if_match is not None or options.if_none_match is not None:
            return None
        found = await self._objects.resource(bucket, key, None, _SOURCE)
        if found.get("generation") == source["generation"] or found.get("crc32c") != source.get("crc32c"):
            return None
        if tags_of(mapping(found, "metadata")) != tags_of(mapping(content, "metadata")):
            return None
        info = info_of_resource(key, found)
        wanted = {**content, "size": source.get("size"), "generation": info.etag}
        return info if same_object(info, info_of_resource(key, wanted)) else None

    async def _rewrite(
        self, path: str, bucket: str, key: str, query: Query, content: _Resource, settling: Settling | None
    ) -> ObjectInfo:
        """Rewrite until it is done.

        Without a condition, the first request is not sent again after its answer was lost, and each later one only if
        the copy is not there. Google's own libraries do not send such a request again either
        (https://cloud.google.com/storage/docs/retry-strategy#idempotency).
        """
        token: str | None = None
        progress = self._client.retries.of_step()
        rewritten = "0"
        while True:
            more = [] if token is None else [("rewriteToken", token)]
            first = token is None and settling is not None
            found = await self._client.json(
                "POST",
                path,
                bucket,
                key,
                query=query + more,
                content=content,
                writes=True,
                once=first,
                settling=None if first else settling,
            )
            with ambiguous_if_malformed():
                answer = resource(found)
                if answer.get("done"):
                    return info_of_resource(key, mapping(answer, "resource"))
                token = text_if_any(answer, "rewriteToken")
                if token is None:
                    raise BackendError("the copy is not done, and the answer does not say how to go on with it")
            before, rewritten = rewritten, str(answer.get("totalBytesRewritten"))
            if rewritten != before:
                progress.succeeded()
            else:
                await progress.failed(TransientError("the service makes no progress with the copy"))
