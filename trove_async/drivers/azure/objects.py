"""The operations on objects that take one request: get, head, put, delete."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

import anyio

from trove_async.body import Body, Chunk
from trove_async.checksums import Checksum
from trove_async.driver import DeleteOptions, GetOptions, HeadOptions, ObjectAttributes, PutOptions, check_read
from trove_async.driver.retry import until_uncontended
from trove_async.drivers.azure.client import Client, Headers, Params
from trove_async.drivers.azure.headers import (
    DELETED,
    SERVICE,
    attribute_headers,
    checksum_headers,
    etag_in,
    info_of,
    version_of,
)
from trove_async.drivers.azure.names import OWN
from trove_async.drivers.azure.settings import AzureSettings
from trove_async.drivers.azure.versions import Versions
from trove_async.errors import (
    BackendError,
    BucketNotFoundError,
    NotFoundError,
    ObjectChangedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    RangeNotSatisfiableError,
    TroveError,
    VersionNotFoundError,
)
from trove_async.ranges import ByteRange
from trove_async.types import EMPTY, DeleteResult, ObjectInfo
from trove_async.wire.client import same_object
from trove_async.wire.errors import condition_error
from trove_async.wire.fields import condition_headers, content_length, write_conditions
from trove_async.wire.reading import ObjectReads
from trove_async.wire.transport import Response

__all__ = ["Objects"]

R = TypeVar("R")
ReadOptions = TypeVar("ReadOptions", bound=HeadOptions)

_BLOCK_BLOB: Final = ("x-ms-blob-type", "BlockBlob")
_MARKER: Final = f"x-ms-meta-{DELETED}"
_SENDS_UNMODIFIED: Final = False
"""Whether ``If-Unmodified-Since`` is sent: the emulator compares with fractions of a second, which no header has."""

_LOOKS: Final = 5
"""How often an object is looked at that is replaced each time before it is read."""

_DELETIONS: Final = 16
"""How many deletions of one call are under way at once.

