"""Copies within the service: by rewriting, which takes several requests where the service wants time.

https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from trove_async.driver import CopyOptions, HeadOptions, check_read
from trove_async.drivers.gcs.client import Client, Query, resource_path
from trove_async.drivers.gcs.conditions import under_condition
from trove_async.drivers.gcs.objects import Objects
from trove_async.drivers.gcs.resources import CHECKSUM, FIELDS, info_of_resource
from trove_async.drivers.gcs.settings import GCSSettings
from trove_async.drivers.gcs.writes import Writes
from trove_async.errors import BackendError, BucketNotFoundError, NotFoundError, ObjectNotFoundError, TransientError
from trove_async.types import ObjectInfo

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
"""What of a source's resource describes it, and goes with it."""
_SOURCE: Final = ("fields", f"{FIELDS},customTime,contexts")
_ATTEMPTS: Final = 10
_ANSWER: Final = ("fields", f"done,rewriteToken,resource({FIELDS})")


class _SourceGoneError(Exception):
    """The generation that was to be copied is not there any more."""


class Copies:
    """Copies.

    Args:
        client: sends the requests.
        objects: find source and destination.
        writes: describe the copy.
        settings: of the store.
    """

    def __init__(self, client: Client, objects: Objects, writes: Writes, settings: GCSSettings) -> None:
        self._client = client
        self._objects = objects
        self._writes = writes
        self._settings = settings

    async def copy(
        self, src_bucket: str, src_key: str, dst_bucket: str, dst_key: str, options: CopyOptions
    ) -> ObjectInfo:
        """Copy an object: that generation of it that there is when it is looked at.

        If that is gone when it is copied, the one that there is then.
        """
        attempts = _ATTEMPTS
        while True:
            try:
                return await self._copy(src_bucket, src_key, dst_bucket, dst_key, options)
            except _SourceGoneError as error:
                attempts -= 1
                if not attempts:
                    raise TransientError("the source is replaced faster than it can be copied") from error

    async def _copy(
        self, src_bucket: str, src_key: str, dst_bucket: str, dst_key: str, options: CopyOptions
    ) -> ObjectInfo:
        source = await self._source(src_bucket, src_key, options)
        content = self._description(source, dst_key, options)
        path = f"{resource_path(src_bucket, src_key)}/rewriteTo{resource_path(dst_bucket, dst_key)}"
        named: Query = [_ANSWER, ("sourceGeneration", str(source["generation"]))]
        if self._settings.kms_key is not None:
            named.append(("destinationKmsKeyName", self._settings.kms_key))

        async def write(conditions: Query) -> Mapping[str, Any]:
            return await self._rewrite(path, dst_bucket, dst_key, named + conditions, content)

        try:
            made = await under_condition(options, write, lambda: self._objects.etag(dst_bucket, dst_key))
        except ObjectNotFoundError as error:
            raise _SourceGoneError from error
        return info_of_resource(dst_key, made)

    async def _source(self, bucket: str, key: str, options: CopyOptions) -> Mapping[str, Any]:
        try:
            found = await self._objects.resource(bucket, key, options.source_version_id, _SOURCE)
        except NotFoundError as error:
            error.locate("copy", bucket, None if isinstance(error, BucketNotFoundError) else key)
            raise
        check_read(info_of_resource(key, found), HeadOptions(if_match=options.source_if_match))
        return found

    def _description(self, source: Mapping[str, Any], key: str, options: CopyOptions) -> dict[str, Any]:
        """Return what describes the copy. All of it is said: what is left out may become the bucket's default."""
        if options.replace is None:
            content = self._writes.held({name: source[name] for name in _KEPT if name in source})
        else:
            content = self._writes.description(key, options.replace)
            # It is of the bytes, which are the same.
            if (kept := (source.get("metadata") or {}).get(CHECKSUM)) is not None:
                content.setdefault("metadata", {})[CHECKSUM] = kept
        content.pop("name", None)
        return content

    async def _rewrite(
        self, path: str, bucket: str, key: str, query: Query, content: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        token: str | None = None
        while True:
            more = [] if token is None else [("rewriteToken", token)]
            answer = await self._client.json(
                "POST", path, bucket, key, query=query + more, content=content, writes=True
            )
            if not isinstance(answer, dict):
                raise BackendError("the answer to a copy is empty: is the endpoint Cloud Storage?")
            if answer.get("done"):
                return answer.get("resource") or {}
            token = answer.get("rewriteToken")
            if token is None:
                raise BackendError("the copy is not done, and the answer does not say how to go on with it")