The service's own batches are not used: they hold 256 deletions and carry them out one by one.
"""


class Objects(ObjectReads):
    """Requests about one object, or a few.

    Args:
        client: sends them.
        settings: of the store.
        versions: keep what is replaced, and find versions.
    """

    service = SERVICE

    def __init__(self, client: Client, settings: AzureSettings, versions: Versions) -> None:
        self._client = client
        self.retries = client.retries
        self.parallel = settings.network.parallel
        self._versions = versions
        self._storage_class = settings.storage_class
        self._checksum = settings.checksum

    # Reading; `get` is that of `ObjectReads`

    def ask(
        self, bucket: str, key: str, options: GetOptions, wanted: ByteRange | None
    ) -> Coroutine[Any, Any, tuple[Response, None]]:
        """Send a GET."""
        if options.version_id is None:
            return self._ask(bucket, key, wanted, options, ())
        return self._at_version(bucket, key, options, partial(self._ask, bucket, key, wanted))

    async def _ask(
        self, bucket: str, key: str, wanted: ByteRange | None, options: GetOptions, params: Params
    ) -> tuple[Response, None]:
        headers = condition_headers(options, if_unmodified_since=_SENDS_UNMODIFIED)
        if wanted is not None:
            if wanted.offset < 0:
                return await self._ask_end(bucket, key, wanted, options, params)
            headers.append(("x-ms-range", wanted.header()))
        try:
            response = await self._client.request("GET", bucket, key, params=params, headers=headers)
        except ObjectNotFoundError as error:
            raise _missing(error, params) from error
        except PreconditionFailedError:
            await self._require(bucket, key, params)
            raise
        if _MARKER in response.headers:
            response.abort()
            raise _missing(ObjectNotFoundError(status=404), params)
        if wanted is not None and response.headers.get("content-range", "").endswith("/0"):
            # The emulator answers a range of an empty object with 206.
            response.abort()
            raise RangeNotSatisfiableError(f"the range starts at {wanted.offset}; the object is empty")
        return response, None

    async def _ask_end(
        self, bucket: str, key: str, wanted: ByteRange, options: GetOptions, params: Params
    ) -> tuple[Response, None]:
        """Ask for the last bytes: the service has no ranges from the end, so that the size is asked for first."""

        async def look() -> tuple[Response, None]:
            info, _ = await self.describe(bucket, key, options, params)
            start, stop = wanted.resolve(info.size)
            found = replace(options, if_match=info.etag)
            try:
                return await self._ask(bucket, key, ByteRange(start, stop - start), found, params)
            except PreconditionFailedError as error:
                raise _replaced(error) from error

        return await until_uncontended(
            look, lost=ObjectChangedError, message="the object was replaced again and again", limit=_LOOKS
        )

    async def _at_version(
        self, bucket: str, key: str, options: ReadOptions, read: Callable[[ReadOptions, Params], Awaitable[R]]
    ) -> R:
        """Read a version; if it is the object itself, it is read under the condition that it still is."""
        version_id = options.version_id or ""

        async def look() -> R:
            found = await self._versions.find(bucket, key, version_id)
            if found.etag is None or options.if_match is not None:
                return await read(options, found.params)
            try:
                return await read(replace(options, if_match=found.etag), found.params)
            except (PreconditionFailedError, ObjectNotFoundError) as error:
                raise _replaced(error) from error

        return await until_uncontended(
            look,
            lost=ObjectChangedError,
            message="the object was replaced again and again while its version was looked up",
            limit=_LOOKS,
        )

    def described(self, key: str, size: int, response: Response) -> ObjectInfo:
        """Return the object that the headers of an answer describe."""
        return info_of(key, size, response.headers)

    def pinned(self, options: GetOptions, info: ObjectInfo) -> GetOptions:
        """Return the options that read on from the object that was opened; its ETag is enough to tell it."""
        return replace(options, if_match=info.etag, if_none_match=None, if_modified_since=None)

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        """Describe an object."""
        if options.version_id is None:
            info, _ = await self.describe(bucket, key, options, ())
        else:
            info, _ = await self._at_version(bucket, key, options, partial(self.describe, bucket, key))
        return info

    async def describe(self, bucket: str, key: str, options: HeadOptions, params: Params) -> tuple[ObjectInfo, bool]:
        """Describe an object, and tell whether it has tags; a version is named by ``params``."""
        response = await self._head(bucket, key, options, params)
        info = info_of(key, content_length(response.headers, self.service), response.headers)
        check_read(info, options)
        return info, response.headers.get("x-ms-tag-count", "0") != "0"

    async def _head(self, bucket: str, key: str, options: HeadOptions, params: Params) -> Response:
        headers = condition_headers(options, if_unmodified_since=_SENDS_UNMODIFIED)
        try:
            response = await self._client.request("HEAD", bucket, key, params=params, headers=headers)
        except ObjectNotFoundError as error:
            raise _missing(error, params) from error
        except PreconditionFailedError:
            await self._require(bucket, key, params)
            raise
        if _MARKER in response.headers:
            raise _missing(ObjectNotFoundError(status=404), params)
        return response

    async def _require(self, bucket: str, key: str, params: Params) -> None:
        """Raise if there is no such object: the service says only that the condition does not hold."""
        await self._head(bucket, key, HeadOptions(), params)

    async def require_bucket(self, bucket: str) -> None:
        """Check that a container exists.

        Raises:
            BucketNotFoundError: it does not.
        """
        await self._client.require_bucket(bucket)

    # Writing

    async def put(self, bucket: str, key: str, chunks: Sequence[Chunk], options: PutOptions, body: Body) -> ObjectInfo:
        """Store an object whose bytes are all in memory."""
        verified = await checksum_headers(self._checksum, chunks)
        send = partial(self._put, bucket, key, chunks, options, body.computed, verified)
        if self._versions.records:
            return await self._versions.write(bucket, key, options, send)
        return await send(options.if_match, options.if_none_match, EMPTY)

    async def _put(
        self,
        bucket: str,
        key: str,
        chunks: Sequence[Chunk],
        options: PutOptions,
        checksum: Checksum | None,
        verified: Headers,
        if_match: str | None,
        if_none_match: str | None,
        own: Mapping[str, str],
    ) -> ObjectInfo:
        headers = [_BLOCK_BLOB, *self.attribute_headers(key, options.attributes, checksum, own), *verified]
        find = partial(self._stored, bucket, key, chunks, options, checksum)
        settling = self.settling(bucket, key, options.attributes.tags, find, if_match, if_none_match)
        if if_match is not None or if_none_match is not None:
            headers += write_conditions(if_match, if_none_match)
        try:
            answer = await self._client.write("PUT", bucket, key, headers=headers, body=chunks, settling=settling)
        except PreconditionFailedError as error:
            raise condition_error(error, options.if_none_match) from error
        except TroveError:
            if settling is None or settling.made is None:
                raise
            return settling.made
        return self.written(key, sum(map(len, chunks)), answer, options.attributes, checksum, own)

    async def _stored(
        self, bucket: str, key: str, chunks: Sequence[Chunk], options: PutOptions, checksum: Checksum | None
    ) -> ObjectInfo | None:
        """Return the object if it is what was put; who wrote it does not matter, since there was no condition."""
        response = await self._head(bucket, key, HeadOptions(), ())
        [(_, md5)] = await checksum_headers("md5", chunks)
        if response.headers.get("content-md5") != md5:
            return None
        found = info_of(key, content_length(response.headers, self.service), response.headers)
        size = sum(map(len, chunks))
        written = self.written(key, size, response.headers, options.attributes, checksum)
        return found if same_object(found, written) else None

    def attribute_headers(
        self,
        key: str,
        attributes: ObjectAttributes,
        checksum: Checksum | None = None,
        own: Mapping[str, str] = EMPTY,
    ) -> Headers:
        """Return the headers that describe an object that is written; without a storage class it gets the store's.

        Hidden blobs get none: those in some tiers cannot be read or copied.
        """
        if key[0] == OWN:
            attributes = replace(attributes, storage_class=None)
        elif self._storage_class is not None:
            attributes = attributes.with_storage_class(self._storage_class)
        return attribute_headers(attributes, checksum, own)

    def written(
        self,
        key: str,
        size: int,
        headers: Mapping[str, str],
        attributes: ObjectAttributes,
        checksum: Checksum | None,
        own: Mapping[str, str] = EMPTY,
    ) -> ObjectInfo:
        """Return the description of an object that was just written.

        Args:
            key, size, attributes, checksum, own: of the object.
            headers: of the answer to the write.

        Raises:
            BackendError: it is not the service that has answered; the error is ambiguous.
        """
        try:
            etag = etag_in(headers)
        except BackendError as error:
            error.ambiguous = True
            raise
        storage_class = attributes.storage_class or self._storage_class
        if storage_class is not None:
            attributes = replace(attributes, storage_class=storage_class.upper())
        checksums = {checksum.algorithm: checksum.value} if checksum is not None and checksum.value else EMPTY
        return attributes.info(key, size, etag, None, version_of(headers, own), checksums)

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Delete an object, or a version."""
        await self._versions.delete(bucket, key, options)

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> Sequence[DeleteResult]:
        """Delete objects, some at a time: a request for each.

        Raises:
            BucketNotFoundError: there is no such container.
        """
        results: dict[str, DeleteResult] = {}
        missing: list[BucketNotFoundError] = []
        limiter = anyio.CapacityLimiter(_DELETIONS)

        async def delete(key: str) -> None:
            async with limiter:
                try:
                    await self.delete(bucket, key, DeleteOptions())
                    results[key] = DeleteResult(key)
                except BucketNotFoundError as error:
                    missing.append(error)
                except TroveError as error:
                    results[key] = DeleteResult(key, error)

        async with anyio.create_task_group() as group:
            for key in dict.fromkeys(keys):
                group.start_soon(delete, key)
        if missing:
            raise missing[0]
        return [results[key] for key in keys]


def _missing(error: NotFoundError, params: Params) -> NotFoundError:
    kind = VersionNotFoundError if params else ObjectNotFoundError
    return kind(status=error.status, request_id=error.request_id)


def _replaced(error: TroveError) -> ObjectChangedError:
    return ObjectChangedError("the object was replaced meanwhile", status=error.status, request_id=error.request_id)
